"""Clients of a live service that behave as clients do: they send, retry what got no answer, and send late and twice.

Each remembers what was acknowledged to it. All is seeded but the times, which are those of the clock.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any

import httpx

from tests.system.service import Service, Team

KINDS = ("auth_failed", "webhook_failed", "request_timeout", "connection_refused", "server_error", "completed")
SOURCES = ("checkout", "payments", "search", "mailer")
PATTERNS = ("auth_failure", "webhook_failure_spike", "timeout_spike", "connection_failure", "server_error_spike")


class Traffic:
    """What several clients have sent. acknowledged: ids of events, with the workspace; answers: per kind of answer."""

    def __init__(self, service: Service, teams: list[Team], seed: int, clients: int = 4) -> None:
        self._service, self._teams = service, teams
        self._lock = Lock()
        self._clients = [_Client(self, n, random.Random(f"{seed}-{n}")) for n in range(clients)]
        self._stop = Flag()
        self._threads: list[Thread] = []
        self.acknowledged: set[tuple[str, str]] = set()
        self.incidents: set[tuple[str, str]] = set()
        self.answers: dict[str, int] = {}
        self.problems: list[str] = []

    @property
    def url(self) -> str:
        """Where the service is now."""
        return self._service.url

    def begin(self) -> None:
        """Let all clients send, first of all what got no answer before."""
        self._stop = Flag()
        self._threads = [Thread(target=client.run, args=(self._stop,), daemon=True) for client in self._clients]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let them finish what they are about."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        assert not self.problems, self.problems[:5]

    def team(self, rng: random.Random) -> Team:
        """One of the workspaces."""
        return rng.choice(self._teams)

    def count(self, kind: str) -> None:
        """An answer came."""
        with self._lock:
            self.answers[kind] = self.answers.get(kind, 0) + 1

    def acknowledge(self, team: Team, *ids: str) -> None:
        """The service has said that it has these."""
        with self._lock:
            self.acknowledged.update((team.id, one) for one in ids)


class _Client:
    """One of them; sends one request after the other."""

    def __init__(self, traffic: Traffic, number: int, rng: random.Random) -> None:
        self._traffic, self._number, self._rng = traffic, number, rng
        self._sent = 0
        self._again: Callable[[httpx.Client], None] | None = None  # got no answer: nobody knows whether it was taken
        self._before: dict[str, Any] | None = None

    def run(self, stop: Flag) -> None:
        with httpx.Client(base_url=self._traffic.url, timeout=30) as client:
            while not stop.is_set():
                request = self._again or self._next()
                self._again = request
                try:
                    request(client)
                    self._again = None
                except httpx.TransportError:
                    stop.wait(0.02)
                except Exception as wrong:
                    self._again = None
                    self._traffic.problems.append(f"{type(wrong).__name__}: {wrong}")

    def _next(self) -> Callable[[httpx.Client], None]:
        team, dice = self._traffic.team(self._rng), self._rng.random()
        if dice < 0.04:
            return self._batch(team)
        if dice < 0.06:
            return lambda client: self._resolve(client, team)
        if dice < 0.08:
            return self._configure(team)
        if dice < 0.2:
            return self._keyed(team)
        return self._single(team)

    def _event(self) -> dict[str, Any]:
        rng = self._rng
        self._sent += 1
        event: dict[str, Any] = {
            "id": f"{self._number}-{self._sent}",
            "integrationKey": rng.choice(SOURCES),
            "eventType": rng.choice(KINDS),
            "tenantId": f"t{rng.randrange(6)}",
        }
        if self._sent % 3 == 0:  # for rollups to add up; no sum of these is exact in binary
            event["value"] = (self._sent * 7_919 % 20_011 - 300) / 1_000
        dice = rng.random()
        if dice < 0.1:
            event["errorCode"] = rng.choice(("401", "503", "429"))
        if dice > 0.9:  # late, some of them too late to count at their own time
            event["time"] = (datetime.now(UTC) - timedelta(seconds=rng.uniform(0, 90))).isoformat()
        elif dice > 0.8:  # their clock is ahead of ours
            event["time"] = (datetime.now(UTC) + timedelta(seconds=rng.uniform(0, 2))).isoformat()
        return event

    def _single(self, team: Team) -> Callable[[httpx.Client], None]:
        twice = self._before is not None and self._rng.random() < 0.05  # as producers do that are not sure
        event = self._before = self._before if twice and self._before is not None else self._event()

        def send(client: httpx.Client) -> None:
            answer = client.post("/api/v1/events", headers=team.by_key, json=event)
            told = self._told(answer, "single")
            if told is not None:
                self._traffic.acknowledge(team, event["id"])
                if told["incidentId"] is not None:
                    self._traffic.incidents.add((team.id, told["incidentId"]))

        return send

    def _keyed(self, team: Team) -> Callable[[httpx.Client], None]:
        """Without an id of its own: the key is what tells that it is the same."""
        event = self._event()
        headers = team.by_key | {"Idempotency-Key": f"key-{event.pop('id')}"}

        def send(client: httpx.Client) -> None:
            told = self._told(client.post("/api/v1/events", headers=headers, json=event), "keyed")
            if told is not None:
                self._traffic.acknowledge(team, told["eventId"])

        return send

    def _batch(self, team: Team) -> Callable[[httpx.Client], None]:
        events = [self._event() for _ in range(self._rng.choice((2, 40, 1_500)))]
        bad = self._rng.randrange(len(events)) if self._rng.random() < 0.3 else None
        lines = [b"nonsense" if n == bad else json.dumps(event).encode() for n, event in enumerate(events)]
        headers = team.by_key | {"Content-Type": "application/x-ndjson"}

        def send(client: httpx.Client) -> None:
            told = self._told(client.post("/api/v1/events/batch", headers=headers, content=b"\n".join(lines)), "batch")
            if told is not None:
                assert told["accepted"] == len(events) - (bad is not None), told
                assert [error["index"] for error in told["errors"]] == ([] if bad is None else [bad])
                self._traffic.acknowledge(team, *(event["id"] for n, event in enumerate(events) if n != bad))

        return send

    def _resolve(self, client: httpx.Client, team: Team) -> None:
        listed = self._told(client.get("/api/v1/incidents", headers=team.by_key), "list")
        if listed and listed["items"]:
            incident = self._rng.choice(listed["items"])["id"]
            answer = client.post(f"/api/v1/incidents/{incident}/resolve", headers=team.by_key)
            if answer.status_code in (404, 409):  # somebody or something was faster
                self._traffic.count(f"resolve {answer.status_code}")
            else:
                self._told(answer, "resolve")

    def _configure(self, team: Team) -> Callable[[httpx.Client], None]:
        rng = self._rng
        if rng.random() < 0.3:
            path, change = (
                "/api/v1/workspaces/me",
                {
                    "recoveryWindowSeconds": rng.randint(1, 2),
                    "closeWindowSeconds": rng.randint(1, 2),
                    "cooldownWindowSeconds": rng.randint(1, 4),
                },
            )
        else:
            path = f"/api/v1/patterns/{rng.choice(PATTERNS)}"
            change = rng.choice(
                (
                    {"isEnabled": rng.random() < 0.7},
                    {"thresholdCount": rng.randint(1, 30), "thresholdWindowSeconds": rng.randint(1, 20)},
                    {"thresholdCount": None, "thresholdWindowSeconds": None},
                )
            )

        def send(client: httpx.Client) -> None:
            self._told(client.patch(path, headers=team.by_key, json=change), "configure")

        return send

    def _told(self, answer: httpx.Response, kind: str) -> Any:
        """The data; None where the service asked to come back later."""
        self._traffic.count(f"{kind} {answer.status_code}")
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) > 0
            time.sleep(0.1)
            return None
        assert answer.status_code in (200, 202), f"{kind}: {answer.status_code} {answer.text}"
        return answer.json()["data"]
