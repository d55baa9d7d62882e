"""What a worker does with classified batches: it tells API nodes of their records, feeds its shards, tells what these
publish, and writes both into the lake.

Guarantee: exactly once. A snapshot is taken only when Kafka has everything before it. What comes again after a crash is
known by its offsets (records) or by its run (what shards publish). Files of the lake count only once the epoch that
wrote them is complete in all workers: then the next one begins.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
import polars as pl
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.kafka.envelope import PIECE_HEADER, Envelope, packed, pieces
from connectors.kafka.outbox import Outbox
from connectors.kafka.settings import KafkaError, KafkaSettings
from connectors.kafka.tail import tail
from connectors.lake_files import ROLLED, LakeFiles
from connectors.schema import TABLES
from flows import results
from flows.detect import ShardInput
from flows.kafka_source import KafkaInput
from flows.live_detect import LiveDetect, Published
from flows.live_progress import LiveProgress
from flows.live_sink import changed_settings, tables_of
from flows.results import Begun, Records, Told
from flows.sink import Counts, Stored
from operators.clock import NEVER
from operators.output import Output
from operators.rollup import rollup
from operators.settings import Settings

MESSAGE_ROWS = 50_000  # events in a message


class Watch:
    """Who is told how a worker does. As it is, it does nothing with it."""

    def records(self, counts: Counts) -> None:
        """Records are classified."""

    def reached(self, partition: str, offset: int) -> None:
        """A partition is processed up to here."""

    def snapshot(self) -> None:
        """A snapshot was taken."""


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where workers send to. lake: None where none is written. watch: told of each batch of records."""

    settings: KafkaSettings
    outbox: Outbox
    lake: LakeFiles | None
    watch: Watch

    def send(self, topic: str, partition: int, envelope: Envelope, sent: Callable[[int], None] | None = None) -> None:
        """Send an envelope to API nodes. Raises KafkaError."""
        for header, piece in pieces(packed(envelope)):
            self.outbox.send(topic, piece, partition=partition, headers=[(PIECE_HEADER, header)], sent=sent)


@dataclass
class _LakeState:
    """Rows on their way into the lake. staged: files of the last snapshot, which count when the next epoch begins."""

    staged: tuple[str, ...] = ()
    rows: dict[str, list[pl.DataFrame]] = field(default_factory=dict)

    def add(self, tables: Mapping[str, pl.DataFrame]) -> None:
        """Put rows behind those of their table."""
        for name, frame in tables.items():
            if frame.height:
                self.rows.setdefault(name, []).append(frame)

    def commit(self, lake: LakeFiles | None) -> None:
        """A new epoch has begun: the files of the one before count."""
        if self.staged and lake is not None:
            lake.commit(self.staged)
            self.staged = ()

    def stage(self, lake: LakeFiles | None, part: str, first: int) -> tuple[str, ...]:
        """Write what has gathered, for the snapshot."""
        rows, self.rows = self.rows, {}
        if lake is not None:
            for name, frames in rows.items():
                frame = pl.concat(frames)
                if name == "events":
                    self.staged += lake.stage(part, ROLLED, rollup(frame), first)
                if TABLES[name].upsert:  # all rows of a file are of one version
                    frame = frame.unique(list(TABLES[name].key), keep="last", maintain_order=True)
                self.staged += lake.stage(part, name, frame, first)
        return self.staged


class RecordsPart(StatefulSinkPartition[Stored, bytes]):
    """The records of one input partition. to: their partition of the topic of records."""

    def __init__(self, outlets: Outlets, item: KafkaInput, to: int, state: bytes | None) -> None:
        self._outlets, self._name, self._place, self._to = outlets, item.name, item.place, to
        self._next = item.begin
        self._settings: dict[str, Settings] = {}
        self._lake = _LakeState()
        if state is not None:
            self._next, self._settings, self._lake.staged = pickle.loads(state)
        if outlets.lake is not None:
            outlets.lake.recover(self._name, self._lake.staged)
        self._lake.staged = ()

    def write_batch(self, items: list[Stored]) -> None:
        """Tell of batches, small ones together."""
        self._lake.commit(self._outlets.lake)
        waiting: list[Stored] = []
        rows = 0
        for item in items:
            size = item.events.height if item.events is not None else 0
            if waiting and rows + size > MESSAGE_ROWS:
                self._send(waiting)
                waiting, rows = [], 0
            waiting.append(item)
            rows += size
        self._send(waiting)

    def snapshot(self) -> bytes:
        """Kafka has everything so far: this is where a resumed run begins."""
        staged = self._lake.stage(self._outlets.lake, self._name, self._next)
        self._outlets.outbox.flush()
        self._outlets.watch.snapshot()
        return pickle.dumps((self._next, self._settings, staged), protocol=5)

    def close(self) -> None:
        """Nothing to let go of."""

    def _send(self, items: Sequence[Stored]) -> None:
        last = items[-1]
        counts = Counts()
        for item in items:
            counts.add(item.counts)
        changed = changed_settings(self._settings, last.settings)
        if changed:
            self._settings = dict(last.settings)
        tables = tables_of(items)
        self._outlets.watch.reached(self._name, last.next_offset)
        if not (tables or changed or counts.records):
            return  # the next message begins where the last one ended, so that nobody misses what is between
        first, self._next = self._next, last.next_offset
        watermark = None if last.watermark == NEVER else last.watermark
        records = Records(self._name, first, last.next_offset, watermark, tables, changed, counts)
        self._outlets.send(self._outlets.settings.records, self._to, results.of_records(records))
        if "dead_letters" in tables:
            self._bury(tables["dead_letters"])
        self._lake.add({name: frame for name, frame in tables.items() if name != "rules"})
        self._outlets.watch.records(counts)

    def _bury(self, letters: pl.DataFrame) -> None:
        """Send what could not be used where somebody can look at it."""
        topic, partition = self._place
        for offset, raw, error in letters.select("offset", "raw", "error").iter_rows():
            self._outlets.outbox.send(
                self._outlets.settings.dead_letters,
                (raw or "").encode(),
                key=f"{topic}-{partition}:{offset}".encode(),
                headers=[
                    ("tocsin.error", error.encode()),
                    ("tocsin.topic", topic.encode()),
                    ("tocsin.partition", str(partition).encode()),
                    ("tocsin.offset", str(offset).encode()),
                ],
            )


class OutdatedRecovery(KafkaError):
    """The recovery state is older than what was told on top of it."""


class ShardPart(StatefulSinkPartition[ShardInput, bytes]):
    """One shard of the keys: it detects, and tells what it publishes."""

    def __init__(
        self,
        outlets: Outlets,
        number: int,
        partitions: Sequence[str],
        upto: Mapping[str, int],
        lateness: int,
        state: bytes | None,
    ) -> None:
        self._outlets, self._number = outlets, number
        self._snapshots, self._sent, self._forgotten = 0, 0, [NEVER, NEVER]
        self._lake = _LakeState()
        detect: bytes | None = None
        run = 0
        if state is not None:
            detect, run, self._snapshots, self._sent, self._forgotten, self._lake.staged = pickle.loads(state)
        told = tail(outlets.settings, outlets.settings.results, number, self._sent)
        known = [results.read(envelope) for envelope in told]
        self._check(known)
        # Above all that anybody has seen, also where nothing was told after the snapshot.
        # And one that nobody else takes who starts at the same time, as one that hung and comes back.
        known_runs = [item.run for item in known if isinstance(item, Begun | Told)]
        self._run = max(1 + max(run, *known_runs, 0), time.time_ns() // 1_000)
        announced = [one for item in known if isinstance(item, Told) for one in results.announced(item)]
        progress = LiveProgress()
        self._detect = LiveDetect(str(number), partitions, progress, announced, upto, detect, lateness)
        if outlets.lake is not None:
            outlets.lake.recover(self._part, self._lake.staged)
        self._lake.staged = ()
        self._over = NEVER
        self._send(results.of_begun(Begun(number, self._run)))

    @property
    def _part(self) -> str:
        return f"shard-{self._number}"

    def write_batch(self, items: list[ShardInput]) -> None:
        """Take what came and tell what it makes of the keys."""
        self._lake.commit(self._outlets.lake)
        published, _ = self._detect.on_batch(items)
        for each in published:
            self._over = max(self._over, each.over)
            self._tell(each)

    def snapshot(self) -> bytes:
        """Kafka has everything so far: this is where a resumed run begins."""
        detect = self._detect.snapshot()
        staged = self._lake.stage(self._outlets.lake, self._part, self._snapshots)
        self._outlets.outbox.flush()
        self._snapshots += 1
        # What was over two snapshots ago is over in every snapshot that a run may still begin from.
        self._forgotten = [self._forgotten[1], self._over]
        state = detect, self._run, self._snapshots, self._sent, self._forgotten, staged
        return pickle.dumps(state, protocol=5)

    def close(self) -> None:
        """Nothing to let go of."""

    def _check(self, known: Sequence[object]) -> None:
        """Raise OutdatedRecovery where more was told than one that was interrupted can have told."""
        newest = max((item.snapshots for item in known if isinstance(item, Told)), default=0)
        if newest > self._snapshots + 1:
            raise OutdatedRecovery(
                f"the recovery state is older than the results (shard {self._number}: {self._snapshots} snapshots, the "
                f"results rest on {newest}): bring the newest one back, or start once with --rebuild, which makes "
                "everything anew from the log"
            )

    def _tell(self, published: Published) -> None:
        told = Told(self._number, self._run, self._snapshots, self._forgotten[0], published)
        self._send(results.of_told(told))
        final = published.publication.final
        self._lake.add(final.tables())
        self._tell_everybody(final)

    def _tell_everybody(self, final: Output) -> None:
        """Settled incidents, the newest state of each, to whoever reads the compacted topic."""
        for row in final.incidents.unique("id", keep="last", maintain_order=True).iter_rows(named=True):
            value = orjson.dumps(row, option=orjson.OPT_UTC_Z)
            self._outlets.outbox.send(self._outlets.settings.incidents, value, key=row["id"].encode())

    def _send(self, envelope: Envelope) -> None:
        self._outlets.send(self._outlets.settings.results, self._number, envelope, self._note)

    def _note(self, offset: int) -> None:
        self._sent = max(self._sent, offset + 1)


class RecordsSink(FixedPartitionedSink[Stored, bytes]):
    """A part for each input partition: on the worker that reads it, since both are dealt out in the same order."""

    def __init__(self, outlets: Outlets, inputs: Mapping[str, KafkaInput]) -> None:
        self._outlets, self._inputs = outlets, inputs
        self._names = sorted(inputs)

    def list_parts(self) -> list[str]:
        """The input partitions."""
        return self._names

    def part_fn(self, item_key: str) -> int:
        """An item's key is its partition."""
        return self._names.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> RecordsPart:
        """Start where the snapshot left off."""
        return RecordsPart(self._outlets, self._inputs[for_part], self._names.index(for_part), resume_state)


class ShardSink(FixedPartitionedSink[ShardInput, bytes]):
    """A part for each shard."""

    def __init__(
        self, outlets: Outlets, shards: int, partitions: Sequence[str], upto: Mapping[str, int], lateness: int
    ) -> None:
        self._outlets, self._given = outlets, (partitions, upto, lateness)
        self._names = sorted(str(n) for n in range(shards))

    def list_parts(self) -> list[str]:
        """The shards."""
        return self._names

    def part_fn(self, item_key: str) -> int:
        """An item's key is its shard."""
        return self._names.index(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> ShardPart:
        """Start where the snapshot left off."""
        return ShardPart(self._outlets, int(for_part), *self._given, resume_state)
