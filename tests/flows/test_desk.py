"""Who waits for an answer gets theirs: once, in time, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from threading import Event

import pytest

from connectors.log import Appended
from connectors.pipeline import Outcome, Receipt
from flows.desk import Desk, Found, Waiter
from tests.system.runs import PATIENCE


class Refused(Exception):
    """What a caller is told."""


class Counter:
    """A desk, and those who came to it. stored: the offsets that were looked up in the store."""

    def __init__(self) -> None:
        self.stored: list[int] = []
        self.desk = Desk(self._look_up)

    def _look_up(self, first: int, count: int) -> Found:
        offsets = range(first, first + count)
        self.stored += offsets
        return tuple(Outcome(offset, f"stored-{offset}") for offset in offsets)

    def come(self, count: int = 1, *, detail: bool = True) -> tuple[Waiter, Future[Appended]]:
        """Somebody with so many records, which are on their way into the log."""
        waiter = Waiter(asyncio.get_running_loop(), count, detail)
        appended: Future[Appended] = Future()
        self.desk.wait(waiter, appended, lambda error: Refused(str(error)))
        return waiter, appended

    def durable(self, first: int, count: int = 1, *, detail: bool = True) -> Waiter:
        """Somebody whose records are in the log, from offset `first` on."""
        waiter, appended = self.come(count, detail=detail)
        appended.set_result(Appended(first, count, 0))
        return waiter

    def commit(self, upto: int, offsets: Iterable[int] | None = None) -> None:
        """Commit all before `upto`, with the outcomes that were asked for, or those of these offsets."""
        if offsets is None:
            offsets = [n for first, count in self.desk.asked(upto) for n in range(first, first + count)]
        self.desk.committed(upto, {n: Outcome(n, f"fresh-{n}") for n in offsets})


async def settled() -> None:
    """Everything that was put into the event loop has been done."""
    for _ in range(3):
        await asyncio.sleep(0)


def fresh(*offsets: int) -> tuple[Outcome, ...]:
    return tuple(Outcome(n, f"fresh-{n}") for n in offsets)


def test_everybody_gets_the_outcome_of_their_own_records() -> None:
    """A caller must never be told the incident of somebody else's event."""

    async def play() -> None:
        counter = Counter()
        one, batch, other = counter.durable(0), counter.durable(1, 3), counter.durable(4)
        counter.commit(5)
        assert await one.answer == Receipt(0, 1, True, fresh(0))
        assert await batch.answer == Receipt(1, 3, True, fresh(1, 2, 3))
        assert await other.answer == Receipt(4, 1, True, fresh(4))
        assert counter.stored == []

    asyncio.run(play())


def test_nobody_is_told_before_all_their_records_are_committed() -> None:
    """Else a caller would look for an incident that is not there yet; at the last record, not one before."""

    async def play() -> None:
        counter = Counter()
        one, batch = counter.durable(0), counter.durable(1, 3)
        assert counter.desk.asked(3) == [(0, 1)]
        counter.commit(3)
        await settled()
        assert one.answer.done()
        assert not batch.answer.done()
        counter.commit(4)
        assert (await batch.answer).outcomes == fresh(1, 2, 3)

    asyncio.run(play())


def test_who_wants_no_detail_costs_none() -> None:
    """A batch of 50,000 events is answered with a count; nothing is looked up for it."""

    async def play() -> None:
        counter = Counter()
        batch = counter.durable(0, 50_000, detail=False)
        assert counter.desk.asked(50_000) == []
        counter.commit(50_000)
        assert await batch.answer == Receipt(0, 50_000, True, ())
        assert counter.stored == []

    asyncio.run(play())


def test_records_that_are_committed_already_are_looked_up() -> None:
    """The dataflow may be faster than the log's answer: the caller still gets the outcome, and at once."""

    async def play() -> None:
        counter = Counter()
        counter.commit(7)
        inside, plain, beyond = counter.durable(5, 2), counter.durable(6, detail=False), counter.durable(6, 2)
        assert await inside.answer == Receipt(5, 2, True, (Outcome(5, "stored-5"), Outcome(6, "stored-6")))
        assert await plain.answer == Receipt(6, 1, True, ())
        await settled()
        assert not beyond.answer.done()
        assert counter.stored == [5, 6]

    asyncio.run(play())


def test_what_a_commit_does_not_tell_is_looked_up() -> None:
    """A repeated record is in no frame of the commit; its caller gets the first one's outcome, from the store."""

    async def play() -> None:
        counter = Counter()
        batch, other = counter.durable(0, 2), counter.durable(2)
        counter.commit(3, [0, 2])
        assert [each.event_id for each in (await batch.answer).outcomes] == ["stored-0", "stored-1"]
        assert (await other.answer).outcomes == fresh(2)

    asyncio.run(play())


def test_after_its_time_a_durable_record_is_answered_at_once() -> None:
    """202 instead of a caller who waits for ever; and the commit that follows tells nobody twice."""

    async def play() -> None:
        counter = Counter()
        slow, other = counter.durable(0), counter.durable(1)
        slow.expire()
        assert await slow.answer == Receipt(0, 1, done=False)
        counter.commit(2)
        assert (await other.answer).outcomes == fresh(1)
        await settled()

    asyncio.run(play())


def test_what_is_not_durable_yet_is_not_said_to_be() -> None:
    """A time-out must not turn into a promise that the log has not made: it is answered when the log has."""

    async def play() -> None:
        counter = Counter()
        waiter, appended = counter.come()
        waiter.expire()
        await settled()
        assert not waiter.answer.done()
        appended.set_result(Appended(8, 1, 0))
        assert await waiter.answer == Receipt(8, 1, done=False)

    asyncio.run(play())


@pytest.mark.parametrize("late", [False, True])
def test_a_refusal_of_the_log_reaches_the_caller(late: bool) -> None:
    """Disk full is 503, in time or late, and nothing waits for a commit that never comes."""

    async def play() -> None:
        counter = Counter()
        waiter, appended = counter.come()
        if late:
            waiter.expire()
        appended.set_exception(OSError("disk full"))
        with pytest.raises(Refused, match="disk full"):
            await waiter.answer
        assert counter.desk.asked(100) == []

    asyncio.run(play())


def test_who_went_away_costs_nothing_and_disturbs_nobody() -> None:
    """After an outage thousands have given up: nothing is looked up for them, and those behind them are told."""

    async def play() -> None:
        counter = Counter()
        gone, late, here = counter.durable(0), counter.durable(1), counter.durable(2)
        gone.answer.cancel()
        late.expire()
        assert counter.desk.asked(3) == [(2, 1)]
        counter.commit(3)
        assert (await here.answer).outcomes == fresh(2)
        with suppress(asyncio.CancelledError):
            await gone.answer
        assert gone.answer.cancelled()
        assert counter.stored == []
        assert counter.desk.asked(3) == []

    asyncio.run(play())


def test_where_nothing_more_is_committed_all_are_answered() -> None:
    """A service that stops sends 202 for what is in the log, also for what gets there last; nobody hangs."""

    async def play() -> None:
        counter = Counter()
        waiting, (under_way, appended) = counter.durable(0), counter.come()
        counter.desk.give_up()
        assert await waiting.answer == Receipt(0, 1, done=False)
        appended.set_result(Appended(1, 1, 0))
        assert await under_way.answer == Receipt(1, 1, done=False)

    asyncio.run(play())


def test_a_closed_event_loop_keeps_no_others_from_their_answers() -> None:
    """At shutdown one server's loop is gone; what commits meanwhile must not fail for that."""
    counter = Counter()

    async def leave() -> None:
        counter.durable(0)
        left.append(counter.come()[1])

    left: list[Future[Appended]] = []
    asyncio.run(leave())

    async def play() -> None:
        here = counter.durable(1)
        counter.commit(2)
        assert (await here.answer).outcomes == fresh(1)
        left[0].set_result(Appended(2, 1, 0))
        counter.desk.give_up()

    asyncio.run(play())


def test_a_time_out_is_taken_back_with_the_answer() -> None:
    """Timers of answered requests would otherwise pile up, two seconds' worth at every rate."""

    async def play() -> None:
        counter = Counter()
        waiter = counter.durable(0)
        waiter.timer = asyncio.get_running_loop().call_later(60, waiter.expire)
        counter.commit(1)
        await waiter.answer
        assert waiter.timer.cancelled()

    asyncio.run(play())


def test_looking_a_repetition_up_holds_nobody_else_up() -> None:
    """A retried event is looked up in a large store: the dataflow, and everybody else's answer, does not wait."""
    looked, let_go = Event(), Event()

    def slow(first: int, count: int) -> Found:
        looked.set()
        assert let_go.wait(PATIENCE)
        return (Outcome(first, "stored", duplicate=True),)

    async def play() -> None:
        counter = Counter()
        counter.desk = Desk(slow)
        repeated, other = counter.durable(0), counter.durable(1)
        counter.commit(2, offsets=[1])  # returns, though somebody has to be looked up
        assert await other.answer == Receipt(1, 1, True, fresh(1))
        assert await asyncio.to_thread(looked.wait, PATIENCE)
        assert not repeated.answer.done()
        let_go.set()
        assert (await repeated.answer).outcomes[0].duplicate

    asyncio.run(play())


def test_a_record_that_was_called_off_in_time_is_answered_to_nobody() -> None:
    """Whoever gave up may send it again; what came before it in the log is answered all the same."""

    async def play() -> None:
        counter = Counter()
        _, called_off = counter.come()
        assert called_off.cancel()
        waiter = counter.durable(0)
        counter.commit(1)
        assert await waiter.answer == Receipt(0, 1, True, fresh(0))

    asyncio.run(play())
