"""Small changes for tests of the live store, and what its tables hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import polars as pl

from connectors.live_store import LiveStore
from connectors.memtable import SHOWN, Changes
from connectors.store import Position
from operators.live import Gone, Publication
from operators.output import NO_OUTPUT, Output
from tests.stores import event, incident, rows, step, t

Row = dict[str, Any]
NO_MEMBERS = pl.DataFrame()


def live(id: str, events: int = 1, *, settled: bool = False, closed: float | None = None, opened: float = 0) -> Row:
    """A row of `incidents`: Open, or Closed at a minute."""
    row = incident(id, "auth_failure", f"source of {id}", opened, opened, events, settled=settled)
    return row | {"status": "Open" if closed is None else "Closed", "closed_at": None if closed is None else t(closed)}


def hit(id: str, tenant: str, events: int = 1) -> Row:
    """A row of `incident_tenants`."""
    return {"incident_id": id, "tenant": tenant, "event_count": events, "first_seen_at": t(0), "last_seen_at": t(1)}


def moved(id: str, n: int, minute: float = 0, *, settled: bool = False, events: int = 1) -> Row:
    """A row of `transitions`."""
    return step(id, n, minute, "Recovering" if n % 2 else "Open", "a reason", events) | {"settled": settled}


def alert(id: str, of: str, minute: float = 0, *, settled: bool = False) -> Row:
    """A row of `alerts`."""
    return {"id": id, "incident_id": of, "workspace": "default", "kind": "opened", "cycle": 0, "tenant": None,
            "at": t(minute), "settled": settled}  # fmt: skip


def happened(*offsets: int) -> list[Row]:
    """Rows of `events`, of the partition p."""
    return [event(offset, offset / 60, "payments", "auth_failed", "auth_failure") for offset in offsets]


def changes(
    upto: int | None = None,
    *,
    gone: Gone | None = None,
    news: bool = True,
    settings: Mapping[str, str] | None = None,
    **tables: Sequence[Row],
) -> Changes:
    """Rows by table, of all records before `upto`. news: nobody has seen the transitions and alerts among them."""
    frames = {name: rows(name, *values) for name, values in tables.items() if values}
    appended = {
        name: frames.pop(name) for name in ("events", "claims", "dead_letters", "configurations") if name in frames
    }
    publication = None
    if frames or gone:
        output = Output(**(NO_OUTPUT.tables() | frames))
        told = Output(NO_OUTPUT.incidents, NO_OUTPUT.incident_tenants, output.transitions, output.alerts)
        publication = Publication(output, gone or Gone(), NO_MEMBERS, told if news else NO_OUTPUT)
    return Changes(appended, publication, {} if upto is None else {"p": Position(upto, 0)}, settings or {})


Contents = dict[str, list[tuple[Any, ...]]]


def seen(store: LiveStore) -> Contents:
    """What a reader sees now, table by table."""
    with store.reading() as con:
        return told(con)


def told(con: duckdb.DuckDBPyConnection) -> Contents:
    """What this connection sees."""
    return {name: ordered(con.sql(f"FROM {name}").pl().cast(dict(table.columns))) for name, table in SHOWN.items()}


def ordered(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """The rows of a frame in the order of its columns."""
    return frame.sort(pl.all(), nulls_last=True).rows()


def expected(tables: Mapping[str, Iterable[Row]]) -> Contents:
    """The same of plain dicts."""
    return {
        name: ordered(pl.DataFrame([[row.get(c) for c in table.columns] for row in tables.get(name, ())],
                                   schema=dict(table.columns), orient="row"))
        for name, table in SHOWN.items()
    }  # fmt: skip


class _Stepwise:
    """The writer's connection, with something that happens before each of its statements."""

    def __init__(self, connection: Any, happens: Callable[[str], None]) -> None:
        self._connection, self._happens = connection, happens

    def execute(self, sql: str, *values: Any) -> Any:
        self._happens(sql)
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@contextmanager
def before_each_statement(store: LiveStore, happens: Callable[[str], None]) -> Any:
    """Let something happen before each statement with which the store is written; told the statement."""
    kept = store._con, store._events._con
    store._con = store._events._con = _Stepwise(store._con, happens)  # type: ignore[assignment]
    try:
        yield
    finally:
        store._con, store._events._con = kept


class Crash(Exception):
    """The process ends here."""


def crash_at(number: int) -> Callable[[str], None]:
    """Something that ends the process before the statement with this number, from 0."""
    left = [number]

    def happens(sql: str) -> None:
        if sql != "ROLLBACK":
            left[0] -= 1
            if left[0] < 0:
                raise Crash

    return happens
