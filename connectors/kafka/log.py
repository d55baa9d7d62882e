"""The log as a topic: records appended by an API node, told apart by workspace and source.

Guarantee: an append whose future has a result is on all in-sync replicas. One that failed may be there all the same,
in part or as a whole: who sends it again with the same id (or Idempotency-Key) gets it counted once (S5). Records of
one workspace and source are in one partition, in the order in which a node appended them. Memory is bounded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import orjson
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Message, Producer

from connectors.formats.record import NAMES
from connectors.kafka.settings import MESSAGE_BYTES, KafkaSettings, logger
from connectors.kafka.topics import connected
from connectors.log_errors import LogBusy, LogClosed, LogUnavailable
from connectors.log_lines import lines

TIMEOUT = 5.0  # seconds until a record counts as refused
STALLED = 2.0  # seconds without an answer after which nothing more is taken
LOOK = 0.5  # seconds between looks whether Kafka is back, where nobody appends
WAITING_BYTES = 64 << 20
KEY = 1_024  # bytes of a key, at most: enough to tell apart what is not made to be alike
LARGEST = MESSAGE_BYTES - (1 << 20)  # bytes of a body: room for what the log adds, and for Kafka's own


@dataclass(slots=True)
class Delivered:
    """Where records are. ends: the next offset of each partition they went to. first: partition and offset of the first
    one; of several, any of them."""

    ends: dict[int, int] = field(default_factory=dict)
    first: tuple[int, int] | None = None


class KafkaLog:
    """Appends to the log's topic. clock: now, µs. All methods are safe in any thread.

    trouble: why nothing is taken, None where all is well; it goes away by itself.
    """

    def __init__(self, settings: KafkaSettings, partitions: int, clock: Callable[[], int]) -> None:
        """Connects by itself, sooner or later. Raises KafkaError where the options make no sense."""
        self._settings, self._topic = settings, settings.log
        self._partitions, self._clock = partitions, clock
        self._producer = self._connected()
        self._lock = threading.Lock()
        self._under_way: dict[int, _Append] = {}  # in the order in which they began
        self._next = 0
        self._waiting = 0  # bytes
        self._stamp = 0
        self._heard = self._looked = time.monotonic()
        self._closed = False
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._poll, name="kafka log", daemon=True)
        self._thread.start()

    def append(self, bodies: Sequence[bytes], workspace: str) -> Future[Delivered]:
        """Append records: JSON objects, each without line breaks, in order within a source.

        The future cannot be cancelled and may have the exception LogUnavailable. Raises LogBusy, LogUnavailable,
        LogClosed, ValueError.
        """
        return self._send([(_key(body, workspace), -1, body) for body in bodies], workspace)

    def append_everywhere(self, body: bytes, workspace: str) -> Future[Delivered]:
        """Append a record to every partition: what concerns all that follows. Raises as `append`."""
        _key(body, workspace)
        return self._send([(workspace.encode(), n, body) for n in range(self._partitions)], workspace)

    def close(self) -> None:
        """Wait for what is under way, for as long as it may take; refuse what comes."""
        with self._lock:  # what was let in before is under way by now
            self._closed = True
        self._producer.flush(TIMEOUT + 1)
        self._thread.join()

    def _connected(self) -> Producer:
        options = self._settings.options
        return connected(
            Producer,
            self._settings,
            acks="all",
            enable_idempotence=True,
            message_timeout_ms=int(TIMEOUT * 1000),
            message_max_bytes=str(MESSAGE_BYTES),
            partitioner="murmur2_random",  # as Java's clients: who else produces keys agrees
            linger_ms=options.get("linger.ms", "1"),
            compression_type=options.get("compression.type", "lz4"),
            queue_buffering_max_messages=2_000_000,
            queue_buffering_max_kbytes=4 * WAITING_BYTES >> 10,
        )

    def _send(self, records: list[tuple[bytes, int, bytes]], workspace: str) -> Future[Delivered]:
        size = sum(len(body) for _, _, body in records)
        if size > LARGEST and (largest := max(len(body) for _, _, body in records)) > LARGEST:
            raise ValueError(f"a record of {largest:,} bytes is too large for Kafka: at most {LARGEST:,} are taken")
        with self._lock:
            self._check(size)
            self._stamp = stamp = max(self._stamp, self._clock())
            append = _Append(self, self._next, len(records), size)
            self._under_way[self._next] = append
            self._next += 1
            self._waiting += size
        try:
            text = b"".join(piece.text for piece in lines([body for _, _, body in records], workspace, stamp))
        except BaseException:
            self._forget(append)
            raise
        left = len(records)
        for (key, partition, _), line in zip(records, text.split(b"\n"), strict=False):
            error = self._produce(key, partition, line, append)
            if error is not None:
                append.fail(error, left)
                break
            left -= 1
        if not records:
            append.count(0)
        return append.future

    def _check(self, size: int) -> None:
        """Raise where nothing can be taken now."""
        if self._closed:
            raise LogClosed("the log is closed")
        if self._waiting and self._waiting + size > WAITING_BYTES:
            raise LogBusy(f"{self._waiting:,} bytes wait for Kafka")
        oldest = next(iter(self._under_way.values()), None)
        silent = time.monotonic() - max(oldest.began, self._heard) if oldest is not None else 0.0
        if silent > STALLED:
            self.trouble = f"Kafka has not answered for {silent:.0f} s"
            raise LogUnavailable(self.trouble)

    def _produce(self, key: bytes, partition: int, line: bytes, append: _Append) -> str | None:
        """Hand one message over; what is wrong, if anything."""
        give_up = time.monotonic() + STALLED
        while True:
            producer = self._producer
            try:
                producer.produce(self._topic, line, key, partition, on_delivery=append.delivered)
                return None
            except BufferError:
                if time.monotonic() > give_up:
                    return "too much waits for Kafka"
                producer.poll(0.01)
            except KafkaException as wrong:
                if wrong.args[0].code() == Code._FATAL:
                    self._begin_anew(producer)
                return str(wrong.args[0].str())

    def _begin_anew(self, failed: Producer) -> None:
        """Another producer: one that met a fatal error, such as a partition that lost messages, never sends again."""
        with self._lock:
            if self._producer is not failed:
                return
            self._producer = self._connected()
        logger.warning("the producer of the log was made anew")
        failed.purge()
        failed.flush(1.0)  # who waits for what it took is told

    def _answered(self) -> None:
        """Kafka took a record."""
        self._heard = time.monotonic()

    def _done(self, append: _Append) -> None:
        self._forget(append)
        self.trouble = append.error

    def _forget(self, append: _Append) -> None:
        with self._lock:
            if self._under_way.pop(append.number, None) is not None:
                self._waiting -= append.size

    def _poll(self) -> None:
        while not (self._closed and not self._under_way):
            try:
                self._producer.poll(0.1)
                if self.trouble is not None and not self._under_way and not self._closed:
                    self._look()
            except Exception:  # of whoever is told of a record: the others must be told all the same
                logger.exception("what Kafka said could not be passed on")

    def _look(self) -> None:
        """Is Kafka back? A node that is in trouble gets no records that would show it."""
        if time.monotonic() - self._looked < LOOK:
            return
        try:
            found = self._producer.list_topics(self._topic, LOOK).topics[self._topic]
        except KafkaException:
            found = None
        self._looked = time.monotonic()
        if found is not None and found.error is None:
            self.trouble = None


class _Append:
    """An append under way."""

    __slots__ = ("_left", "_lock", "_log", "_place", "began", "error", "future", "number", "size")

    def __init__(self, log: KafkaLog, number: int, records: int, size: int) -> None:
        self._log, self.number, self.size = log, number, size
        self._left, self._place, self._lock = records, Delivered(), threading.Lock()
        self.began = time.monotonic()
        self.error: str | None = None
        self.future: Future[Delivered] = Future()
        self.future.set_running_or_notify_cancel()  # who waits may go away, but the records are on their way

    def delivered(self, error: Code | None, message: Message) -> None:
        """Kafka's word on one record."""
        if error is not None:
            self.fail(error.str(), 1)
            return
        partition, offset = message.partition() or 0, message.offset() or 0
        place = self._place
        with self._lock:
            if place.first is None:
                place.first = (partition, offset)
            if place.ends.get(partition, 0) <= offset:
                place.ends[partition] = offset + 1
        self._log._answered()
        self.count(1)

    def fail(self, error: str, records: int) -> None:
        """So many records were refused."""
        self.error = f"Kafka did not take the record: {error}"
        self.count(records)

    def count(self, records: int) -> None:
        """So many records are done; with the last one the append is."""
        with self._lock:
            self._left -= records
            if self._left:
                return
        self._log._done(self)
        if self.error is not None:
            self.future.set_exception(LogUnavailable(self.error))
        else:
            self.future.set_result(self._place)


def _key(body: bytes, workspace: str) -> bytes:
    """What decides about the partition: workspace and source, as the decoder will read it. Raises ValueError."""
    try:
        record = orjson.loads(body)
    except orjson.JSONDecodeError:
        record = None
    if not isinstance(record, dict):
        raise ValueError("a record must be one JSON object without line breaks")
    source = next((record[name] for name in NAMES["source"] if record.get(name) not in (None, "")), "")
    return f"{workspace}/{source if isinstance(source, str) else orjson.dumps(source).decode()}".encode()[:KEY]
