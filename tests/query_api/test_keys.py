"""Keys that are limited to scopes: made, shown once, refused wherever they may not go, revoked."""

import asyncio
import hmac
import json
import re
import sqlite3
from typing import Any

import pytest
from fastapi import Depends
from starlette.responses import Response

from connectors.control import SCOPES
from query_api.app import create_app
from query_api.caller import Caller, CallerWith, caller, caller_with, user
from query_api.openapi import document
from query_api.routes import Operation, operations
from query_api.settings import ServiceSettings
from tests.query_api.service import Service, Submitted, Team, serving

KEYS = "/v1/keys"
ME = "/api/v1/workspaces/me"
EVENT = {"integrationKey": "mailer", "eventType": "auth_failed", "tenantId": "acme"}


def make(service: Service, team: Team, name: str = "Dashboard", *scopes: str) -> dict[str, Any]:
    """Make a key over HTTP; the answer."""
    made = service.post(KEYS, headers=team.by_key, json={"name": name, "scopes": list(scopes or ("logs:read",))})
    assert made.status_code == 201, made.text
    body: dict[str, Any] = made.json()
    return body


def by(key: dict[str, Any]) -> dict[str, str]:
    """What a program with this key sends."""
    return {"X-Api-Key": key["key"]}


def reading(service: Service, *scopes: str, path: str = "/v1/analytics/probe") -> str:
    """Add an endpoint that needs one of these scopes; its path."""

    @service.app.get(path)
    async def probe(found: Caller = Depends(caller_with(*scopes))) -> Response:  # noqa: B008
        return Response(json.dumps([found.workspace, found.user, found.scopes and sorted(found.scopes)]))

    return path


def test_a_new_key_in_the_documented_shape(service: Service) -> None:
    """Clients parse exactly this; the list never shows the key again."""
    team = service.team()
    made = make(service, team, " Dashboard ", "nhi:read", "logs:read", "logs:read")
    assert re.fullmatch(r"sg_[0-9a-f]{48}", made["key"])
    assert re.fullmatch(r"key_[a-z2-7]{26}", made["id"])
    shown = {name: value for name, value in made.items() if name != "key"}
    assert shown == {
        "id": made["id"],
        "name": "Dashboard",
        "scopes": ["logs:read", "nhi:read"],
        "prefix": made["key"][:10],
        "created_at": "2026-01-31T08:30:00Z",
    }
    listed = service.get(KEYS, headers=team.by_token).json()
    assert listed == {"data": [shown], "page": {"next_cursor": None, "has_more": False}}


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"name": "x", "scopes": ["logs:write"]}, 400, f"scopes must be one or more of {', '.join(SCOPES)}."),
        ({"name": "x", "scopes": ["logs:read", "sg_secret"]}, 400, "scopes must be one or more of logs:read"),
        ({"name": "x", "scopes": []}, 400, "scopes must have at least 1 item"),
        ({"name": "x"}, 400, "scopes is required."),
        ({"name": "x", "scopes": "logs:read"}, 400, "scopes must be a valid list."),
        ({"name": "  ", "scopes": ["logs:read"]}, 400, "name is required."),
        ({"name": "x" * 201, "scopes": ["logs:read"]}, 400, "name must have at most 200 characters."),
        ({"name": "Dashboard", "scopes": ["mcp:read"]}, 409, "There is a key with this name already."),
    ],
)
def test_what_cannot_be_a_key_is_told_by_field(service: Service, body: Any, status: int, detail: str) -> None:
    """As a problem (RFC 9457), and nothing is made."""
    team = service.team()
    make(service, team)
    answer = service.post(KEYS, headers=team.by_key, json=body)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(detail)
    assert "sg_secret" not in answer.text
    assert len(service.get(KEYS, headers=team.by_key).json()["data"]) == 1


def test_a_key_opens_what_its_scopes_name(service: Service) -> None:
    """Also as a bearer token; a full key and a person need no scope."""
    team = service.team()
    path = reading(service, "mcp:read", "logs:read")
    key = make(service, team, "Logs", "logs:read", "sql:read")
    assert service.get(path, headers=by(key)).json() == [team.id, None, ["logs:read", "sql:read"]]
    assert service.get(path, headers={"Authorization": f"Bearer {key['key']}"}).status_code == 200
    assert service.get(path, headers=team.by_key).json() == [team.id, None, None]
    assert service.get(path, headers=team.by_token).json()[2] is None
    other = make(service, team, "Identities", "nhi:read")
    refused = service.get(path, headers=by(other))
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    assert refused.json()["error"]["message"] == "This key lacks the scope mcp:read or logs:read."


def test_a_key_may_only_send_events(service: Service) -> None:
    """What an agent on somebody's machine has should read nothing."""
    team = service.team()
    sender, reader = make(service, team, "Agent", "events:write"), make(service, team, "Dashboard", "logs:read")
    assert service.post("/api/v1/events", headers=by(sender), json=EVENT).status_code == 202
    assert [workspace for workspace, _ in service.pipeline.records] == [team.id]
    assert service.post("/api/v1/events", headers=by(reader), json=EVENT).status_code == 403
    refused = service.get(ME, headers=by(sender))
    assert (refused.status_code, refused.json()["errorCode"]) == (403, 3)
    assert refused.json()["message"] == "This key is limited to events:write: it may not do this."


def _all() -> list[Operation]:
    return list(operations(create_app(None, Submitted(), ServiceSettings())))  # type: ignore[arg-type]


def _scopes(operation: Operation) -> set[str]:
    calls = {one.call for one in operation.dependant.dependencies}
    return {scope for call in calls if isinstance(call, CallerWith) for scope in call.scopes}


def _secured(operation: Operation) -> bool:
    return bool({caller, user} & {one.call for one in operation.dependant.dependencies} or _scopes(operation))


@pytest.mark.parametrize(
    "operation", [one for one in _all() if _secured(one)], ids=lambda one: f"{one.method} {one.path}"
)
def test_every_other_operation_refuses_a_limited_key(service: Service, operation: Operation) -> None:
    """One that has every scope but those that the operation names; so that a new endpoint cannot forget to."""
    team = service.team()
    key = make(service, team, "Nearly everything", *(SCOPES.keys() - _scopes(operation)))
    path = re.sub(r"\{[^}]*\}", "anything", operation.path)
    answer = service.ask(operation.method, path, headers=by(key) | {"Content-Type": "application/json"}, content=b"{}")
    person = user in {one.call for one in operation.dependant.dependencies}
    assert answer.status_code == (401 if person else 403), answer.text
    assert service.pipeline.records == []


def test_a_revoked_key_stops_at_once(service: Service) -> None:
    """Also where it was in memory a moment ago; its name is free again, and revoking it twice is 404."""
    team = service.team()
    path = reading(service, "logs:read")
    key, other = make(service, team), make(service, team, "Other")
    assert service.get(path, headers=by(key)).status_code == 200
    gone = service.ask("DELETE", f"{KEYS}/{key['id']}", headers=team.by_key)
    assert (gone.status_code, gone.content) == (204, b"")
    assert service.get(path, headers=by(key)).status_code == 401
    assert service.get(path, headers=by(other)).status_code == 200
    assert service.ask("DELETE", f"{KEYS}/{key['id']}", headers=team.by_key).status_code == 404
    make(service, team)


@pytest.mark.parametrize("ident", ["nothing", "%00", "key_" + "a" * 26, "x" * 500, "%F0%9F%91%8B"])
def test_an_unknown_key_is_not_found(service: Service, ident: str) -> None:
    """Whatever stands in the path."""
    answer = service.ask("DELETE", f"{KEYS}/{ident}", headers=service.team().by_key)
    assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such key.")


def test_rotating_the_workspaces_key_leaves_the_others(service: Service) -> None:
    """Dashboards go on; and suspending the workspace stops them."""
    team = service.team()
    path = reading(service, "logs:read")
    key = make(service, team)
    service.post("/api/v1/workspaces/rotate-key", headers=team.by_key)
    assert service.get(path, headers=by(key)).status_code == 200
    service.control.workspaces.set_active(team.id, False)
    assert service.get(path, headers=by(key)).status_code == 403


def test_what_is_theirs_stays_theirs(service: Service) -> None:
    """A key of another workspace is not listed, not revoked, and its name is not taken."""
    mine, theirs = service.team("Mine"), service.team("Theirs")
    path = reading(service, "logs:read")
    key = make(service, theirs)
    make(service, mine)
    assert [one["id"] for one in service.get(KEYS, headers=theirs.by_key).json()["data"]] == [key["id"]]
    assert service.ask("DELETE", f"{KEYS}/{key['id']}", headers=mine.by_key).status_code == 404
    assert service.get(path, headers=by(key)).json()[0] == theirs.id


def test_pages_follow_one_another(service: Service) -> None:
    """Each key once, also those that were made in the same instant."""
    team = service.team()
    made = []
    for n in range(7):
        service.now += n % 2
        made.append(make(service, team, f"Key {n}")["id"])
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        answer = service.get(KEYS, headers=team.by_key, params=params).json()
        seen += [one["id"] for one in answer["data"]]
        cursor = answer["page"]["next_cursor"]
        assert (cursor is not None) is answer["page"]["has_more"]
        if cursor is None:
            break
    assert len(seen) == 7
    assert set(seen) == set(made)
    for wrong in ("nonsense", "WzEsMl0", "WzEsImFcdTAwMDAiXQ"):
        answer = service.get(KEYS, headers=team.by_key, params={"cursor": wrong})
        assert (answer.status_code, "next_cursor" in answer.json()["detail"]) == (400, True)


def test_a_workspace_may_have_many_keys_but_not_any_number(service: Service) -> None:
    """One key must not fill the disk."""
    team = service.team()
    for n in range(100):
        service.control.access_keys.create(team.id, f"Key {n}", ["logs:read"])
    body = {"name": "One more", "scopes": ["logs:read"]}
    assert service.post(KEYS, headers=team.by_key, json=body).status_code == 403


def test_a_limited_key_is_counted_with_its_workspace(tmp_path: Any) -> None:
    """A second key is no second limit, also where it is refused."""
    with serving(tmp_path, requests_per_minute=4) as service:
        team = service.team()
        path = reading(service, "logs:read")
        key = make(service, team)
        for expected in (200, 200):
            assert service.get(path, headers=by(key)).status_code == expected
        assert service.get(ME, headers=by(key)).status_code == 403
        limited = service.get(path, headers=by(key))
        assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limited")
        assert int(limited.headers["Retry-After"]) >= 1


def test_keys_are_stored_hashed_and_never_logged(service: Service) -> None:
    """Neither a stolen database nor the logs open anything."""
    team = service.team()
    key = make(service, team)
    service.get(ME, headers=by(key))
    service.post(KEYS, headers=by(key), json={"name": key["key"], "scopes": ["logs:read"]})
    service.ask("DELETE", f"{KEYS}/{key['key']}", headers=team.by_key)
    with sqlite3.connect(service.directory / "control.sqlite") as database:
        dump = "\n".join(database.iterdump())
    assert key["id"] in dump
    assert key["key"][10:] not in dump
    assert key["key"][3:] not in service.logged.getvalue()
    made = service.control.access_keys.create(team.id, "Another", ["logs:read"])
    assert made.key not in f"{made!r} {made} {service.control.keys.owner(made.key)!r}"


@pytest.mark.parametrize("limited", [False, True])
def test_keys_are_compared_in_constant_time(service: Service, monkeypatch: pytest.MonkeyPatch, limited: bool) -> None:
    """From the database and from memory."""
    team = service.team()
    headers = by(make(service, team)) if limited else team.by_key
    path = reading(service, "logs:read")
    compared = []
    same = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(a)) or same(a, b))
    for _ in range(2):
        service.control.keys.forget()
        assert service.get(path, headers=headers).status_code == 200
        assert service.get(path, headers=headers).status_code == 200
    assert compared == [32] * 4


def test_a_known_key_asks_no_database(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request of a dashboard would wait for it."""
    team = service.team()
    path = reading(service, "logs:read")
    key = make(service, team)
    assert service.get(path, headers=by(key)).status_code == 200
    monkeypatch.setattr(service.control.keys, "owner", None)
    assert service.get(path, headers=by(key)).status_code == 200


def test_names_taken_at_once_are_taken_once(service: Service) -> None:
    """One 201, else 409."""
    team = service.team()

    async def create() -> list[int]:
        body = {"name": "Dashboard", "scopes": ["logs:read"]}
        asked = (service.client.post(KEYS, headers=team.by_key, json=body) for _ in range(8))
        return [one.status_code for one in await asyncio.gather(*asked)]

    assert sorted(service.runner.run(create())) == [201] + [409] * 7


def test_the_document_says_which_scope_is_needed(service: Service) -> None:
    """So that one can make the key before the first refusal."""
    reading(service, "mcp:read")
    made = document(service.app)
    probe = made["paths"]["/v1/analytics/probe"]["get"]
    assert probe["security"] == [{"ApiKey": []}, {"Bearer": []}]
    assert probe["x-scopes"] == ["mcp:read"]
    assert "`mcp:read`" in probe["description"]
    assert made["paths"]["/api/v1/events"]["post"]["x-scopes"] == ["events:write"]
    assert "x-scopes" not in made["paths"]["/v1/keys"]["get"]


@pytest.mark.parametrize("scopes", [(), ("logs:reed",)])
def test_an_endpoint_names_scopes_that_exist(scopes: tuple[str, ...]) -> None:
    """A typing mistake would shut everybody out, or let nobody be told."""
    with pytest.raises(ValueError, match="no such scopes"):
        caller_with(*scopes)
