"""A service over a store with rows of two workspaces: in files, written, and not written yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import httpx
import numpy as np
import polars as pl

from connectors.live_store import LiveStore
from connectors.rolled import VIEWS
from connectors.schema import TABLES
from operators.histogram import bins_of, value_of
from query_api import reading
from query_api.settings import ServiceSettings
from tests.connectors.changes import Row, alert, changes, hit, live, moved
from tests.query_api.service import Service, Submitted, Team
from tests.stores import event, rows, t

# In every row of theirs, and in none of mine.
SECRET = "their-secret"


@dataclass
class Stored(Submitted):
    """A pipeline that only reads, from a live store."""

    store: LiveStore | None = None

    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:  # type: ignore[override]
        assert self.store is not None
        return self.store.reading()

    __hash__ = object.__hash__


@dataclass
class SqlWorld:
    """mine: who asks. rows: what is in the store, by workspace and table."""

    service: Service
    store: LiveStore
    mine: Team
    theirs: Team
    rows: dict[str, dict[str, list[Row]]] = field(default_factory=dict)

    def ask(self, sql: str, accept: str = "application/json", by: Team | None = None, **more: Any) -> httpx.Response:
        """Ask over HTTP."""
        headers = (by or self.mine).by_key | {"Accept": accept}
        return self.service.post("/v1/sql", headers=headers, json={"sql": sql} | more)

    def told(self, sql: str, by: Team | None = None, **more: Any) -> list[list[Any]]:
        """The rows of an answer that succeeds."""
        answer = self.ask(sql, by=by, **more)
        assert answer.status_code == 200, answer.text
        found: list[list[Any]] = answer.json()["rows"]
        return found

    def expected(self, team: Team, table: str) -> pl.DataFrame:
        """What a workspace has of a table."""
        return rows(table, *self.rows[team.id][table]).sort(pl.all())


@contextmanager
def sql_world(directory: Path, **settings: Any) -> Iterator[SqlWorld]:
    """The service, and what both workspaces have."""
    with LiveStore.create(directory / "store.duckdb", shards=1) as store:
        pipeline = Stored(store=store)
        service = Service(directory, ServiceSettings(**{"sign_ins_per_minute": 1_000} | settings), pipeline)
        try:
            world = SqlWorld(service, store, service.team("Mine"), service.team("Theirs"))
            _fill(world)
            yield world
        finally:
            service.close()
            reading.close(pipeline)


def _fill(world: SqlWorld) -> None:
    store = world.store
    for stage in range(3):
        tables: dict[str, list[Row]] = {name: [] for name in TABLES if name not in VIEWS}
        for n, (team, mark) in enumerate([(world.mine, "mine"), (world.theirs, SECRET)]):
            own = _rows(team.id, mark, stage, 10 * stage + 5 * n)
            kept = world.rows.setdefault(team.id, {name: [] for name in TABLES})
            for name, values in own.items():
                if name not in VIEWS:  # these follow from events
                    tables[name] += values
                kept[name] += values
        bad = {"partition": "p", "offset": 10 * stage + 9, "raw": SECRET, "error": "not JSON", "at": t(0)}
        tables["dead_letters"] = [bad]
        rules = rows("rules", *tables.pop("rules"))
        if stage == 2:  # what is written already, and has changed since
            for team in (world.mine, world.theirs):
                older = world.rows[team.id]["incidents"][1]
                older["event_count"] = 77
                tables["incidents"].append(older)
        change = changes(10 * stage + 10, **tables)
        store.accept(replace(change, tables={**change.tables, "rules": rules}))
        if stage < 2:
            store.write()
        if stage == 0:
            store.roll()
    assert store.hot_rows
    assert store.waiting


def _rows(workspace: str, mark: str, stage: int, offset: int) -> dict[str, list[Row]]:
    """One incident of a workspace with all that belongs to it."""
    incident, version, source = f"inc_{mark}_{stage}", f"v-{mark}", f"source of {mark}"
    told = {"workspace": workspace, "message": mark, "attributes": f'{{"n": {stage}, "who": "{mark}"}}'}
    minute = {"minute": t(stage), "workspace": workspace, "stream": "integration", "source": source}
    [bin] = bins_of(np.array([1.5]))
    return {
        "events": [
            event(offset, stage, source, "auth_failed", "auth_failure", tenant=mark, **told),
            event(offset + 1, stage + 0.5, source, "login", **told, value=1.5) | {"id": f"p:{offset + 1}"},
        ],
        "claims": [{"partition": "p", "offset": offset, "workspace": workspace, "rule_id": f"vip-{mark}",
                    "group_key": mark, "confidence": "High"}],
        "incidents": [live(incident, 2, opened=stage) | {"workspace": workspace, "rule_version": version,
                                                         "source": source, "group_key": source}],
        "incident_tenants": [hit(incident, mark)],
        "transitions": [moved(incident, 0, stage) | {"reason": mark, "rule_version": version}],
        "alerts": [alert(f"{incident}.opened", incident, stage) | {"workspace": workspace}],
        "configurations": [{"partition": "p", "offset": offset + 2, "workspace": workspace, "time": t(stage),
                            "at": t(stage), "id": f"c{offset}", "actor": mark, "settings": f'{{"who": "{mark}"}}'}],
        "rollup_1m": [minute | {"type": kind, "count": 1, "errors": 0, "value_count": n, "value_sum": 1.5 * n}
                      for kind, n in (("auth_failed", 0), ("login", 1))],
        "histogram_1m": [minute | {"type": "login", "bin": int(bin), "value": float(value_of(bin)), "count": 1}],
        "rules": [{"rule_id": "auth_failure", "version": version, "definition": f'{{"by": "{mark}"}}'}] * (stage == 0),
    }  # fmt: skip
