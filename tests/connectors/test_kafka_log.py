"""The log as a topic: what was taken is there, once and in order; what is not taken is refused soon, with a reason."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import chain
from typing import Any
from uuid import uuid4

import orjson
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.formats import jsonl
from connectors.formats.types import DecodeOptions
from connectors.kafka import log as kafka_log
from connectors.kafka.log import LARGEST, STALLED, TIMEOUT, Delivered, KafkaLog
from connectors.kafka.settings import KafkaError as Unusable
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import LOG, Topics
from connectors.log_errors import LogBusy, LogClosed, LogUnavailable
from connectors.log_lines import ingested_at, lines
from tests.kafka_broker import Broker
from tests.kafka_fixtures import OwnKafka
from tests.system.runs import until

PARTITIONS = 4
NOW = 1_800_000_000_000_000
SOON = 30.0
Making = Callable[..., KafkaLog]


def place(broker: Broker, **options: str) -> KafkaSettings:
    """A log of its own."""
    settings = KafkaSettings(broker.address, options, f"t{uuid4().hex}")
    Topics(settings).create(settings.log, PARTITIONS, LOG)
    return settings


@pytest.fixture
def making() -> Iterator[Making]:
    """Makes logs, and closes them in the end."""
    made: list[KafkaLog] = []

    def make(settings: KafkaSettings, clock: Callable[[], int] = lambda: NOW) -> KafkaLog:
        made.append(KafkaLog(settings, PARTITIONS, clock))
        return made[-1]

    yield make
    for log in made:
        log.close()


def contents(settings: KafkaSettings) -> list[list[bytes]]:
    """The lines of each partition."""
    consumer = Consumer(
        settings.client(group_id=uuid4().hex, enable_auto_commit=False, isolation_level="read_committed")
    )
    found: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    ends = Topics(settings).ends(settings.log, PARTITIONS)
    consumer.assign([TopicPartition(settings.log, n, 0) for n in range(PARTITIONS)])
    give_up = time.monotonic() + SOON
    while [len(each) for each in found] != ends:
        assert time.monotonic() < give_up, "the log cannot be read"
        for message in consumer.consume(10_000, 0.1):
            assert message.error() is None
            found[message.partition() or 0].append(message.value() or b"")
    consumer.close()
    return found


def body(number: int, source: str = "api") -> bytes:
    return b'{"source":"%b","n":%d}' % (source.encode(), number)


def numbers(lines: list[bytes], source: str) -> list[int]:
    records = map(orjson.loads, lines)
    return [record["n"] for record in records if record["source"] == source]


# ---------------------------------------------------------------- what is there


def test_the_records_of_a_source_are_in_one_partition_in_their_order(kafka: Broker, making: Making) -> None:
    """Batches of thousands and single records, of several threads: each source's own stay in order."""
    settings = place(kafka)
    log = making(settings)
    futures: list[Future[Delivered]] = []

    def send(sources: list[str]) -> None:
        for first in range(0, 12_000, 4_000):
            futures.append(log.append([body(first + n // 2, sources[n % 2]) for n in range(8_000)], "acme"))
            time.sleep(0.001)
        for number in range(12_000, 12_200):
            futures.append(log.append([body(number, sources[0])], "acme"))

    threads = [threading.Thread(target=send, args=([f"a{n}", f"b{n}"],)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    delivered = [future.result(SOON) for future in futures]
    found = contents(settings)
    for source in (f"{name}{n}" for name in "ab" for n in range(3)):
        held = [numbers(each, source) for each in found]
        assert [each for each in held if each] == [list(range(12_200 if source[0] == "a" else 12_000))]
    assert sum(1 for each in found if each) > 1
    ends = {n: max(each.ends.get(n, 0) for each in delivered) for n in range(PARTITIONS)}
    assert ends == {n: len(each) for n, each in enumerate(found)}


def test_who_appends_learns_where_it_is(kafka: Broker, making: Making) -> None:
    """An answer waits for exactly these offsets."""
    settings = place(kafka)
    log = making(settings)
    for n in range(3):
        delivered = log.append([body(n)], "acme").result(SOON)
        [(partition, end)] = delivered.ends.items()
        assert (delivered.first, end) == ((partition, n), n + 1)
    several = log.append([body(n, f"s{n}") for n in range(50)], "acme").result(SOON)
    found = contents(settings)
    assert several.ends == {n: len(each) for n, each in enumerate(found) if each}
    assert several.first is not None
    assert found[several.first[0]][several.first[1]]


def test_lines_are_those_of_the_log_on_a_disk(kafka: Broker, making: Making) -> None:
    """A dump of the topic is a log: replay reads it. Nothing a client sends takes the place of what the log adds."""
    bodies = [b'{"source":"a","workspace":"theirs","ingested_at":"2001-01-01T00:00:00Z"}', b' {"source":"a" , "n":1}']
    settings = place(kafka)
    making(settings).append(bodies, 'ac"me').result(SOON)
    [text] = lines(bodies, 'ac"me', NOW)
    assert [*chain.from_iterable(contents(settings))] == text.text.splitlines()


def test_the_log_time_of_a_node_never_goes_back(kafka: Broker, making: Making) -> None:
    """Somebody sets the machine's clock: what happened before must not come after."""
    settings = place(kafka)
    clock = iter([NOW, NOW - 5, NOW + 7, NOW, NOW + 9])
    log = making(settings, lambda: next(clock))
    for n in range(5):
        log.append([body(n)], "acme").result(SOON)
    stamps = [ingested_at(line + b"\n") for line in chain.from_iterable(contents(settings))]
    assert stamps == [NOW, NOW, NOW + 7, NOW + 7, NOW + 9]


SAME = [
    ['{"source":"z"}', '{"integrationKey":"z"}', '{"source":null,"integrationKey":"z"}'],
    ['{"source":"z"}', '{"source":"","integrationKey":"z"}', '{"source":"z","integrationKey":"a"}'],
    ['{"source":"true"}', '{"source":true}'],
    ['{"source":"5"}', '{"source":5}'],
    ['{"source":"ü"}', '{"source":"\\u00fc"}', '{"source":"a","source":"ü"}'],
    ['{"type":"t"}', '{"source":null}', '{"source":""}'],
]  # fmt: skip


@pytest.mark.parametrize("texts", SAME)
def test_one_source_is_one_partition_however_it_is_written(kafka: Broker, making: Making, texts: list[str]) -> None:
    """A repeated id is found in its partition only, and order counts within a source."""
    rows = [b'{"time":"2026-01-31T08:30:00Z","type":"t",' + text[1:].encode() for text in texts]
    sources = jsonl.decode(b"\n".join(rows), DecodeOptions()).frame["source"].unique().to_list()
    assert len(sources) <= 1, "the decoder sees several"
    settings = place(kafka)
    log = making(settings)
    others = log.append([body(0, f"s{n}") for n in range(30)], "acme").result(SOON)
    assert len(others.ends) == PARTITIONS
    delivered = [log.append([text.encode()], "acme").result(SOON) for text in texts]
    assert len({partition for each in delivered for partition in each.ends}) == 1


def test_what_concerns_all_goes_everywhere(kafka: Broker, making: Making) -> None:
    """Each partition follows the configuration that it has read."""
    settings = place(kafka)
    record = b'{"record":"configure","attributes":{}}'
    delivered = making(settings).append_everywhere(record, "acme").result(SOON)
    assert delivered.ends == dict.fromkeys(range(PARTITIONS), 1)
    [text] = lines([record], "acme", NOW)
    assert contents(settings) == [[text.text.rstrip()]] * PARTITIONS


# ---------------------------------------------------------------- what is refused


BAD = (b"", b"{", b"[1]", b"1", b"null", b'"{}"', b'{"a":1}\n{"b":2}', b'{"a":\n1}', b'{"a":1} ', b'{"a":1,}', b"\xff}")


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("everywhere", [False, True])
def test_what_is_no_line_of_an_object_is_refused_as_a_whole(
    fake: FakeKafka, making: Making, bad: bytes, everywhere: bool
) -> None:
    """One such line would make two records of one, or take the log's own members away."""
    log = making(NOWHERE)
    append = log.append_everywhere if everywhere else lambda bad, workspace: log.append([body(1), bad], workspace)
    with pytest.raises(ValueError, match="must be one JSON object without line breaks"):
        append(bad, "acme")
    assert fake.taken == []
    future = log.append([body(3)], "acme")
    fake.answer()
    assert future.result(SOON).ends == {0: 1}


def test_a_large_record_is_taken_and_one_that_is_too_large_is_refused_for_good(kafka: Broker, making: Making) -> None:
    """The API takes bodies of a mebibyte. What Kafka can never take must not be tried again and again."""
    settings = place(kafka)
    log = making(settings)
    for size in (1 << 20, LARGEST - 40):
        assert log.append([b'{"source":"a","message":"%b"}' % (b"a" * size)], "w" * 200).result(SOON).ends
    assert log.append([body(1, "a" * (LARGEST - 40))], "acme").result(SOON).ends, "nor is its key too large"
    with pytest.raises(ValueError, match="too large for Kafka"):
        log.append([body(1), body(1, "a" * LARGEST)], "acme")
    assert log.append([body(2)], "acme").result(SOON).ends
    assert sum(map(len, contents(settings))) == 4


def test_options_that_make_no_sense_are_said_so() -> None:
    """Else a worker would be started again and again."""
    with pytest.raises(Unusable, match="Invalid value for configuration property"):
        KafkaLog(KafkaSettings("127.0.0.1:1", {"linger.ms": "soon"}), 1, lambda: NOW)


def test_nothing_is_appended_at_once(fake: FakeKafka, making: Making) -> None:
    """It must not count as something that Kafka never answers."""
    log = making(NOWHERE)
    assert log.append([], "acme").result(SOON) == Delivered()
    assert log._under_way == {}


def test_memory_is_bounded(fake: FakeKafka, making: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Kafka is slow, callers are told to come back; what comes alone is taken however large it is."""
    monkeypatch.setattr(kafka_log, "WAITING_BYTES", 100)
    log = making(NOWHERE)
    first = log.append([body(n) for n in range(20)], "acme")
    with pytest.raises(LogBusy, match="bytes wait for Kafka"):
        log.append([body(1)], "acme")
    with pytest.raises(LogBusy):
        log.append_everywhere(body(1), "acme")
    fake.answer()
    assert len(first.result(SOON).ends) == 1
    second = log.append([body(1)], "acme")
    fake.answer()
    assert second.result(SOON).ends == {0: 21}


def test_a_full_queue_is_waited_for_and_then_given_up(
    fake: FakeKafka, making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of an append that was taken is told apart from none: it failed, whatever is there."""
    monkeypatch.setattr(kafka_log, "STALLED", 0.1)
    log = making(NOWHERE)
    fake.room = 2
    future = log.append([body(n) for n in range(4)], "acme")
    assert not future.done()
    fake.answer()
    with pytest.raises(LogUnavailable, match="too much waits for Kafka"):
        future.result(SOON)
    assert (log._under_way, log._waiting) == ({}, 0)
    fake.room = 10
    again = log.append([body(4)], "acme")
    fake.answer()
    assert again.result(SOON).ends == {0: 3}


def test_one_refused_record_refuses_its_append(fake: FakeKafka, making: Making) -> None:
    """A caller that is told all is well would never send it again."""
    log = making(NOWHERE)
    future = log.append([body(n) for n in range(3)], "acme")
    fake.answer(errors={1: KafkaError(KafkaError.NOT_ENOUGH_REPLICAS)})
    with pytest.raises(LogUnavailable, match="Kafka did not take the record: "):
        future.result(SOON)


# ---------------------------------------------------------------- who waits


def test_who_waits_may_go_away(kafka: Broker, making: Making) -> None:
    """A client hangs up, a deadline passes: the records are on their way, and everybody else is answered."""
    log = making(place(kafka, **{"linger.ms": "300"}))

    async def impatient() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.wrap_future(log.append([body(1)], "acme"))

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    assert not log.append([body(3)], "acme").cancel()
    assert log.append([body(2)], "acme").result(SOON).ends
    assert log._under_way == {}


def test_one_who_fails_to_be_told_does_not_keep_the_others_from_it(fake: FakeKafka, making: Making) -> None:
    """What is called back runs in the one thread that listens to Kafka."""
    log = making(NOWHERE)
    broken = log.append([body(1)], "acme")
    broken.set_result(Delivered())  # somebody has answered already: the log's own answer fails
    fake.answer()
    later = log.append([body(2)], "acme")
    fake.answer()
    assert later.result(SOON).ends == {0: 2}


# ---------------------------------------------------------------- outages


def test_an_append_that_takes_long_is_no_outage(
    fake: FakeKafka, making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bulk import over a slow line: as long as Kafka takes record after record, others are taken, too."""
    monkeypatch.setattr(kafka_log, "STALLED", 0.3)
    log = making(NOWHERE)
    log.append([body(n) for n in range(8)], "acme")
    for _ in range(5):
        time.sleep(0.1)
        fake.answer(1)
        until(lambda: not fake.answers, SOON)
    log.append([body(9)], "acme")
    time.sleep(0.4)
    with pytest.raises(LogUnavailable, match="Kafka has not answered for"):
        log.append([body(10)], "acme")
    assert log.trouble is not None
    fake.answer()


def test_trouble_goes_away_without_anybody_who_appends(fake: FakeKafka, making: Making) -> None:
    """A node that is not ready gets no requests that would show that Kafka is back."""
    log = making(NOWHERE)
    fake.away = True
    future = log.append([body(1)], "acme")
    fake.answer(errors={0: KafkaError(KafkaError._MSG_TIMED_OUT)})
    with pytest.raises(LogUnavailable):
        future.result(SOON)
    time.sleep(0.7)
    assert log.trouble is not None
    fake.away = False
    assert until(lambda: log.trouble is None, SOON)


def test_a_producer_that_failed_for_good_is_replaced(fake: FakeKafka, making: Making) -> None:
    """A broker has lost messages: an idempotent producer never sends again. What it had taken is refused."""
    log = making(NOWHERE)
    before = log.append([body(1)], "acme")
    fake.fatal = True
    with pytest.raises(LogUnavailable):
        log.append([body(2)], "acme").result(SOON)
    with pytest.raises(LogUnavailable):
        before.result(SOON)
    after = log.append([body(3)], "acme")
    fake.answer()
    assert after.result(SOON).ends == {0: 1}


@pytest.mark.slow
def test_a_hanging_broker_loses_and_doubles_nothing(own_kafka: OwnKafka, making: Making) -> None:
    """While it hangs callers are refused within seconds; when it is back all goes on by itself. Each record that was
    taken is there once, each other at most once."""
    broker = own_kafka()
    settings = place(broker)
    log = making(settings, lambda: time.time_ns() // 1_000)
    taken: list[int] = []
    sent = 0

    def send(seconds: float) -> bool:
        """Append as fast as answers come; whether all was taken."""
        nonlocal sent
        give_up, whole = time.monotonic() + seconds, True
        while time.monotonic() < give_up:
            sent += 1
            try:
                log.append([body(sent, f"s{sent % 7}")], "acme").result(TIMEOUT + 2.0)
                taken.append(sent)
            except LogUnavailable:
                whole = False
                time.sleep(0.02)
        return whole

    send(0.3)
    broker.pause()
    waiting = [log.append([body(1_000_000 + n, "late")], "acme") for n in range(3)]
    time.sleep(STALLED + 0.2)
    began = time.monotonic()
    with pytest.raises(LogUnavailable, match="Kafka has not answered"):
        log.append([body(0)], "acme")
    assert time.monotonic() - began < 0.1, "nobody waits for what is known"
    for future in waiting:
        with pytest.raises(LogUnavailable):
            future.result(TIMEOUT + 2.0)
    assert log.trouble is not None
    broker.resume()
    assert until(lambda: log.trouble is None, SOON)
    assert send(0.3)
    found = contents(settings)
    there = [orjson.loads(line)["n"] for each in found for line in each]
    assert len(there) == len(set(there))
    assert set(taken) <= set(there)
    for each in found:
        for number in range(7):
            held = numbers(each, f"s{number}")
            assert held == sorted(held)


# ---------------------------------------------------------------- the end


def test_close_waits_for_what_is_under_way(kafka: Broker) -> None:
    """Who was let in gets an answer; who comes later is sent away."""
    settings = place(kafka, **{"linger.ms": "500"})
    log = KafkaLog(settings, PARTITIONS, lambda: NOW)
    futures = [log.append([body(n)], "acme") for n in range(5)]
    assert not any(future.done() for future in futures)
    log.close()
    assert all(future.done() and future.result().ends for future in futures)
    with pytest.raises(LogClosed):
        log.append([body(9)], "acme")
    assert sum(map(len, contents(settings))) == 5


def test_close_without_kafka_takes_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node must be able to stop while Kafka is away."""
    monkeypatch.setattr(kafka_log, "TIMEOUT", 1.0)
    log = KafkaLog(KafkaSettings("127.0.0.1:9"), PARTITIONS, lambda: NOW)
    future = log.append([body(1)], "acme")
    began = time.monotonic()
    log.close()
    assert time.monotonic() - began < 5
    with pytest.raises(LogUnavailable):
        future.result(0)


# ---------------------------------------------------------------- Kafka as a test wants it

NOWHERE = KafkaSettings("nowhere:1")


class FakeKafka:
    """Answers when it is told to. room: messages that may wait; away: it does not say what topics there are; fatal: the
    producer has failed for good."""

    def __init__(self) -> None:
        self.taken: list[Callable[..., None]] = []
        self.answers: list[Callable[[], None]] = []
        self.room, self.end = 1 << 30, 0
        self.away = self.fatal = False

    def producer(self, _: Any) -> FakeProducer:
        return FakeProducer(self)

    def answer(self, most: int | None = None, errors: dict[int, KafkaError] | None = None) -> None:
        """Say of the oldest messages that wait what became of them; all without `most`."""
        for n, told in enumerate(self.taken[:most]):
            error = (errors or {}).get(n)
            self.answers.append(lambda told=told, error=error, at=self.end: told(error, FakeMessage(at)))
            self.end += error is None
        del self.taken[:most]


class FakeMessage:
    def __init__(self, offset: int) -> None:
        self._offset = offset

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


class FakeProducer:
    """As confluent's: calls back from `poll` and `flush` only."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self._failed = False

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Callable[..., None]) -> None:
        if self._kafka.fatal:
            self._failed = True
            self._kafka.fatal = False
        if self._failed:
            raise KafkaException(KafkaError(KafkaError._FATAL))
        if len(self._kafka.taken) >= self._kafka.room:
            raise BufferError
        self._kafka.taken.append(on_delivery)

    def poll(self, timeout: float) -> None:
        time.sleep(min(timeout, 0.005))
        while self._kafka.answers:
            self._kafka.answers.pop(0)()

    def purge(self) -> None:
        self._kafka.answer(errors=dict.fromkeys(range(99), KafkaError(KafkaError._PURGE_QUEUE)))

    def flush(self, timeout: float) -> int:
        self._kafka.answer()
        self.poll(0)
        return 0

    def list_topics(self, topic: str, timeout: float) -> Any:
        if self._kafka.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

        class Known:
            error = None

        return type("Metadata", (), {"topics": {topic: Known}})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    """Kafka, for what a real one does not do on demand."""
    made = FakeKafka()
    monkeypatch.setattr(kafka_log, "Producer", made.producer)
    return made
