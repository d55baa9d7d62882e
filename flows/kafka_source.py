"""Topics as a Bytewax source: each partition takes what has arrived, decodes ahead, and stamps in order.

Guarantee: each record is delivered once per run of Bytewax's recovery: the snapshot holds the next offset with the
partition's clock, known ids and settings. Where a partition of the log is quiet, its worker appends a tick, so that it
does not hold back the others, and so that a replay of the log sees time pass as it did here.
"""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from threading import Lock

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.formats.types import Decoded
from connectors.kafka.messages import MessageFormat, decode
from connectors.kafka.reader import Reader
from connectors.kafka.runs import Run
from connectors.kafka.serdes import RegistryUnavailable
from flows.board import Board
from flows.snapshots import pickled
from flows.source import decoders
from operators.clock import DEFAULT_LATENESS, NEVER
from operators.events import DECODED
from operators.frames import empty
from operators.intake import REJECTS, Batch, Intake

BATCH_BYTES = 8 << 20
INLINE = 64 << 10  # bytes that are decoded at once: less than a thread is worth
PAUSE = timedelta(milliseconds=4)  # between looks at a partition of which nothing came
QUIET, SELDOM = 1.0, 10.0  # seconds without a record before the first tick; between ticks, at most
RETRY = 1.0  # seconds until a schema registry is asked again
COMMIT = 5.0  # seconds between commits for those who watch

Place = tuple[str, int]

logger = structlog.get_logger("tocsin.worker")


@dataclass(frozen=True, slots=True)
class KafkaInput:
    """A partition of a topic: its name here, its place there, how it is read. ours: of the log. begin: where, the first
    time. end: where it ends, None where it goes on."""

    name: str
    place: Place
    form: MessageFormat
    ours: bool = True
    begin: int = 0
    end: int | None = None


def partitions_of(inputs: Mapping[str, KafkaInput]) -> Counter[str]:
    """How many partitions of each topic are read."""
    return Counter(item.place[0] for item in inputs.values())


@dataclass(frozen=True, slots=True)
class _Ahead:
    run: Run
    decoded: Future[Decoded]


class KafkaPartition(StatefulSourcePartition[Batch, bytes]):
    """One partition. Ends when `stop` is set; what was not taken then is read by the next run."""

    def __init__(self, item: KafkaInput, source: KafkaSource, state: bytes | None) -> None:
        self._item, self._source = item, source
        fresh = Intake(item.name, source.lateness, item.begin), False
        resumed: tuple[Intake, bool] = fresh if state is None else pickle.loads(state)
        self._intake, self._ended = resumed
        self._next = self._intake.next_offset  # of what is taken from the reader
        self._ahead: _Ahead | None = None
        self._begins, self._idle = item.end is None, True
        self._committed = self._heard = time.monotonic()
        self._due = self._waits = 0.0
        source.reader.begin(item.place, self._next)
        if self._ended and source.board is not None:
            source.board.end(item.name)  # the board is new with each run, and others would wait for this partition

    def next_batch(self) -> list[Batch]:
        """The next records; none where none came."""
        if self._source.stop.is_set() or self._ended:
            raise StopIteration
        if self._begins:  # what is shown again after a restart does not wait for a record
            self._begins = False
            return self._intake.take(empty(DECODED), empty(REJECTS), 0)
        board = self._source.board
        self._idle = time.monotonic() < self._waits or (board is not None and not board.may_read(self._item.name))
        if self._idle:
            return []
        ahead, self._ahead = self._ahead or self._take(), None
        if ahead is None:
            if self._item.end is not None and (self._next >= self._item.end or self._at_end()):
                return self._finish()
            self._idle = True
            return self._tick()
        try:
            decoded = ahead.decoded.result()
        except RegistryUnavailable as wrong:  # only what is in this partition waits for it
            logger.warning("schema registry unavailable", partition=self._item.name, reason=str(wrong))
            self._idle, self._waits = True, time.monotonic() + RETRY
            self._ahead = _Ahead(ahead.run, self._decoded(ahead.run))
            return []
        if ahead.run.size >= INLINE:
            self._ahead = self._take()  # decoded while this one is processed
        self._intake.next_offset = ahead.run.first  # beyond what a topic has no messages for
        batches = self._intake.take(decoded.frame, decoded.rejects, decoded.records)
        if any(batch.frame.height or batch.dead_letters.height for batch in batches):  # not of a tick alone
            self._heard, self._due = time.monotonic(), 0.0
        if board is not None:
            read = self._intake.next_offset - self._item.begin
            board.report(self._item.name, self._intake.clock.watermark, read, read)
        else:
            self._tell()
        return batches

    def _at_end(self) -> bool:
        return self._source.reader.at_end(self._item.place)

    def _finish(self) -> list[Batch]:
        self._ended = True
        if self._source.board is not None:
            self._source.board.end(self._item.name)
        return self._intake.finish()

    def next_awake(self) -> datetime | None:
        """Soon, where nothing came; else at once."""
        return datetime.now(UTC) + PAUSE if self._idle else None

    def snapshot(self) -> bytes:
        """Where to go on, pickled at once."""
        return pickled((self._intake, self._ended))

    def _take(self) -> _Ahead | None:
        end = self._item.end
        if end is not None and self._next >= end:
            return None
        run = self._source.reader.take(self._item.place, BATCH_BYTES)
        if run is None:
            return None
        self._next = run.next
        if end is not None and run.next > end:
            if run.first >= end:
                return None
            run = run.some(0, end - run.first)
        return _Ahead(run, self._decoded(run))

    def _decoded(self, run: Run) -> Future[Decoded]:
        if run.size >= INLINE:
            return decoders().submit(decode, run, self._item.form)
        done: Future[Decoded] = Future()
        try:
            done.set_result(decode(run, self._item.form))
        except RegistryUnavailable as wrong:
            done.set_exception(wrong)
        return done

    def _tick(self) -> list[Batch]:
        """Nothing came: let time pass after a second, then more and more seldom, up to every ten seconds."""
        now, since = time.monotonic(), time.monotonic() - self._heard
        if self._item.end is not None or since < QUIET or now < self._due:
            return []
        self._due = now + min(max(since / 10, QUIET), SELDOM)
        if self._item.ours:
            self._source.tick(self._item.place)
            return []
        # Nobody but its owners writes into a foreign topic. What is on its way there has as long as it may be late.
        return self._intake.tick(self._source.clock() - self._source.lateness)

    def _tell(self) -> None:
        """Commit the position now and then, for those who watch."""
        if time.monotonic() - self._committed >= COMMIT:
            self._committed = time.monotonic()
            self._source.reader.commit({self._item.place: self._intake.next_offset})
            self._source.look_for_new()


class KafkaSource(FixedPartitionedSource[Batch, bytes]):
    """Partitions of topics.

    tick: appends a tick to a partition of the log; clock: now, µs; both for those that go on. board: of those that end.
    """

    def __init__(
        self,
        inputs: Mapping[str, KafkaInput],
        reader: Callable[[], Reader],
        stop: Flag,
        lateness: int = DEFAULT_LATENESS,
        *,
        tick: Callable[[Place], None] = lambda place: None,
        clock: Callable[[], int] = lambda: NEVER,
        board: Board | None = None,
    ) -> None:
        self._inputs, self._make, self.stop, self.lateness = inputs, reader, stop, lateness
        self.tick, self.clock, self.board = tick, clock, board
        self._reader: Reader | None = None
        self._making = Lock()
        self._told: dict[str, int] = {}  # partitions that a topic has, as was said

    @property
    def reader(self) -> Reader:
        """The one consumer of this process, made when it is first needed."""
        with self._making:
            if self._reader is None:
                self._reader = self._make()
            return self._reader

    def look_for_new(self) -> None:
        """Say so where a topic has got more partitions since the start."""
        known = partitions_of(self._inputs)
        for topic, count in self.reader.seen.items():
            if count > known[topic] and self._told.get(topic) != count:
                self._told[topic] = count
                logger.warning(
                    "new partitions are not read",
                    topic=topic,
                    partitions=count,
                    read=known[topic],
                    what_to_do="stop all workers, then start the first one with --rebuild",
                )

    def list_parts(self) -> list[str]:
        """The partitions' names; every worker sees the same ones."""
        return list(self._inputs)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> KafkaPartition:
        """Open a partition at its position."""
        return KafkaPartition(self._inputs[for_part], self, resume_state)
