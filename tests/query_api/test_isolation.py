"""Two workspaces cannot see each other: every operation is tried with the other's ids.

An operation of the application without a case here fails the first test. A case is a function that makes sure of the
other's being there, asks, and says what is wrong with the answer.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest

from connectors.control import Found
from connectors.workspace_rows import SHARES
from flows.live import LivePipeline
from operators.rollup import warm
from query_api import channels, reading
from query_api.integrations_feed import close_streams
from query_api.routes import operations
from query_api.settings import ServiceSettings
from tests.query_api.service import PASSWORD, Service, Team

# Operations that know no workspace at all.
OF_NOBODY = {
    "GET /health",
    "HEAD /health",
    "GET /-/ready",
    "HEAD /-/ready",
    "GET /docs",
    "GET /metrics",
    "POST /api/v1/auth/register",
}
EVENT = {"integrationKey": "payments", "eventType": "auth_failed", "errorCode": "401", "tenantId": "secret-tenant"}


@dataclass(frozen=True)
class World:
    """Mine asks for what is theirs, with its key or with its token."""

    service: Service
    mine: Team
    theirs: Team
    headers: dict[str, str]

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask as mine."""
        return self.service.ask(method, path, headers=self.headers, json=body)

    def they(self, method: str, path: str, body: Any = None) -> Any:
        """Ask as theirs, which succeeds; the answer's data."""
        answer = self.service.ask(method, path, headers=self.theirs.by_key, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()["data"]

    def their_tenant(self) -> str:
        """Make a tenant of theirs that has not been there; its id."""
        found: str = self.they("POST", "/api/v1/tenants", {"externalId": "secret-tenant"})["id"]
        return found

    def their_channel(self) -> None:
        """Make a channel of theirs."""
        self.they("PUT", "/api/v1/workspaces/me/channels/pagerduty", {"config": {"routingKey": "theirs-theirs"}})

    def their_incident(self) -> str:
        """Open an incident of theirs; its id."""
        found: str = self.they("POST", "/api/v1/events", EVENT)["incidentId"]
        return found


Case = Callable[[World], None]
CASES: dict[str, Case] = {}


def case(operation: str) -> Callable[[Case], Case]:
    """Register a case."""

    def register(function: Case) -> Case:
        CASES[operation] = function
        return function

    return register


@case("POST /api/v1/auth/login")
def _login(world: World) -> None:
    login = {"email": world.mine.email, "password": PASSWORD, "workspaceId": world.theirs.id}
    assert world.service.post("/api/v1/auth/login", json=login).status_code == 404
    session = world.service.post("/api/v1/auth/login", json=login | {"workspaceId": None}).json()["data"]
    assert [one["id"] for one in session["workspaces"]] == [world.mine.id]


@case("POST /api/v1/auth/token")
def _token(world: World) -> None:
    exchange = {"workspaceId": world.theirs.id}
    assert world.service.post("/api/v1/auth/token", headers=world.mine.by_token, json=exchange).status_code == 404


@case("POST /api/v1/workspaces")
def _create(world: World) -> None:
    body = {"name": "Theirs", "id": world.theirs.id}
    made = world.service.post("/api/v1/workspaces", headers=world.mine.by_token, json=body).json()["data"]
    assert made["workspace"]["id"] not in (world.mine.id, world.theirs.id)


@case("GET /api/v1/workspaces/me")
def _me(world: World) -> None:
    world.their_channel()
    data = world.service.get("/api/v1/workspaces/me", headers=world.headers).json()["data"]
    assert (data["id"], data["channels"]) == (world.mine.id, [])


@case("PATCH /api/v1/workspaces/me")
def _change(world: World) -> None:
    body = {"name": "Changed", "recoveryWindowSeconds": 60, "id": world.theirs.id, "workspace": world.theirs.id}
    answer = world.service.ask("PATCH", "/api/v1/workspaces/me", headers=world.headers, json=body)
    assert answer.json()["data"]["id"] == world.mine.id
    assert world.they("GET", "/api/v1/workspaces/me")["recoveryWindowSeconds"] == 300


@case("POST /api/v1/workspaces/rotate-key")
def _rotate(world: World) -> None:
    body = {"id": world.theirs.id}
    answer = world.service.post("/api/v1/workspaces/rotate-key", headers=world.headers, json=body)
    assert answer.json()["data"]["workspace"]["id"] == world.mine.id
    assert world.service.get("/api/v1/workspaces/me", headers=world.theirs.by_key).status_code == 200


def _keys_of_theirs(world: World) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = world.service.get("/v1/keys", headers=world.theirs.by_key).json()["data"]
    return listed


@case("POST /v1/keys")
def _create_key(world: World) -> None:
    body = {"name": "Mine", "scopes": ["events:write"], "workspace": world.theirs.id, "workspace_id": world.theirs.id}
    made = world.ask("POST", "/v1/keys", body).json()
    world.service.post("/api/v1/events", headers={"X-Api-Key": made["key"]}, json=EVENT)
    assert _keys_of_theirs(world) == []
    assert world.they("GET", "/api/v1/incidents")["items"] == []


@case("GET /v1/keys")
def _list_keys(world: World) -> None:
    world.service.control.access_keys.create(world.theirs.id, "Theirs", ["logs:read"])
    assert world.ask("GET", "/v1/keys").json()["data"] == []


@case("DELETE /v1/keys/{id}")
def _revoke_key(world: World) -> None:
    made = world.service.control.access_keys.create(world.theirs.id, "Theirs", ["logs:read"])
    assert world.ask("DELETE", f"/v1/keys/{made.info.id}").status_code == 404
    assert [one["id"] for one in _keys_of_theirs(world)] == [made.info.id]


def _their_identity(world: World) -> None:
    """An identity of theirs that was denied something just now."""
    event = {"stream": "identity", "source": "nhi_secret", "type": "tool_attempt", "code": "denied", "id": "denied"}
    world.they("POST", "/api/v1/events", event)


def _their_anomaly(world: World) -> str:
    """An anomaly of theirs; its id."""
    found = Found(
        "anom_secret", "nhi_secret", "secret", "spend_burst", "high", datetime(2026, 4, 30, tzinfo=UTC), 0.999, {}
    )
    world.service.control.anomalies.record(world.theirs.id, [found])
    return found.id


def _identities(path: str) -> Case:
    def is_empty(world: World) -> None:
        _their_identity(world)
        for query in ("", "?environment=live", "?guardian_id=secret"):
            assert world.ask("GET", f"{path}{query}").json()["data"] == [], query
        assert [one["nhi_id"] for one in world.they("GET", path)] == ["nhi_secret"]

    return is_empty


def _identity(path: str) -> Case:
    def is_missing(world: World) -> None:
        _their_identity(world)
        assert world.ask("GET", path).status_code == 404
        assert world.service.get(path, headers=world.theirs.by_key).status_code == 200

    return is_missing


for _name in ("nhi-risk", "nhi-observability", "nhi-posture"):
    case(f"GET /v1/analytics/{_name}")(_identities(f"/v1/analytics/{_name}"))
for _name in ("", "/history"):
    _where = "/v1/analytics/nhi-risk-assessment/{id}" + _name
    case(f"GET {_where}")(_identity(_where.format(id="nhi_secret")))


@case("GET /v1/analytics/nhi-anomalies")
def _anomalies(world: World) -> None:
    _their_anomaly(world)
    assert world.ask("GET", "/v1/analytics/nhi-anomalies?status=all").json()["data"] == []
    assert len(world.they("GET", "/v1/analytics/nhi-anomalies")) == 1


@case("POST /v1/analytics/nhi-anomalies/{id}/ack")
def _acknowledge(world: World) -> None:
    assert world.ask("POST", f"/v1/analytics/nhi-anomalies/{_their_anomaly(world)}/ack").status_code == 404
    assert [one["status"] for one in world.they("GET", "/v1/analytics/nhi-anomalies")] == ["open"]


@case("POST /v1/analytics/nhi-risk/detect-anomalies")
def _detect(world: World) -> None:
    _their_identity(world)
    _their_anomaly(world)
    job = world.ask("POST", "/v1/analytics/nhi-risk/detect-anomalies", {"workspace": world.theirs.id}).json()["job_id"]
    world.service.run_jobs()
    done = world.ask("GET", f"/v1/analytics/nhi-risk/detect-anomalies/{job}").json()
    assert done["result"] == {"identities": 0, "anomalies": 0, "new": 0}


@case("GET /v1/analytics/nhi-risk/detect-anomalies/{job_id}")
def _detection(world: World) -> None:
    where = "/v1/analytics/nhi-risk/detect-anomalies"
    theirs = world.service.post(where, headers=world.theirs.by_key).json()["job_id"]
    assert world.ask("GET", f"{where}/{theirs}").status_code == 404
    assert world.service.get(f"{where}/{theirs}", headers=world.theirs.by_key).status_code == 200


@case("PUT /api/v1/workspaces/me/channels/{provider}")
def _put_channel(world: World) -> None:
    world.their_channel()
    url = "/api/v1/workspaces/me/channels/pagerduty"
    world.service.ask("PUT", url, headers=world.headers, json={"config": {"routingKey": "mine-mine-mine"}})
    (channel,) = world.service.control.channels.enabled(world.theirs.id)
    assert channel.config == {"routingKey": "theirs-theirs"}


@case("DELETE /api/v1/workspaces/me/channels/{provider}")
def _remove_channel(world: World) -> None:
    world.their_channel()
    url = "/api/v1/workspaces/me/channels/pagerduty"
    assert world.service.ask("DELETE", url, headers=world.headers).status_code == 404
    assert len(world.service.control.channels.enabled(world.theirs.id)) == 1


@case("GET /api/v1/tenants")
def _tenants(world: World) -> None:
    world.their_tenant()
    answer = world.service.get("/api/v1/tenants", headers=world.headers).json()
    assert (answer["data"], answer["total"]) == ([], 0)


@case("POST /api/v1/tenants")
def _create_tenant(world: World) -> None:
    theirs = world.their_tenant()
    body = {"externalId": "secret-tenant", "workspaceId": world.theirs.id}
    made = world.service.post("/api/v1/tenants", headers=world.headers, json=body)
    assert made.status_code == 201, "that they have one of this id is not to be seen"
    assert made.json()["data"]["id"] != theirs


@case("DELETE /api/v1/tenants/{tenant}")
def _deactivate(world: World) -> None:
    tenant = world.their_tenant()
    assert world.service.ask("DELETE", f"/api/v1/tenants/{tenant}", headers=world.headers).status_code == 404
    assert world.service.control.tenant_states(world.theirs.id, ["secret-tenant"]) == {"secret-tenant": True}


@case("POST /api/v1/tenants/{tenant}/activate")
def _activate(world: World) -> None:
    tenant = world.their_tenant()
    world.service.ask("DELETE", f"/api/v1/tenants/{tenant}", headers=world.theirs.by_key)
    assert world.service.post(f"/api/v1/tenants/{tenant}/activate", headers=world.headers).status_code == 404
    assert world.service.control.tenant_states(world.theirs.id, ["secret-tenant"]) == {"secret-tenant": False}


def _theirs_is_as_it_was(world: World, incident: str) -> None:
    found = world.they("GET", f"/api/v1/incidents/{incident}")
    assert (found["status"], found["eventCount"], found["tenantCount"]) == ("Open", 1, 1)


@case("POST /api/v1/events")
def _event(world: World) -> None:
    incident = world.their_incident()
    named = world.ask("POST", "/api/v1/events", EVENT | {"workspace": world.theirs.id})
    assert named.status_code == 400
    data = world.ask("POST", "/api/v1/events", EVENT | {"tenantId": "mine"}).json()["data"]
    assert data["isNewIncident"], "the same integration and type, and yet not their incident"
    assert (data["incidentId"] != incident, data["affectedTenants"]) == (True, ["mine"])
    once = {"Idempotency-Key": "once"}
    theirs = world.service.post("/api/v1/events", headers=world.theirs.by_key | once, json=EVENT)
    mine = world.service.post("/api/v1/events", headers=world.headers | once, json=EVENT)
    assert mine.json()["data"]["incidentId"] == data["incidentId"] != theirs.json()["data"]["incidentId"]


@case("POST /api/v1/events/batch")
def _batch(world: World) -> None:
    incident = world.their_incident()
    mine = [EVENT | {"tenantId": "mine"}] * 3
    answer = world.ask("POST", "/api/v1/events/batch", [*mine, EVENT | {"workspace": world.theirs.id}])
    assert (answer.json()["data"]["accepted"], answer.json()["data"]["rejected"]) == (3, 1)
    _theirs_is_as_it_was(world, incident)


@case("POST /v1/logs")
def _logs(world: World) -> None:
    attributes = [{"key": "workspace", "value": {"stringValue": world.theirs.id}}]
    record = {"body": {"stringValue": "connection refused"}, "severityNumber": 17, "attributes": attributes}
    resource = {"attributes": [*attributes, {"key": "service.name", "value": {"stringValue": "payments"}}]}
    export = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [record]}]}]}
    incident = world.their_incident()
    assert world.ask("POST", "/v1/logs", export).status_code == 200
    _theirs_is_as_it_was(world, incident)
    assert world.they("GET", "/api/v1/incidents?status=all")["total"] == 1


@case("GET /api/v1/incidents")
def _incidents(world: World) -> None:
    world.their_incident()
    for query in ("", "?status=all", "?integrationKey=payments", "?tenantId=secret-tenant", "?patternId=auth_failure"):
        data = world.ask("GET", f"/api/v1/incidents{query}").json()["data"]
        assert (data["items"], data["total"]) == ([], 0), query


@case("GET /api/v1/incidents/{id}")
def _incident(world: World) -> None:
    answer = world.ask("GET", f"/api/v1/incidents/{world.their_incident()}")
    assert (answer.status_code, answer.json()["errorCode"]) == (404, 1)
    assert answer.text == world.ask("GET", "/api/v1/incidents/inc_nothing").text, "as if it were not there"


@case("GET /api/v1/incidents/{id}/timeline")
def _timeline(world: World) -> None:
    assert world.ask("GET", f"/api/v1/incidents/{world.their_incident()}/timeline").status_code == 404


@case("POST /api/v1/incidents/{id}/resolve")
def _resolve(world: World) -> None:
    incident = world.their_incident()
    assert world.ask("POST", f"/api/v1/incidents/{incident}/resolve").status_code == 404
    _theirs_is_as_it_was(world, incident)


@case("GET /api/v1/events")
def _events(world: World) -> None:
    incident = world.their_incident()
    assert world.ask("GET", f"/api/v1/events?incidentId={incident}").status_code == 404
    assert world.they("GET", f"/api/v1/events?incidentId={incident}")["total"] == 1


@case("GET /api/v1/patterns")
def _patterns(world: World) -> None:
    change = {"isEnabled": False}
    world.they("PATCH", "/api/v1/patterns/auth_failure", change)
    patterns = world.ask("GET", "/api/v1/patterns").json()["data"]
    assert all(one["isEnabled"] for one in patterns)


@case("PATCH /api/v1/patterns/{id}")
def _change_pattern(world: World) -> None:
    before = world.they("GET", "/api/v1/patterns")
    assert world.ask("PATCH", "/api/v1/patterns/auth_failure", {"isEnabled": False}).status_code in (200, 202)
    assert world.they("GET", "/api/v1/patterns") == before
    assert world.their_incident(), "theirs still opens incidents"


@case("GET /api/v1/workspaces/stats")
def _stats(world: World) -> None:
    empty = world.ask("GET", "/api/v1/workspaces/stats").json()["data"]
    world.their_incident()
    after = world.ask("GET", "/api/v1/workspaces/stats").json()["data"]
    assert _without_times(after) == _without_times(empty)
    assert _without_times(world.they("GET", "/api/v1/workspaces/stats")) != _without_times(empty)


@case("GET /api/v1/workspaces/trends")
def _trends(world: World) -> None:
    world.their_incident()
    assert world.ask("GET", "/api/v1/workspaces/trends").json()["data"]["patterns"] == []
    assert world.they("GET", "/api/v1/workspaces/trends")["patterns"] != []


@case("GET /v1/analytics/query")
def _query(world: World) -> None:
    world.their_incident()
    query = "/v1/analytics/query?group_by=source,code&measure=count,distinct:source"
    assert world.ask("GET", query).json()["series"] == []
    for other in ("", f"?workspace={world.theirs.id}", "?source=payments"):
        answer = world.ask("GET", f"/v1/analytics/query{other}")
        assert answer.status_code == 400 or answer.json()["series"][0]["total"]["count"] == 0, other
    theirs = world.service.get(query, headers=world.theirs.by_key).json()
    assert theirs["series"][0]["key"] == {"source": "payments", "code": "401"}


@case("POST /v1/sql")
def _sql(world: World) -> None:
    theirs = world.their_incident()
    for table in SHARES:
        answer = world.ask("POST", "/v1/sql", {"sql": f"FROM {table}"})
        assert (answer.status_code, answer.json()["rows"]) == (200, []), table
    named = {"sql": "SELECT * FROM incidents WHERE id = $id OR workspace = $ws"}
    answer = world.ask("POST", "/v1/sql", named | {"parameters": {"id": theirs, "ws": world.theirs.id}})
    assert answer.json()["rows"] == []
    asked = world.service.post("/v1/sql", headers=world.theirs.by_key, json={"sql": "SELECT id FROM incidents"})
    assert asked.json()["rows"] == [[theirs]]


@case("GET /api/v1/stream")
def _stream(world: World) -> None:
    theirs = world.their_incident()
    mine = world.ask("POST", "/api/v1/events", EVENT | {"tenantId": "mine"}).json()["data"]["incidentId"]
    heard = world.service.listen("/api/v1/stream", world.headers | {"Last-Event-ID": "0"}, 1.0)
    assert mine in heard
    assert theirs not in heard
    assert "secret-tenant" not in heard


def _nothing_of_theirs(world: World, path: str) -> None:
    """Send a verdict and a tool call of theirs, which only they can see."""
    verdict = {"stream": "verdict", "source": "gov_secret", "type": "blocked", "code": "secret_leak", "value": 5}
    call = {"stream": "tool_call", "source": "secret.tool", "type": "blocked", "tenant": "secret-session", "value": 5}
    for event in (verdict, call):
        world.they("POST", "/api/v1/events", event)
    mine, others = world.ask("GET", path), world.service.get(path, headers=world.theirs.by_key)
    assert (mine.status_code, others.status_code) == (200, 200)
    assert "secret" not in mine.text
    assert _without_times(mine.json()) != _without_times(others.json())


def _analytics(path: str) -> None:
    CASES[f"GET {path}"] = lambda world: _nothing_of_theirs(world, path)


for _path in ("summary", "timeseries", "by-guardian"):
    _analytics(f"/v1/analytics/governance/{_path}")
for _path in ("summary", "tools", "sessions"):
    _analytics(f"/v1/mcp/analytics/{_path}")


@case("GET /v1/mcp/analytics/sessions/{sessionId}")
def _session(world: World) -> None:
    _nothing_of_theirs(world, "/v1/mcp/analytics/sessions")
    answer = world.ask("GET", "/v1/mcp/analytics/sessions/secret-session")
    assert answer.status_code == 404
    assert answer.text == world.ask("GET", "/v1/mcp/analytics/sessions/nothing").text, "as if it were not there"


@case("GET /v1/mcp/analytics/config-audit")
def _config_audit(world: World) -> None:
    world.they("PATCH", "/api/v1/patterns/auth_failure", {"isEnabled": False})
    audit = "/v1/mcp/analytics/config-audit"
    assert world.ask("GET", audit).json()["data"] == []
    assert len(world.service.get(audit, headers=world.theirs.by_key).json()["data"]) == 1


ROLLUP = {"from": "2026-05-01T00:00:00Z", "to": "2026-05-01T23:59:59Z"}


@case("POST /v1/mcp/analytics/rollup")
def _roll_up(world: World) -> None:
    made = world.ask("POST", "/v1/mcp/analytics/rollup", ROLLUP | {"workspace": world.theirs.id})
    job = world.service.control.jobs.get(world.mine.id, made.json()["rollup_id"])
    assert job is not None
    assert world.service.control.jobs.get(world.theirs.id, job.id) is None


@case("GET /v1/mcp/analytics/rollup/{id}")
def _rollup(world: World) -> None:
    made = world.service.post("/v1/mcp/analytics/rollup", headers=world.theirs.by_key, json=ROLLUP).json()
    answer = world.ask("GET", f"/v1/mcp/analytics/rollup/{made['rollup_id']}")
    assert answer.status_code == 404
    assert answer.text == world.ask("GET", "/v1/mcp/analytics/rollup/rlp_nothing").text


def _without_times(data: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in data.items() if name not in ("window", "from", "to")})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with the real pipeline, for all cases."""
    directory = tmp_path_factory.mktemp("data")
    warm()
    pipeline = LivePipeline.start(directory)
    service = Service(directory, ServiceSettings(sign_ins_per_minute=10_000), pipeline)
    yield service
    close_streams(pipeline)
    service.close()
    reading.close(pipeline)
    pipeline.stop()


@pytest.fixture
def teams(running: Service) -> tuple[Team, Team]:
    """Two workspaces that nobody has used."""
    number = next(_NUMBERS)
    return running.team(f"Mine {number}"), running.team(f"Theirs {number}")


_NUMBERS = count()


def test_every_operation_has_a_case(service: Service) -> None:
    """A new endpoint needs one."""
    assert {f"{one.method} {one.path}" for one in operations(service.app)} == set(CASES) | OF_NOBODY


@pytest.mark.parametrize("by", ["key", "token"])
@pytest.mark.parametrize("operation", sorted(CASES))
def test_what_is_theirs_is_not_found(
    running: Service, teams: tuple[Team, Team], monkeypatch: pytest.MonkeyPatch, operation: str, by: str
) -> None:
    """Not by its id, not in a list, and nothing of it changes."""

    async def resolve(host: str) -> list[str]:
        return []

    monkeypatch.setattr(channels, "_resolve", resolve)
    mine, theirs = teams
    world = World(running, mine, theirs, mine.by_key if by == "key" else mine.by_token)
    CASES[operation](world)
    assert world.they("GET", "/api/v1/workspaces/me")["name"].startswith("Theirs")
