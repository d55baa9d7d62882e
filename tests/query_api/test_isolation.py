"""Two workspaces cannot see each other: every operation is tried with the other's ids.

An operation of the application without a case here fails the first test. A case is a function that makes sure of the
other's being there, asks, and says what is wrong with the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from query_api import channels
from query_api.routes import operations
from tests.query_api.service import PASSWORD, Service, Team

# Operations that know no workspace at all.
OF_NOBODY = {
    "GET /health",
    "HEAD /health",
    "GET /-/ready",
    "HEAD /-/ready",
    "GET /metrics",
    "POST /api/v1/auth/register",
}


@dataclass(frozen=True)
class World:
    """Mine asks for what is theirs, with its key and with its token."""

    service: Service
    mine: Team
    theirs: Team
    headers: dict[str, str]

    def their_tenant(self) -> str:
        """Make a tenant of theirs that has not been there."""
        made = self.service.post("/api/v1/tenants", headers=self.theirs.by_key, json={"externalId": "secret-tenant"})
        found: str = made.json()["data"]["id"]
        return found

    def their_channel(self) -> None:
        """Make a channel of theirs."""
        url = "/api/v1/workspaces/me/channels/pagerduty"
        self.service.ask("PUT", url, headers=self.theirs.by_key, json={"config": {"routingKey": "theirs-theirs"}})


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
    assert [workspace for workspace, _ in world.service.pipeline.records] == [world.mine.id]


@case("POST /api/v1/workspaces/rotate-key")
def _rotate(world: World) -> None:
    body = {"id": world.theirs.id}
    answer = world.service.post("/api/v1/workspaces/rotate-key", headers=world.headers, json=body)
    assert answer.json()["data"]["workspace"]["id"] == world.mine.id
    assert world.service.get("/api/v1/workspaces/me", headers=world.theirs.by_key).status_code == 200


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
    assert (answer["data"], answer["totalCount"]) == ([], 0)


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


def test_every_operation_has_a_case(service: Service) -> None:
    """A new endpoint needs one."""
    assert {f"{one.method} {one.path}" for one in operations(service.app)} == set(CASES) | OF_NOBODY


@pytest.mark.parametrize("by", ["key", "token"])
@pytest.mark.parametrize("operation", sorted(CASES))
def test_what_is_theirs_is_not_found(
    service: Service, monkeypatch: pytest.MonkeyPatch, operation: str, by: str
) -> None:
    """Not by its id, not in a list, and nothing of it changes."""

    async def resolve(host: str) -> list[str]:
        return []

    monkeypatch.setattr(channels, "_resolve", resolve)
    mine, theirs = service.team("Mine"), service.team("Theirs")
    CASES[operation](World(service, mine, theirs, mine.by_key if by == "key" else mine.by_token))
    assert service.get("/api/v1/workspaces/me", headers=theirs.by_key).json()["data"]["name"] == "Theirs"
