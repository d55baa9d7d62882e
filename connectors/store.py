"""The serving store: one DuckDB file and the files of events that it catalogues, written by one process.

Guarantee: a flush is one transaction that also records the positions it reaches, so after a crash the store holds whole
flushes and says exactly which. Files of events are there before the transaction that makes them count, and nobody sees
one that does not. Lost: nothing that was flushed, as long as nobody removes files from the lake. Seen twice: nothing,
when the writer calls `resume` with the positions it starts again from.

A store is used from one thread at a time; other threads of the process read through `cursor()`. While a process has it
open for writing no other process can open it: they read the lake (`connectors.lake`).
"""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import polars as pl

from connectors import event_catalogue as catalogue
from connectors import rolled, rollup_files, store_rows
from connectors.event_catalogue import HOT
from connectors.event_table import EventTable, Staged
from connectors.manifest import Manifest
from connectors.schema import BOOKKEEPING, STORE_VERSION, TABLES, VIEWS, create_table
from connectors.sql import SCRATCH, scratch
from connectors.store_file import (
    OutdatedStoreError,
    StoreError,
    StoreLockedError,
    check_version,
    connect,
    first_line,
    settle,
)
from connectors.store_rows import check_columns

__all__ = ["HOT_ROWS", "OutdatedStoreError", "Position", "Store", "StoreError", "StoreLockedError"]

MEMORY_LIMIT = "512MB"
# Hot rows worth rolling: a second's work, and a hundred megabytes of memory while it lasts.
HOT_ROWS = 500_000
# Small files of a day worth merging while others wait.
MERGE = 8
_FOLDED = "folded"  # in `meta`
_NATIVE = {HOT: TABLES["events"], **{name: table for name, table in TABLES.items() if name not in VIEWS}, **BOOKKEEPING}


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition is in the store: the next offset to come, and its watermark in µs (None before any)."""

    next_offset: int
    watermark: int | None = None


class Store:
    """An open store. Use `create` or `open`, not the constructor."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self.data = path.parent
        self._con = connection
        self._events = EventTable(connection, self.data)
        self._repeating = False
        self._rollups = 0  # the number of the last file of rollups

    @classmethod
    def create(cls, path: Path, shards: int, settings: Mapping[str, str] | None = None) -> Self:
        """Make an empty store at `path` and open it for writing.

        shards: fixed for the life of the store. settings: what the run was started with. Raises StoreError where
        there is a file already.
        """
        if path.exists():
            raise StoreError(f"{path} exists already")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made aside and renamed, so that a store is there as a whole or not at all.
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        first = {
            "store_version": str(STORE_VERSION),
            "shards": str(shards),
            "settings": json.dumps(dict(settings or {}), sort_keys=True),
        }
        with cls(fresh, duckdb.connect(str(fresh))) as store, store._transaction():
            for name, table in _NATIVE.items():
                store._con.execute(create_table(name, table))
            catalogue.show(store._con, store.data)
            rolled.show(store._con, store.data)
            store._write("meta", meta_frame(first))
        os.replace(fresh, path)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, read_only: bool = False) -> Self:
        """Open the store at `path`.

        Raises StoreError where there is none, or one that this version cannot read (which is left as it is), or, for
        writing, where files of events are missing; StoreLockedError where somebody else has it open.
        """
        # Looked at before it is opened for writing: that alone would already change the file.
        reader = connect(path, read_only=True)
        try:
            cls._check(path, reader)
        except StoreError:
            reader.close()
            raise
        if read_only:
            return cls(path, reader)
        reader.close()
        writer = connect(path, read_only=False)
        writer.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        # A checkpoint would rewrite whole row groups to fill up those that a flush left short; see `compact`.
        writer.execute("SET max_vacuum_tasks = 0")
        store = cls(path, writer)
        try:
            store._events.open()
            store._open_rollups()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _check(cls, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        """Raise StoreError where it cannot be used as it is."""
        check_version(path, connection)

    def flush(
        self,
        tables: Mapping[str, pl.DataFrame],
        positions: Mapping[str, Position],
        meta: Mapping[str, str] | None = None,
    ) -> None:
        """Write frames, positions and `meta` entries in one transaction; on any error nothing of it is visible.

        tables: by name, with the table's columns in any order.
        Days of which there are many events (`event_table.BULK`) become files at once: 0.5 µs of CPU an event, and no
        limit to their number. The others become hot rows, 2 to 10 µs an event, the fewer the more; `roll` sometimes.
        """
        for name, frame in tables.items():
            check_columns(name, frame)
        rest = dict(tables)
        events = _events(rest.pop("events", None))
        with self._reported():
            staged = self._events.stage(events)
        with self._transaction():
            self._events.apply(staged)
            self._roll_up(events)
            for name, frame in rest.items():
                self._write(name, frame)
            self._write("positions", _position_frame(positions))
            self._write("meta", meta_frame(meta or {}))

    @property
    def hot_rows(self) -> int:
        """How many events are in no file yet."""
        return self._events.hot_rows

    def roll(self, least: int = 1) -> None:
        """Write the hot rows into files where there are at least so many; about 1 µs of CPU an event.

        To be called by the writer between flushes: with HOT_ROWS after each one, so that they stay few, and without
        before a publication. Who reads meanwhile sees every event once.
        """
        if self.hot_rows >= max(least, 1):
            self._change(self._events.stage_hot)

    def merge(self, least: int = MERGE) -> None:
        """Put small neighbouring files of a day together, where there are at least so many; about 1 µs an event.

        The files they replace stay until `sweep` or the next opening: somebody may be reading them.
        """
        for paths in self._events.mergeable(least):
            self._change(partial(self._events.stage_merged, paths))

    def fold(self, upto: Mapping[str, int] | None = None, least: int = rolled.FOLD) -> None:
        """Add up rows of rollups that have one key, where there are at least so many new ones. upto: by partition the
        offset that no resume goes back behind (None: there will be none)."""
        with self._transaction():
            if rolled.fold(self._con, upto, least) and upto is not None:
                self._write("meta", meta_frame({_FOLDED: json.dumps({**self.folded, **upto}, sort_keys=True)}))

    @property
    def folded(self) -> dict[str, int]:
        """By partition the offset before which rollups may have been folded: no resume goes back behind it."""
        folded: dict[str, int] = json.loads(self.meta().get(_FOLDED, "{}"))
        return folded

    def sweep(self, keep: Collection[str] = ()) -> None:
        """Remove files of events that do not count, but for those to be kept (paths relative to the data directory).

        Whoever began to read before they were replaced meets an error.
        """
        self._events.sweep(set(keep))

    def resume(self, positions: Mapping[str, int]) -> None:
        """Prepare for records coming again from `positions` (partition -> next offset; a partition not named: 0).

        Rows of the log beyond them are dropped. From here on what is appended without a position replaces its equal.
        """
        frame = _position_frame({name: Position(offset) for name, offset in positions.items()})
        with self._reported():
            staged = self._events.stage_before(positions)
        with self._transaction():
            self._events.apply(staged)
            with scratch(self._con, frame):
                for name, table in _NATIVE.items():
                    if table.by_position:
                        self._con.execute(
                            f'DELETE FROM "{name}" WHERE "offset" >= coalesce((SELECT i.next_offset FROM {SCRATCH} i '
                            f'WHERE i.partition = "{name}".partition), 0)'
                        )
                self._con.execute(
                    f"UPDATE positions SET next_offset = least(next_offset, coalesce((SELECT i.next_offset "
                    f"FROM {SCRATCH} i WHERE i.partition = positions.partition), 0))"
                )
            rolled.show(self._con, self.data)
        self._repeating = True

    def lay_out(self, statements: Sequence[str], meta: Mapping[str, str]) -> None:
        """Change the tables of an empty store, for one that serves another purpose; `meta` says so."""
        with self._transaction():
            for statement in statements:
                self._con.execute(statement)
            self._write("meta", meta_frame(meta))

    def positions(self) -> dict[str, Position]:
        """Return how far each partition is."""
        rows = self._con.execute("SELECT partition, next_offset, epoch_us(watermark) FROM positions").fetchall()
        return {name: Position(offset, watermark) for name, offset, watermark in rows}

    def meta(self) -> dict[str, str]:
        """Return all entries of `meta`."""
        return dict(self._con.execute("SELECT key, value FROM meta").fetchall())

    @property
    def shards(self) -> int:
        """The number of shards it was created with."""
        return int(self.meta()["shards"])

    @property
    def settings(self) -> dict[str, str]:
        """What the run was started with."""
        settings: dict[str, str] = json.loads(self.meta()["settings"])
        return settings

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own for another thread; it sees whole flushes only."""
        cursor = self._con.cursor()
        settle(cursor, self.data)
        return cursor

    def compact(self) -> None:
        """Make what is small large: write hot rows out, merge all small files of a day and all short row groups, and
        give back the space of replaced rows. For a time when nobody waits."""
        self.roll()
        self.merge(least=2)
        self._con.execute("SET max_vacuum_tasks = 100")
        self._con.execute("CHECKPOINT")
        self._con.execute("SET max_vacuum_tasks = 0")

    def close(self) -> None:
        """Close the store; what was flushed is in the one file then."""
        self._con.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self, name: str, frame: pl.DataFrame) -> None:
        store_rows.write(self._con, name, frame, repeating=self._repeating)

    def _roll_up(self, events: pl.DataFrame) -> None:
        """Add what a flush brings to the rollups, in its transaction."""
        self._rollups = rolled.write_file(self._con, self.data, events, self._rollups)

    def _open_rollups(self) -> None:
        """Remove files that a crash left over, and show the others where they lie now."""
        known = {*rollup_files.paths(self._con), *Manifest.read(self.data / "lake").rollup_files}
        self._rollups = rollup_files.last_number(self.data)
        rollup_files.sweep(self.data, known)
        rolled.show(self._con, self.data)

    def _change(self, stage: Callable[[], Staged]) -> None:
        """Write files, then let them count."""
        with self._reported():
            staged = stage()
        with self._transaction():
            self._events.apply(staged)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Let what goes wrong in writing be a StoreError, or an OSError."""
        try:
            yield
        except (duckdb.Error, pl.exceptions.PolarsError) as wrong:
            raise StoreError(f"cannot write to {self.data}: {first_line(wrong)}") from wrong

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._con.execute("BEGIN")
        try:
            yield
            self._con.execute("COMMIT")
        except BaseException as wrong:  # also Ctrl-C: half a flush must never become one
            self._rollback()
            if isinstance(wrong, duckdb.Error):
                raise StoreError(f"cannot write to {self.path}: {first_line(wrong)}") from wrong
            raise

    def _rollback(self) -> None:
        with suppress(duckdb.Error):  # a failed COMMIT has ended the transaction already
            self._con.execute("ROLLBACK")


def _events(frame: pl.DataFrame | None) -> pl.DataFrame:
    if frame is None:
        return pl.DataFrame(schema=dict(TABLES["events"].columns))
    if frame["at"].null_count():
        raise StoreError("an event has no effective time `at`")
    return frame


def _position_frame(positions: Mapping[str, Position]) -> pl.DataFrame:
    columns = BOOKKEEPING["positions"].columns
    rows = [(name, position.next_offset, position.watermark) for name, position in positions.items()]
    frame = pl.DataFrame(rows, schema={**columns, "watermark": pl.Int64()}, orient="row")
    return frame.cast({"watermark": columns["watermark"]})


def meta_frame(entries: Mapping[str, str]) -> pl.DataFrame:
    """Entries of `meta` as rows."""
    return pl.DataFrame(list(entries.items()), schema=dict(BOOKKEEPING["meta"].columns), orient="row")
