"""Messages of many partitions, read by one consumer in a thread of its own, taken partition by partition.

Guarantee: the messages of a partition are given in order, from the offset where it was begun, each once. Positions are
the caller's to keep: nothing here depends on what a consumer group knows. Memory is bounded: a partition whose messages
are not taken is paused.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as Code

from connectors.kafka.native import NativeConsumer
from connectors.kafka.runs import Run, joined, runs_of
from connectors.kafka.settings import MESSAGE_BYTES, KafkaError, KafkaSettings, logger
from connectors.kafka.topics import Topics, connected, reason

Place = tuple[str, int]  # topic and partition
HELD = 48 << 20  # bytes of messages that wait to be taken, of all partitions
PART = 1 << 20  # bytes of messages that are taken together, at least
MOST = 20_000  # messages asked for at a time
WATCH = 30.0  # seconds between looks at the topics
GONE = 3  # looks, a second apart, in which a topic was not there: a broker that comes back may not know it at once
_FATAL = {Code.TOPIC_AUTHORIZATION_FAILED, Code.UNKNOWN_TOPIC_OR_PART, Code._UNKNOWN_PARTITION}
# Messages that the client cannot read: it would ask for them again and again, and nobody would know.
_DAMAGED = {Code._BAD_MSG, Code._BAD_COMPRESSION, Code._NOT_IMPLEMENTED, Code.INVALID_MSG, Code.INVALID_MSG_SIZE}


class Reader:
    """Reads from `begin` on, until `close`.

    group: under which positions are committed, for those who watch. headers: gives runs of messages with their headers;
    else text, which costs a quarter. ends: notes where partitions end, see `at_end`.
    """

    def __init__(
        self, settings: KafkaSettings, group: str, held: int = HELD, *, headers: bool = False, ends: bool = False
    ) -> None:
        """Connects by itself, sooner or later. Raises KafkaError where the options make no sense."""
        options = settings.options
        kind: Callable[[dict[str, Any]], Consumer | NativeConsumer] = Consumer if headers else NativeConsumer
        self._topics = Topics(settings)
        self._consumer = connected(
            kind,
            settings,
            group_id=group,
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="error",
            enable_partition_eof=ends,
            isolation_level="read_committed",
            fetch_wait_max_ms=options.get("fetch.wait.max.ms", "50"),
            fetch_message_max_bytes=options.get("fetch.message.max.bytes", str(4 << 20)),
            queued_min_messages=options.get("queued.min.messages", "200000"),
            queued_max_messages_kbytes=options.get("queued.max.messages.kbytes", str(64 << 10)),
            fetch_queue_backoff_ms=options.get("fetch.queue.backoff.ms", "50"),  # a second is long for a full queue
            receive_message_max_bytes=str(8 * MESSAGE_BYTES),
            session_timeout_ms=options.get("session.timeout.ms", "6000"),  # so long `close` waits for a commit
            check_crcs=options.get("check.crcs", "true"),
        )
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._runs: dict[Place, deque[Run]] = {}
        self._new: list[TopicPartition] = []
        self._sizes: dict[Place, int] = {}  # memory that waits to be taken
        self._paused: set[Place] = set()
        self._committing: dict[Place, int] = {}
        self._ended: set[Place] = set()
        self._held = held
        self._closed = False
        self._error: KafkaError | None = None
        self.seen: dict[str, int] = {}  # partitions that a topic has, as of the last look
        self._look = time.monotonic()
        self._ids: dict[str, str] = {}  # of the topics
        self._absent: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="kafka reader", daemon=True)
        self._thread.start()

    def begin(self, place: Place, offset: int) -> None:
        """Read a partition from this offset on."""
        with self._lock:
            self._runs[place], self._sizes[place] = deque(), 0
            self._new.append(TopicPartition(*place, offset))

    def take(self, place: Place, most: int) -> Run | None:
        """The next messages, up to `most` bytes but at least one; None where there is none now. Raises KafkaError."""
        with self._lock:
            if self._error is not None:
                raise self._error
            runs = self._runs[place]
            if not runs:
                return None
            taken = [runs.popleft()]
            size = taken[0].size
            while runs and runs[0].first == taken[-1].next and size + runs[0].size <= most:
                size += runs[0].size
                taken.append(runs.popleft())
            self._sizes[place] -= sum(run.held for run in taken)
        return joined(taken)

    def at_end(self, place: Place) -> bool:
        """Whether all that was in a partition has been taken: its last offsets may be of no message."""
        with self._lock:
            return place in self._ended and not self._runs[place]

    def wait(self, timeout: float) -> None:
        """Wait until some partition has messages."""
        with self._lock:
            if not any(self._runs.values()) and not self._closed and self._error is None:
                self._news.wait(timeout)

    def commit(self, positions: Mapping[Place, int]) -> None:
        """Tell the consumer group how far these partitions are, soon; only for those who watch."""
        with self._lock:
            self._committing |= positions

    def close(self) -> None:
        """Stop reading."""
        with self._lock:
            self._closed = True
            self._news.notify_all()
        self._thread.join()
        self._consumer.close()

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        try:
            while not self._closed:
                self._assign()
                if not self._runs:
                    time.sleep(0.01)
                    continue
                self._read()
                self._pace()
                self._watch()
        except KafkaException as wrong:
            self._fail(KafkaError(f"Kafka cannot be read: {reason(wrong)}"))
        except KafkaError as wrong:
            self._fail(wrong)
        except BaseException as wrong:  # who takes must not wait for a thread that is no more
            logger.exception("the thread that reads ended")
            self._fail(KafkaError(f"Kafka cannot be read: {type(wrong).__name__}: {wrong}"))

    def _fail(self, error: KafkaError) -> None:
        with self._lock:
            self._error = error
            self._news.notify_all()

    def _assign(self) -> None:
        with self._lock:
            new, self._new = self._new, []
            committing, self._committing = self._committing, {}
        if new:
            self._consumer.incremental_assign(new)
        if committing:
            offsets = [TopicPartition(*place, offset) for place, offset in committing.items()]
            try:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            except KafkaException as wrong:
                logger.warning("positions not committed: %s", reason(wrong))

    def _read(self) -> None:
        """Read what has come."""
        if isinstance(self._consumer, NativeConsumer):
            runs, troubles = self._consumer.consume(MOST, 0.05)
            for trouble in troubles:
                self._complain(trouble.place, trouble.error)
            for place, run in runs:
                self._add(place, [run])
            return
        messages = self._consumer.consume(MOST, 0.05)
        for (topic, partition), part in groupby(messages, lambda m: (m.topic() or "", m.partition() or 0)):
            good: list[Message] = []
            for message in part:
                error = message.error()
                if error is None:
                    good.append(message)
                else:
                    self._complain((topic, partition), error)
            if good:
                self._add((topic, partition), list(runs_of(good)))

    def _add(self, place: Place, runs: Sequence[Run]) -> None:
        runs = [part for run in runs for part in run.parts(PART)]
        with self._lock:
            if place in self._runs:
                self._runs[place] += runs
                self._sizes[place] += sum(run.held for run in runs)
                self._news.notify_all()

    def _complain(self, place: Place, error: Code) -> None:
        """Raise what does not go away by itself."""
        if error.code() == Code._PARTITION_EOF:
            with self._lock:
                self._ended.add(place)
            return
        if error.code() == Code._AUTO_OFFSET_RESET:
            raise KafkaError(
                f"{place[0]}-{place[1]}: the messages to go on with are not there any more ({error.str()}); bring them "
                "back, or start with --rebuild, which goes on without them"
            )
        if error.code() in _DAMAGED:
            raise KafkaError(f"{place[0]}-{place[1]}: messages are damaged: {error.str()}")
        if error.code() in _FATAL:
            raise KafkaError(f"{place[0]}: {error.str()}")
        logger.warning("%s-%d: %s", *place, error.str())

    def _pace(self) -> None:
        """Pause partitions of which much waits; go on with the others."""
        with self._lock:
            share = self._held // max(len(self._sizes), 1)
            full = {place for place, size in self._sizes.items() if size > max(share, 1 << 20)}
            low = {place for place in self._paused if self._sizes[place] <= max(share, 1 << 20) // 2}
        if pause := full - self._paused:
            self._consumer.pause([TopicPartition(*place) for place in pause])
            self._paused |= pause
        if low:
            self._consumer.resume([TopicPartition(*place) for place in low])
            self._paused -= low

    def _watch(self) -> None:
        """Look at the topics: Kafka says nothing of one that was removed, and the offsets of another one of
        that name are other messages'."""
        if time.monotonic() < self._look:
            return
        self._look = time.monotonic() + WATCH
        with self._lock:
            topics = {topic for topic, _ in self._runs}
        for topic in topics:
            try:
                found = self._topics.find(topic, 2.0)
            except KafkaError:  # Kafka is away
                continue
            if found is not None and self._ids.setdefault(topic, found.id) == found.id:
                self.seen[topic] = found.partitions
                self._absent.pop(topic, None)
                continue
            self._absent[topic] += 1
            self._look = time.monotonic() + 1.0
            if found is not None or self._absent[topic] >= GONE:
                raise KafkaError(f"{topic}: it is not there, or not any more the topic that was read")
