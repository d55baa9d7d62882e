"""Who waits for what became of their records: between the event loop, the log's writer and the store's.

A waiter is told once, in its own event loop: when its records are committed, or after its time-out as soon as they are
durable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from threading import Lock

from connectors.log import Appended
from connectors.pipeline import Outcome, Receipt
from connectors.store import StoreError

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
        self._lock = Lock()
        self._waiting: deque[Waiter] = deque()
        self._committed = 0

    def wait(
        self, waiter: Waiter, appended: Future[Appended], refusal: Callable[[BaseException], BaseException]
    ) -> None:
        """Let a waiter wait for records on their way into the log. refusal: what it is told where they are refused."""

        def written(done: Future[Appended]) -> None:
            error = done.exception()
            if error is not None:
                waiter.loop.call_soon_threadsafe(waiter.tell, refusal(error))
                return
            first = done.result().first
            with self._lock:
                waiter.first = first
                committed = first + waiter.count <= self._committed
                if not committed:
                    self._waiting.append(waiter)
            if committed:
                waiter.loop.call_soon_threadsafe(waiter.tell, self._found(waiter, first))
            elif waiter.late:
                waiter.loop.call_soon_threadsafe(waiter.expire)

        appended.add_done_callback(written)

    def _found(self, waiter: Waiter, first: int) -> Receipt:
        """What became of committed records; where the store cannot be asked now, that they are durable."""
        try:
            outcomes = self._lookup(first, waiter.count) if waiter.detail else ()
        except StoreError:
            return Receipt(first, waiter.count, done=False)
        return Receipt(first, waiter.count, done=True, outcomes=outcomes)

    def asked(self, upto: int) -> list[tuple[int, int]]:
        """The records before `upto` whose outcome somebody waits for: (first offset, how many)."""
        with self._lock:
            return [
                (waiter.first, waiter.count)
                for waiter in self._waiting
                if waiter.detail and waiter.first is not None and waiter.first + waiter.count <= upto
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
            first = waiter.first or 0
            offsets = range(first, first + waiter.count) if waiter.detail else ()
            known = all(offset in outcomes for offset in offsets)
            if known:
                receipt = Receipt(first, waiter.count, done=True, outcomes=tuple(outcomes[n] for n in offsets))
            else:
                receipt = self._found(waiter, first)
            answers.setdefault(waiter.loop, []).append((waiter, receipt))
        for loop, told in answers.items():
            try:
                loop.call_soon_threadsafe(_tell_all, told)
            except RuntimeError:  # the loop is closed: nobody waits there any more
                pass

    def give_up(self) -> None:
        """Nothing more will be committed: answer everybody that their records are durable, but not done."""
        with self._lock:
            ready = list(self._waiting)
            self._waiting.clear()
        for waiter in ready:
            try:
                waiter.loop.call_soon_threadsafe(waiter.expire)
            except RuntimeError:
                pass


def _tell_all(told: Sequence[tuple[Waiter, Receipt]]) -> None:
    for waiter, receipt in told:
        waiter.tell(receipt)
