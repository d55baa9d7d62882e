"""Workspaces: their shapes as documented, their key, their name and windows."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from operators.settings import Settings
from query_api.pipeline import Unavailable
from tests.query_api.service import Service

ME, ROTATE = "/api/v1/workspaces/me", "/api/v1/workspaces/rotate-key"


def test_a_new_workspace_in_the_documented_shape(service: Service) -> None:
    """Clients parse exactly this."""
    team = service.team()
    answer = service.post("/api/v1/workspaces", headers=team.by_token, json={"name": " My Team "})
    body = answer.json()
    assert answer.status_code == 201
    assert (body["isSuccess"], body["errorCode"]) == (True, 0)
    assert set(body["data"]) == {"workspace", "apiKey"}
    key = body["data"]["apiKey"]
    assert re.fullmatch(r"sg_[0-9a-f]{48}", key)
    workspace = body["data"]["workspace"]
    assert workspace == {"id": workspace["id"], "name": "My Team", "apiKeyPrefix": key[:10], "isActive": True}
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", workspace["id"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "name is required."),
        ({"name": ""}, "name must have at least 1 character."),
        ({"name": "   "}, "name is required."),
        ({"name": "x" * 201}, "name must have at most 200 characters."),
        ({"name": 7}, "name must be a valid string."),
    ],
)
def test_a_name_is_asked_for(service: Service, body: Any, message: str) -> None:
    """In a sentence that names the field."""
    team = service.team()
    answer = service.post("/api/v1/workspaces", headers=team.by_token, json=body)
    assert (answer.status_code, answer.json()["message"]) == (400, message)


def test_the_old_key_stops_the_instant_the_new_one_is_issued(service: Service) -> None:
    """Also where it was in memory, a moment ago."""
    team = service.team()
    assert service.get(ME, headers=team.by_key).status_code == 200
    answer = service.post(ROTATE, headers=team.by_key).json()["data"]
    assert service.get(ME, headers=team.by_key).status_code == 401
    fresh = {"X-Api-Key": answer["apiKey"]}
    assert answer["workspace"] == {"id": team.id, "name": "My Team", "apiKeyPrefix": answer["apiKey"][:10]}
    assert service.get(ME, headers=fresh).json()["data"]["apiKeyPrefix"] == answer["apiKey"][:10]


def test_rotations_at_once_leave_one_key(service: Service) -> None:
    """The last one issued works, whoever won."""
    team = service.team()

    async def rotate() -> list[httpx.Response]:
        asked = (service.client.post(ROTATE, headers=team.by_token) for _ in range(8))
        return await asyncio.gather(*asked)

    keys = [answer.json()["data"]["apiKey"] for answer in service.runner.run(rotate())]
    working = [key for key in keys if service.get(ME, headers={"X-Api-Key": key}).status_code == 200]
    assert len(set(keys)) == 8
    assert len(working) == 1


def test_me_has_defaults_and_no_secrets(service: Service) -> None:
    """What a settings page shows."""
    team = service.team()
    data = service.get(ME, headers=team.by_key).json()["data"]
    assert data == {
        "id": team.id,
        "name": "My Team",
        "apiKeyPrefix": team.key[:10],
        "isActive": True,
        "createdAt": "2026-01-31T08:30:00Z",
        "recoveryWindowSeconds": 300,
        "closeWindowSeconds": 600,
        "cooldownWindowSeconds": 900,
        "channels": [],
    }


def test_windows_become_a_record_of_the_log(service: Service) -> None:
    """So they count for what follows, and a replay of the log has them, too."""
    team = service.team()
    change = {"recoveryWindowSeconds": 60.0, "cooldownWindowSeconds": None}
    data = service.ask("PATCH", ME, headers=team.by_key, json=change).json()["data"]
    assert (data["recoveryWindowSeconds"], data["closeWindowSeconds"], data["cooldownWindowSeconds"]) == (60, 600, 900)
    ((workspace, record),) = service.pipeline.records
    assert workspace == team.id
    assert record.pop("id").startswith("cfg_")
    assert record == {
        "record": "configure",
        "source": "api_key",
        "time": "2026-01-31T08:30:00Z",
        "attributes": {"lifecycle": {"recovery": "60s", "cooldown": None}},
    }
    lifecycle = Settings.model_validate(record["attributes"]).lifecycle
    assert (lifecycle.recovery, lifecycle.close, lifecycle.cooldown) == (60_000_000, None, None)


def test_windows_are_remembered_one_by_one(service: Service) -> None:
    """A change of one leaves the others, and null takes it back."""
    team = service.team()
    service.ask("PATCH", ME, headers=team.by_key, json={"recoveryWindowSeconds": 60, "closeWindowSeconds": 120})
    service.ask("PATCH", ME, headers=team.by_key, json={"closeWindowSeconds": None, "name": "Renamed"})
    data = service.get(ME, headers=team.by_key).json()["data"]
    assert (data["recoveryWindowSeconds"], data["closeWindowSeconds"], data["name"]) == (60, 600, "Renamed")


def test_a_name_alone_is_no_record(service: Service) -> None:
    """The dataflow does not care what a workspace is called."""
    team = service.team()
    assert service.ask("PATCH", ME, headers=team.by_key, json={"name": "Renamed"}).status_code == 200
    assert service.get(ME, headers=team.by_key).json()["data"]["name"] == "Renamed"
    assert service.pipeline.records == []


def test_windows_that_are_not_in_the_log_are_not_remembered(service: Service) -> None:
    """Else the page would show what does not count."""
    team = service.team()
    service.pipeline.refusal = Unavailable("The log is full.", retry_after=7)
    answer = service.ask("PATCH", ME, headers=team.by_key, json={"recoveryWindowSeconds": 60, "name": "Renamed"})
    assert (answer.status_code, answer.json()["errorCode"], answer.headers["Retry-After"]) == (503, 8, "7")
    data = service.get(ME, headers=team.by_key).json()["data"]
    assert (data["recoveryWindowSeconds"], data["name"]) == (300, "My Team")


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({}, "Nothing to change: send one of name, recoveryWindowSeconds"),
        ({"recoveryWindow": 60}, "Nothing to change: send one of name, recoveryWindowSeconds"),
        ({"name": None}, "name must not be null."),
        ({"recoveryWindowSeconds": 0}, "recoveryWindowSeconds must be greater than or equal to 1."),
        ({"closeWindowSeconds": 31_536_001}, "closeWindowSeconds must be less than or equal to 31536000."),
        ({"cooldownWindowSeconds": 1.5}, "cooldownWindowSeconds must be a valid integer."),
        ({"cooldownWindowSeconds": "60"}, "cooldownWindowSeconds must be a valid integer."),
        ({"cooldownWindowSeconds": True}, "cooldownWindowSeconds must be a valid integer."),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(service: Service, change: Any, start: str) -> None:
    """And says why."""
    team = service.team()
    answer = service.ask("PATCH", ME, headers=team.by_key, json=change)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(start)
    assert service.pipeline.records == []


def test_a_user_may_have_many_workspaces_but_not_any_number(service: Service) -> None:
    """One account must not fill the disk."""
    team = service.team()
    user = service.control.tokens.read(team.token).user
    for n in range(99):
        service.control.workspaces.create(user, f"Team {n}")
    answer = service.post("/api/v1/workspaces", headers=team.by_token, json={"name": "One more"})
    assert (answer.status_code, answer.json()["message"]) == (403, "You have 100 workspaces already.")
