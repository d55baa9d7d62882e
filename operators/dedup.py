"""Duplicates (DESIGN S5): a record repeating (workspace, source, id) in its partition within 24 h is dropped.

Ids are kept as two independent 64-bit hashes: with ten million ids in memory, the chance that a new one is taken for
any of them is below 10^-31. Memory is bounded by the ids of 24 h at 24 bytes each, in sorted runs that merge as they
grow (the log-structured merge tree of O'Neil et al., 1996, over arrays), so that a batch is looked up and added
without touching Python objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.events import DAY

REMEMBERED = DAY
_SEEDS = (0x5EED, 0xBE11)
_UNSEEN = np.iinfo(np.int64).min

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Run:
    """Sightings sorted by (low, high): the halves of the id's hash and the ingest time (µs) of its first record."""

    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    first: NDArray[np.int64]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Run:
        """The sightings a mask or an index array picks."""
        return Run(self.low[rows], self.high[rows], self.first[rows])

    def joined(self, other: Run) -> Run:
        """These sightings and the other's behind them."""
        return Run(
            np.concatenate([self.low, other.low]),
            np.concatenate([self.high, other.high]),
            np.concatenate([self.first, other.first]),
        )

    @property
    def size(self) -> int:
        """How many."""
        return len(self.low)


class Deduplicator:
    """The ids a partition has seen. Picklable; `dropped` counts what was filtered."""

    def __init__(self) -> None:
        self._runs: list[Run] = []  # oldest and largest first; every id in at most one
        self.dropped = 0

    def filter(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The records of a stamped frame (ingest times never decreasing) that are new; the others are counted."""
        if not frame.height or frame["id"].null_count() == frame.height:
            return frame
        named = frame["id"].is_not_null().to_numpy()
        rows = named.nonzero()[0]
        key = pl.struct("workspace", "source", "id")
        both = frame.select(low=key.hash(_SEEDS[0]), high=key.hash(_SEEDS[1]))
        first = frame["ingested_at"].cast(pl.Int64).to_numpy()
        ids = Run(both["low"].to_numpy(), both["high"].to_numpy(), first)
        if len(rows) < frame.height:
            ids = ids.take(rows)
        now = int(ids.first[-1])
        order = np.lexsort((ids.high, ids.low))  # stable: the earlier record first
        ids, rows = ids.take(order), rows[order]
        seen = self._first_seen(ids)
        new = _new(ids, seen)
        self._forget(ids.take(new & (seen != _UNSEEN)))  # they outlived their 24 h: the new sighting is the first again
        self._add(_last(ids.take(new)), now - REMEMBERED)
        if new.all():
            return frame
        self.dropped += int((~new).sum())
        keep = np.ones(frame.height, np.bool_)
        keep[rows[~new]] = False
        return frame.filter(pl.Series(keep))

    def _first_seen(self, ids: Run) -> NDArray[np.int64]:
        """When each id was first seen within memory, _UNSEEN where it was not."""
        seen = np.full(ids.size, _UNSEEN, np.int64)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run.low, ids.low), run.size - 1)
            half = run.low[at] == ids.low
            hit = half & (run.high[at] == ids.high)
            seen[hit] = run.first[at[hit]]
            for i in np.flatnonzero(half & ~hit).tolist():  # half a hash in common: as good as never
                j = int(at[i])
                while j < run.size and run.low[j] == ids.low[i]:
                    if run.high[j] == ids.high[i]:
                        seen[i] = run.first[j]
                    j += 1
        return seen

    def _forget(self, stale: Run) -> None:
        if not stale.size:
            return
        gone = set(zip(stale.low.tolist(), stale.high.tolist(), strict=True))
        for n, run in enumerate(self._runs):
            maybe = np.flatnonzero(np.isin(run.low, stale.low))
            drop = [i for i in maybe.tolist() if (int(run.low[i]), int(run.high[i])) in gone]
            keep = np.ones(run.size, np.bool_)
            keep[drop] = False
            self._runs[n] = run.take(keep)

    def _add(self, run: Run, oldest: int) -> None:
        self._runs = [kept for kept in (*self._runs, run) if kept.size]
        while len(self._runs) > 1 and self._runs[-2].size < 2 * self._runs[-1].size:
            older, newer = self._runs[-2:]
            merged = older.joined(newer)
            merged = merged.take(merged.first > oldest)
            self._runs[-2:] = [merged.take(np.lexsort((merged.high, merged.low)))]

    def __len__(self) -> int:
        return sum(run.size for run in self._runs)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "runs": [(run.low, run.high, run.first) for run in self._runs],
            "dropped": self.dropped,
            "polars": pl.__version__,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["polars"] != pl.__version__:
            raise ValueError(
                f"the saved ids were hashed by Polars {state['polars']}, but this is {pl.__version__}: "
                "resume with that version, or replay anew with --overwrite"
            )
        self._runs = [Run(*run) for run in state["runs"]]
        self.dropped = state["dropped"]


def _last(ids: Run) -> Run:
    """The last of the sorted sightings of each id: a batch may span more than 24 h."""
    last = np.ones(ids.size, np.bool_)
    last[:-1] = (ids.low[1:] != ids.low[:-1]) | (ids.high[1:] != ids.high[:-1])
    return ids.take(last)


def _new(ids: Run, seen: NDArray[np.int64]) -> Mask:
    """Which of the sorted sightings count, given when their id was seen before."""
    new: Mask = (seen == _UNSEEN) | (ids.first - seen >= REMEMBERED)
    repeat = np.zeros(ids.size, np.bool_)
    repeat[1:] = (ids.low[1:] == ids.low[:-1]) & (ids.high[1:] == ids.high[:-1])
    involved = repeat.copy()
    involved[:-1] |= repeat[1:]
    last = _UNSEEN
    for i in np.flatnonzero(involved).tolist():
        if not repeat[i]:
            last = int(seen[i])
        new[i] = last == _UNSEEN or int(ids.first[i]) - last >= REMEMBERED
        if new[i]:
            last = int(ids.first[i])
    return new
