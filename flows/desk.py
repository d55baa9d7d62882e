"""Who waits for what became of their records: between the event loop, the log's writer and the store's.

A waiter is told once, in its own event loop: when its records are committed, or after its time-out as soon as they are
durable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

from connectors.log import Appended
from connectors.pipeline import Outcome, Receipt

Found = tuple[Outcome, ...]


class Waiter:
    """One submission. count: its records; detail: it wants to know what became of each."""

    __slots__ = ("answer", "count", "detail", "first", "late", "loop", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int, detail: bool) -> None:
        self.loop, self.count, self.detail = loop, count, detail
        self.answer: asyncio.Future[Receipt] = loop.create_future()
        self.first: int | None = None  # the offset of the first record, once they are durable
        self.late = False
        self.timer: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """The time is up: durable records are answered now, others as soon as they are. In the event loop."""
        self.late = True
        if self.first is not None:
            self.tell(Receipt(self.first, self.count, done=False))

    def tell(self, answer: Receipt | BaseException) -> None:
        """Answer, unless that has been done. In the event loop."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.answer.done():
            if isinstance(answer, Receipt):
                self.answer.set_result(answer)
            else:
                self.answer.set_exception(answer)


class Desk:
    """The waiters in the order of their records. lookup: what became of records that are committed already."""

    def __init__(self, lookup: Callable[[int, int], Found]) -> None:
        self._lookup = lookup
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="lookup")
        self._lock = Lock()
        self._waiting: deque[Waiter] = deque()
        self._committed = 0
        self._given_up = False

    def wait(
        self, waiter: Waiter, appended: Future[Appended], refusal: Callable[[BaseException], BaseException]
    ) -> None:
        """Let a waiter wait for records on their way into the log. refusal: what it is told where they are refused."""

        def written(done: Future[Appended]) -> None:
            if done.cancelled():
                return
            error = done.exception()
            if error is not None:
                _soon(waiter.loop, waiter.tell, refusal(error))
                return
            first = done.result().first
            with self._lock:
                waiter.first = first
                committed = first + waiter.count <= self._committed
                given_up = self._given_up and not committed
                if not committed and not given_up:
                    self._waiting.append(waiter)
            if committed:
                self._ask(waiter, first)
            elif waiter.late or given_up:
                _soon(waiter.loop, waiter.expire)

        appended.add_done_callback(written)

    def _ask(self, waiter: Waiter, first: int) -> None:
        """Answer out of the store, in a thread of its own: neither the log nor the dataflow waits for a query."""
        if not waiter.detail:
            _soon(waiter.loop, waiter.tell, Receipt(first, waiter.count, done=True))
            return

        def ask() -> None:
            if not waiter.answer.done():
                _soon(waiter.loop, waiter.tell, self._found(waiter, first))

        with suppress(RuntimeError):  # shut down: everybody is told by `give_up`, or by the time-out
            self._asking.submit(ask)

    def _found(self, waiter: Waiter, first: int) -> Receipt:
        """What became of committed records; where the store cannot be asked now, that they are durable."""
        try:
            outcomes = self._lookup(first, waiter.count) if waiter.detail else ()
        except Exception:  # it is durable all the same
            return Receipt(first, waiter.count, done=False)
        return Receipt(first, waiter.count, done=True, outcomes=outcomes)

    def asked(self, upto: int) -> list[tuple[int, int]]:
        """The records before `upto` whose outcome somebody waits for: (first offset, how many)."""
        with self._lock:
            return [
                (waiter.first, waiter.count)
                for waiter in self._waiting
                if waiter.detail
                and not waiter.answer.done()
                and waiter.first is not None
                and waiter.first + waiter.count <= upto
            ]

    def committed(self, upto: int, outcomes: Mapping[int, Outcome]) -> None:
        """All records before `upto` are committed; outcomes: by offset, of those that were asked for."""
        with self._lock:
            self._committed = max(self._committed, upto)
            ready: list[Waiter] = []
            while self._waiting and self._waiting[0].first is not None:
                if self._waiting[0].first + self._waiting[0].count > upto:
                    break
                ready.append(self._waiting.popleft())
        answers: dict[asyncio.AbstractEventLoop, list[tuple[Waiter, Receipt]]] = {}
        for waiter in ready:
            if waiter.answer.done():  # it was told in time that this takes longer, or has gone away
                continue
            first = waiter.first or 0
            offsets = range(first, first + waiter.count) if waiter.detail else ()
            known = all(offset in outcomes for offset in offsets)
            if known:
                receipt = Receipt(first, waiter.count, done=True, outcomes=tuple(outcomes[n] for n in offsets))
            else:
                self._ask(waiter, first)
                continue
            answers.setdefault(waiter.loop, []).append((waiter, receipt))
        for loop, told in answers.items():
            _soon(loop, _tell_all, told)

    def give_up(self) -> None:
        """Nothing more will be committed: answer everybody that their records are durable, but not done."""
        with self._lock:
            self._given_up = True
            ready = list(self._waiting)
            self._waiting.clear()
        for waiter in ready:
            _soon(waiter.loop, waiter.expire)
        self._asking.shutdown(wait=True, cancel_futures=True)


def _tell_all(told: Sequence[tuple[Waiter, Receipt]]) -> None:
    for waiter, receipt in told:
        waiter.tell(receipt)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *values: object) -> None:
    """Call it in its event loop; where that is closed nobody waits any more."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *values)
