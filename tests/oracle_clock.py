"""The obvious definition of a partition's clock (S2 to S4) and of duplicates (S5), one record at a time.

A record is a dict with at least `offset`, `time`, `ingested_at` (or None) and, for duplicates, `workspace`, `source`
and `id`. Times are integers, microseconds since 1970. Nothing here knows the engine: tests hold the engine equal to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SECOND = 1_000_000
DAY = 24 * 3600 * SECOND
FUTURE = 60 * SECOND

Record = dict[str, Any]


@dataclass
class OracleClock:
    """One partition's clock. `lateness`: microseconds."""

    lateness: int
    clock: int | None = None  # the largest `ingested_at` so far
    held: Record | None = None  # a record far ahead, waiting for the next one to confirm it
    stamped: list[Record] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)  # offsets

    @property
    def watermark(self) -> int | None:
        return None if self.clock is None else self.clock - self.lateness

    def take(self, record: Record, wall: int) -> None:
        if record["time"] > wall + FUTURE:
            self.rejected.append(record["offset"])
            return
        if self.held is not None:
            held, self.held = self.held, None
            if record["time"] >= held["time"] - DAY:
                self._accept(held, held["time"])
            else:
                self.rejected.append(held["offset"])
        if record["ingested_at"] is not None:
            self._accept(record, record["ingested_at"])
        elif self.clock is None or record["time"] > self.clock + DAY:
            self.held = record
        else:
            self._accept(record, record["time"])

    def finish(self) -> None:
        if self.held is not None:
            held, self.held = self.held, None
            self._accept(held, held["time"])

    def _accept(self, record: Record, ingested_at: int) -> None:
        before = self.watermark
        self.clock = ingested_at if self.clock is None else max(self.clock, ingested_at)
        at = min(record["time"], self.clock + FUTURE)
        if before is not None:
            at = max(at, before)
        self.stamped.append(record | {"ingested_at": self.clock, "at": at, "late": at > record["time"]})


def stamp(records: Iterable[Record], lateness: int, wall: int) -> OracleClock:
    """The clock after all `records` of one partition, in their order, and its end of input."""
    clock = OracleClock(lateness)
    for record in records:
        clock.take(record, wall)
    clock.finish()
    return clock


def without_duplicates(stamped: Iterable[Record]) -> list[Record]:
    """One partition's records without those repeating (workspace, source, id) of a kept one less than 24 h old."""
    first: dict[tuple[str, str | None, str], int] = {}
    kept = []
    for record in stamped:
        if record["id"] is not None:
            identity = (record["workspace"], record["source"], record["id"])
            if identity in first and first[identity] > record["ingested_at"] - DAY:
                continue
            first[identity] = record["ingested_at"]
        kept.append(record)
    return kept
