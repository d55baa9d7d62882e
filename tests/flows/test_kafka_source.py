"""How a partition of a topic is read: quiet ones tick, ended ones end, and new ones are told of."""

from __future__ import annotations

from dataclasses import replace
from threading import Event as Flag
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from connectors.formats.types import DecodeOptions
from connectors.kafka.messages import MessageFormat
from connectors.kafka.runs import TextRun
from connectors.kafka.serdes import RegistryUnavailable
from flows import kafka_source
from flows.kafka_source import KafkaInput, KafkaPartition, KafkaSource
from operators.clock import NEVER
from operators.events import SECOND

PLACE = ("log", 0)
AT = 1_770_000_000 * SECOND
LATENESS = 30 * SECOND


class Reader:
    """Gives what it is given."""

    def __init__(self) -> None:
        self.runs: list[TextRun] = []
        self.begun: list[int] = []
        self.seen: dict[str, int] = {}
        self.ended = False

    def begin(self, place: Any, offset: int) -> None:
        self.begun.append(offset)

    def take(self, place: Any, most: int) -> TextRun | None:
        return self.runs.pop(0) if self.runs else None

    def at_end(self, place: Any) -> bool:
        return self.ended and not self.runs

    def commit(self, positions: Any) -> None:
        pass

    def give(self, first: int, *lines: bytes) -> None:
        """The next messages."""
        text = b"".join(line + b"\n" for line in lines)
        ends = np.cumsum([len(line) + 1 for line in lines]) - 1
        self.runs.append(TextRun(first, len(lines), len(text), text, ends, np.full(len(lines), -1), True))


class World:
    """A source over that reader, a clock that is set by hand, and the ticks that were sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reader, self.now, self.ticks = Reader(), 1_000.0, 0
        monkeypatch.setattr(kafka_source.time, "monotonic", lambda: self.now)
        self.source: Any = None

    def partition(self, *, ours: bool = True, end: int | None = None, state: bytes | None = None) -> KafkaPartition:
        """The one partition, opened."""
        form = MessageFormat("jsonl", DecodeOptions(), ours=ours)
        item = KafkaInput("log-0", PLACE, form, ours, 0, end)
        clock = lambda: AT + 600 * SECOND  # noqa: E731
        self.source = KafkaSource(
            {"log-0": item},
            lambda: self.reader,
            Flag(),
            LATENESS,
            tick=self._tick,
            clock=clock,  # type: ignore[arg-type, return-value]
        )
        return self.source.build_part("records", "log-0", state)  # type: ignore[no-any-return]

    def _tick(self, place: Any) -> None:
        assert place == PLACE
        self.ticks += 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A new one."""
    return World(monkeypatch)


def line(second: int, kind: str = "event") -> bytes:
    """A record of the log."""
    at = f"2026-02-02T02:{40 + second // 60:02}:{second % 60:02}Z"
    return f'{{"record":"{kind}","time":"{at}","source":"s","type":"t","workspace":"w","ingested_at":"{at}"}}'.encode()


def test_a_quiet_partition_ticks_more_and_more_seldom(world: World) -> None:
    """So that it does not hold back what others could settle, and its log does not grow for nothing."""
    partition = world.partition()
    partition.next_batch()  # the first one is empty
    times = []
    for _ in range(4_000):
        world.now += 0.1
        before = world.ticks
        assert partition.next_batch() == []
        if world.ticks > before:
            times.append(world.now - 1_000)
    gaps = np.diff(times)
    assert 0.9 <= times[0] <= 1.2
    assert 0.9 <= gaps[0] <= 1.2
    assert 9.9 <= gaps[-1] <= 10.2
    assert (np.diff(gaps) > -0.15).all()


def test_a_tick_that_comes_back_is_no_news(world: World) -> None:
    """Else each would call for the next one a second later, for ever."""
    partition = world.partition()
    partition.next_batch()
    for n in range(2_000):
        world.now += 0.1
        before = world.ticks
        partition.next_batch()
        if world.ticks > before:
            world.reader.give(world.ticks - 1, line(n % 600, "tick"))
    assert world.ticks < 50
    world.reader.give(world.ticks, line(599))
    partition.next_batch()
    before = world.ticks
    world.now += 1.1
    partition.next_batch()
    assert world.ticks == before + 1, "a record begins it anew"


def test_nobody_writes_into_a_topic_of_others(world: World) -> None:
    """Its clock follows the wall clock, as far behind as an event may be late, and that is in the snapshot."""
    partition = world.partition(ours=False)
    [first] = partition.next_batch()
    assert first.watermark == NEVER
    world.now += 5
    [batch] = partition.next_batch()
    assert world.ticks == 0
    assert batch.now == AT + 600 * SECOND - LATENESS
    assert batch.watermark == batch.now - LATENESS
    again = world.partition(ours=False, state=partition.snapshot())
    [batch] = again.next_batch()
    assert batch.now == AT + 600 * SECOND - LATENESS


def test_a_resumed_partition_goes_on_behind_its_last_record(world: World) -> None:
    """Also where offsets are missing in between."""
    partition = world.partition()
    partition.next_batch()
    world.reader.give(0, line(0), line(1))
    world.reader.give(7, line(2))
    offsets = [n for _ in range(2) for batch in partition.next_batch() for n in batch.frame["offset"].to_list()]
    assert offsets == [0, 1, 7]
    world.partition(state=partition.snapshot())
    assert world.reader.begun == [0, 8]


def test_a_registry_that_does_not_answer_is_waited_for(world: World) -> None:
    """Its messages are not poison, and nothing else stands still meanwhile."""
    partition = world.partition(ours=False)
    failures = 2

    def deserialize(values: Any) -> tuple[list[bytes], dict[int, str]]:
        nonlocal failures
        if failures:
            failures -= 1
            raise RegistryUnavailable("it does not answer")
        return list(values), {}

    partition._item = replace(partition._item, form=replace(partition._item.form, deserialize=deserialize))
    partition.next_batch()
    world.reader.give(0, line(0).replace(b'"record":"event",', b""))
    frames = []
    for _ in range(50):
        world.now += 0.1
        frames += [batch for batch in partition.next_batch() if batch.frame.height or batch.dead_letters.height]
    assert failures == 0
    [batch] = frames
    assert batch.frame["offset"].to_list() == [0]
    assert not batch.dead_letters.height


@pytest.mark.parametrize("whole", [True, False], ids=["to the offset", "to the end, where no message is"])
def test_a_finite_partition_ends(world: World, whole: bool) -> None:
    """What came later is left out; and the last offsets of a topic may be of no message (transactions, compaction)."""
    partition = world.partition(end=3)
    world.reader.give(0, line(0), line(1), *([line(2), line(3)] if whole else []))
    [batch] = partition.next_batch()
    assert batch.frame.height == (3 if whole else 2)
    if not whole:
        assert partition.next_batch() == []
        world.reader.ended = True
    [last] = partition.next_batch()
    assert last.ended
    with pytest.raises(StopIteration):
        partition.next_batch()
    assert world.ticks == 0


def test_new_partitions_are_told_of_once(world: World) -> None:
    """Somebody adds partitions to a topic: what is written there waits, and that must be known."""
    partition = world.partition()
    partition.next_batch()
    world.reader.seen = {"log": 3}
    with capture_logs() as logs:
        for n in range(4):
            world.now += 10
            world.reader.give(n, line(n))
            partition.next_batch()
    [said] = logs
    assert (said["topic"], said["partitions"], said["read"]) == ("log", 3, 1)
    assert "--rebuild" in said["what_to_do"]
