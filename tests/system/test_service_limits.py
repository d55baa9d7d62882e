"""The live service where something runs out: room on the disk, what a workspace may ask, patience; and what it tells
those who watch it."""

from __future__ import annotations

import json
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.runs import PATIENCE, query, until
from tests.system.service import PASSWORD, Service, serving

EVENT = {"integrationKey": "mailer", "eventType": "auth_failed", "tenantId": "acme-corp"}
DEADLINE = 1


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    limits = {
        "TOCSIN_LOG_LEVEL": "debug",
        "TOCSIN_REQUESTS_PER_MINUTE": "300",
        "TOCSIN_EVENTS_PER_MINUTE": "2000",
        "TOCSIN_BODY_LIMIT_BYTES": "300000",
        "TOCSIN_DEADLINE_SECONDS": str(DEADLINE),
    }
    with serving(tmp_path_factory.mktemp("service") / "data", env=limits) as running:
        yield running


def assert_refused(answer: httpx.Response, status: int, code: int) -> None:
    """In the envelope; with the time to come back, where that helps."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert (told["isSuccess"], told["errorCode"]) == (False, code)
    assert told["message"]
    if status in (429, 503):
        assert int(answer.headers["Retry-After"]) >= 1


# ---------------------------------------------------------------- a full disk


def test_a_full_disk_refuses_events_and_loses_none(tmp_path: Path) -> None:
    """No file can grow: 503 and when to come back, for senders old and new. What was acknowledged is there, what was
    refused is not, and when there is room again it goes on by itself."""
    with serving(tmp_path / "data") as service:
        team, acknowledged = service.team(), ["0"]
        first = service.send(team, EVENT | {"id": "0"})
        _, most = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)
        size = sum(path.stat().st_size for path in (tmp_path / "data" / "log").iterdir())
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (size + 1_000, most))
        answer = httpx.Response(200)
        for number in range(1, 100):
            answer = service.client.post("/api/v1/events", headers=team.by_key, json=EVENT | {"id": str(number)})
            if answer.status_code not in (200, 202):
                break
            acknowledged.append(str(number))
        assert_refused(answer, 503, 8)
        stranger = EVENT | {"id": "stranger", "tenantId": "never-seen"}
        assert_refused(service.client.post("/api/v1/events", headers=team.by_key, json=stranger), 503, 8)
        batch = [EVENT | {"id": f"b{n}"} for n in range(3)]
        assert_refused(service.client.post("/api/v1/events/batch", headers=team.by_key, json=batch), 503, 8)
        ready = service.client.get("/-/ready")
        assert ready.status_code == 503
        assert "cannot be written" in ready.json()["log"]
        assert service.client.get("/health").status_code == 200
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (most, most))
        told: list[dict[str, Any]] = []

        def taken() -> bool:
            answer = service.client.post("/api/v1/events", headers=team.by_key, json=EVENT | {"id": "after"})
            if answer.status_code == 200:
                told.append(answer.json()["data"])
            return bool(told)

        assert until(taken), service.output
        assert (told[0]["incidentId"], told[0]["isNewIncident"]) == (first["incidentId"], False)
        service.wait_ready()
        acknowledged.append("after")
        assert service.get(team, f"/api/v1/incidents/{first['incidentId']}")["eventCount"] == len(acknowledged)
        assert service.stop() == 0
    assert sorted(one for (one,) in query(tmp_path / "data", "SELECT id FROM events")) == sorted(acknowledged)


# ---------------------------------------------------------------- limits


def test_a_body_over_the_limit_is_refused(service: Service) -> None:
    """Before it is read into memory, whether its length is announced or not."""
    team = service.team("Large")
    headers = team.by_key | {"Content-Type": "application/x-ndjson"}
    line = json.dumps(EVENT).encode() + b"\n"
    body = line * (300_001 // len(line) + 1)
    assert_refused(service.client.post("/api/v1/events/batch", headers=headers, content=body), 413, 7)
    chunks = iter([body[:200_000], body[200_000:]])
    assert_refused(service.client.post("/api/v1/events/batch", headers=headers, content=chunks), 413, 7)
    assert service.get(team, "/api/v1/incidents", status="all")["total"] == 0


def test_a_workspace_that_asks_too_much_is_told_when_to_come_back(service: Service) -> None:
    """And nobody else notices."""
    greedy, modest = service.team("Greedy"), service.team("Modest")
    answers = [service.client.post("/api/v1/events", headers=greedy.by_key, json=EVENT) for _ in range(301)]
    assert {answer.status_code for answer in answers[:-1]} <= {200, 202, 429}
    assert_refused(answers[-1], 429, 6)
    assert answers[-1].json()["statusCode"] == 429
    assert service.send(modest, EVENT)["isNewIncident"]
    batches = [service.client.post("/api/v1/events/batch", headers=modest.by_key, json=[EVENT] * 1_500) for _ in "abc"]
    assert_refused(batches[-1], 429, 6)


def test_a_sender_that_does_not_go_on_is_not_waited_for(service: Service) -> None:
    """A dead connection holds a place only until the deadline."""
    team = service.team("Dead")
    address = httpx.URL(service.url)
    with socket.create_connection((address.host, address.port or 0), PATIENCE) as sender:
        head = f"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-Api-Key: {team.key}\r\nContent-Length: 100\r\n\r\n"
        sender.sendall(head.encode() + b"{")
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
            answer += sender.recv(65536)
    assert answer.startswith(b"HTTP/1.1 504"), answer
    assert b'"errorCode":11' in answer


# ---------------------------------------------------------------- watching it


def metrics(service: Service) -> dict[str, float]:
    """What Prometheus would scrape, by name and labels."""
    found = {}
    for line in service.client.get("/metrics").text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def test_the_metrics_move(service: Service) -> None:
    """Dashboards and alerts of the page on operating rest on these names; each says what happened."""
    team = service.team("Measured")
    before = metrics(service)
    events = [
        *[EVENT | {"id": f"e{n}"} for n in range(8)],
        EVENT | {"id": "e0"},
        EVENT | {"id": "late", "time": "2025-01-01T00:00:00Z"},
        {"integrationKey": "mailer", "eventType": "heartbeat", "tenantId": "acme-corp"},
    ]
    service.data_of(service.client.post("/api/v1/events/batch", headers=team.by_key, json=events))
    after = metrics(service)
    moved = {name: after[name] - before.get(name, 0.0) for name in after}
    assert {name: moved[f"tocsin_{name}"] for name in _COUNTED} == _COUNTED
    gauges = {name: after[f"tocsin_{name}"] for name in ("flow_up", "log_up", "store_up", "flow_lag_records")}
    assert gauges == {"flow_up": 1, "log_up": 1, "store_up": 1, "flow_lag_records": 0}
    assert after["tocsin_flow_lag_seconds"] == 0
    assert moved['tocsin_incidents{status="Open"}'] == 1
    assert moved["tocsin_show_seconds_count"] >= 1
    assert after["process_resident_memory_bytes"] > 0
    assert until(lambda: metrics(service)["tocsin_store_waiting_events"] == 0)
    assert metrics(service)["tocsin_store_write_seconds"] > 0
    route = 'tocsin_http_request_seconds_count{method="POST",route="/api/v1/events/batch",status="200"}'
    assert moved[route] == 1


_COUNTED = {
    "events_total": 10.0,
    "matches_total": 9.0,
    "late_events_total": 1.0,
    "duplicate_events_total": 1.0,
    "dead_letters_total": 0.0,
}


def test_it_is_ready_only_when_what_was_acknowledged_can_be_queried(tmp_path: Path) -> None:
    """After a crash with much to read again: a load balancer that trusts readiness never shows customers a gap."""
    with serving(tmp_path / "data") as service:
        team = service.team()
        lines = "\n".join(
            json.dumps(EVENT | {"id": f"e{n}", "integrationKey": f"s{n % 500}", "tenantId": f"t{n % 7}"})
            for n in range(20_000)
        )
        headers = team.by_key | {"Content-Type": "application/x-ndjson"}
        service.data_of(service.client.post("/api/v1/events/batch", headers=headers, content=lines))
        incidents = service.get(team, "/api/v1/incidents")["total"]
        assert incidents == 500
        service.kill()
        service.start(ready=False)
        seen: list[dict[str, Any]] = []

        def is_ready() -> bool:
            answer = service.client.get("/-/ready")
            seen.append(answer.json())
            assert service.client.get("/health").status_code == 200
            return answer.status_code == 200

        assert until(is_ready), seen[-1]
        assert service.get(team, "/api/v1/incidents")["total"] == incidents
        assert service.get(team, "/api/v1/workspaces/stats")["openIncidents"] == incidents
        assert seen[-1]["lag_records"] == 0
        for said in seen[:-1]:
            assert said["flow"] == "starting" or said["flow"].startswith("Catching up with the log: "), said


# ---------------------------------------------------------------- secrets

WEBHOOK = "https://hooks.slack.com/services/T00000000/B00000000/verysecretverysecret"


def test_no_secret_is_printed_or_stored_in_plain(service: Service) -> None:
    """Whoever gets hold of the output at its most talkative, or of the data directory without `secret.key`, can neither
    log in, nor send as a customer, nor post to a customer's channel."""
    team = service.team("Secrets")
    service.send(team, EVENT)
    bearer = {"Authorization": f"Bearer {team.token}"}
    assert service.client.get("/api/v1/workspaces/me", headers=bearer).status_code == 200
    channel = {"config": {"webhookUrl": WEBHOOK}, "isEnabled": True}
    channels = "/api/v1/workspaces/me/channels"
    service.data_of(service.client.put(f"{channels}/slack", headers=team.by_key, json=channel))
    service.client.put(f"{channels}/nonsense", headers=team.by_key, json=channel)
    pager = {"config": {"routingKey": "R01ABCDEF1234567890ABCDEF12345678"}, "isEnabled": True}
    service.data_of(service.client.put(f"{channels}/pagerduty", headers=team.by_key, json=pager))
    wrong = {"email": team.email, "password": "a wrong secret"}
    assert service.client.post("/api/v1/auth/login", json=wrong).status_code == 401
    service.client.get(f"/api/v1/incidents/{team.key}?key={team.key}&token={team.token}", headers=team.by_key)
    service.client.post("/api/v1/events", headers=bearer | {"X-Api-Key": f"{team.key[:-1]}!"}, json=EVENT)
    rotated = service.data_of(service.client.post("/api/v1/workspaces/rotate-key", headers=team.by_key))["apiKey"]
    assert service.stop() == 0
    secrets = [
        *(secret.encode() for secret in (team.key[3:], rotated[3:], team.token, team.token.rpartition(".")[2])),
        *(secret.encode() for secret in (PASSWORD, "a wrong secret", "verysecret", "R01ABCDEF")),
        (service.data / "secret.key").read_bytes().strip(),
    ]
    printed = service.output
    assert re.search(r'"route":"/api/v1/workspaces/rotate-key"', printed), "it does not log requests at this level"
    holders = {"output": printed.encode()} | {
        str(path.relative_to(service.data)): path.read_bytes()
        for path in service.data.rglob("*")
        if path.is_file() and path.name != "secret.key"
    }
    assert {"control.sqlite", "store.duckdb"} <= set(holders)
    found = [(name, secret) for name, text in holders.items() for secret in secrets if secret in text]
    assert found == []
    assert (service.data / "secret.key").stat().st_mode & 0o077 == 0
    service.start()
