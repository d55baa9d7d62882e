"""The detect step of the live service: one shard of the keys, published after every batch."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass

from bytewax.operators import StatefulBatchLogic

from flows.detect import ShardInput
from flows.live_progress import LiveProgress
from flows.snapshots import pickled
from operators.clock import DEFAULT_LATENESS, NEVER
from operators.events import SECOND
from operators.live import LiveShard, Publication, merged
from operators.matches import Name

# Settling changes nothing that anybody sees but the column `settled`: once a second of the log's time is enough.
SETTLE = SECOND

Announced = Iterable[tuple[Name, int, str]]  # key, opened at (µs), incident


@dataclass(frozen=True, slots=True)
class Published:
    """What a shard publishes for all records before `upto`; now: the log's time, µs. live: keys with any state. over:
    an incident that was closed before this instant, µs, will not change any more."""

    shard: str
    upto: int
    now: int
    publication: Publication
    live: int
    over: int


class LiveDetect(StatefulBatchLogic[ShardInput, Published, bytes]):
    """Feeds a live shard. announced: incidents that the store showed; upto: the offset before which all records were
    accepted that they may come from."""

    def __init__(
        self,
        name: str,
        partitions: Iterable[str],
        progress: LiveProgress,
        announced: Announced,
        upto: int,
        state: bytes | None,
        lateness: int = DEFAULT_LATENESS,
    ) -> None:
        self._name, self._progress, self._lateness = name, progress, lateness
        fresh = LiveShard(partitions), NEVER, NEVER
        kept: tuple[LiveShard, int, int] = fresh if state is None else pickle.loads(state)
        self._shard, self._now, self._settled = kept
        self._upto = upto
        self._shard.show_again(announced)

    def on_batch(self, values: list[ShardInput]) -> tuple[Iterable[Published], bool]:
        """Take what came and publish what it makes of the keys."""
        # Settled before new matches come in: a late one might be final at once, and nobody would learn its incident.
        matched = any(value.matches for value in values)
        begun = [self._settle()] if matched and self._is_time() else []
        for value in values:
            self._shard.add(value.partition, value.watermark, value.matches)
            self._now = max(self._now, value.now)
        now = self._settle() if not matched and self._is_time() else self._shard.publish(self._now)
        publication = merged([*begun, now])
        if self._upto and values[-1].next_offset >= self._upto:
            self._upto = 0
            self._shard.forget_announced()
        self._progress.timer = min(self._shard.next_due, self._shard.oldest_pending + self._lateness + 1)
        live, over = self._shard.live_keys, self._shard.over
        published = Published(self._name, values[-1].next_offset, self._now, publication, live, over)
        return [published], StatefulBatchLogic.RETAIN

    def _is_time(self) -> bool:
        watermark = self._shard.watermark
        return watermark != NEVER and (self._settled == NEVER or watermark >= self._settled + SETTLE)

    def _settle(self) -> Publication:
        self._settled = self._shard.watermark
        return self._shard.publish(self._now, settle=True)

    def snapshot(self) -> bytes:
        """The shard, pickled at once: it goes on changing while Bytewax writes the snapshot."""
        return pickled((self._shard, self._now, self._settled))
