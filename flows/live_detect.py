"""The detect step of the live service: one shard of the keys, published after every batch."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
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
    """What a shard publishes for all records before `reached`, offsets by partition.

    now: the log's time, µs. live: keys with any state. over: an incident that was closed before this instant, µs, will
    not change any more. partitions: in the order of their numbers in MEMBERS.
    """

    shard: str
    reached: Mapping[str, int]
    now: int
    publication: Publication
    live: int
    over: int
    partitions: tuple[str, ...] = ()


class LiveDetect(StatefulBatchLogic[ShardInput, Published, bytes]):
    """Feeds a live shard. announced: incidents that the store showed; upto: by partition, the offset before which all
    records were accepted that they may come from."""

    def __init__(
        self,
        name: str,
        partitions: Iterable[str],
        progress: LiveProgress,
        announced: Announced,
        upto: Mapping[str, int],
        state: bytes | None,
        lateness: int = DEFAULT_LATENESS,
    ) -> None:
        self._name, self._progress, self._lateness = name, progress, lateness
        fresh = LiveShard(partitions), dict.fromkeys(partitions, NEVER), NEVER
        kept: tuple[LiveShard, dict[str, int], int] = fresh if state is None else pickle.loads(state)
        self._shard, self._clocks, self._settled = kept
        self._reached: dict[str, int] = {}
        self._upto = dict(upto)
        self._shard.show_again(announced)

    def on_batch(self, values: list[ShardInput]) -> tuple[Iterable[Published], bool]:
        """Take what came and publish what it makes of the keys."""
        # Settled before new matches come in: a late one might be final at once, and nobody would learn its incident.
        matched = any(value.matches for value in values)
        begun = [self._settle()] if matched and self._is_time() else []
        caught_up = False
        for value in values:
            self._shard.add(value.partition, value.watermark, value.matches)
            self._clocks[value.partition] = max(self._clocks.get(value.partition, NEVER), value.now)
            self._reached[value.partition] = value.next_offset
            if value.next_offset >= self._upto.get(value.partition, 0):
                self._upto.pop(value.partition, None)
                caught_up = not self._upto
        now = self._settle() if not matched and self._is_time() else self._shard.publish(self._now)
        publication = merged([*begun, now])
        if caught_up:
            self._shard.forget_announced()
        self._progress.timer = min(self._shard.next_due, self._shard.oldest_pending + self._lateness + 1)
        live, over = self._shard.live_keys, self._shard.over
        names = self._shard.partitions
        published = Published(self._name, dict(self._reached), self._now, publication, live, over, names)
        return [published], StatefulBatchLogic.RETAIN

    @property
    def _now(self) -> int:
        """The instant that all partitions with records have come to: what one of them has yet to tell is not over."""
        return min((clock for clock in self._clocks.values() if clock != NEVER), default=NEVER)

    def _is_time(self) -> bool:
        watermark = self._shard.watermark
        return watermark != NEVER and (self._settled == NEVER or watermark >= self._settled + SETTLE)

    def _settle(self) -> Publication:
        self._settled = self._shard.watermark
        return self._shard.publish(self._now, settle=True)

    def snapshot(self) -> bytes:
        """The shard, pickled at once: it goes on changing while Bytewax writes the snapshot."""
        return pickled((self._shard, self._clocks, self._settled))
