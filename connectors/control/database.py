"""The control database: SQLite beside the other data, or PostgreSQL where several API nodes share it.

Guarantee: a transaction that returned is durable (SQLite: WAL with synchronous=FULL). Writers of SQLite queue up from
their first statement on (BEGIN IMMEDIATE), so that none fails half way because another was faster.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session

from connectors.control.errors import ControlError, ControlUnavailable

_BUSY = 5.0  # seconds a statement waits for other writers; below the deadline of a request
_WRITES = "tocsin_writes"


class Database:
    """Short transactions, to read and to write. Thread-safe."""

    def __init__(self, url: str) -> None:
        """Raises ControlError where the address makes no sense or its driver is missing. Connects only when used."""
        where = parse_url(url)
        self.shared = where.get_backend_name() == "postgresql"
        self.engine = _postgres(where) if self.shared else _sqlite(where)
        self._writing = self.engine.execution_options(**{_WRITES: True})

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is committed at the end, or rolled back where it raises."""
        with _translated(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """A transaction that no other process has at the same time: for migrations."""
        with _translated(), self._writing.begin() as connection:
            if self.shared:
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(7069616)"))
            yield connection

    def ping(self) -> None:
        """Raises ControlUnavailable where the database does not answer."""
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def upsert(session: Session, table: type[DeclarativeBase]) -> sqlite.Insert:
    """Return an INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`, in this database's dialect."""
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table)
    return cast(sqlite.Insert, postgresql.insert(table))  # the same methods


def parse_url(url: str) -> URL:
    """Return the address with its driver. Raises ControlError for what is neither a SQLite file nor PostgreSQL."""
    try:
        where = make_url(url)
    except ArgumentError:
        raise ControlError("TOCSIN_CONTROL_URL is not an address like postgresql://user@host/database.") from None
    backend = where.get_backend_name()
    if backend in ("postgres", "postgresql"):
        return where.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and where.database not in (None, "", ":memory:"):
        return where
    raise ControlError("The control database must be sqlite:///<file> or postgresql://user@host/database.")


def _sqlite(where: URL) -> Engine:
    path = Path(str(where.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only where it is new: closing a file that is open in this process gives up SQLite's locks on it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as wrong:
        raise ControlError(f"The control database {path} cannot be used: {wrong.strerror}.") from wrong
    engine = create_engine(where, hide_parameters=True, pool_size=4, max_overflow=36, pool_timeout=_BUSY)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # `begin` below says BEGIN, the driver never does
        connection.execute(f"PRAGMA busy_timeout = {int(_BUSY * 1000)}")
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log: SQLite refuses that at once while others use a new file, whatever `busy_timeout`."""
    give_up = time.monotonic() + _BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _postgres(where: URL) -> Engine:
    try:
        import psycopg  # noqa: F401 - an optional extra
    except ImportError:
        raise ControlError("PostgreSQL needs a driver: pip install 'tocsin[postgres]'") from None
    engine = create_engine(
        where,
        hide_parameters=True,
        pool_size=4,
        max_overflow=16,
        pool_timeout=_BUSY,
        pool_pre_ping=True,
        connect_args={"connect_timeout": int(_BUSY)},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.execute(f"SET statement_timeout = {int(_BUSY * 1000)}")
        connection.execute("SET timezone = 'UTC'")
        connection.commit()

    return engine


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as wrong:
        raise ControlUnavailable("The control database is busy.") from wrong
    except (OperationalError, InterfaceError) as wrong:
        raise ControlUnavailable("The control database does not answer.") from wrong
    except DBAPIError as wrong:
        if wrong.connection_invalidated:
            raise ControlUnavailable("The control database does not answer.") from wrong
        raise
