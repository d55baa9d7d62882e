"""What the live store shows and has not yet written: the newest changes, in memory.

They are derived from records that are durable in the log, so losing them loses nothing; readers see them joined with
what is written. Not safe in several threads by itself: the store holds a lock around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from connectors.schema import TABLES
from connectors.store import Position
from operators.live import Publication, merged

# What readers look at.
SHOWN = ("incidents", "incident_tenants", "transitions", "alerts", "events", "claims", "dead_letters")
SETTINGS: dict[str, pl.DataType] = {"workspace": pl.String(), "body": pl.String()}


@dataclass(frozen=True)
class Changes:
    """What follows from some records. tables: rows to append (`events`, `claims`, `dead_letters`, `rules`), where there
    are any. publication: what a reader sees change. settings: JSON text by workspace."""

    tables: Mapping[str, pl.DataFrame]
    publication: Publication | None
    positions: Mapping[str, Position]
    settings: Mapping[str, str] = field(default_factory=dict)


def joined(changes: Sequence[Changes]) -> Changes:
    """Several changes, one after the other, as one; at least one."""
    if len(changes) == 1:
        return changes[0]
    tables: dict[str, list[pl.DataFrame]] = {}
    positions: dict[str, Position] = {}
    settings: dict[str, str] = {}
    for each in changes:
        for name, frame in each.tables.items():
            tables.setdefault(name, []).append(frame)
        positions.update(each.positions)
        settings.update(each.settings)
    publications = [each.publication for each in changes if each.publication is not None]
    return Changes(
        {name: pl.concat(frames) for name, frames in tables.items()},
        merged(publications) if publications else None,
        positions,
        settings,
    )


class Memtable:
    """Changes that wait to be written, and those that are being written. version: counts what was added or dropped."""

    def __init__(self) -> None:
        self.version = 0
        self.events = 0  # rows of events that wait
        self._waiting: list[Changes] = []
        self._leaving: list[Changes] = []
        self._overlay: tuple[int, dict[str, pl.DataFrame]] = (-1, {})

    def __bool__(self) -> bool:
        return bool(self._waiting or self._leaving)

    def add(self, changes: Changes) -> None:
        """Put changes behind those that wait."""
        self._waiting.append(changes)
        self.events += changes.tables["events"].height if "events" in changes.tables else 0
        self.version += 1

    def take(self) -> Changes | None:
        """All changes that wait, to be written; they are shown until `drop`."""
        self._leaving, self._waiting, self.events = self._leaving + self._waiting, [], 0
        return joined(self._leaving) if self._leaving else None

    def drop(self) -> None:
        """What was taken is written."""
        self._leaving = []
        self.version += 1

    def give_back(self) -> None:
        """What was taken could not be written."""
        self._waiting, self._leaving = self._leaving + self._waiting, []

    def clear(self) -> None:
        """Forget everything."""
        self._waiting, self._leaving, self.events = [], [], 0
        self.version += 1

    def overlay(self) -> dict[str, pl.DataFrame]:
        """The rows of SHOWN and `settings` that are not written yet, one for each key."""
        if self._overlay[0] != self.version:
            self._overlay = (self.version, _shown([*self._leaving, *self._waiting]))
        return self._overlay[1]


def _shown(changes: list[Changes]) -> dict[str, pl.DataFrame]:
    nothing = {name: pl.DataFrame(schema=dict(TABLES[name].columns)) for name in SHOWN}
    nothing["settings"] = pl.DataFrame(schema=SETTINGS)
    if not changes:
        return nothing
    whole = joined(changes)
    found = {name: frame for name, frame in whole.tables.items() if name in SHOWN}
    if "events" in found:  # as the store's view spells the id of an event that was given none
        found["events"] = found["events"].with_columns(
            pl.col("id").fill_null(pl.format("{}:{}", "partition", "offset"))
        )
    if whole.publication is not None:
        found |= whole.publication.output.tables()
    for name, frame in found.items():
        key = TABLES[name].key
        found[name] = frame.unique(list(key), keep="last", maintain_order=True) if key else frame
    settings = pl.DataFrame(list(whole.settings.items()), schema=SETTINGS, orient="row")
    return nothing | found | {"settings": settings}
