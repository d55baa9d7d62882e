"""The Integrations API as its description has it: every request of it, pasted with only host and key changed.

Each answer must have the members that are described, of those kinds, under the envelope; and mean what is said there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.kafka_cluster import Cluster
from tests.system.runs import PATIENCE
from tests.system.service import Service, Team, patiently, serving
from tests.system.shapes import (
    ID,
    INCIDENT_ID,
    TIME,
    OneOf,
    assert_like,
    maybe,
    pasted,
    success,
    text,
    without_comments,
)

KEY = text(r"sg_[0-9a-f]{48}")
PREFIX = text(r"sg_[0-9a-f]{7}")
STATUS = OneOf(("Open", "Recovering", "Closed"))
CONFIDENCE = OneOf(("High", "Medium"))


@pytest.fixture(scope="module", params=["serve", "api"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service in one process, and an API node of a cluster: both answer everything."""
    if request.param == "serve":
        with serving(tmp_path_factory.mktemp("service") / "data") as running:
            yield running
        return
    root = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(request.getfixturevalue("kafka"), root, partitions=3, shards=2, rules=None)
    try:
        cluster.start(1)
        cluster.wait_begun()
        yield cluster.node().start()
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def team(service: Service) -> Team:
    return service.team()


def paste(service: Service, team: Team, command: str) -> httpx.Response:
    """Host and key changed, nothing else."""
    line = command.replace("https://HOST", service.url).replace("sg_KEY", team.key).replace("JWT", team.token)
    return pasted(service.client, line)


def answered(service: Service, team: Team, command: str, data: Any, status: int = 200) -> Any:
    """Paste; check status and shape; return the data."""
    answer = paste(service, team, command)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert_like(answer.json(), success(data))
    return answer.json()["data"]


# ---------------------------------------------------------------- from zero to the first incident


def test_create_a_workspace(service: Service, team: Team) -> None:
    """The first thing anybody does; the key is shown here and never again."""
    made = answered(
        service,
        team,
        """curl -X POST https://HOST/api/v1/workspaces \
  -H "Authorization: Bearer JWT" \
  -H "Content-Type: application/json" \
  -d '{"name": "My Team"}'""",
        {"workspace": {"id": ID, "name": "My Team", "apiKeyPrefix": PREFIX, "isActive": True}, "apiKey": KEY},
        status=201,
    )
    assert made["apiKey"].startswith(made["workspace"]["apiKeyPrefix"])


FIRST_EVENT = """curl -X POST https://HOST/api/v1/events \
  -H "X-Api-Key: sg_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "integrationKey": "payments-service",
    "eventType": "token_refresh_failed",
    "errorCode": "401",
    "tenantId": "acme-corp"
  }'"""


def test_send_the_first_event(service: Service) -> None:
    """One request, and the incident is open."""
    fresh = service.team("First")
    answered(
        service,
        fresh,
        FIRST_EVENT,
        {
            "eventId": ID,
            "incidentId": INCIDENT_ID,
            "incidentStatus": "Open",
            "patternId": "auth_failure",
            "confidence": "High",
            "isNewIncident": True,
        },
    )


def test_rotate_the_key(service: Service) -> None:
    """The old key stops working the instant the new one is issued."""
    fresh = service.team("Rotating")
    rotated = answered(
        service,
        fresh,
        'curl -X POST https://HOST/api/v1/workspaces/rotate-key -H "X-Api-Key: sg_KEY"',
        {"workspace": {"id": fresh.id, "name": "Rotating", "apiKeyPrefix": PREFIX}, "apiKey": KEY},
    )
    assert rotated["apiKey"] != fresh.key
    refused = paste(service, fresh, FIRST_EVENT)
    assert refused.status_code == 401
    assert_like(refused.json(), {"isSuccess": False, "errorCode": 2, "message": str})
    renewed = Team(fresh.id, rotated["apiKey"], fresh.token, fresh.email)
    assert paste(service, renewed, FIRST_EVENT).status_code == 200


# ---------------------------------------------------------------- sending events

EVENT = without_comments("""{
  // Required
  "integrationKey": "payments-service",  // groups related events into incidents
  "eventType": "webhook_failed",         // matched against pattern triggers
  "tenantId": "acme-corp",               // your customer's external ID
  // Optional: improves confidence scoring
  "errorCode": "503",
  "rawPayload": {                        // any additional context
    "endpoint": "/v2/webhooks/deliver",
    "durationMs": 12043,
    "attemptNumber": 3
  }
}""")


def test_a_spike_opens_at_its_threshold_and_groups_what_follows(service: Service) -> None:
    """Nine webhook failures are no incident yet; the tenth is; the eleventh belongs to it and names its tenant."""
    fresh = service.team("Spike")
    command = f"""curl -X POST https://HOST/api/v1/events -H "X-Api-Key: sg_KEY" \
  -H "Content-Type: application/json" -d '{EVENT}'"""
    below = {
        "eventId": ID,
        "incidentId": None,
        "incidentStatus": None,
        "patternId": "webhook_failure_spike",
        "confidence": "High",
        "isNewIncident": False,
        "affectedTenants": [],
    }
    for _ in range(9):
        answer = paste(service, fresh, command).json()
        assert answer["data"] | {"eventId": "any"} == below | {"eventId": "any"}
    assert service.get(fresh, "/api/v1/incidents")["items"] == []
    opened = answered(
        service,
        fresh,
        command,
        below | {"incidentId": INCIDENT_ID, "incidentStatus": "Open", "isNewIncident": True,
                 "affectedTenants": lambda tenants: tenants == ["acme-corp"]},
    )  # fmt: skip
    answered(
        service,
        fresh,
        command.replace("acme-corp", "beta-ltd"),
        {
            "eventId": ID,
            "incidentId": opened["incidentId"],
            "incidentStatus": "Open",
            "patternId": "webhook_failure_spike",
            "confidence": "High",
            "isNewIncident": False,
            "affectedTenants": lambda tenants: tenants == ["acme-corp", "beta-ltd"],
        },
    )
    stored = service.get(fresh, "/api/v1/events", incidentId=opened["incidentId"])
    assert stored["total"] == 11
    assert stored["items"][0]["rawPayload"] == json.loads(EVENT)["rawPayload"]


def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    """A client that does not know how long to wait hammers on; one that reads the body only must see it there, too."""
    with serving(tmp_path / "data", "--demo", env={"TOCSIN_REQUESTS_PER_MINUTE": "5"}) as service:
        assert service.demo_key is not None
        demo = Team("", service.demo_key, "", "")
        assert_pasted_lines_work(service)
        for _ in patiently("a request is refused"):
            refused = paste(service, demo, FIRST_EVENT)
            if refused.status_code == 429:
                break
            assert refused.status_code == 200
        seconds = int(refused.headers["Retry-After"])
        assert 1 <= seconds <= 60
        body = refused.json()
        assert_like(body, {"isSuccess": False, "statusCode": 429, "errorCode": 6, "message": str})
        assert body["message"] == f"Rate limit exceeded. Try again in {seconds} seconds."


def assert_pasted_lines_work(service: Service) -> None:
    """What it prints when it starts with a demo workspace is pasted into a shell, literally."""
    lines = [line for line in service.output.splitlines() if line.startswith("curl ")]
    assert len(lines) == 3, service.output
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("curl is not installed")
    for line, shown in zip(lines[:2], ('"isNewIncident":true', '"total":1'), strict=True):
        done = subprocess.run(["bash", "-c", f"{line} -sS"], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout, done.stdout
    # The third one follows what happens, for ever.
    done = subprocess.run(["bash", "-c", f"{lines[2]} -sS --max-time 2"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("retry: "), done.stdout + done.stderr


# ---------------------------------------------------------------- patterns

# Pattern, priority, event types, error codes, and how many events open an incident.
PATTERNS: tuple[tuple[str, int, str, str, int], ...] = (
    ("auth_failure", 1, "token_refresh_failed auth_failed", "401 403 invalid_grant token_expired", 1),
    ("webhook_failure_spike", 2, "webhook_failed webhook_timeout webhook_undeliverable", "", 10),
    ("rate_limit_exceeded", 3, "rate_limit_exceeded throttled", "429 rate_limit too_many_requests", 1),
    ("timeout_spike", 4, "request_timeout connection_timeout gateway_timeout", "", 5),
    ("task_canceled_spike", 5, "task_canceled operation_canceled request_canceled", "", 5),
    ("validation_failure_spike", 6, "validation_failed schema_validation_failed payload_invalid", "400 422", 1),
    ("server_error_spike", 7, "server_error bad_gateway service_unavailable", "500 502 503 504", 1),
    ("connection_failure", 8, "connection_failed connection_refused connection_reset host_unreachable",
     "econnrefused econnreset", 3),
    ("service_unavailable", 9, "dependency_failed circuit_open upstream_unavailable", "circuit_open", 1),
    ("data_sync_failure", 10, "sync_failed sync_error data_sync_failed record_sync_failed batch_sync_failed",
     "sync_error data_mismatch mapping_error duplicate_record", 1),
    ("ssl_certificate_error", 11, "ssl_error tls_error certificate_error tls_handshake_failed certificate_expired",
     "ssl_error certificate_expired hostname_mismatch", 1),
    ("quota_exceeded", 12, "quota_exceeded limit_reached storage_full seats_exhausted resource_exhausted",
     "quota_exceeded storage_full over_quota account_limit", 1),
)  # fmt: skip


def test_the_twelve_patterns_in_their_order(service: Service, team: Team) -> None:
    """The list shows what is tried first, and what each one listens to."""
    found = answered(
        service,
        team,
        'curl https://HOST/api/v1/patterns -H "X-Api-Key: sg_KEY"',
        [
            {
                "patternId": str,
                "name": str,
                "priority": int,
                "isEnabled": True,
                "thresholdCount": None,
                "thresholdWindowSeconds": None,
            }
        ],
    )
    assert [(one["patternId"], one["priority"]) for one in found] == [(name, n) for name, n, *_ in PATTERNS]


@pytest.mark.parametrize("pattern", PATTERNS, ids=[pattern[0] for pattern in PATTERNS])
def test_every_trigger_of_a_pattern(service: Service, team: Team, pattern: tuple[str, int, str, str, int]) -> None:
    """An event by its type alone, or by its code alone, is of the pattern that the table names first."""
    name, _, types, codes, count = pattern
    for number, (kind, code) in enumerate(
        [(kind, None) for kind in types.split()] + [("something_else", code) for code in codes.split()]
    ):
        event = {"integrationKey": f"{name}-{number}", "eventType": kind, "tenantId": "acme-corp", "errorCode": code}
        told = service.send(team, event)
        assert told["patternId"] == name, event
        assert (told["incidentId"] is not None) == (count == 1), event
        # Spikes are always High; else one of two is Medium.
        assert told["confidence"] == ("Medium" if count == 1 else "High"), event


@pytest.mark.parametrize(("code", "confidence"), [("401", "High"), ("500", "Medium"), (None, "Medium")])
def test_confidence(service: Service, team: Team, code: str | None, confidence: str) -> None:
    """Type and code of the pattern: High. Only one of them: Medium."""
    source = f"confidence-{code}"
    event = {"integrationKey": source, "eventType": "auth_failed", "errorCode": code, "tenantId": "acme-corp"}
    told = service.send(team, event)
    assert (told["patternId"], told["confidence"]) == ("auth_failure", confidence)


SET_THRESHOLD = """curl -X PATCH https://HOST/api/v1/patterns/webhook_failure_spike \
  -H "X-Api-Key: sg_KEY" \
  -H "Content-Type: application/json" \
  -d '{ "isEnabled": true, "thresholdCount": 20, "thresholdWindowSeconds": 300 }'"""


def test_with_a_threshold_the_incident_opens_silently_and_alerts_at_the_count(service: Service) -> None:
    """The twentieth failure rings, not the tenth: that is what the threshold was set for."""
    fresh = service.team("Silent")
    answered(
        service,
        fresh,
        SET_THRESHOLD,
        {
            "patternId": "webhook_failure_spike",
            "isEnabled": True,
            "thresholdCount": 20,
            "thresholdWindowSeconds": 300,
        },
    )
    event = json.loads(EVENT)
    for number in range(1, 20):
        told = service.send(fresh, event)
        assert told["isNewIncident"] is (number == 10), number
    incident = told["incidentId"]
    assert [kind for kind, _ in followed(service, fresh, until="transition")] == ["transition"]
    service.send(fresh, event)
    news = followed(service, fresh, until="alert")
    assert [kind for kind, _ in news] == ["transition", "alert"]
    assert_like(news[1][1], {"incidentId": incident, "kind": "opened", "cycle": int, "occurredAt": TIME})


def followed(service: Service, team: Team, until: str) -> list[tuple[str, dict[str, Any]]]:
    """All news of a workspace from the first one on: (kind, data), up to and with the first of kind `until`."""
    found: list[tuple[str, dict[str, Any]]] = []
    headers = team.by_key | {"Last-Event-ID": "0"}
    with service.client.stream("GET", "/api/v1/stream", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                data = json.loads(value)
                if kind != "gap":  # numbers of other workspaces
                    found.append((kind, data))
                if kind == until:
                    return found
    raise AssertionError(f"the stream ended after {found}")


def test_a_disabled_pattern_is_passed_over(service: Service) -> None:
    """The next pattern that lists the event gets it: first match wins among those that are on."""
    fresh = service.team("Disabled")
    event = {"integrationKey": "ledger", "eventType": "service_unavailable", "tenantId": "acme-corp"}
    assert service.send(fresh, event)["patternId"] == "server_error_spike"
    url = "/api/v1/patterns/server_error_spike"
    service.data_of(service.client.patch(url, headers=fresh.by_key, json={"isEnabled": False}))
    assert service.send(fresh, event)["patternId"] == "service_unavailable"


# ---------------------------------------------------------------- incidents

SUMMARY = {
    "id": INCIDENT_ID,
    "workspaceId": ID,
    "integrationKey": str,
    "patternId": str,
    "patternName": str,
    "status": STATUS,
    "confidence": CONFIDENCE,
    "openedAt": TIME,
    "recoveringAt": maybe(TIME),
    "closedAt": maybe(TIME),
    "reopenedAt": maybe(TIME),
    "reopenCount": int,
    "eventCount": int,
    "tenantCount": int,
    "isChronic": bool,
}
DETAIL = SUMMARY | {
    "affectedTenants": [{"tenantId": ID, "tenantName": str, "eventCount": int, "firstSeenAt": TIME, "lastSeenAt": TIME}]
}
PAGE = {"items": [SUMMARY], "page": 1, "pageSize": 25, "total": int}


@pytest.fixture(scope="module")
def history(service: Service) -> tuple[Team, str, str]:
    """A workspace with a closed incident and an open one of three tenants, of payments-service; and their ids."""
    fresh = service.team("History")
    first = {"integrationKey": "search", "eventType": "auth_failed", "tenantId": "acme-corp"}
    closed = service.send(fresh, first)["incidentId"]
    service.data_of(service.client.post(f"/api/v1/incidents/{closed}/resolve", headers=fresh.by_key))
    for tenant, count in (("acme-corp", 9), ("beta-ltd", 4), ("gamma-inc", 1)):
        for _ in range(count):
            event = {"integrationKey": "payments-service", "eventType": "auth_failed", "errorCode": "401"}
            opened = service.send(fresh, event | {"tenantId": tenant})["incidentId"]
    return fresh, closed, opened


def test_the_active_incidents_are_listed_by_default(service: Service, history: tuple[Team, str, str]) -> None:
    """Open and Recovering ones."""
    team, _, opened = history
    found = answered(service, team, 'curl "https://HOST/api/v1/incidents" \\\n  -H "X-Api-Key: sg_KEY"', PAGE)
    assert [one["id"] for one in found["items"]] == [opened]


def test_closed_incidents_by_page(service: Service, history: tuple[Team, str, str]) -> None:
    """And none beyond the last page."""
    team, closed, _ = history
    command = 'curl "https://HOST/api/v1/incidents?status=closed&page=1&pageSize=25" -H "X-Api-Key: sg_KEY"'
    found = answered(service, team, command, PAGE)
    assert [one["id"] for one in found["items"]] == [closed]
    beyond = paste(service, team, command.replace("page=1", "page=2")).json()["data"]
    assert (beyond["items"], beyond["page"], beyond["total"]) == ([], 2, 1)


def test_incidents_of_one_integration(service: Service, history: tuple[Team, str, str]) -> None:
    """By its key."""
    team, _, opened = history
    command = 'curl "https://HOST/api/v1/incidents?integrationKey=payments-service" -H "X-Api-Key: sg_KEY"'
    found = answered(service, team, command, PAGE)
    assert [one["id"] for one in found["items"]] == [opened]
    nothing = paste(service, team, command.replace("payments-service", "billing")).json()["data"]
    assert nothing["items"] == []


def test_the_full_incident(service: Service, history: tuple[Team, str, str]) -> None:
    """With whom it hit, the hardest hit first."""
    team, _, opened = history
    found = answered(
        service, team, f'curl https://HOST/api/v1/incidents/{opened} -H "X-Api-Key: sg_KEY"', DETAIL
    )  # fmt: skip
    assert (found["id"], found["workspaceId"], found["patternName"]) == (opened, team.id, "Auth Failure")
    assert (found["eventCount"], found["tenantCount"], found["isChronic"]) == (14, 3, False)
    tenants = [(one["tenantName"], one["eventCount"]) for one in found["affectedTenants"]]
    assert tenants == [("acme-corp", 9), ("beta-ltd", 4), ("gamma-inc", 1)]


def test_resolve_and_timeline(service: Service) -> None:
    """A person closes it; the timeline says so; closing it twice is a conflict."""
    fresh = service.team("Resolving")
    event = {"integrationKey": "mailer", "eventType": "auth_failed", "tenantId": "acme-corp"}
    incident = service.send(fresh, event)["incidentId"]
    resolve = f'curl -X POST https://HOST/api/v1/incidents/{incident}/resolve -H "X-Api-Key: sg_KEY"'
    answered(service, fresh, resolve, DETAIL | {"id": incident, "status": "Closed", "closedAt": TIME})
    steps = answered(
        service,
        fresh,
        f'curl https://HOST/api/v1/incidents/{incident}/timeline -H "X-Api-Key: sg_KEY"',
        [{"fromStatus": maybe(STATUS), "toStatus": STATUS, "reason": str, "occurredAt": TIME}],
    )
    assert [(step["fromStatus"], step["toStatus"], step["reason"]) for step in steps] == [
        (None, "Open", "Pattern matched: auth_failure"),
        ("Open", "Closed", "Resolved manually"),
    ]
    again = paste(service, fresh, resolve)
    assert again.status_code == 409
    assert_like(again.json(), {"isSuccess": False, "errorCode": 5, "message": str})


def test_timers_alone_take_an_incident_through_its_life(service: Service) -> None:
    """Open, Recovering, Open again by an event, Recovering, Closed, reopened three times: chronic. Nobody flips
    anything by hand."""
    fresh = service.team("Lifecycle")
    windows = {"recoveryWindowSeconds": 1, "closeWindowSeconds": 1, "cooldownWindowSeconds": 3600}
    service.data_of(service.client.patch("/api/v1/workspaces/me", headers=fresh.by_key, json=windows))
    event = {"integrationKey": "mailer", "eventType": "auth_failed", "tenantId": "acme-corp"}
    first = service.send(fresh, event)
    incident = first["incidentId"]

    def becomes(status: str) -> None:
        for _ in patiently(f"the incident becomes {status}"):
            if service.get(fresh, f"/api/v1/incidents/{incident}")["status"] == status:
                return

    for cycle in range(4):
        becomes("Closed")
        if cycle < 3:
            told = service.send(fresh, event)
            assert (told["incidentId"], told["incidentStatus"], told["isNewIncident"]) == (incident, "Open", False)
    [listed] = answered(
        service, fresh, 'curl "https://HOST/api/v1/incidents?chronic=true&status=all" -H "X-Api-Key: sg_KEY"', PAGE
    )["items"]
    assert (listed["id"], listed["reopenCount"], listed["isChronic"]) == (incident, 3, True)
    steps = service.get(fresh, f"/api/v1/incidents/{incident}/timeline")
    reasons = [(step["toStatus"], step["reason"]) for step in steps]
    stable = [("Recovering", "No events for 1 s"), ("Closed", "Stable for 1 s")]
    back = [("Open", "New event within cooldown"), *stable]
    assert reasons == [("Open", "Pattern matched: auth_failure"), *stable, *back * 3]
    times = [step["occurredAt"] for step in steps]
    assert times == sorted(times)


def test_an_event_during_recovery_takes_it_back_to_open(service: Service) -> None:
    """The third way of the lifecycle: it had not been closed, so it is no reopening that counts."""
    fresh = service.team("Recovery")
    windows = {"recoveryWindowSeconds": 1, "closeWindowSeconds": 3600}
    service.data_of(service.client.patch("/api/v1/workspaces/me", headers=fresh.by_key, json=windows))
    event = {"integrationKey": "mailer", "eventType": "auth_failed", "tenantId": "acme-corp"}
    incident = service.send(fresh, event)["incidentId"]
    for _ in patiently("it recovers"):
        [listed] = service.get(fresh, "/api/v1/incidents")["items"]
        if listed["status"] == "Recovering":
            break
    assert listed["recoveringAt"] is not None
    assert service.send(fresh, event)["incidentStatus"] == "Open"
    steps = service.get(fresh, f"/api/v1/incidents/{incident}/timeline")
    assert [step["reason"] for step in steps][2] == "New event during recovery"
    assert service.get(fresh, f"/api/v1/incidents/{incident}")["reopenCount"] == 0


# ---------------------------------------------------------------- alerts

CHANNELS = {
    "slack": '{ "config": { "webhookUrl": "https://hooks.slack.com/services/T.../B.../..." }, "isEnabled": true }',
    "pagerduty": '{ "config": { "routingKey": "R01ABCDEF1234567890ABCDEF12345678" }, "isEnabled": true }',
    "opsgenie": '{ "config": { "apiKey": "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" }, "isEnabled": true }',
    "teams": '{ "config": { "webhookUrl": "https://example.webhook.office.com/webhookb2/x" }, "isEnabled": true }',
}


@pytest.mark.parametrize("provider", CHANNELS)
def test_channels_are_set_shown_and_removed(service: Service, team: Team, provider: str) -> None:
    """Once for a workspace; what it takes to use one is not shown to everybody who may read it."""
    url = f"https://HOST/api/v1/workspaces/me/channels/{provider}"
    answered(
        service,
        team,
        f"""curl -X PUT {url} \
  -H "X-Api-Key: sg_KEY" \
  -H "Content-Type: application/json" \
  -d '{CHANNELS[provider]}'""",
        {"provider": provider, "isEnabled": True},
    )
    me = answered(service, team, 'curl https://HOST/api/v1/workspaces/me -H "X-Api-Key: sg_KEY"', {"channels": list})
    assert [one["provider"] for one in me["channels"]] == [provider]
    for secret in json.loads(CHANNELS[provider])["config"].values():
        assert secret not in json.dumps(me)
    answered(service, team, f'curl -X DELETE {url} -H "X-Api-Key: sg_KEY"', None)
    assert service.get(team, "/api/v1/workspaces/me")["channels"] == []


def test_each_kind_of_alert(service: Service) -> None:
    """Opened; a further tenant; resolved; reopened: what a channel is for."""
    fresh = service.team("Alerts")
    event = {"integrationKey": "mailer", "eventType": "auth_failed"}
    incident = service.send(fresh, event | {"tenantId": "acme-corp"})["incidentId"]
    service.send(fresh, event | {"tenantId": "beta-ltd"})
    service.data_of(service.client.post(f"/api/v1/incidents/{incident}/resolve", headers=fresh.by_key))
    time.sleep(0.01)  # not at the very instant of the command
    assert service.send(fresh, event | {"tenantId": "acme-corp"})["incidentStatus"] == "Open"
    kinds: list[str] = []
    for _ in patiently("four alerts are told"):
        kinds = [data["kind"] for kind, data in all_told(service, fresh) if kind == "alert"]
        if len(kinds) == 4:
            break
    assert kinds == ["opened", "blast_radius_expanded", "resolved", "reopened"]


def all_told(service: Service, team: Team) -> list[tuple[str, dict[str, Any]]]:
    """All news so far."""
    found: list[tuple[str, dict[str, Any]]] = []
    headers = team.by_key | {"Last-Event-ID": "0"}
    kind = ""
    try:
        with service.client.stream("GET", "/api/v1/stream", headers=headers, timeout=1.0) as answer:
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                kind = value if name == "event" else kind
                if name == "data" and kind != "gap":
                    found.append((kind, json.loads(value)))
    except httpx.ReadTimeout:
        pass
    return found


# ---------------------------------------------------------------- the reference table

SESSION = {
    "token": text(r"eyJ.+"),
    "expiresAt": TIME,
    "user": {"id": ID, "email": "ada@example.com"},
    "workspace": maybe({"id": ID, "name": str}),
}


def test_register_login_and_change_workspace(service: Service, team: Team) -> None:
    """An account, its token, and a token for another of its workspaces."""
    body = '{"email": "ada@example.com", "password": "correct horse battery"}'
    post = "curl -X POST https://HOST/api/v1/{} -H \"Content-Type: application/json\" -d '{}'"
    answered(service, team, post.format("auth/register", body), SESSION, status=201)
    session = answered(service, team, post.format("auth/login", body), SESSION)
    ada = Team("", "", session["token"], "ada@example.com")
    create = 'curl -X POST https://HOST/api/v1/workspaces -H "Authorization: Bearer JWT" -d \'{"name": "%s"}\' \
      -H "Content-Type: application/json"'
    made = [answered(service, ada, create % name, {"apiKey": KEY}, status=201) for name in ("One", "Two")]
    second = made[1]["workspace"]["id"]
    changed = answered(
        service,
        ada,
        f"""curl -X POST https://HOST/api/v1/auth/token -H "Authorization: Bearer JWT" \
          -H "Content-Type: application/json" -d '{{"workspaceId": "{second}"}}'""",
        SESSION,
    )
    scoped = Team("", "", changed["token"], "")
    me = answered(
        service, scoped, 'curl https://HOST/api/v1/workspaces/me -H "Authorization: Bearer JWT"', {"id": second}
    )
    assert me["name"] == "Two"


def test_the_workspace_and_its_windows(service: Service) -> None:
    """Name and timing windows are shown, and changed."""
    fresh = service.team("Windows")
    shape = {
        "id": fresh.id,
        "name": "Windows",
        "apiKeyPrefix": PREFIX,
        "isActive": True,
        "recoveryWindowSeconds": 300,
        "closeWindowSeconds": 600,
        "cooldownWindowSeconds": 900,
        "channels": list,
    }
    answered(service, fresh, 'curl https://HOST/api/v1/workspaces/me -H "X-Api-Key: sg_KEY"', shape)
    answered(
        service,
        fresh,
        """curl -X PATCH https://HOST/api/v1/workspaces/me -H "X-Api-Key: sg_KEY" \
          -H "Content-Type: application/json" -d '{"name": "Renamed", "recoveryWindowSeconds": 60}'""",
        shape | {"name": "Renamed", "recoveryWindowSeconds": 60},
    )


def test_stats_and_trends(service: Service, history: tuple[Team, str, str]) -> None:
    """How a workspace does, now and over time."""
    team, *_ = history
    stats = answered(
        service,
        team,
        'curl https://HOST/api/v1/workspaces/stats -H "X-Api-Key: sg_KEY"',
        {
            "openIncidents": 1,
            "mttrSeconds": float,
            "reopenRate": float,
            "topPatterns": [{"patternId": "auth_failure", "patternName": "Auth Failure", "incidentCount": 2}],
        },
    )
    assert stats["mttrSeconds"] > 0
    answered(
        service,
        team,
        'curl https://HOST/api/v1/workspaces/trends -H "X-Api-Key: sg_KEY"',
        {
            "patterns": [
                {
                    "patternId": "auth_failure",
                    "direction": OneOf(("rising", "falling", "stable")),
                    "buckets": [{"start": TIME, "incidentCount": int}],
                }
            ]
        },
    )


def test_events_of_an_incident(service: Service, history: tuple[Team, str, str]) -> None:
    """By page, each event with what it said."""
    team, _, opened = history
    command = f'curl "https://HOST/api/v1/events?incidentId={opened}&page=2&pageSize=5" -H "X-Api-Key: sg_KEY"'
    event = {"id": ID, "integrationKey": "payments-service", "eventType": "auth_failed", "tenantId": str}
    found = answered(service, team, command, {"items": [event], "page": 2, "pageSize": 5, "total": 14})
    assert len(found["items"]) == 5


def test_tenants(service: Service) -> None:
    """Made by hand or by their first event; deactivated ones' events are refused until they are active again."""
    fresh = service.team("Tenants")
    tenant = {"id": ID, "externalId": str, "name": str, "isActive": True}
    made = answered(
        service,
        fresh,
        """curl -X POST https://HOST/api/v1/tenants -H "X-Api-Key: sg_KEY" \
          -H "Content-Type: application/json" -d '{"externalId": "acme-corp", "name": "Acme Corporation"}'""",
        tenant,
        status=201,
    )
    event = {"integrationKey": "mailer", "eventType": "auth_failed", "tenantId": "acme-corp"}
    service.send(fresh, event | {"tenantId": "beta-ltd"})
    listed = answered(service, fresh, 'curl https://HOST/api/v1/tenants -H "X-Api-Key: sg_KEY"', [tenant])
    assert [one["externalId"] for one in listed] == ["acme-corp", "beta-ltd"]
    url = f"https://HOST/api/v1/tenants/{made['id']}"
    answered(service, fresh, f'curl -X DELETE {url} -H "X-Api-Key: sg_KEY"', tenant | {"isActive": False})
    refused = service.client.post("/api/v1/events", headers=fresh.by_key, json=event)
    assert refused.status_code == 422
    assert_like(refused.json(), {"isSuccess": False, "errorCode": 10, "message": text(".*acme-corp.*inactive.*")})
    answered(service, fresh, f'curl -X POST {url}/activate -H "X-Api-Key: sg_KEY"', tenant)
    assert service.send(fresh, event)["patternId"] == "auth_failure"


@pytest.mark.parametrize("member", ["integrationKey", "eventType", "tenantId"])
def test_what_is_required_is_named(service: Service, team: Team, member: str) -> None:
    """The example of an error: a number and a sentence that names the member."""
    event = {name: value for name, value in json.loads(EVENT).items() if name != member}
    answer = service.client.post("/api/v1/events", headers=team.by_key, json=event)
    assert answer.status_code == 400
    assert answer.json() == {"isSuccess": False, "errorCode": 4, "message": f"{member} is required."}
