"""The detect step: one shard of the keys a Bytewax key."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from bytewax.operators import StatefulBatchLogic

from flows.snapshots import pickled
from operators.clock import NEVER
from operators.matches import KeyedMatches, Matches, Name
from operators.output import Output
from operators.shard import FOREVER, Shard

# Matches a shard gathers before it settles: below this, time goes into overhead.
SETTLE = 100_000


@dataclass(frozen=True, slots=True)
class ShardInput:
    """A partition's news for one shard, see `operators.intake.Batch`; every batch tells every shard its watermark."""

    partition: str
    watermark: int
    last_at: int
    ended: bool
    matches: KeyedMatches | None
    now: int = NEVER
    next_offset: int = 0


def shard_of(name: Name, shards: int) -> int:
    """The shard of a key; it depends on nothing else."""
    return crc32("\0".join(name).encode("utf-8", "surrogatepass")) % shards


def by_shard(matches: Matches | KeyedMatches, shards: int) -> dict[int, KeyedMatches]:
    """Split matches by the shard of their key."""
    if not len(matches):
        return {}
    keyed = matches.keyed()
    if shards == 1:
        return {0: keyed}
    home = np.array([shard_of(name, shards) for name in keyed.names], np.int64)[keyed.rows["slot"]]
    split = {n: np.flatnonzero(home == n) for n in range(shards)}
    return {n: keyed.take(rows) for n, rows in split.items() if len(rows)}


class Detect(StatefulBatchLogic[ShardInput, Output, bytes]):
    """Feeds a shard and says what it settled.

    until: settle no further than this instant, µs. drain: let all timers run out at the end.
    """

    def __init__(self, partitions: Iterable[str], until: int | None, drain: bool, state: bytes | None) -> None:
        self._until, self._drain = until, drain
        if state is not None:
            self._shard, self._left, self._end, self._done = pickle.loads(state)
        else:
            self._shard, self._left = Shard(partitions), set(partitions)
            self._end, self._done = NEVER, False
        self._next = SETTLE

    def on_batch(self, values: list[ShardInput]) -> tuple[Iterable[Output], bool]:
        """Take news; settle when there is enough of it, finish when every partition has ended."""
        for value in values:
            watermark = value.watermark if self._until is None else min(value.watermark, self._until)
            # A partition that has ended holds nobody back.
            self._shard.add(value.partition, FOREVER if value.ended else watermark, value.matches)
            self._end = max(self._end, value.last_at)
            if value.ended:
                self._left.discard(value.partition)
        if not self._left and not self._done:
            self._done = True
            return [self._shard.finish(self._finally())], StatefulBatchLogic.RETAIN
        if self._shard.pending < self._next:
            return [], StatefulBatchLogic.RETAIN
        output = self._shard.settle()
        # What is still pending waits for its watermark: no use in asking again before as much has come anew.
        self._next = self._shard.pending + SETTLE
        return [output], StatefulBatchLogic.RETAIN

    def _finally(self) -> int:
        if self._until is not None:
            return self._until
        return FOREVER if self._drain else self._end

    def snapshot(self) -> bytes:
        """The shard, pickled at once: it goes on changing while Bytewax writes the snapshot."""
        return pickled((self._shard, self._left, self._end, self._done))
