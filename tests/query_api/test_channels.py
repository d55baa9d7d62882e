"""Channels: set as documented, shown without their secrets, never towards our own network."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from query_api import channels
from tests.query_api.service import Service, serving

CHANNELS = "/api/v1/workspaces/me/channels"
SLACK = {"config": {"webhookUrl": "https://hooks.slack.com/services/T000/B000/secretpart"}, "isEnabled": True}
SECRETS = ("secretpart", "ABCDEF1234567890", "xxxxxxxx-xxxx")

# The three of the documentation, and the fourth.
DOCUMENTED = {
    "slack": {"config": {"webhookUrl": "https://hooks.slack.com/services/T.../B.../..."}, "isEnabled": True},
    "pagerduty": {"config": {"routingKey": "R01ABCDEF1234567890ABCDEF12345678"}, "isEnabled": True},
    "opsgenie": {"config": {"apiKey": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"}, "isEnabled": True},
    "teams": {"config": {"webhookUrl": "https://example.webhook.office.com/webhookb2/abc"}},
}


@pytest.fixture(autouse=True)
def unresolved(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names resolve to: nothing, unless a test says so. No test asks a resolver."""
    known: dict[str, list[str]] = {}

    async def resolve(host: str) -> list[str]:
        return known.get(host, [])

    monkeypatch.setattr(channels, "_resolve", resolve)
    return known


@pytest.mark.parametrize("provider", sorted(DOCUMENTED))
def test_the_documented_channels_are_taken(service: Service, provider: str) -> None:
    """As they stand in the documentation, dots included."""
    team = service.team()
    answer = service.ask("PUT", f"{CHANNELS}/{provider}", headers=team.by_key, json=DOCUMENTED[provider])
    assert answer.status_code == 200
    channel = answer.json()["data"]
    assert (channel["provider"], channel["isEnabled"]) == (provider, True)
    shown = service.get("/api/v1/workspaces/me", headers=team.by_key).json()["data"]["channels"]
    assert shown == [channel]


def test_a_channel_is_replaced_and_removed(service: Service) -> None:
    """PUT is an upsert; DELETE of nothing is 404."""
    team = service.team()
    first = service.ask("PUT", f"{CHANNELS}/slack", headers=team.by_key, json=SLACK).json()["data"]
    service.now += 60
    second = service.ask("PUT", f"{CHANNELS}/slack", headers=team.by_key, json=SLACK | {"isEnabled": False})
    assert second.json()["data"] == first | {"isEnabled": False, "updatedAt": "2026-01-31T08:31:00Z"}
    assert service.control.channels.enabled(team.id) == []
    assert service.ask("DELETE", f"{CHANNELS}/slack", headers=team.by_key).json()["data"] is None
    assert service.ask("DELETE", f"{CHANNELS}/slack", headers=team.by_key).status_code == 404


def test_secrets_go_in_and_do_not_come_out(service: Service) -> None:
    """Not in an answer, not in the database, not in an object's text; only to who sends."""
    team = service.team()
    answers = ""
    for provider, body in (DOCUMENTED | {"slack": SLACK}).items():
        answers += service.ask("PUT", f"{CHANNELS}/{provider}", headers=team.by_key, json=body).text
    answers += service.get("/api/v1/workspaces/me", headers=team.by_key).text
    opened = service.control.channels.enabled(team.id)
    stored = str(sqlite3.connect(service.directory / "control.sqlite").execute("SELECT * FROM channels").fetchall())
    for secret in SECRETS:
        assert secret not in answers
        assert secret not in stored
        assert secret not in repr(opened)
    assert "https://hooks.slack.com/***" in answers
    assert "***5678" in answers
    assert {one.provider: one.config for one in opened}["slack"] == SLACK["config"]


def test_a_row_of_another_workspace_does_not_open(service: Service) -> None:
    """What is encrypted is bound to where it belongs."""
    mine, theirs = service.team("Mine"), service.team("Theirs")
    for team in (mine, theirs):
        service.ask("PUT", f"{CHANNELS}/slack", headers=team.by_key, json=SLACK)
    with sqlite3.connect(service.directory / "control.sqlite") as database:
        theirs_, mine_ = theirs.id.replace("-", ""), mine.id.replace("-", "")
        copied = (
            "UPDATE channels SET config = (SELECT config FROM channels WHERE workspace_id = ?) WHERE workspace_id = ?"
        )
        database.execute(copied, (theirs_, mine_))
    assert service.control.channels.enabled(mine.id) == []
    assert [one.config for one in service.control.channels.enabled(theirs.id)] == [SLACK["config"]]


def test_with_a_new_key_file_channels_have_to_be_set_again(tmp_path: Path) -> None:
    """And the page says so, instead of failing."""
    with serving(tmp_path) as service:
        team = service.team()
        service.ask("PUT", f"{CHANNELS}/slack", headers=team.by_key, json=SLACK)
    (tmp_path / "secret.key").unlink()
    with serving(tmp_path) as service:
        shown = service.get("/api/v1/workspaces/me", headers=team.by_key).json()["data"]["channels"]
        assert [(one["provider"], one["config"]) for one in shown] == [("slack", None)]
        assert service.get("/api/v1/workspaces/me", headers=team.by_token).status_code == 401
        assert service.ask("PUT", f"{CHANNELS}/slack", headers=team.by_key, json=SLACK).status_code == 200


@pytest.mark.parametrize(
    ("provider", "config", "message"),
    [
        ("slack", {}, "config.webhookUrl is required."),
        ("slack", {"webhookUrl": 5}, "config.webhookUrl must be text."),
        ("slack", {"webhookUrl": "hooks.slack.com/x"}, "config.webhookUrl must begin with https://."),
        ("slack", {"webhookUrl": "http://hooks.slack.com/x"}, "config.webhookUrl must begin with https://."),
        ("slack", {"webhookUrl": "https://hooks.slack.com/x", "url": "x"}, "config of slack may have webhookUrl and"),
        ("teams", {"webhookUrl": "https://127.0.0.1/x"}, "config.webhookUrl must not lead to a private, local or"),
        ("pagerduty", {"routingKey": "short"}, "config.routingKey must be 8 to 256 letters, digits, - or _."),
        ("opsgenie", {"apiKey": "12345678", "region": "mars"}, "config.region must be us or eu."),
        ("carrier-pigeon", {}, "provider must be one of slack, pagerduty, opsgenie, teams."),
    ],
)
def test_what_is_no_channel_is_told_by_field(service: Service, provider: str, config: Any, message: str) -> None:
    """Without repeating the value."""
    team = service.team()
    answer = service.ask("PUT", f"{CHANNELS}/{provider}", headers=team.by_key, json={"config": config})
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 4)
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize("body", [{}, {"config": []}, {"config": {}, "isEnabled": "yes"}, {"config": None}])
def test_a_body_of_another_shape_is_a_validation_error(service: Service, body: Any) -> None:
    """Types are not guessed."""
    answer = service.ask("PUT", f"{CHANNELS}/slack", headers=service.team().by_key, json=body)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 4)


def test_a_name_that_resolves_into_our_network_is_refused(service: Service, unresolved: dict[str, list[str]]) -> None:
    """One address of several is enough."""
    unresolved["hooks.example.com"] = ["93.184.216.34", "10.0.0.1"]
    team = service.team()
    body = {"config": {"webhookUrl": "https://hooks.example.com/x"}}
    answer = service.ask("PUT", f"{CHANNELS}/slack", headers=team.by_key, json=body)
    assert answer.status_code == 400
    unresolved["hooks.example.com"] = ["93.184.216.34"]
    assert service.ask("PUT", f"{CHANNELS}/slack", headers=team.by_key, json=body).status_code == 200


def test_a_private_installation_may_send_into_its_own_network(tmp_path: Path) -> None:
    """TOCSIN_PRIVATE_WEBHOOKS."""
    with serving(tmp_path, private_webhooks=True) as service:
        team = service.team()
        for url in ("http://127.0.0.1:9000/hook", "https://chat.internal/hook"):
            answer = service.ask("PUT", f"{CHANNELS}/slack", headers=team.by_key, json={"config": {"webhookUrl": url}})
            assert answer.status_code == 200, answer.text
        opened = service.control.channels.enabled(team.id)
        assert json.dumps(opened[0].config) == '{"webhookUrl": "https://chat.internal/hook"}'
