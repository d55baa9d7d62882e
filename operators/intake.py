"""From decoded records to batches: the steps that follow a partition in its order (DESIGN S2 to S5, S13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from operators.clock import DEFAULT_LATENESS, NEVER, PartitionClock
from operators.dedup import Deduplicator
from operators.events import CONFIGURATIONS, CONFIGURE, DEAD_LETTERS, DECODED, TICK, TIMESTAMP
from operators.frames import empty
from operators.settings import NO_SETTINGS, Settings

REJECTS: dict[str, pl.DataType] = {"offset": pl.Int64(), "raw": pl.String(), "error": pl.String()}


@dataclass(frozen=True, slots=True)
class Batch:
    """What flows: the next records of a partition under one configuration.

    watermark: µs, of the partition after the batch. frame: DECODED columns with `ingested_at`, `at` and `late`; events
    and commands in offset order. settings: the workspaces that have some. dead_letters: DEAD_LETTERS.
    next_offset: the position after the batch. duplicates: records dropped. now: the latest ingest time so far, µs.
    last_at: the latest instant of all so far, µs: of what happened, and of when it was accepted.
    aside: records that are neither events nor commands to a key: `configure` and ticks.
    ended: nothing will follow. configurations: CONFIGURATIONS, what changed the settings at the end of the batch.
    """

    partition: str
    watermark: int
    frame: pl.DataFrame
    settings: Mapping[str, Settings]
    dead_letters: pl.DataFrame
    next_offset: int
    duplicates: int = 0
    aside: int = 0
    now: int = NEVER
    last_at: int = NEVER
    ended: bool = False
    configurations: pl.DataFrame = field(default_factory=lambda: empty(CONFIGURATIONS))


@dataclass
class Intake:
    """The state of one partition on its way in. Picklable."""

    partition: str
    lateness: int = DEFAULT_LATENESS
    next_offset: int = 0
    last_at: int = NEVER
    clock: PartitionClock = field(init=False)
    dedup: Deduplicator = field(default_factory=Deduplicator)
    settings: dict[str, Settings] = field(default_factory=dict)
    _waiting: pl.DataFrame = field(default_factory=lambda: empty(REJECTS))

    def __post_init__(self) -> None:
        self.clock = PartitionClock(self.lateness)

    def take(self, frame: pl.DataFrame, rejects: pl.DataFrame, records: int, wall: int | None = None) -> list[Batch]:
        """Take the next records. frame: DECODED; rejects: REJECTS; offsets count from 0 in both; wall: now in µs."""
        frame, rejects = _shifted(frame, self.next_offset), _shifted(rejects, self.next_offset)
        self.next_offset += records
        before = self.clock.high
        stamped = self.clock.stamp(frame, wall)
        found = [part for part in (self._waiting, rejects, _with_raw(stamped.rejects, frame)) if part.height]
        rejects = pl.concat(found) if found else empty(REJECTS)
        # Rejects behind a record that is held back wait with it: what the clock says there is not known yet.
        holding = self.clock.holding
        self._waiting = empty(REJECTS)
        if holding is not None and rejects.height:
            later = pl.col("offset") > holding
            self._waiting, rejects = rejects.filter(later), rejects.filter(~later)
        return self._batches(stamped.frame, rejects, before, ended=False)

    def tick(self, at: int) -> list[Batch]:
        """Nothing came, and what comes was accepted at `at`, µs, or later."""
        self.clock.high = max(self.clock.high, at)
        self.last_at = max(self.last_at, self.clock.high)
        return self.take(empty(DECODED), empty(REJECTS), 0)

    def finish(self) -> list[Batch]:
        """The end of the input: what was held back, and the last word."""
        before = self.clock.high
        stamped = self.clock.finish()
        waiting, self._waiting = self._waiting, self._waiting.clear()
        return self._batches(stamped.frame, waiting, before, ended=True)

    def _batches(self, frame: pl.DataFrame, rejects: pl.DataFrame, before: int, *, ended: bool) -> list[Batch]:
        times = frame.select("offset", "ingested_at") if rejects.height and frame.height else None
        dropped = self.dedup.dropped
        aside = 0
        if frame.height:
            latest = int(frame["at"].cast(pl.Int64).max())  # type: ignore[arg-type]
            self.last_at = max(self.last_at, latest, self.clock.high)
            frame = self.dedup.filter(frame)
            if frame["record"].null_count() < frame.height:
                before_ticks = frame.height
                frame = frame.filter(pl.col("record").ne_missing(TICK))
                aside = before_ticks - frame.height
        letters = [_dead_letters(self.partition, rejects, times, before)] if rejects.height else []
        parts: list[tuple[pl.DataFrame, Mapping[str, Settings], int]] = []
        taken: dict[int, pl.DataFrame] = {}  # what changed the settings, by the part that it follows
        for part, change in _cut(frame):
            after = self.next_offset if change is None else int(change["offset"][0]) + 1
            parts.append((part, dict(self.settings), after))
            if change is None:
                continue
            bad = self._configure(change)
            if bad is None:
                aside += 1
                taken[len(parts) - 1] = _configuration(self.partition, change)
            else:
                letters.append(_dead_letters(self.partition, bad, frame.select("offset", "ingested_at"), before))
        dead = pl.concat(letters) if letters else empty(DEAD_LETTERS)
        final = len(parts) - 1
        return [
            Batch(
                partition=self.partition,
                # Only with the last of its parts has the partition come this far.
                watermark=self.clock.watermark if n == final else NEVER,
                frame=part,
                settings=settings,
                dead_letters=dead if n == final else dead.clear(),
                next_offset=after,
                duplicates=self.dedup.dropped - dropped if n == final else 0,
                aside=aside if n == final else 0,
                now=self.clock.high,
                last_at=self.last_at,
                ended=ended and n == final,
                configurations=taken[n] if n in taken else empty(CONFIGURATIONS),
            )
            for n, (part, settings, after) in enumerate(parts)
        ]

    def _configure(self, change: pl.DataFrame) -> pl.DataFrame | None:
        """Follow one `configure` record; where it makes no sense, the reject."""
        workspace, body = change["workspace"][0], change["attributes"][0]
        try:
            newer = Settings.parse(body or "{}")
        except ValueError as error:
            return change.select("offset", raw=pl.lit(body, pl.String), error=pl.lit(str(error)))
        self.settings[workspace] = self.settings.get(workspace, NO_SETTINGS).merge(newer)
        return None


def _shifted(frame: pl.DataFrame, by: int) -> pl.DataFrame:
    """The frame with its offsets counted on from another one."""
    if not by or not frame.height:
        return frame
    moved = pl.Series("offset", frame["offset"].to_numpy() + by)
    return frame.clone().replace_column(frame.get_column_index("offset"), moved)


def _cut(frame: pl.DataFrame) -> list[tuple[pl.DataFrame, pl.DataFrame | None]]:
    """The frame in parts, each with the `configure` record that follows it."""
    if not frame.height or frame["record"].null_count() == frame.height:
        return [(frame, None)]
    changes = np.flatnonzero((frame["record"] == CONFIGURE).fill_null(False).to_numpy()).tolist()
    parts: list[tuple[pl.DataFrame, pl.DataFrame | None]] = []
    start = 0
    for n in changes:
        parts.append((frame[start:n], frame[n : n + 1]))
        start = n + 1
    return [*parts, (frame[start:], None)]


def _with_raw(refused: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
    """Rejects of the clock with the record as it was read."""
    if not refused.height:
        return empty(REJECTS)
    said = ["time", "workspace", "source", "type", "code", "tenant", "attributes"]
    raw = pl.struct(said).struct.json_encode().alias("raw")
    return refused.join(frame.select("offset", raw), on="offset", how="left").select(REJECTS.keys())


def _configuration(partition: str, change: pl.DataFrame) -> pl.DataFrame:
    """A `configure` record as a row of CONFIGURATIONS."""
    settings = pl.col("attributes").fill_null("{}").alias("settings")
    row = change.with_columns(settings, pl.lit(partition).alias("partition"), pl.col("source").alias("actor"))
    return row.select(pl.col(name).cast(dtype) for name, dtype in CONFIGURATIONS.items())


def _dead_letters(partition: str, rejects: pl.DataFrame, times: pl.DataFrame | None, before: int) -> pl.DataFrame:
    """Rejects with the partition's clock at their position: the ingest time of the last good record before them."""
    at = pl.lit(None if before == NEVER else before, pl.Int64).cast(TIMESTAMP)
    rows = rejects.sort("offset").with_columns(at.alias("start"))
    if times is not None:
        rows = rows.join_asof(times.sort("offset"), on="offset", strategy="backward")
        rows = rows.with_columns(at=pl.coalesce("ingested_at", "start"))
    else:
        rows = rows.with_columns(at=pl.col("start"))
    return rows.with_columns(partition=pl.lit(partition)).select(DEAD_LETTERS.keys())
