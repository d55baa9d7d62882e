"""Questions to the store: beside the event loop, in time, and leaving nothing behind."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pytest

from query_api.envelope import ApiError, ErrorCode
from query_api.reading import THREADS, read, rows
from tests.query_api.fakes import MINE, FakePipeline
from tests.stores import incident

# Minutes of work for any machine.
ENDLESS = "SELECT count(*) FROM range(10_000_000) a, range(10_000_000) b WHERE a.range * b.range % 7 = 3"


def count(con: duckdb.DuckDBPyConnection) -> int:
    (found,) = con.execute("SELECT count(*) FROM incidents").fetchone() or (0,)
    return int(found)


def test_an_answer_is_that_of_the_latest_commit(pipeline: FakePipeline) -> None:
    """One that kept a transaction open would show yesterday's incidents."""

    async def ask() -> list[int]:
        found = []
        for i in range(3):
            found.append(await read(pipeline, count, seconds=5))
            pipeline.add("incidents", incident(f"inc_{i}", "r", "s", 0, 0, 1, workspace=MINE))
        return found

    assert asyncio.run(ask()) == [0, 1, 2]


def test_connections_are_bounded(pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred questions at once are no hundred connections."""
    most, now = [0], [0]
    reading = pipeline.reading

    @contextmanager
    def counted() -> Iterator[duckdb.DuckDBPyConnection]:
        now[0] += 1
        most[0] = max(most[0], now[0])
        with reading() as con:
            yield con
        now[0] -= 1

    monkeypatch.setattr(pipeline, "reading", counted)

    async def ask() -> None:
        await asyncio.gather(*(read(pipeline, count, seconds=5) for _ in range(100)))

    asyncio.run(ask())
    assert 1 <= most[0] <= THREADS


def test_a_question_that_takes_too_long_is_ended(pipeline: FakePipeline) -> None:
    """The client hears so, the thread is free again, and the next question is not hit by the interrupt."""

    async def ask() -> None:
        for _ in range(THREADS + 1):
            began = time.monotonic()
            with pytest.raises(ApiError) as wrong:
                await read(pipeline, lambda con: con.execute(ENDLESS).fetchall(), seconds=0.2)
            assert wrong.value.code == ErrorCode.TIMEOUT
            assert time.monotonic() - began < 2
        assert await read(pipeline, count, seconds=5) == 0

    asyncio.run(ask())
    assert time.monotonic() > 0


def test_a_question_of_several_statements_is_ended_between_them(pipeline: FakePipeline) -> None:
    """An interrupt that falls between two statements must not be lost."""
    asked = threading.Event()

    def question(con: duckdb.DuckDBPyConnection) -> None:
        asked.set()
        time.sleep(0.3)
        con.execute(ENDLESS).fetchall()

    async def ask() -> None:
        with pytest.raises(ApiError):
            await read(pipeline, question, seconds=0.1)

    began = time.monotonic()
    asyncio.run(ask())
    pipeline.close()  # waits for the thread
    assert asked.is_set()
    assert time.monotonic() - began < 5


def test_a_caller_that_goes_away_stops_the_work(pipeline: FakePipeline) -> None:
    """Else a browser that is closed would keep a core busy."""

    async def ask() -> None:
        task = asyncio.create_task(read(pipeline, lambda con: con.execute(ENDLESS).fetchall(), seconds=600))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read(pipeline, count, seconds=5) == 0

    began = time.monotonic()
    asyncio.run(ask())
    pipeline.close()
    assert time.monotonic() - began < 5


def test_errors_of_a_question_are_its_callers(pipeline: FakePipeline) -> None:
    """And cost no thread and no connection."""

    async def ask() -> None:
        for _ in range(THREADS * 2):
            with pytest.raises(duckdb.Error):
                await read(pipeline, lambda con: con.execute("SELECT nonsense"), seconds=5)
        assert await read(pipeline, count, seconds=5) == 0

    asyncio.run(ask())


def test_a_refusal_costs_no_connection(pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening one takes many times as long as a look-up: asking for what is not there must not be an attack."""
    left: list[bool] = []

    @contextmanager
    def reading() -> Iterator[duckdb.DuckDBPyConnection]:
        connection = pipeline.store.cursor()
        try:
            yield connection
            left.append(True)  # not by an exception
        finally:
            connection.close()

    monkeypatch.setattr(pipeline, "reading", reading)

    def refuse(con: duckdb.DuckDBPyConnection) -> None:
        raise ApiError(ErrorCode.NOT_FOUND, "Incident not found.")

    async def ask() -> None:
        with pytest.raises(ApiError, match="Incident not found"):
            await read(pipeline, refuse, seconds=5)

    asyncio.run(ask())
    assert left == [True]


@pytest.mark.parametrize(("there", "truncated"), [(4, False), (5, False), (6, True)])
def test_rows_are_capped_and_it_is_said(pipeline: FakePipeline, there: int, truncated: bool) -> None:
    """At the cap, one below and one beyond."""
    with pipeline.reading() as con:
        found, cut = rows(con, "SELECT range FROM range($n) ORDER BY range", {"n": there}, cap=5)
    assert ([row[0] for row in found], cut) == (list(range(min(there, 5))), truncated)
