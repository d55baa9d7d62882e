"""Tenants: made by hand or by their first event, listed, deactivated, activated."""

from typing import Any

import pytest

from tests.query_api.service import Service

TENANTS = "/api/v1/tenants"


def test_a_tenant_is_made_deactivated_and_activated(service: Service) -> None:
    """The whole life of one; events see every step at once."""
    team = service.team()
    made = service.post(TENANTS, headers=team.by_key, json={"externalId": " acme-corp ", "name": "Acme"})
    tenant = made.json()["data"]
    assert made.status_code == 201
    assert tenant == {
        "id": tenant["id"],
        "externalId": "acme-corp",
        "name": "Acme",
        "isActive": True,
        "createdAt": "2026-01-31T08:30:00Z",
    }
    assert service.control.tenant_states(team.id, ["acme-corp"]) == {"acme-corp": True}
    for _ in range(2):  # may be repeated
        gone = service.ask("DELETE", f"{TENANTS}/{tenant['id']}", headers=team.by_key)
        assert gone.json()["data"] == tenant | {"isActive": False}
    assert service.control.tenant_states(team.id, ["acme-corp"]) == {"acme-corp": False}
    back = service.post(f"{TENANTS}/{tenant['id'].upper()}/activate", headers=team.by_key)
    assert back.json()["data"] == tenant
    assert service.control.known_tenant_states(team.id, ["acme-corp"]) == {"acme-corp": True}


def test_the_list_has_those_that_events_brought(service: Service) -> None:
    """In pages, in the order of their external ids."""
    team = service.team()
    service.control.tenant_states(team.id, [f"tenant-{n:02}" for n in range(30)])
    everything = service.get(TENANTS, headers=team.by_key).json()
    assert [one["externalId"] for one in everything["data"]] == [f"tenant-{n:02}" for n in range(30)]
    assert everything["data"][0]["name"] == "tenant-00"
    assert (everything["page"], everything["pageSize"], everything["total"]) == (1, 1000, 30)
    last = service.get(TENANTS, headers=team.by_key, params={"page": 3, "pageSize": 12}).json()
    assert [one["externalId"] for one in last["data"]] == [f"tenant-{n:02}" for n in range(24, 30)]
    assert (everything["hasMore"], last["hasMore"]) == (False, False)
    assert service.get(TENANTS, headers=team.by_key, params={"page": 2, "pageSize": 12}).json()["hasMore"] is True
    service.ask("DELETE", f"{TENANTS}/{last['data'][0]['id']}", headers=team.by_key)
    inactive = service.get(TENANTS, headers=team.by_key, params={"isActive": "false"}).json()
    assert [one["externalId"] for one in inactive["data"]] == ["tenant-24"]
    assert service.get(TENANTS, headers=team.by_key, params={"isActive": "true"}).json()["total"] == 29


def test_there_is_one_tenant_of_an_id(service: Service) -> None:
    """Whether a person or an event made it; capitals count, as they do in events."""
    team = service.team()
    service.control.tenant_states(team.id, ["acme"])
    again = service.post(TENANTS, headers=team.by_key, json={"externalId": "acme"})
    assert (again.status_code, again.json()["errorCode"]) == (409, 5)
    assert service.post(TENANTS, headers=team.by_key, json={"externalId": "Acme"}).status_code == 201


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "externalId is required."),
        ({"externalId": "  "}, "externalId is required."),
        ({"externalId": "x" * 256}, "externalId must have at most 255 characters."),
        ({"externalId": "a\x00b"}, "externalId must not have control characters."),
        ({"externalId": "acme", "name": ""}, "name is required."),
        ({"externalId": 5}, "externalId must be a valid string."),
    ],
)
def test_what_is_no_tenant_is_told_by_field(service: Service, body: Any, message: str) -> None:
    """In a sentence."""
    answer = service.post(TENANTS, headers=service.team().by_key, json=body)
    assert (answer.status_code, answer.json()["message"]) == (400, message)


@pytest.mark.parametrize("unknown", ["nope", "00000000-0000-0000-0000-000000000000", "%00", "acme"])
def test_an_unknown_tenant_is_not_found(service: Service, unknown: str) -> None:
    """Whatever stands in the path."""
    team = service.team()
    service.control.tenant_states(team.id, ["acme"])
    assert service.ask("DELETE", f"{TENANTS}/{unknown}", headers=team.by_key).status_code == 404
    assert service.post(f"{TENANTS}/{unknown}/activate", headers=team.by_key).status_code == 404


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("page=0", "page must be greater than or equal to 1."),
        ("pageSize=1001", "pageSize must be less than or equal to 1000."),
        ("isActive=maybe", "isActive must be a valid boolean, unable to interpret input."),
    ],
)
def test_a_page_that_makes_no_sense_is_told_by_parameter(service: Service, query: str, message: str) -> None:
    """By the name the client used."""
    answer = service.get(f"{TENANTS}?{query}", headers=service.team().by_key)
    assert (answer.status_code, answer.json()["message"]) == (400, message)
