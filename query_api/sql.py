"""A person's own SQL on the command line, read-only: over all that a data directory holds, or over one workspace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer

import duckdb
import polars as pl
import pyarrow as pa
from duckdb import DuckDBPyConnection

from query_api.fetch import QueryError
from query_api.sandbox.messages import Question
from query_api.sandbox.process import Process, Refused
from query_api.statement import StatementError, reading_statement

_MEMORY = "2GB"  # of a workspace's rows
_FOR_EVER = 86_400.0
_ALL = 10**9


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of an answer, and whether there are more."""

    rows: pl.DataFrame
    truncated: bool


def run_sql(
    con: DuckDBPyConnection, text: str, *, limit: int | None = None, seconds: float | None = None
) -> pl.DataFrame:
    """Return the rows of one SELECT, FROM, DESCRIBE, SUMMARIZE or EXPLAIN. Raises QueryError with DuckDB's reason.

    con: a connection from `connectors.reader`, which neither writes nor reads other files. limit: rows at most;
    seconds: how long it may take.
    """
    try:
        statement = reading_statement(text)
        with _within(seconds, con.interrupt):
            answer = con.sql(statement)
            return _frame(answer if limit is None else answer.limit(limit))
    except duckdb.InterruptException as wrong:
        raise _late(seconds) from wrong
    except (duckdb.Error, StatementError) as wrong:
        raise QueryError(str(wrong).strip()) from wrong


def ask(con: DuckDBPyConnection, text: str, workspace: str | None, limit: int | None, seconds: float | None) -> Found:
    """`run_sql`, as over HTTP where a workspace is named: only its rows exist then. Raises QueryError."""
    if workspace is not None:
        return _of_workspace(con, text, workspace, limit or _ALL, seconds)
    if limit is None:
        return Found(run_sql(con, text, seconds=seconds), truncated=False)
    rows = run_sql(con, text, limit=limit + 1, seconds=seconds)
    return Found(rows.head(limit), rows.height > limit)


def _of_workspace(con: DuckDBPyConnection, text: str, workspace: str, limit: int, seconds: float | None) -> Found:
    question = Question(text, {}, limit, "arrow", _MEMORY, seconds or _FOR_EVER)
    process, late = Process(), False

    def give_up() -> None:
        nonlocal late
        late = True
        con.interrupt()
        process.kill()

    try:
        with _within(seconds, give_up):
            needed = process.begin(question)
            process.feed(con, workspace, needed)
            answer = process.finish()
    except (Refused, duckdb.Error) as wrong:
        raise _late(seconds) if late else QueryError(str(wrong)) from wrong
    finally:
        process.close()
    rows = pl.from_arrow(pa.ipc.open_stream(answer.body).read_all())
    assert isinstance(rows, pl.DataFrame)
    return Found(rows, answer.truncated)


@contextmanager
def _within(seconds: float | None, give_up: Callable[[], object]) -> Iterator[None]:
    if seconds is None:
        yield
        return
    timer = Timer(seconds, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _late(seconds: float | None) -> QueryError:
    return QueryError(f"the statement took longer than {seconds:g} s" if seconds else "the statement was interrupted")


def _frame(answer: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """The rows as a frame; intervals as text, for which Polars has no type."""
    columns = zip(answer.columns, answer.types, strict=True)
    names = [f'"{name.replace(chr(34), 2 * chr(34))}"' for name in answer.columns]
    texts = [
        f"CAST({quoted} AS VARCHAR) AS {quoted}" if str(kind) == "INTERVAL" else quoted
        for quoted, (_, kind) in zip(names, columns, strict=True)
    ]
    frame: pl.DataFrame = (answer.project(", ".join(texts)) if texts != names else answer).pl()
    return frame
