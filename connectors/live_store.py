"""The store of the live service: every change visible at once, written a few times a second.

A small transaction costs DuckDB several milliseconds, so changes are shown from memory first (`connectors.memtable`)
and written together. Incidents that still change are rows of small `live_` tables with keys; those that are over move
to `past_` tables, which are only appended to and have no index (docs/performance.md says why). The views `incidents`,
`incident_tenants`, `transitions` and `alerts` show both, under the names every store has, and `reading` adds what is
not yet written.

Guarantee: that of `connectors.store`; what is written is whole changes, and what is not comes again from the log.
`feed` keeps the last news for those who follow: told once written, so that it never takes anything back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from threading import Condition, Lock, RLock
from typing import Any, Self

import duckdb
import orjson
import polars as pl

from connectors import rolled
from connectors.memtable import SHOWN, Changes, Memtable, Seen, joined
from connectors.pipeline import RolledUp
from connectors.schema import TABLES, column_list, create_table, sql_type
from connectors.sql import SCRATCH, scratch
from connectors.store import HOT_ROWS, Position, Store, StoreError, meta_frame
from connectors.store_file import first_line
from operators.events import HOUR
from operators.live import Gone
from operators.output import NO_OUTPUT, Output

LIVE = ("incidents", "incident_tenants", "transitions", "alerts")
_INCIDENT = {
    "incidents": "id",
    "incident_tenants": "incident_id",
    "transitions": "incident_id",
    "alerts": "incident_id",
}
# News that a follower who was away can still get.
FEED_ROWS = 100_000
NO_EVENTS = pl.DataFrame(schema=dict(TABLES["events"].columns))
ORIGIN, SERVICE = "origin", "service"
TOLD = "feed_upto"  # in `meta`: the feed has the news of all records before
_FEED = "feed_begin"  # in `meta`
_AGAIN = 0.05  # seconds between interrupts: one that hits the gap between two statements has no effect
_TOLD = ("opened", "reopened", "blast_radius_expanded", "resolved")  # of one instant, in this order
_FOR_EVER = 2**63 - 1
_CLOSED = "the store is closed, or being opened again"

FEED: dict[str, pl.DataType] = {
    "seq": pl.Int64(),
    "workspace": pl.String(),
    "kind": pl.String(),
    "incident_id": pl.String(),
    "name": pl.String(),
    "at": TABLES["alerts"].columns["at"],
    "body": pl.String(),
}


class StoreClosedError(StoreError):
    """The store was closed before, or while, somebody read."""


class LiveStore(Store):
    """An open store of the service. Use `create` or `open`."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(path, connection)
        self._workspaces: dict[str, str] = {}  # of the incidents in the live tables
        self._memtable = Memtable()
        self._seen = Lock()  # around what decides what a reader sees
        self._writing = RLock()
        self._readers: list[_Reader] = []
        self._lent: set[_Reader] = set()
        self._returned = Condition()  # around who reads
        self._closed = False
        self.feed_end = 0
        self._told_upto: int | None = None

    @classmethod
    def create(cls, path: Path, shards: int, settings: Mapping[str, str] | None = None, feed: int = 0) -> Self:
        """Make an empty store of the service at `path` and open it. Raises StoreError where there is a file already.

        feed: the number before the feed's first one; of stores side by side each begins far from the others, so that
        none takes a number of another for its own.
        """
        with Store.create(path, shards, settings) as store:
            store.lay_out(_layout(), {ORIGIN: SERVICE, _FEED: str(feed)})
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, read_only: bool = False) -> Self:
        """Open it. Raises StoreError, also where the store is none of the service's."""
        store = super().open(path, read_only)
        store._recall()
        return store

    @classmethod
    def _check(cls, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        super()._check(path, connection)
        if connection.execute("SELECT value FROM meta WHERE key = $1", [ORIGIN]).fetchall() != [(SERVICE,)]:
            raise StoreError(
                f"{path.parent} holds the results of a replay: name another directory with --data, or move it away"
            )

    def accept(self, changes: Changes) -> None:
        """Show changes from now on. Those that take something back are written at once: memory cannot hide a row."""
        if changes.void:
            self._write_waiting()  # what waits may be void, too
            self._write_waiting(changes)
            return
        if changes.publication is not None and changes.publication.gone:
            self._write_waiting(changes)
            return
        with self._seen:
            self._memtable.add(changes)

    @property
    def waiting(self) -> int:
        """Events that are shown and not yet written."""
        return self._memtable.events

    def write(self) -> bool:
        """Write what waits, in one transaction; on any error nothing of it. Returns whether there was anything."""
        return self._write_waiting()

    def _write_waiting(self, *more: Changes) -> bool:
        with self._writing:
            with self._seen:
                waiting = self._memtable.take()
            changes = [*([waiting] if waiting is not None else []), *more]
            if not changes:
                return False
            try:
                self._write_out(joined(changes))
            except BaseException:
                with self._seen:
                    self._memtable.give_back()
                raise
            return True

    def _write_out(self, changes: Changes) -> None:
        tables = dict(changes.tables)
        events = tables.pop("events", NO_EVENTS)
        staged = self._events.stage(events)
        before = self.feed_end, self._told_upto
        self._con.execute("BEGIN")
        try:
            self._events.apply(staged)
            self._roll_up(events)
            for name, frame in tables.items():
                self._write(name, frame)
            if changes.publication is not None:
                self._show(changes.publication.output, changes.publication.gone, changes.void)
                self._tell(changes.publication.news)
            for workspace, body in changes.settings.items():
                self._con.execute("DELETE FROM settings WHERE workspace = ?", [workspace])
                self._con.execute("INSERT INTO settings VALUES (?, ?)", [workspace, body])
            self._reach(changes.positions)
            self._write("meta", meta_frame(changes.meta))
            with self._seen:  # who begins to read now sees these changes once: here, or from memory
                self._con.execute("COMMIT")
                self._memtable.drop()
        except BaseException as wrong:
            self._rollback()
            self.feed_end, self._told_upto = before
            if isinstance(wrong, duckdb.Error):
                raise StoreError(f"cannot write to {self.path}: {first_line(wrong)}") from wrong
            raise

    def _roll_up(self, events: pl.DataFrame) -> None:
        rolled.write(self._con, events)

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that sees everything up to now, and nothing newer while it lasts. From any thread.

        Raises StoreClosedError, also in the middle: see `close`.
        """
        reader = self._lend()
        whole = False
        try:
            with self._seen:
                reader.begin()
                seen = self._memtable.seen()
            reader.show(seen)
            yield reader.connection
            reader.end()
            whole = True
        except duckdb.Error as wrong:
            if self._closed:
                raise StoreClosedError(_CLOSED) from wrong
            raise
        finally:
            self._take_back(reader, whole=whole)

    def _lend(self) -> _Reader:
        with self._returned:
            if self._closed:
                raise StoreClosedError(_CLOSED)
            reader = self._readers.pop() if self._readers else _Reader(self.cursor())
            self._lent.add(reader)
            return reader

    def _take_back(self, reader: _Reader, *, whole: bool) -> None:
        """whole: else it may have been interrupted in any state."""
        with self._returned:
            self._lent.discard(reader)
            if whole and not self._closed:
                self._readers.append(reader)
            else:
                reader.close()
            self._returned.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[Self]:
        """For work on the store in several steps, by one thread at a time."""
        with self._writing:
            yield self

    def close(self) -> None:
        """Close the store. What waits is lost, and comes again from the log.

        Who is reading is interrupted: DuckDB closes no connection that is in use, and opens no file anew before all are
        closed.
        """
        with self._writing:
            with self._returned:
                self._closed = True
                while self._lent:
                    for reader in self._lent:
                        reader.connection.interrupt()
                    self._returned.wait(_AGAIN)
                while self._readers:
                    self._readers.pop().close()
            with self._seen:
                self._memtable.clear()
            super().close()

    def announced(self) -> list[tuple[tuple[str, str, str], int, str]]:
        """The incidents that were shown, key, opened at (µs) and id; but those that every snapshot has as over.

        Also what is settled: a snapshot may be from before that, and an id that a late event left to an incident cannot
        be derived again.
        """
        with self._writing:
            rows = self._con.execute(
                "SELECT workspace, rule_id, group_key, epoch_us(opened_at), id FROM live_incidents ORDER BY id"
            ).fetchall()
        return [((workspace, rule, group), opened, incident) for workspace, rule, group, opened, incident in rows]

    def tenants(self, incidents: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The tenants of incidents, in the order of their names."""
        with self.reading() as con:
            rows = con.execute(
                "SELECT incident_id, list(tenant ORDER BY tenant) FROM incident_tenants "
                "WHERE incident_id IN (SELECT unnest($1)) GROUP BY incident_id",
                [list(incidents)],
            ).fetchall()
        return {incident: tuple(tenants) for incident, tenants in rows}

    def active(self) -> dict[str, int]:
        """How many incidents are `Open` and `Recovering`, of all workspaces."""
        with self.reading() as con:
            rows = con.execute(
                "SELECT status, count(*) FROM incidents WHERE status IN ('Open', 'Recovering') GROUP BY status"
            ).fetchall()
        return {"Open": 0, "Recovering": 0} | dict(rows)

    def positions(self) -> dict[str, Position]:
        """Return how far each partition is. From any thread."""
        with self._writing:
            return super().positions()

    def meta(self) -> dict[str, str]:
        """Return all entries of `meta`. From any thread."""
        with self._writing:
            return super().meta()

    def note(self, meta: Mapping[str, str]) -> None:
        """Write entries of `meta`."""
        with self._writing:
            self.flush({}, {}, meta)

    def roll_up_again(self, workspace: str, start: int, end: int, upto: Mapping[str, int] | None) -> RolledUp:
        """Make a workspace's rollups of the hours around [start, end), µs, once more of its events, hour by hour, but
        what a snapshot may take back. upto: see `fold`. From any thread; others write between two hours.

        Raises StoreClosedError, also in the middle: what is done by then stays.
        """
        first, last = start // HOUR * HOUR, -(-end // HOUR) * HOUR
        found = RolledUp(0, 0, 0, 0, 0)
        for hour in range(first, last, HOUR):
            with self._writing:
                if self._closed:
                    raise StoreClosedError(_CLOSED)
                self.write()
                reached = upto
                if upto is not None:  # more may have been folded: before a restart, or since the hour before
                    folded = self.folded
                    reached = {name: max(offset, folded.get(name, 0)) for name, offset in {**folded, **upto}.items()}
                with self._transaction():
                    done = rolled.replace(self._con, workspace, hour, hour + HOUR, reached)
                    if done.changed:
                        again = int(self.meta().get(rolled.AGAIN, 0)) + 1
                        self._write("meta", meta_frame({rolled.AGAIN: str(again)}))
            found = RolledUp(*(had + has for had, has in zip(astuple(found), astuple(done), strict=True)))
        return found

    def maintain(self, forgotten: int, upto: Mapping[str, int] | None) -> None:
        """Keep what is hot small: events into files, incidents that are over into the past, old news away.

        To be called at snapshots. forgotten: what closed before this instant, µs, is not touched any more, whichever
        snapshot is gone on from; upto: by partition the offset that none of them begins before, None without any.
        """
        with self._writing:
            self.roll(HOT_ROWS)
            self.fold(upto)
            # An incident that lives long does not keep its whole course hot: what is settled of it is final.
            with self._transaction():
                for name in ("transitions", "alerts"):
                    self._move(name, 'settled AND epoch_us("at") < $1', [forgotten])
            over = self._con.execute(
                "SELECT id FROM live_incidents WHERE settled AND status = 'Closed' AND epoch_us(closed_at) < $1 "
                "ORDER BY id",
                [forgotten],
            ).fetchall()
            if over:
                self._bury([incident for (incident,) in over])
            self._con.execute("DELETE FROM feed WHERE seq <= $1", [self.feed_end - FEED_ROWS])

    def repeat(self, positions: Mapping[str, int]) -> None:
        """`resume`, and throw away all that is shown and not final: it comes again. Other partitions stay as they are.

        Ask what was `announced` before. What the feed has already is not told again.
        """
        with self._writing:
            known = {name: position.next_offset for name, position in self.positions().items()}
            told = max((known.get(name, 0) for name in positions), default=0)
            # Kept, because `resume` takes the positions back: the next crash may come before they are reached again.
            told = max(told, int(self.meta().get(TOLD, 0)))
            self.note({TOLD: str(told)})
            self.resume({**known, **positions})
            with self._transaction():
                self._show(NO_OUTPUT, Gone(), [incident for _, _, incident in self.announced()])
            with self._seen:
                self._memtable.clear()
            self._told_upto = told

    def tell_once(self) -> None:
        """Tell nothing again that the feed has, from here on: news may come again at any time."""
        self._told_upto = _FOR_EVER

    # ------------------------------------------------------------ what a commit writes

    def _show(self, output: Output, gone: Gone, void: Sequence[str] = ()) -> None:
        for incident, workspace in output.incidents.select("id", "workspace").iter_rows():
            self._workspaces[incident] = workspace
        # Incidents last: what is void of their tenants is seen by them.
        for name, frame in reversed(output.tables().items()):
            table = TABLES[name]
            left = _left(name, gone, void)
            if not frame.height and not left:
                continue
            columns = column_list(table)
            with scratch(self._con, frame.unique(list(table.key), keep="last", maintain_order=True)):
                # What goes and comes again in one commit is replaced: a key cannot be deleted and inserted in one.
                same = " AND ".join(f'i."{column}" = t."{column}"' for column in table.key)
                for condition, values in left:
                    self._con.execute(
                        f"DELETE FROM live_{name} t WHERE {condition} "
                        f"AND NOT EXISTS (SELECT 1 FROM {SCRATCH} i WHERE {same})",
                        values,
                    )
                if frame.height:
                    self._con.execute(f"INSERT OR REPLACE INTO live_{name} ({columns}) SELECT {columns} FROM {SCRATCH}")

    def _tell(self, news: Output) -> None:
        rows = [
            (self._workspaces[row["incident_id"]], "transition", row["incident_id"], str(row["n"]), row)
            for row in news.transitions.iter_rows(named=True)
        ] + [
            (row["workspace"], "alert", row["incident_id"], row["id"], row) for row in news.alerts.iter_rows(named=True)
        ]
        # What happened before what is said about it.
        rows.sort(key=_in_order)
        if self._told_upto is not None:
            told_before = self._told({row[2] for row in rows})
            rows = [row for row in rows if (row[1], row[2], row[3]) not in told_before]
        if not rows:
            return
        told = [
            (self.feed_end + n, workspace, kind, incident, name, row["at"], _json(row))
            for n, (workspace, kind, incident, name, row) in enumerate(rows, 1)
        ]
        with scratch(self._con, pl.DataFrame(told, schema=FEED, orient="row")):
            self._con.execute(f"INSERT INTO feed SELECT * FROM {SCRATCH}")
        self.feed_end += len(told)

    def _told(self, incidents: Iterable[str]) -> set[tuple[str, str, str]]:
        """What the feed has of some incidents: kind, incident, name."""
        sql = "SELECT kind, incident_id, name FROM feed WHERE incident_id IN (SELECT unnest($1))"
        return set(self._con.execute(sql, [list(incidents)]).fetchall())

    def _reach(self, positions: Mapping[str, Position]) -> None:
        for partition, position in positions.items():
            values = [position.next_offset, position.watermark, partition]
            changed = self._con.execute(
                "UPDATE positions SET next_offset = $1, watermark = make_timestamptz($2::BIGINT) WHERE partition = $3",
                values,
            ).fetchall()
            if not changed[0][0]:
                self._con.execute("INSERT INTO positions VALUES ($3, $1, make_timestamptz($2::BIGINT))", values)
            if self._told_upto is not None and position.next_offset >= self._told_upto:
                self._told_upto = None

    def _bury(self, ids: list[str]) -> None:
        """Move incidents that are over to the past, with everything of theirs."""
        with scratch(self._con, pl.DataFrame({"id": ids}, schema={"id": pl.String()})), self._transaction():
            for name in LIVE:
                self._move(name, f"{_INCIDENT[name]} IN (SELECT id FROM {SCRATCH})", [])
        for incident in ids:
            self._workspaces.pop(incident, None)

    def _move(self, name: str, condition: str, values: list[Any]) -> None:
        """Move rows of a live table to the past, in the transaction that is under way."""
        columns = column_list(TABLES[name])
        mine = f"FROM live_{name} WHERE {condition}"
        self._con.execute(f"INSERT INTO past_{name} ({columns}) SELECT {columns} {mine}", values)
        self._con.execute(f"DELETE {mine}", values)

    def _recall(self) -> None:
        self._workspaces = dict(self._con.execute("SELECT id, workspace FROM live_incidents").fetchall())
        [(end,)] = self._con.execute("SELECT max(seq) FROM feed").fetchall()
        self.feed_end = int(self.meta().get(_FEED, 0)) if end is None else int(end)


_NO_ROWS = {name: pl.DataFrame(schema=dict(table.columns)).to_arrow() for name, table in SHOWN.items()}


class _Reader:
    """A connection whose names show what is written and what is not, of one instant."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        [(self._catalog,)] = connection.execute("SELECT current_database()").fetchall()
        self._version = -1
        self._overlaid: set[str] = set()

    def begin(self) -> None:
        """See everything that is written up to now, and nothing newer."""
        self.connection.execute("BEGIN")
        self.connection.execute("SELECT 1 FROM positions LIMIT 1").fetchall()  # the first statement fixes the instant

    def show(self, seen: Seen) -> None:
        """See these rows before what is written.

        A view slows every statement. Where it has no rows it goes; not at once, but when nothing came since the last
        time: to make one takes longer than to read through it.
        """
        overlay = seen.tables()
        if seen.version == self._version:
            for name in self._overlaid.difference(overlay):
                self.connection.execute(f"DROP VIEW temp.main.{name}")
                self.connection.unregister(f"mem_{name}")
            self._overlaid.intersection_update(overlay)
            return
        for name in self._overlaid.union(overlay):
            self.connection.register(f"mem_{name}", overlay[name] if name in overlay else _NO_ROWS[name])
            if name not in self._overlaid:
                self.connection.execute(_overlaid(self._catalog, name))
        self._overlaid.update(overlay)
        self._version = seen.version

    def end(self) -> None:
        """Let go of the instant."""
        self.connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the connection."""
        self.connection.close()


def _overlaid(catalog: str, name: str) -> str:
    """A view of one connection, by the name of what it stands before. catalog: the store's."""
    columns, memory = column_list(SHOWN[name]), f"mem_{name}"
    written = f"SELECT {columns} FROM {catalog}.main.{f'live_{name}' if name in LIVE else name} t"
    if SHOWN[name].key:
        same = " AND ".join(f'm."{column}" = t."{column}"' for column in SHOWN[name].key)
        written += f" WHERE NOT EXISTS (SELECT 1 FROM {memory} m WHERE {same})"
    if name in LIVE:
        written += f" UNION ALL SELECT {columns} FROM past_{name}"
    return f"CREATE TEMP VIEW {name} AS SELECT {columns} FROM {memory} UNION ALL {written}"


def _layout() -> list[str]:
    """The statements that turn the tables of a store into those of the service."""
    statements: list[str] = []
    for name in LIVE:
        table = TABLES[name]
        columns, key = column_list(table), ", ".join(table.key)
        typed = ", ".join(f'"{column}" {sql_type(dtype)}' for column, dtype in table.columns.items())
        statements += [
            f"DROP TABLE {name}",
            create_table(f"past_{name}", table),
            f"CREATE TABLE live_{name} ({typed}, PRIMARY KEY ({key}))",
            f"CREATE VIEW {name} AS SELECT {columns} FROM live_{name} UNION ALL SELECT {columns} FROM past_{name}",
        ]
    fed = ", ".join(f'"{column}" {sql_type(dtype)}' for column, dtype in FEED.items())
    statements += [f"CREATE TABLE feed ({fed})", "CREATE TABLE settings (workspace VARCHAR, body VARCHAR)"]
    return statements


def _left(name: str, gone: Gone, void: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """What is gone from a table `t`, and what is not settled of void incidents: conditions with their values."""
    found: list[tuple[str, list[Any]]] = []
    for column, values in (
        (_INCIDENT[name], gone.incidents),
        ("id", gone.alerts if name == "alerts" else ()),
        ("incident_id", gone.tenants if name == "incident_tenants" else ()),
    ):
        if values:
            found.append((f"t.{column} IN (SELECT unnest($1))", [list(values)]))
    if void:
        mine = f"t.{_INCIDENT[name]} IN (SELECT unnest($1))"
        unsettled = "t.incident_id IN (SELECT i.id FROM live_incidents i WHERE NOT i.settled)"
        found.append((f"{mine} AND {unsettled if name == 'incident_tenants' else 'NOT t.settled'}", [list(void)]))
    if name == "transitions":
        found += [("t.incident_id = $1 AND t.n >= $2", [incident, step]) for incident, step in gone.steps]
    return found


def _in_order(told: tuple[str, str, str, str, dict[str, Any]]) -> tuple[Any, ...]:
    """Steps before the alerts of the same instant; who is told of an incident first hears that it is there."""
    _, kind, incident, name, row = told
    if kind == "transition":
        return row["at"], incident, 0, row["n"]
    return row["at"], incident, 1, row["cycle"], _TOLD.index(row["kind"]), name


def _json(row: Mapping[str, Any]) -> str:
    """A row as JSON text, its instants as RFC 3339 in UTC with microseconds."""
    return orjson.dumps(row, default=_rfc3339, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()


def _rfc3339(value: object) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # type: ignore[attr-defined, no-any-return]
