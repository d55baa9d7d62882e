"""The service around the Integrations API, for its tests: a pipeline over a real store, callers by their key, tenants.

What the real parts do beyond that (sessions, limits, the dataflow) has tests of its own.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from connectors import rulefiles
from connectors.store import Store
from operators.rules import in_order
from query_api import integrations, reading
from query_api.caller import Caller, caller
from query_api.envelope import ApiError, ErrorCode
from query_api.pipeline import Health, Outcome, Receipt, RolledUp, Unavailable
from query_api.services import Services
from query_api.settings import ServiceSettings
from tests.stores import event, incident, rows, step, t

MINE, OTHERS = "ws-mine", "ws-others"
KEYS = {"mine": MINE, "others": OTHERS}
_STATUS = {4: 400, 1: 404, 2: 401, 3: 403, 5: 409, 6: 429, 7: 413, 8: 503, 9: 500, 10: 422, 11: 504}

# What the live service's store has beside the tables of a replay.
_LIVE = """
    CREATE TABLE IF NOT EXISTS feed(
        seq BIGINT, workspace VARCHAR, kind VARCHAR, incident_id VARCHAR, name VARCHAR, "at" TIMESTAMPTZ, body VARCHAR);
    CREATE TABLE IF NOT EXISTS settings(workspace VARCHAR, body VARCHAR);
    CREATE INDEX IF NOT EXISTS incidents_id ON incidents(id);
    CREATE INDEX IF NOT EXISTS transitions_incident ON transitions(incident_id);
    CREATE INDEX IF NOT EXISTS incident_tenants_incident ON incident_tenants(incident_id);
"""

Carry = Callable[[Mapping[str, Any], str], Outcome | None]


class FakePipeline:
    """A store that tests write, and a log that only remembers.

    carry: what becomes of a record (its body, its workspace); it may write to the store. done: whether it was in time.
    """

    def __init__(self, data: Path) -> None:
        self.store = Store.create(data / "store.duckdb", shards=4)
        self.submitted: list[tuple[str, dict[str, Any]]] = []
        self.carry: Carry | None = None
        self.done = True
        self.refusal: Unavailable | None = None
        self.last = 0
        self.execute(_LIVE)

    def execute(self, sql: str, values: Sequence[object] = ()) -> None:
        """Change the store, on a connection of its own."""
        connection = self.store.cursor()
        connection.execute(sql, list(values))
        connection.close()

    def add(self, table: str, *values: Mapping[str, Any]) -> None:
        """Write rows; what is not said is null."""
        self.store.flush({table: rows(table, *values)}, {})

    def set_settings(self, workspace: str, body: Mapping[str, Any]) -> None:
        """Put a workspace's settings into effect."""
        self.execute("DELETE FROM settings WHERE workspace = ?", [workspace])
        self.execute("INSERT INTO settings VALUES (?, ?)", [workspace, json.dumps(body)])

    def announce(self, workspace: str, kind: str, incident_id: str, name: str, body: Mapping[str, Any]) -> int:
        """Append to the feed; its number."""
        self.execute(
            "INSERT INTO feed VALUES (?, ?, ?, ?, ?, ?, ?)",
            [self.last + 1, workspace, kind, incident_id, name, t(self.last / 60), json.dumps(body)],
        )
        self.last += 1
        return self.last

    async def submit(self, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float) -> Receipt:
        """Remember, and carry out."""
        if self.refusal is not None:
            raise self.refusal
        outcomes = []
        for body in bodies:
            said = json.loads(body)
            offset = len(self.submitted)
            self.submitted.append((workspace, said))
            carried = self.carry(said, workspace) if self.carry and self.done else None
            outcomes.append(carried or Outcome(offset, f"log:{offset}"))
        first = len(self.submitted) - len(bodies)
        return Receipt(first, len(bodies), self.done, tuple(outcomes) if detail and self.done else ())

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own."""
        connection = self.store.cursor()
        try:
            yield connection
        finally:
            connection.close()

    def health(self) -> Health:
        """All is well."""
        return Health(None, None, None, 0, 0.0)

    def roll_up(self, workspace: str, start: int, end: int) -> RolledUp:
        """Nothing to do."""
        return RolledUp(0, 0, 0, 0, 0)

    async def changed(self, after: int, timeout: float) -> int:
        """Look every few milliseconds."""
        until = asyncio.get_running_loop().time() + timeout
        while self.last <= after and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.005)
        return self.last

    def close(self) -> None:
        """End it."""
        reading.close(self)
        self.store.close()


@dataclass(frozen=True)
class FakeTenant:
    """What the control database knows of a tenant."""

    id: str
    external_id: str
    name: str
    is_active: bool = True


@dataclass
class FakeControl:
    """Tenants by (workspace, external id)."""

    tenants: dict[tuple[str, str], FakeTenant] = field(default_factory=dict)

    def tenant_names(self, workspace: str, external_ids: Collection[str]) -> dict[str, FakeTenant]:
        """Those that are known."""
        found = ((one, self.tenants.get((workspace, one))) for one in external_ids)
        return {one: tenant for one, tenant in found if tenant}


def make_app(pipeline: FakePipeline, control: FakeControl | None = None) -> FastAPI:
    """The Integrations API as the service puts it together: X-Api-Key is a name in KEYS."""
    app = FastAPI()
    app.state.services = Services(
        control=control or FakeControl(),
        pipeline=pipeline,
        settings=ServiceSettings(),
        rules=in_order(rulefiles.builtin()),
    )
    app.include_router(integrations.router)
    app.dependency_overrides[caller] = _caller

    @app.exception_handler(ApiError)
    async def refused(request: Request, wrong: ApiError) -> JSONResponse:
        headers = {"Retry-After": str(wrong.retry_after)} if wrong.retry_after else {}
        body = {"isSuccess": False, "errorCode": int(wrong.code), "message": wrong.message}
        return JSONResponse(body, _STATUS[wrong.code], headers)

    @app.exception_handler(HTTPException)
    async def unreadable(request: Request, wrong: HTTPException) -> JSONResponse:
        code = next((code for code, status in _STATUS.items() if status == wrong.status_code), 4)
        return JSONResponse({"isSuccess": False, "errorCode": code, "message": wrong.detail}, wrong.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, wrong: RequestValidationError) -> JSONResponse:
        where = [".".join(map(str, error["loc"][1:])) + ": " + error["msg"] for error in wrong.errors()]
        message = "; ".join(where).encode("utf-8", "replace").decode()
        return JSONResponse({"isSuccess": False, "errorCode": 4, "message": message}, 400)

    return app


async def _caller(request: Request) -> Caller:
    name = request.headers.get("X-Api-Key", "")
    if name not in KEYS:
        raise ApiError(ErrorCode.UNAUTHORIZED, "Missing or invalid API key.")
    return Caller(KEYS[name], name)


class Api:
    """A client of one workspace that unpacks envelopes."""

    def __init__(self, client: TestClient, key: str = "mine") -> None:
        self.client = client
        self.headers = {"X-Api-Key": key}

    def call(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """The status and the whole envelope; every answer must be one."""
        answer = self.client.request(method, f"/api/v1{path}", headers=self.headers, **more)
        body = answer.json()
        assert set(body) - {"data", "statusCode"} == {"isSuccess", "errorCode", "message"}
        assert body["isSuccess"] == (answer.status_code < 300) == (body["errorCode"] == 0) == ("data" in body)
        return answer.status_code, body

    def get(self, path: str, **params: Any) -> Any:
        """The data of a success."""
        status, body = self.call("GET", path, params=params)
        assert status == 200, body
        return body["data"]

    def refused(self, method: str, path: str, **more: Any) -> tuple[int, str]:
        """The status and the message of an error."""
        status, body = self.call(method, path, **more)
        assert not body["isSuccess"]
        return status, body["message"]


def fill(pipeline: FakePipeline) -> None:
    """An hour of two workspaces: mine with three incidents, the others' with one of the same service and pattern."""
    mine: Any = {"workspace": MINE}
    others: Any = {"workspace": OTHERS}
    pipeline.add(
        "incidents",
        incident("inc_auth", "auth_failure", "payments", 0, 8, 3, tenant_count=2, **mine),
        incident("inc_time", "timeout_spike", "orders", 6.4, 6.4, 5, first_event_at=t(6), tenant_count=1, status="Open",
                 closed_at=None, reopen_count=3, reopened_at=t(6.2), **mine),
        incident("inc_vip", "vip", "orders", 6.2, 6.3, 2, status="Recovering", closed_at=None, recovering_at=t(11.3),
                 **mine),
        incident("inc_others", "auth_failure", "payments", 3, 4, 1, tenant_count=1, status="Open", closed_at=None,
                 **others),
    )  # fmt: skip
    pipeline.add(
        "transitions",
        step("inc_auth", 0, 0, "Open", "Pattern matched: auth_failure", 1, 1),
        step("inc_auth", 1, 6, "Recovering", "No events for 5 min", 2),
        step("inc_auth", 2, 8, "Open", "New event during recovery", 3, 1),
        step("inc_auth", 3, 13, "Recovering", "No events for 5 min", 3),
        step("inc_auth", 4, 23, "Closed", "Stable for 10 min", 3),
        step("inc_time", 0, 6.4, "Open", "Pattern matched: timeout_spike", 5, 5),
        step("inc_others", 0, 3, "Open", "Pattern matched: auth_failure", 1, 1),
    )
    pipeline.add(
        "incident_tenants",
        {"incident_id": "inc_auth", "tenant": "acme", "event_count": 2, "first_seen_at": t(0), "last_seen_at": t(1)},
        {"incident_id": "inc_auth", "tenant": "beta", "event_count": 1, "first_seen_at": t(8), "last_seen_at": t(8)},
        {"incident_id": "inc_time", "tenant": "beta", "event_count": 5, "first_seen_at": t(6), "last_seen_at": t(6.4)},
        {"incident_id": "inc_others", "tenant": "acme", "event_count": 1, "first_seen_at": t(3), "last_seen_at": t(3)},
    )
    pipeline.add(
        "events",
        event(0, 0, "payments", "auth_failed", "auth_failure", tenant="acme", code="401",
              attributes='{"endpoint":"/v2","durationMs":12043}', **mine),
        event(1, 1, "payments", "auth_failed", "auth_failure", tenant="acme", **mine),
        event(2, 3, "payments", "auth_failed", "auth_failure", tenant="acme", id="theirs", **others),
        *(event(3 + i, 6 + i / 10, "orders", "request_timeout", "timeout_spike", tenant="beta", **mine)
          for i in range(5)),
        event(12, 8, "payments", "auth_failed", "auth_failure", tenant="beta", attributes=None, id=None, **mine),
        event(13, 9, "idle", "login", **mine),
    )  # fmt: skip
    claim = {"partition": "p", "workspace": MINE, "rule_id": "vip", "group_key": "orders", "confidence": "Medium"}
    pipeline.add("claims", claim | {"offset": 5}, claim | {"offset": 6})


def many(count: int, workspace: str, minutes: Callable[[int], float], *, name: str = "", **more: Any) -> pl.DataFrame:
    """`count` closed incidents; minutes(i): when number i opened."""
    listed = (
        incident(
            f"inc_{name or workspace}_{i:05}",
            "auth_failure",
            "payments",
            minutes(i),
            minutes(i),
            1,
            workspace=workspace,
        )
        for i in range(count)
    )
    return rows("incidents", *({**one, "workspace": workspace, **more} for one in listed))
