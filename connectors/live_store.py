"""The store of the live service: many small commits, and what callers ask for found at once.

Incidents that still change, with all that is theirs, are rows of small `live_` tables with keys, so that a commit costs
what it changes; those that are over move to `past_` tables, which are only appended to and have an index for look-ups.
The views `incidents`, `incident_tenants`, `transitions` and `alerts` show both, under the names every store has.

Guarantee: that of `connectors.store`; a commit is one transaction. `feed` keeps the last news for those who follow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import polars as pl

from connectors.schema import TABLES, column_list, create_table, sql_type
from connectors.sql import SCRATCH, scratch
from connectors.store import HOT_ROWS, Position, Store, StoreError
from operators.events import HOUR
from operators.live import Gone, Publication
from operators.output import Output

LIVE = ("incidents", "incident_tenants", "transitions", "alerts")
_INCIDENT = {
    "incidents": "id",
    "incident_tenants": "incident_id",
    "transitions": "incident_id",
    "alerts": "incident_id",
}
_LOOKED_UP = {"incidents": "id", "incident_tenants": "incident_id", "transitions": "incident_id"}
# After closing, before an incident moves to the past: longer than most cooldowns. One that comes back is brought back.
REST = HOUR
# News that a follower who was away can still get.
FEED_ROWS = 100_000
ORIGIN, SERVICE = "origin", "service"

FEED: dict[str, pl.DataType] = {
    "seq": pl.Int64(),
    "workspace": pl.String(),
    "kind": pl.String(),
    "incident_id": pl.String(),
    "name": pl.String(),
    "at": TABLES["alerts"].columns["at"],
    "body": pl.String(),
}


@dataclass(frozen=True)
class Changes:
    """What one commit writes. tables: rows to append (`events`, `claims`, `dead_letters`, `rules`). publication: what a
    reader sees change. settings: JSON text by workspace."""

    tables: Mapping[str, pl.DataFrame]
    publication: Publication | None
    positions: Mapping[str, Position]
    settings: Mapping[str, str] = field(default_factory=dict)


class LiveStore(Store):
    """An open store of the service. Use `create` or `open`."""

    def __init__(self, path: Path, connection: object) -> None:
        super().__init__(path, connection)  # type: ignore[arg-type]
        self._live: set[str] = set()  # the incidents in the live tables
        self._workspaces: dict[str, str] = {}  # of these
        self.feed_end = 0
        self._told_upto: int | None = None

    @classmethod
    def create(cls, path: Path, shards: int, settings: Mapping[str, str] | None = None) -> Self:
        """Make an empty store of the service at `path` and open it. Raises StoreError where there is a file already."""
        with Store.create(path, shards, settings) as store:
            store.lay_out(_layout(), {ORIGIN: SERVICE})
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, read_only: bool = False) -> Self:
        """Open it. Raises StoreError, also where the store is none of the service's."""
        store = super().open(path, read_only)
        if store.meta().get(ORIGIN) != SERVICE:
            store.close()
            raise StoreError(
                f"{path.parent} holds the results of a replay: name another directory with --data, or move it away"
            )
        store._recall()
        return store

    def commit(self, changes: Changes) -> None:
        """Write changes in one transaction; on any error nothing of it is visible."""
        tables = dict(changes.tables)
        staged = self._events.stage(tables.pop("events"))
        with self._transaction():
            self._events.apply(staged)
            for name, frame in tables.items():
                self._write(name, frame)
            if changes.publication is not None:
                self._show(changes.publication.output, changes.publication.gone)
                self._tell(changes.publication.news)
            for workspace, body in changes.settings.items():
                self._con.execute("DELETE FROM settings WHERE workspace = ?", [workspace])
                self._con.execute("INSERT INTO settings VALUES (?, ?)", [workspace, body])
            self._reach(changes.positions)

    def announced(self) -> list[tuple[tuple[str, str, str], int, str]]:
        """The incidents that are shown and not settled: key, opened at (µs), id."""
        rows = self._con.execute(
            "SELECT workspace, rule_id, group_key, epoch_us(opened_at), id FROM live_incidents WHERE NOT settled "
            "ORDER BY id"
        ).fetchall()
        return [((workspace, rule, group), opened, incident) for workspace, rule, group, opened, incident in rows]

    def tenants(self, incidents: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The tenants of incidents, in the order of their names."""
        rows = self._con.execute(
            "SELECT incident_id, list(tenant ORDER BY tenant) FROM incident_tenants "
            "WHERE incident_id IN (SELECT unnest($1)) GROUP BY incident_id",
            [list(incidents)],
        ).fetchall()
        return {incident: tuple(tenants) for incident, tenants in rows}

    def note(self, meta: Mapping[str, str]) -> None:
        """Write entries of `meta`."""
        self.flush({}, {}, meta)

    def maintain(self, now: int) -> None:
        """Keep what is hot small: events into files, incidents that are over into the past, old news away.

        To be called by the writer every few seconds. now: the log's time, µs.
        """
        self.roll(HOT_ROWS)
        over = self._con.execute(
            "SELECT id FROM live_incidents WHERE settled AND status = 'Closed' AND epoch_us(closed_at) < $1 "
            "ORDER BY id",
            [now - REST],
        ).fetchall()
        if len(over) >= 100 or (over and len(self._live) < 1000):
            self._move([incident for (incident,) in over], "live", "past")
        self._con.execute("DELETE FROM feed WHERE seq <= $1", [self.feed_end - FEED_ROWS])

    def repeat(self, positions: Mapping[str, int]) -> None:
        """`resume`, for news too: what the feed has already is not told again."""
        self.resume(positions)
        reached = [position.next_offset for position in self.positions().values()]
        self._told_upto = max(reached, default=0)

    # ------------------------------------------------------------ what a commit writes

    def _show(self, output: Output, gone: Gone) -> None:
        ids = set(output.incidents["id"].to_list()) - self._live
        if ids:
            self._bring_back(ids)
        self._live = (self._live - set(gone.incidents)) | ids
        for incident, workspace in output.incidents.select("id", "workspace").iter_rows():
            self._workspaces[incident] = workspace
        for name, frame in output.tables().items():
            table = TABLES[name]
            void = _void(name, gone)
            if not frame.height and not void:
                continue
            columns = column_list(table)
            with scratch(self._con, frame.unique(list(table.key), keep="last", maintain_order=True)):
                # What goes and comes again in one commit is replaced: a key cannot be deleted and inserted in one.
                same = " AND ".join(f'i."{column}" = t."{column}"' for column in table.key)
                for condition, values in void:
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
        rows.sort(key=lambda told: (told[4]["at"], told[2], told[1], told[3]))
        if self._told_upto is not None:
            rows = [row for row in rows if not self._is_told(row[1], row[2], row[3])]
        if not rows:
            return
        told = [
            (self.feed_end + n, workspace, kind, incident, name, row["at"], json.dumps(row, default=_rfc3339))
            for n, (workspace, kind, incident, name, row) in enumerate(rows, 1)
        ]
        with scratch(self._con, pl.DataFrame(told, schema=FEED, orient="row")):
            self._con.execute(f"INSERT INTO feed SELECT * FROM {SCRATCH}")
        self.feed_end += len(told)

    def _is_told(self, kind: str, incident: str, name: str) -> bool:
        return bool(
            self._con.execute(
                "SELECT 1 FROM feed WHERE kind = $1 AND incident_id = $2 AND name = $3 LIMIT 1", [kind, incident, name]
            ).fetchall()
        )

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

    # ------------------------------------------------------------ between live and past

    def _bring_back(self, ids: set[str]) -> None:
        """Incidents of the past that change after all."""
        with scratch(self._con, pl.DataFrame({"id": sorted(ids)}, schema={"id": pl.String()})):
            found = self._con.execute(
                f"SELECT id FROM past_incidents WHERE id IN (SELECT id FROM {SCRATCH}) ORDER BY id"
            ).fetchall()
        if found:
            self._shift([incident for (incident,) in found], "past", "live")

    def _move(self, ids: Iterable[str], source: str, target: str) -> None:
        ids = list(ids)
        with self._transaction():
            self._shift(ids, source, target)
        self._live.difference_update(ids)
        for incident in ids:
            self._workspaces.pop(incident, None)

    def _shift(self, ids: list[str], source: str, target: str) -> None:
        with scratch(self._con, pl.DataFrame({"id": ids}, schema={"id": pl.String()})):
            for name in LIVE:
                columns = column_list(TABLES[name])
                mine = f"FROM {source}_{name} WHERE {_INCIDENT[name]} IN (SELECT id FROM {SCRATCH})"
                self._con.execute(f"INSERT INTO {target}_{name} ({columns}) SELECT {columns} {mine}")
                self._con.execute(f"DELETE {mine}")

    def _recall(self) -> None:
        self._workspaces = dict(self._con.execute("SELECT id, workspace FROM live_incidents").fetchall())
        self._live = set(self._workspaces)
        [(end,)] = self._con.execute("SELECT coalesce(max(seq), 0) FROM feed").fetchall()
        self.feed_end = int(end)


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
    for name, column in _LOOKED_UP.items():
        statements.append(f"CREATE INDEX past_{name}_{column} ON past_{name} ({column})")
    fed = ", ".join(f'"{column}" {sql_type(dtype)}' for column, dtype in FEED.items())
    statements += [f"CREATE TABLE feed ({fed})", "CREATE TABLE settings (workspace VARCHAR, body VARCHAR)"]
    return statements


def _void(name: str, gone: Gone) -> list[tuple[str, list[Any]]]:
    """What is gone from a table `t`: conditions with their values."""
    found: list[tuple[str, list[Any]]] = []
    for column, values in (
        (_INCIDENT[name], gone.incidents),
        ("id", gone.alerts if name == "alerts" else ()),
        ("incident_id", gone.tenants if name == "incident_tenants" else ()),
    ):
        if values:
            found.append((f"t.{column} IN (SELECT unnest($1))", [list(values)]))
    if name == "transitions":
        found += [("t.incident_id = $1 AND t.n >= $2", [incident, step]) for incident, step in gone.steps]
    return found


def _rfc3339(value: object) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # type: ignore[attr-defined, no-any-return]
