"""What the live store shows and has not yet written: the newest changes, in memory.

They are derived from records that are durable in the log, so losing them loses nothing; readers see them joined with
what is written. Not safe in several threads by itself: the store holds a lock around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

import polars as pl
import pyarrow as pa

from connectors.schema import TABLES, Table
from connectors.store import Position
from operators.live import Publication, merged

# What readers look at.
SHOWN: dict[str, Table] = {
    name: TABLES[name]
    for name in (
        "incidents",
        "incident_tenants",
        "transitions",
        "alerts",
        "events",
        "claims",
        "dead_letters",
        "configurations",
    )
}
SHOWN["settings"] = Table({"workspace": pl.String(), "body": pl.String()}, key=("workspace",), upsert=True)


@dataclass(frozen=True)
class Changes:
    """What follows from some records. tables: rows to append (`events`, `claims`, `dead_letters`, `rules`,
    `configurations`), where there are any. publication: what a reader sees change. settings: JSON text by workspace.
    void: incidents of which everything that is not settled goes, before the publication comes. meta: entries to write.
    """

    tables: Mapping[str, pl.DataFrame]
    publication: Publication | None
    positions: Mapping[str, Position]
    settings: Mapping[str, str] = field(default_factory=dict)
    void: Sequence[str] = ()
    meta: Mapping[str, str] = field(default_factory=dict)


def joined(changes: Sequence[Changes]) -> Changes:
    """Several changes, one after the other, as one; at least one. Of those that void something only one by itself."""
    if len(changes) == 1:
        return changes[0]
    tables: dict[str, list[pl.DataFrame]] = {}
    positions: dict[str, Position] = {}
    settings: dict[str, str] = {}
    meta: dict[str, str] = {}
    for each in changes:
        for name, frame in each.tables.items():
            tables.setdefault(name, []).append(frame)
        positions.update(each.positions)
        settings.update(each.settings)
        meta.update(each.meta)
    publications = [each.publication for each in changes if each.publication is not None]
    return Changes(
        {name: pl.concat(frames) for name, frames in tables.items()},
        merged(publications) if publications else None,
        positions,
        settings,
        meta=meta,
    )


class Seen:
    """The changes of one version. Safe in any thread."""

    def __init__(self, version: int, changes: tuple[Changes, ...]) -> None:
        self.version, self.changes = version, changes
        self._lock = Lock()
        self._tables: Mapping[str, pa.Table] | None = None

    def tables(self) -> Mapping[str, pa.Table]:
        """`Memtable.overlay`, as readers take it; made once, by whoever asks first."""
        with self._lock:
            if self._tables is None:
                self._tables = {name: frame.to_arrow() for name, frame in _shown(self.changes).items()}
            return self._tables


class Memtable:
    """Changes that wait to be written, and those that are being written. version: counts what was added or dropped."""

    def __init__(self) -> None:
        self.version = 0
        self.events = 0  # rows of events that wait
        self._waiting: list[Changes] = []
        self._leaving: list[Changes] = []
        self._now = Seen(0, ())

    def __bool__(self) -> bool:
        return bool(self._waiting or self._leaving)

    def add(self, changes: Changes) -> None:
        """Put changes behind those that wait."""
        self._waiting.append(changes)
        self.events += _events(changes)
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
        self.events = sum(map(_events, self._waiting))

    def clear(self) -> None:
        """Forget everything."""
        self._waiting, self._leaving, self.events = [], [], 0
        self.version += 1

    def seen(self) -> Seen:
        """What a reader sees from now on."""
        if self._now.version != self.version:
            self._now = Seen(self.version, (*self._leaving, *self._waiting))
        return self._now

    def overlay(self) -> Mapping[str, pl.DataFrame]:
        """The rows of SHOWN that are not written yet, one for each key; only what has any."""
        return _shown(self.seen().changes)


def _shown(changes: Sequence[Changes]) -> dict[str, pl.DataFrame]:
    if not changes:
        return {}
    whole = joined(changes)
    found = dict(whole.tables)
    if "events" in found:  # as the store's view spells the id of an event that was given none
        found["events"] = found["events"].with_columns(
            pl.col("id").fill_null(pl.format("{}:{}", "partition", "offset"))
        )
    if whole.publication is not None:
        found |= whole.publication.output.tables()
    if whole.settings:
        found["settings"] = pl.DataFrame(
            list(whole.settings.items()), schema=dict(SHOWN["settings"].columns), orient="row"
        )
    return {
        name: found[name].unique(list(table.key), keep="last", maintain_order=True) if table.key else found[name]
        for name, table in SHOWN.items()
        if name in found and found[name].height
    }


def _events(changes: Changes) -> int:
    return changes.tables["events"].height if "events" in changes.tables else 0
