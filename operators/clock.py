"""A partition's clock: ingest time, watermark and effective time (DESIGN S2, S3, S4).

Everything here follows from the records and their order. The one outside input is `wall`, the instant against which a
time in the future is refused, and it is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.events import DAY, DECODED, SECOND, TIMESTAMP
from operators.frames import empty

DEFAULT_LATENESS = 30 * SECOND
AHEAD = 60 * SECOND  # how far a time may be ahead of the clock
JUMP = DAY  # a step of history beyond this needs a second witness
NEVER = np.iinfo(np.int64).min

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

CLOCK_REJECTS: dict[str, pl.DataType] = {"offset": pl.Int64(), "error": pl.String()}


@dataclass(frozen=True, slots=True)
class Stamped:
    """A frame of one partition in offset order with `ingested_at`, `at` and `late` added, and what was refused."""

    frame: pl.DataFrame
    rejects: pl.DataFrame


class PartitionClock:
    """Stamps the frames of one partition, in order. Picklable; holds back at most one record.

    lateness: µs a record may be late and still count at its own time.
    """

    def __init__(self, lateness: int = DEFAULT_LATENESS) -> None:
        self.lateness = lateness
        self.high: int = NEVER  # the largest ingest time so far
        self._held: pl.DataFrame | None = None

    @property
    def watermark(self) -> int:
        """µs up to which the partition is complete; NEVER before its first record."""
        return NEVER if self.high == NEVER else self.high - self.lateness

    @property
    def holding(self) -> int | None:
        """The offset of the record that waits for its confirmation."""
        return None if self._held is None else int(self._held["offset"][0])

    def stamp(self, frame: pl.DataFrame, wall: int | None = None) -> Stamped:
        """Stamp the next records. `wall`: now in µs; times more than 60 s ahead of it are refused.

        Not where a log has stamped the record at such a time: whoever accepted it had a clock, too, and a replay where
        it is earlier must come to the same.
        """
        refused = empty(CLOCK_REJECTS)
        if wall is not None and frame.height and int(_micros(frame["time"]).max()) > wall + AHEAD:
            clock = pl.max_horizontal(pl.lit(wall), pl.col("ingested_at").to_physical())
            ahead = pl.col("time").to_physical() > clock + AHEAD
            refused = _rejects(frame.filter(ahead), "time {} is more than 60 s in the future")
            frame = frame.filter(~ahead)
        if self._held is not None:
            frame = pl.concat([self._held, frame])
            self._held = None
        if not frame.height:
            return Stamped(_stamped(frame, *(np.empty(0, np.int64),) * 3), refused)
        return self._advance(frame, refused, last=False)

    def finish(self) -> Stamped:
        """Release the record held back for a confirmation that can no longer come: nothing after it can suffer."""
        held, self._held = self._held, None
        refused = empty(CLOCK_REJECTS)
        if held is None:
            held = pl.DataFrame(schema=DECODED)
            return Stamped(_stamped(held, *(np.empty(0, np.int64),) * 3), refused)
        return self._advance(held, refused, last=True)

    def _advance(self, frame: pl.DataFrame, refused: pl.DataFrame, *, last: bool) -> Stamped:
        time = _micros(frame["time"])
        given = frame["ingested_at"]
        stamped = frame.height - given.null_count()
        if not stamped:
            candidate, keep, held = self._history(time, np.ones(len(time), np.bool_), last)
        elif stamped == frame.height:  # the log's own: nothing to doubt
            candidate, keep, held = _micros(given), np.ones(len(time), np.bool_), False
        else:
            own = given.is_not_null().to_numpy()
            candidate = np.where(own, given.cast(pl.Int64).fill_null(0).to_numpy(), time)
            candidate, keep, held = self._history(time, ~own, last, candidate)
        if held:
            self._held = frame.tail(1)
        if not keep.all():
            lone = ~keep
            if held:
                lone[-1] = False
            outliers = frame.filter(pl.Series(lone))
            if outliers.height:
                reason = "time {} is more than a day ahead of the records around it"
                refused = pl.concat([refused, _rejects(outliers, reason)])
            frame = frame.filter(pl.Series(keep))
            time, candidate = time[keep], candidate[keep]
        if not frame.height:
            return Stamped(_stamped(frame, *(np.empty(0, np.int64),) * 3), refused)
        ingested = np.maximum.accumulate(np.maximum(candidate, self.high))
        before = np.empty_like(ingested)
        before[0], before[1:] = self.high, ingested[:-1]
        floor = np.where(before == NEVER, NEVER, before - self.lateness)
        at = np.minimum(np.maximum(time, floor), ingested + AHEAD)
        self.high = int(ingested[-1])
        return Stamped(_stamped(frame, ingested, at, time), refused)

    def _history(
        self, time: Ints, unstamped: Bools, last: bool, candidate: Ints | None = None
    ) -> tuple[Ints, Bools, bool]:
        """Decide which records count: (ingest candidates, keep mask, is the last one held back)."""
        candidate = time if candidate is None else candidate
        keep = np.ones(len(time), np.bool_)
        start, high = 0, self.high
        while True:
            run = np.maximum.accumulate(np.concatenate(([high], candidate[start:])))
            # NEVER + JUMP stays far below any time, so a partition's first record is a jump, too.
            jumps = start + np.flatnonzero((candidate[start:] > run[:-1] + JUMP) & unstamped[start:])
            for i in jumps.tolist():
                if i + 1 == len(time):
                    if last:
                        return candidate, keep, False
                    keep[i] = False
                    return candidate, keep, True
                if time[i + 1] < time[i] - JUMP:
                    keep[i] = False
                    high = int(run[i - start])
                    start = i + 1
                    break
            else:
                return candidate, keep, False


def _micros(series: pl.Series) -> Ints:
    return series.cast(pl.Int64).to_numpy()


def _stamped(frame: pl.DataFrame, ingested: Ints, at: Ints, time: Ints) -> pl.DataFrame:
    stamped = frame.clone().replace_column(
        frame.get_column_index("ingested_at"), pl.Series("ingested_at", ingested).cast(TIMESTAMP)
    )
    return stamped.hstack([pl.Series("at", at).cast(TIMESTAMP), pl.Series("late", at > time, dtype=pl.Boolean)])


def _rejects(frame: pl.DataFrame, reason: str) -> pl.DataFrame:
    when = pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return frame.select(pl.col("offset"), error=pl.format(reason, when))
