"""Messages read from many partitions: each once and in order, from anywhere, in bounded memory, or a clear error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka import KafkaError as Code
from confluent_kafka.admin import AdminClient

from connectors.kafka import reader as reading
from connectors.kafka.outbox import Outbox
from connectors.kafka.reader import PART, Place, Reader
from connectors.kafka.runs import Run, TextRun
from connectors.kafka.settings import KafkaError, KafkaSettings
from connectors.kafka.topics import Topics
from tests.kafka_broker import Broker
from tests.kafka_fixtures import OwnKafka
from tests.system.runs import until

SOON = 30.0
KINDS = pytest.mark.parametrize("headers", [False, True], ids=["text", "messages"])


def made(broker: Broker, partitions: int = 1, **options: str) -> tuple[KafkaSettings, str]:
    """A topic of its own."""
    settings = KafkaSettings(broker.address, options, f"t{uuid4().hex}")
    Topics(settings).create(settings.log, partitions, {})
    return settings, settings.log


def send(settings: KafkaSettings, topic: str, values: Mapping[int, Sequence[bytes | None]]) -> None:
    """Put values into partitions; Kafka has them when this returns."""
    outbox = Outbox(settings)
    for partition, some in values.items():
        for value in some:
            outbox.send(topic, value, partition=partition)
    outbox.flush()
    outbox.close()


def numbered(partition: int, begin: int, end: int, size: int = 0) -> list[bytes]:
    """Values that say where they are."""
    return [b'{"p":%d,"n":%d,"x":"%b"}' % (partition, n, b"." * size) for n in range(begin, end)]


@contextmanager
def opened(settings: KafkaSettings, **more: Any) -> Iterator[Reader]:
    reader = Reader(settings, uuid4().hex, **more)
    try:
        yield reader
    finally:
        reader.close()


def taken(reader: Reader, place: Place, end: int, most: int = 1 << 20) -> list[Run]:
    """Runs of a partition, up to the one that comes to an offset."""
    runs: list[Run] = []
    give_up = time.monotonic() + SOON
    while not runs or runs[-1].next < end:
        run = reader.take(place, most)
        if run is None:
            assert time.monotonic() < give_up, "it does not come"
            reader.wait(0.1)
        else:
            runs.append(run)
    return runs


def values(runs: Sequence[Run]) -> list[bytes | None]:
    return [value for run in runs for value in run.values()]


# ---------------------------------------------------------------- each once, in order


@KINDS
def test_every_message_comes_once_and_in_order_from_any_offset(kafka: Broker, headers: bool) -> None:
    """However the partitions are taken in turns, and in whatever portions."""
    settings, topic = made(kafka, 4)
    lines = {n: numbered(n, 0, count) for n, count in enumerate((30_000, 5_000, 3, 0))}
    send(settings, topic, lines)
    begins = {0: 0, 1: 4_321, 2: 3, 3: 0}
    with opened(settings, headers=headers) as reader:
        for n, offset in begins.items():
            reader.begin((topic, n), offset)
        found: dict[int, list[Run]] = {n: [] for n in begins}
        give_up, turn = time.monotonic() + SOON, 0
        while sum(run.count for runs in found.values() for run in runs) < 30_000 + 679:
            assert time.monotonic() < give_up
            turn += 1
            run = reader.take((topic, turn % 4), (1, 1_000, 1 << 20)[turn % 3])
            if run is not None:
                found[turn % 4].append(run)
        assert all(reader.take((topic, n), 1 << 20) is None for n in begins)
    for n, runs in found.items():
        assert values(runs) == lines[n][begins[n] :]
        ends = [begins[n], *(run.next for run in runs)]
        assert [run.first for run in runs] == ends[:-1]
        for run in runs:
            sizes = [len(value or b"") for value in run.values()]
            assert (run.count, run.size, run.sizes().tolist()) == (len(sizes), sum(sizes), sizes)
            assert run.size <= PART


@KINDS
def test_what_comes_later_is_read_too(kafka: Broker, headers: bool) -> None:
    """A partition may begin at its end, and another one when the first is being read."""
    settings, topic = made(kafka, 2)
    send(settings, topic, {0: numbered(0, 0, 5)})
    with opened(settings, headers=headers) as reader:
        reader.begin((topic, 0), 5)
        time.sleep(0.2)
        send(settings, topic, {0: numbered(0, 5, 7), 1: numbered(1, 0, 2)})
        assert values(taken(reader, (topic, 0), 7)) == numbered(0, 5, 7)
        reader.begin((topic, 1), 1)
        assert values(taken(reader, (topic, 1), 2)) == numbered(1, 1, 2)
        send(settings, topic, {0: numbered(0, 7, 8)})
        assert values(taken(reader, (topic, 0), 8)) == numbered(0, 7, 8)


@KINDS
def test_messages_without_a_value_keep_their_place(kafka: Broker, headers: bool) -> None:
    """Else all behind them would have the offsets of others."""
    settings, topic = made(kafka)
    sent = [b"{}", None, b"", b"a\nb", b"\n", b"{\n}", b"\xff\x00", None]
    send(settings, topic, {0: sent})
    with opened(settings, headers=headers) as reader:
        reader.begin((topic, 0), 0)
        runs = taken(reader, (topic, 0), len(sent))
    assert [value or b"" for value in values(runs)] == [value or b"" for value in sent]
    assert runs[-1].next == len(sent)
    for run in runs:
        assert not isinstance(run, TextRun) or run.plain == all(map(is_plain, run.values()))
    [whole] = [run for run in runs if run.first == 0]
    assert [value or b"" for value in whole.some(1, 4).values()] == [b"", b"", b"a\nb"]


def is_plain(value: bytes | None) -> bool:
    return value is not None and b"\n" not in value and value.startswith(b"{") and value.endswith(b"}")


PLAIN = [(b"{}", True), (b"{\n}", False), (b" {}", False), (b"{} ", False), (b"", False)]


@pytest.mark.parametrize(("value", "plain"), PLAIN)
def test_text_is_plain_where_each_value_is_one_line_of_an_object(kafka: Broker, value: bytes, plain: bool) -> None:
    """What is plain is decoded as it is: a line break in it would move all that is behind."""
    settings, topic = made(kafka)
    send(settings, topic, {0: [value]})
    with opened(settings) as reader:
        reader.begin((topic, 0), 0)
        [run] = taken(reader, (topic, 0), 1)
    assert isinstance(run, TextRun)
    assert run.plain == plain


@KINDS
def test_times_are_those_of_the_messages(kafka: Broker, headers: bool) -> None:
    """Microseconds, of each its own."""
    settings, topic = made(kafka)
    producer = Producer(settings.client())
    for n in range(3):
        producer.produce(topic, b"{}", partition=0, timestamp=1_700_000_000_000 + n)
    producer.flush(SOON)
    with opened(settings, headers=headers) as reader:
        reader.begin((topic, 0), 0)
        runs = taken(reader, (topic, 0), 3)
    assert [each for run in runs for each in run.times()] == [1_700_000_000_000_000 + n * 1_000 for n in range(3)]


@KINDS
def test_gaps_cut_runs_and_what_was_aborted_is_not_there(kafka: Broker, headers: bool) -> None:
    """Offsets without messages: the ends of transactions, and what was taken back. A run has none of them inside."""
    settings, topic = made(kafka)
    producer = Producer(settings.client(transactional_id=uuid4().hex))
    producer.init_transactions(SOON)
    for begin, end in (
        (0, producer.commit_transaction), (3, producer.abort_transaction), (6, producer.commit_transaction)
    ):  # fmt: skip
        producer.begin_transaction()
        for value in numbered(0, begin, begin + 3):
            producer.produce(topic, value, partition=0)
        producer.flush(SOON)
        end(SOON)
    send(settings, topic, {0: numbered(0, 9, 10)})
    with opened(settings, headers=headers) as reader:
        reader.begin((topic, 0), 0)
        runs = taken(reader, (topic, 0), 13)
    assert values(runs) == [*numbered(0, 0, 3), *numbered(0, 6, 10)]
    assert [n for run in runs for n in range(run.first, run.next)] == [0, 1, 2, 8, 9, 10, 12]


# ---------------------------------------------------------------- memory


SMALL = {"queued.max.messages.kbytes": "1024", "fetch.message.max.bytes": "262144"}


@KINDS
def test_a_partition_that_nobody_takes_is_paused_and_the_others_go_on(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch, headers: bool
) -> None:
    """One shard is slow: what waits for it must not fill the memory, nor keep anything from the others. When it is
    taken again, nothing is missing."""
    monkeypatch.setattr(reading, "MOST", 40)
    settings, topic = made(kafka, 2, **SMALL)
    size, count = 50_000, 120  # 6 MB each
    lines = {n: numbered(n, 0, count, size) for n in range(2)}
    send(settings, topic, lines)
    with opened(settings, held=1 << 20, headers=headers) as reader:
        slow, quick = (topic, 0), (topic, 1)
        reader.begin(slow, 0)
        assert until(lambda: slow in reader._paused, SOON)
        reader.begin(quick, 0)
        assert values(taken(reader, quick, count)) == lines[1]
        assert 0 < reader._sizes[slow] < 4 << 20
        assert values(taken(reader, slow, count)) == lines[0]
        assert until(lambda: not reader._paused, SOON)
        assert reader._sizes == {slow: 0, quick: 0}
        send(settings, topic, {0: [b"{}"]})
        assert values(taken(reader, slow, count + 1)) == [b"{}"]


@pytest.mark.parametrize(("headers", "count"), [(False, 100_000), (True, 20_000)], ids=["text", "messages"])
def test_messages_without_a_value_take_memory_too(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch, headers: bool, count: int
) -> None:
    """A compacted topic full of deletions: a million of them is half a gigabyte of objects, and no byte of values."""
    monkeypatch.setattr(reading, "MOST", 1_000)
    settings, topic = made(kafka)
    send(settings, topic, {0: [None] * count})
    with opened(settings, held=1 << 20, headers=headers) as reader:
        place = (topic, 0)
        reader.begin(place, 0)
        assert until(lambda: place in reader._paused, SOON)
        time.sleep(0.3)
        waiting = sum(run.count for run in reader._runs[place])
        assert waiting < 0.8 * count
        runs = taken(reader, place, count)
    assert sum(run.count for run in runs) == count


# ---------------------------------------------------------------- what goes wrong


@KINDS
@pytest.mark.parametrize("offset", [0, 99])
def test_messages_that_are_not_there_any_more_are_not_passed_over(kafka: Broker, headers: bool, offset: int) -> None:
    """Somebody has shortened the retention, or a broker has lost its end: a person must decide."""
    settings, topic = made(kafka)
    send(settings, topic, {0: numbered(0, 0, 10)})
    client = AdminClient({"bootstrap.servers": kafka.address})
    client.delete_records([TopicPartition(topic, 0, 4)])[TopicPartition(topic, 0)].result(SOON)
    with opened(settings, headers=headers) as reader:
        reader.begin((topic, 0), offset)
        with pytest.raises(KafkaError, match=f"{topic}-0: the messages to go on with are not there any more"):
            taken(reader, (topic, 0), 10)
        began = time.monotonic()
        reader.wait(SOON)
        assert time.monotonic() - began < 1, "nobody waits for messages that cannot come"
    with opened(settings, headers=headers) as reader:
        reader.begin((topic, 0), 4)
        assert values(taken(reader, (topic, 0), 10)) == numbered(0, 4, 10)


def test_a_topic_that_is_not_there_is_said_so(kafka: Broker) -> None:
    """It must not look like a quiet one."""
    with opened(KafkaSettings(kafka.address)) as reader:
        place = (uuid4().hex, 0)
        reader.begin(place, 0)
        with pytest.raises(KafkaError, match=f"{place[0]}: it is not there"):
            taken(reader, place, 1)


@KINDS
@pytest.mark.parametrize("again", [0, 3, 9])
def test_a_topic_that_is_removed_is_not_mistaken_for_another(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch, headers: bool, again: int
) -> None:
    """A worker makes everything anew while a node follows: the messages behind its offset are not those it waits for.
    again: so many messages has the new one."""
    monkeypatch.setattr(reading, "WATCH", 0.1)
    settings, topic = made(kafka)
    send(settings, topic, {0: numbered(0, 0, 5)})
    with opened(settings, headers=headers) as reader:
        reader.begin((topic, 0), 0)
        taken(reader, (topic, 0), 5)
        Topics(settings).remove([topic])
        if again:
            Topics(settings).create(topic, 1, {})
            send(settings, topic, {0: numbered(1, 0, again)})
        with pytest.raises(KafkaError, match=r"it is not there, or|the messages to go on with are not there"):
            taken(reader, (topic, 0), 99)


@pytest.mark.slow
def test_a_broker_that_dies_loses_and_doubles_nothing(own_kafka: OwnKafka) -> None:
    """Readers of both kinds wait for it and go on where they were."""
    broker = own_kafka()
    settings, topic = made(broker, 2)
    send(settings, topic, {n: numbered(n, 0, 2_000) for n in range(2)})
    with opened(settings) as texts, opened(settings, headers=True) as messages:
        readers = (texts, messages)
        found: dict[tuple[int, int], list[Run]] = {}
        for kind, reader in enumerate(readers):
            for n in range(2):
                reader.begin((topic, n), 0)
            for n in range(2):
                found[kind, n] = taken(reader, (topic, n), 1, most=10_000)
        broker.kill()
        time.sleep(0.5)
        broker.start()
        send(settings, topic, {n: numbered(n, 2_000, 3_000) for n in range(2)})
        for (kind, n), runs in found.items():
            runs += taken(readers[kind], (topic, n), 3_000)
    for (_, n), runs in found.items():
        assert values(runs) == numbered(n, 0, 3_000)


class Damaged:
    """A consumer that finds this, and then nothing."""

    def __init__(self, what: Callable[[], list[Any]]) -> None:
        self._what = what

    def __call__(self, _: object) -> Damaged:
        return self

    def incremental_assign(self, _: object) -> None:
        pass

    def consume(self, *_: object) -> list[Any]:
        time.sleep(0.01)
        return self._what()

    def close(self) -> None:
        pass


class Away:
    """Nobody who knows what topics there are."""

    def __init__(self, _: KafkaSettings) -> None:
        pass

    def find(self, *_: object) -> None:
        raise KafkaError("nowhere")


class Wrong:
    """What a consumer gives in place of a message."""

    def __init__(self, code: int) -> None:
        self._code = code

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def error(self) -> Code:
        return Code(self._code)


def fail() -> list[Any]:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda: [Wrong(Code._BAD_MSG)], "t-0: messages are damaged"),
        (lambda: [Wrong(Code._BAD_COMPRESSION)], "t-0: messages are damaged"),
        (lambda: [Wrong(Code.TOPIC_AUTHORIZATION_FAILED)], "t: "),
        (fail, "RuntimeError: a bug"),
    ],
)
def test_what_does_not_go_away_reaches_who_takes(
    monkeypatch: pytest.MonkeyPatch, what: Callable[[], list[Any]], said: str
) -> None:
    """A thread that ends, or asks for a damaged message for ever, looks like a topic without messages."""
    monkeypatch.setattr(reading, "Topics", Away)
    monkeypatch.setattr(reading, "Consumer", Damaged(what))
    with opened(KafkaSettings("nowhere:1"), headers=True) as reader:
        reader.begin(("t", 0), 0)
        reader.wait(SOON)
        with pytest.raises(KafkaError, match=said):
            reader.take(("t", 0), 1)


def test_what_goes_away_by_itself_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that broke is made again."""
    monkeypatch.setattr(reading, "Topics", Away)
    monkeypatch.setattr(reading, "Consumer", Damaged(lambda: [Wrong(Code._TRANSPORT), Wrong(Code._ALL_BROKERS_DOWN)]))
    with opened(KafkaSettings("nowhere:1"), headers=True) as reader:
        reader.begin(("t", 0), 0)
        reader.wait(0.2)
        assert reader.take(("t", 0), 1) is None


@KINDS
def test_options_that_make_no_sense_are_said_so(headers: bool) -> None:
    """An operator's typing error, and not a reason to start again and again."""
    with pytest.raises(KafkaError, match="the Kafka options cannot be used"):
        Reader(KafkaSettings("nowhere:1", {"fetch.wait.max.ms": "soon"}), "g", headers=headers)


# ---------------------------------------------------------------- who watches, the end


@KINDS
def test_an_observer_sees_how_far_it_is(kafka: Broker, headers: bool) -> None:
    """The usual tools show a consumer group's lag."""
    settings, topic = made(kafka, 2)
    send(settings, topic, {0: numbered(0, 0, 5)})
    group = uuid4().hex
    reader = Reader(settings, group, headers=headers)
    reader.begin((topic, 0), 0)
    taken(reader, (topic, 0), 5)
    reader.commit({(topic, 0): 3})
    reader.commit({(topic, 0): 5, (topic, 1): 0})
    observer = Consumer({"bootstrap.servers": kafka.address, "group.id": group})

    def committed() -> list[int]:
        return [each.offset for each in observer.committed([TopicPartition(topic, n) for n in range(2)], SOON)]

    assert until(lambda: committed() == [5, 0], SOON)
    reader.close()
    observer.close()


@KINDS
def test_close_wakes_who_waits(kafka: Broker, headers: bool) -> None:
    """A service stops at once, with messages or without."""
    settings, topic = made(kafka)
    reader = Reader(settings, "g", headers=headers)
    reader.begin((topic, 0), 0)
    Timer(0.3, reader.close).start()
    began = time.monotonic()
    reader.wait(SOON)
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_close_without_kafka() -> None:
    """Nor does it wait for ever for a broker that is away, to tell it a position."""
    reader = Reader(KafkaSettings("127.0.0.1:9"), "g")
    reader.begin(("t", 0), 0)
    reader.commit({("t", 0): 1})
    time.sleep(0.2)
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < 10


def test_how_many_partitions_a_topic_has_is_known(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody adds some: who watches learns that they are not read."""
    monkeypatch.setattr(reading, "WATCH", 0.1)
    settings, topic = made(kafka, 3)
    with opened(settings) as reader:
        reader.begin((topic, 0), 0)
        assert until(lambda: reader.seen == {topic: 3}, SOON)
