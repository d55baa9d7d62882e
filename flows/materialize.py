"""What workers tell, as a store: every message in its order, each once.

Guarantee: the store's positions say which messages are in it, in the same transaction; after a crash it goes on behind
them. Records that come again are known by their offsets, publications of an older run by its number. What a shard that
begins anew had published and not settled goes when its first publication comes, so that nothing is missing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import orjson
import polars as pl

from connectors.live_store import LiveStore
from connectors.memtable import Changes, joined
from connectors.store import Position
from flows.detect import shard_of
from flows.results import Begun, Records, Told
from flows.sink import Counts
from operators.clock import NEVER
from operators.live import Publication

Place = tuple[str, int]
# Messages and rows that are kept for those who wait; who waits longer is answered out of the store.
RECENT = 500
RECENT_ROWS = 200_000


class Missing(Exception):
    """Messages are missing that the store has not seen; the text says which."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message and where it stands: the offset of its first piece, and the one behind its last."""

    place: Place
    first: int
    next: int
    body: Records | Begun | Told


@dataclass(frozen=True, slots=True)
class Applied:
    """What some messages were: counts of their records, and what is needed to answer those who wait."""

    counts: Counts
    records: Sequence[Records]
    told: Sequence[Told]


class Materializer:
    """Applies messages to a store. shards: how many there are, each with a partition of its own."""

    def __init__(self, store: LiveStore, shards: int) -> None:
        self._store, self._shards = store, shards
        store.tell_once()
        meta = store.meta()
        self._runs = {n: int(meta.get(f"run.{n}", 0)) for n in range(shards)}
        self._begun: set[int] = set()  # shards that begin anew
        self._taken = {name: position.next_offset for name, position in store.positions().items()}
        self._forgotten: dict[int, int] = dict.fromkeys(range(shards), NEVER)
        known = {n: meta.get(f"reached.{n}") for n in range(shards)}
        self._reached: dict[int, Mapping[str, int]] = {n: orjson.loads(text) for n, text in known.items() if text}

    def position(self, place: Place) -> int | None:
        """The offset of the next message to read; None where there is none in the store."""
        return self._taken.get(_name(place))

    @property
    def forgotten(self) -> int:
        """An incident closed before this instant, µs, will not change any more; NEVER where that is not known."""
        return min(self._forgotten.values(), default=NEVER)

    def committed(self, partition: str) -> int:
        """The offset before which all records of a partition are in the store, with all that follows from them."""
        if len(self._reached) < self._shards:
            return 0
        return min(self._taken.get(partition, 0), *(reached.get(partition, 0) for reached in self._reached.values()))

    def apply(self, messages: Sequence[Message]) -> Applied:
        """Take the next messages. Raises Missing, StoreError."""
        counts, records, told = Counts(), [], []
        waiting: list[Changes] = []
        for message in messages:
            body = message.body
            changes: Changes | None = None
            if isinstance(body, Records):
                fresh = self._fresh(body)
                if fresh is not None:
                    records.append(fresh)
                    counts.add(fresh.counts)
                    changes = Changes(
                        fresh.tables, None, {fresh.partition: Position(fresh.next, fresh.watermark)}, fresh.settings
                    )
            elif isinstance(body, Begun):
                self._begin(body.shard, body.run)
            elif body.run >= self._runs[body.shard]:
                self._begin(body.shard, body.run)
                told.append(body)
                self._reached[body.shard] = body.published.reached
                self._forgotten[body.shard] = body.forgotten
                changes = self._publication(body)
            reached = self._reach(message)
            if changes is None:
                changes = Changes({}, None, {})
            changes = replace(changes, positions={**changes.positions, **reached})
            if changes.void:
                if waiting:
                    self._store.accept(joined(waiting))
                    waiting = []
                self._store.accept(replace(changes, void=self._unsettled(changes.void)))
            else:
                waiting.append(changes)
        if waiting:
            self._store.accept(joined(waiting))
        return Applied(counts, records, told)

    def _fresh(self, records: Records) -> Records | None:
        """What of it has not been seen."""
        known = self._taken.get(records.partition, records.first)
        if records.first > known:
            raise Missing(f"records {known:,} to {records.first - 1:,} of {records.partition}")
        if records.next <= known:
            return None
        self._taken[records.partition] = records.next
        if records.first == known:
            return records
        tables = {
            name: frame.filter(pl.col("offset") >= known) if "offset" in frame.columns else frame
            for name, frame in records.tables.items()
        }
        return replace(records, first=known, tables=tables)

    def _begin(self, shard: int, run: int) -> None:
        if run > self._runs[shard]:
            self._runs[shard] = run
            self._begun.add(shard)

    def _publication(self, told: Told) -> Changes:
        """What a shard published; with its first one since it began anew all goes that was not settled before."""
        # How far it is goes with it: after a restart nobody takes for a backlog what is in the store already.
        meta = {f"reached.{told.shard}": orjson.dumps(dict(told.published.reached)).decode()}
        void: Sequence[str] = ()
        if told.shard in self._begun:
            self._begun.discard(told.shard)
            void, meta[f"run.{told.shard}"] = [str(told.shard)], str(told.run)
        return Changes({}, told.published.publication, {}, void=void, meta=meta)

    def _reach(self, message: Message) -> dict[str, Position]:
        """How far the message's place is in the store after it."""
        body = message.body
        if isinstance(body, Begun | Told) and body.shard in self._begun:
            return {}  # read again after a restart, since what it voids is still there
        name = _name(message.place)
        self._taken[name] = message.next
        return {name: Position(message.next)}

    def _unsettled(self, shards: Sequence[str]) -> list[str]:
        """The live incidents of some shards. Nothing waits in memory that may be one."""
        self._store.write()
        mine = {int(shard) for shard in shards}
        return [incident for name, _, incident in self._store.announced() if shard_of(name, self._shards) in mine]


class Recent:
    """Messages of late, for those who wait for what becomes of their records; so much of them as memory allows."""

    def __init__(self) -> None:
        self._records: list[Records] = []
        self._told: list[Told] = []
        self._whole: dict[str, int] = {}  # by partition: from this offset on, nothing that was told of it is gone

    def add(self, applied: Applied) -> None:
        """Keep what was applied."""
        self._records += applied.records
        self._told += applied.told

    def frames(self, partition: str, name: str) -> list[pl.DataFrame]:
        """The rows of a table that are of a partition; none of those of which part of what became of them is gone."""
        whole = self._whole.get(partition, 0)
        return [
            frame if r.first >= whole else frame.filter(pl.col("offset") >= whole)
            for r in self._records
            if r.partition == partition and r.next > whole and (frame := r.tables.get(name)) is not None
        ]

    def publications(self, partition: str) -> list[Publication]:
        """What was published, with the members of one partition."""
        found = []
        for told in self._told:
            publication, names = told.published.publication, told.published.partitions
            number = names.index(partition) if partition in names else -1
            members = publication.members.filter(pl.col("partition") == number)
            found.append(replace(publication, members=members))
        return found

    def forget(self, committed: Callable[[str], int]) -> None:
        """Let go of what is complete, and of the oldest where there is too much."""
        upto = cache(committed)
        records = [r for r in self._records if r.next > upto(r.partition)]
        self._records = records[_surplus([_rows(*r.tables.values()) for r in records]) :]
        told = [t for t in self._told if any(at > upto(partition) for partition, at in t.published.reached.items())]
        surplus = _surplus([_rows(t.published.publication.members, *_shown(t).values()) for t in told])
        for gone in told[:surplus]:
            for partition, at in gone.published.reached.items():
                self._whole[partition] = max(self._whole.get(partition, 0), at)
        self._told = told[surplus:]


def _shown(told: Told) -> Mapping[str, pl.DataFrame]:
    return told.published.publication.output.tables()


def _rows(*frames: pl.DataFrame) -> int:
    return sum(frame.height for frame in frames)


def _surplus(rows: Sequence[int]) -> int:
    """How many of some messages, from the oldest on, are too many; rows: of each."""
    kept = total = 0
    for count in reversed(rows):
        total += count
        if kept == RECENT or total > RECENT_ROWS:
            break
        kept += 1
    return len(rows) - kept


def _name(place: Place) -> str:
    return f"{place[0]}-{place[1]}"
