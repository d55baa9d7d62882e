"""How an HTTP surface puts a question to the store: in a thread, with a deadline and a row cap.

The event loop never waits for DuckDB. All statements of a question see the store as it was when the question began.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import duckdb

from query_api.envelope import ApiError, ErrorCode
from query_api.pipeline import Pipeline

T = TypeVar("T")
Row = tuple[Any, ...]
Question = Callable[[duckdb.DuckDBPyConnection], T]

# Two cores' worth of short questions beside two long ones; DuckDB spreads a long one over the cores itself.
THREADS = 4
_AGAIN = 0.05  # seconds between interrupts: one that hits the gap between two statements of a question has no effect


async def read(pipeline: Pipeline, question: Question[T], *, seconds: float) -> T:
    """Return `question(connection)`, asked in a thread. Raises ApiError Timeout after `seconds`, waiting included.

    When the caller goes away it is interrupted, too.
    """
    readers = _readers(pipeline)
    asked = _Asked(question)
    running = asyncio.wrap_future(readers.submit(asked))
    try:
        return await asyncio.wait_for(asyncio.shield(running), seconds)
    except TimeoutError:
        raise ApiError(
            ErrorCode.TIMEOUT, f"The answer took longer than {seconds:g} s; ask for a shorter time or a smaller page."
        ) from None
    finally:
        if not running.done():
            _background(_interrupt(asked, running))


def rows(con: duckdb.DuckDBPyConnection, sql: str, values: Mapping[str, object], cap: int) -> tuple[list[Row], bool]:
    """Return the rows of `sql`, at most `cap` of them, and whether there are more.

    values: for its `$name` parameters. Times must be selected as numbers (`epoch_us`).
    """
    found = con.execute(f"{sql} LIMIT {int(cap) + 1}", dict(values)).fetchall()
    return found[:cap], len(found) > cap


def close(pipeline: Pipeline) -> None:
    """Close the connections of a pipeline that is about to stop; questions under way are interrupted."""
    readers = _ALL.pop(pipeline, None)
    if readers is not None:
        readers.close()


class _Asked(Generic[T]):
    """One question and the connection it runs on, while it does."""

    def __init__(self, question: Question[T]) -> None:
        self.question = question
        self.lock = Lock()
        self.connection: duckdb.DuckDBPyConnection | None = None
        self.given_up = False

    def interrupt(self) -> None:
        """Give up: now if it runs, before it starts if it waits."""
        with self.lock:  # else the interrupt might hit the connection's next question
            self.given_up = True
            if self.connection is not None:
                self.connection.interrupt()


class _Readers:
    """The threads for one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._reading = pipeline.reading
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="read")
        self._running: set[_Asked[Any]] = set()

    def submit(self, asked: _Asked[T]) -> Future[T]:
        return self._threads.submit(self._ask, asked)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        while running := list(self._running):
            for asked in running:
                asked.interrupt()
            time.sleep(_AGAIN)
        self._threads.shutdown(wait=True)

    def _ask(self, asked: _Asked[T]) -> T:
        if asked.given_up:
            raise ApiError(ErrorCode.TIMEOUT, "Nobody waits for the answer.")
        self._running.add(asked)
        try:
            with self._reading() as connection:
                with asked.lock:
                    asked.connection = connection
                try:
                    answer: T | ApiError = asked.question(connection)
                except ApiError as refusal:  # an answer, too: not a reason to throw the connection away
                    answer = refusal
                finally:
                    with asked.lock:
                        asked.connection = None
        finally:
            self._running.discard(asked)
        if isinstance(answer, ApiError):
            raise answer
        return answer


_ALL: WeakKeyDictionary[Pipeline, _Readers] = WeakKeyDictionary()
_TASKS: set[asyncio.Task[None]] = set()


def _readers(pipeline: Pipeline) -> _Readers:
    found = _ALL.get(pipeline)
    if found is None:
        found = _ALL[pipeline] = _Readers(pipeline)
    return found


async def _interrupt(asked: _Asked[Any], running: asyncio.Future[Any]) -> None:
    """Interrupt until it has ended."""
    while not running.done():
        asked.interrupt()
        await asyncio.wait([running], timeout=_AGAIN)
    with suppress(BaseException):  # nobody waits for it; what it says is that it was interrupted
        running.exception()


def _background(work: Any) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _TASKS.add(task)  # the loop itself holds only a weak reference
    task.add_done_callback(_TASKS.discard)
