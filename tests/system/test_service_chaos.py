"""`kill -9` of the live service under load, again and again: nothing that was acknowledged is lost or counted twice,
and what the service shows in the end is what a replay of its log comes to, row by row.

A short form by default; TOCSIN_CHAOS_ROUNDS=20 (`make chaos`) for a night.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from connectors.reader import open_reader
from tests.system.runs import assert_same, replay
from tests.system.service import Service, Team, serving
from tests.system.traffic import Traffic

pytestmark = pytest.mark.chaos

ROUNDS = int(os.environ.get("TOCSIN_CHAOS_ROUNDS", "0")) or 2
LONGEST = 14.0  # seconds of load before a kill: longer than from one snapshot to the next
UNLIMITED = {"TOCSIN_REQUESTS_PER_MINUTE": "10000000"}
RULES = """\
rules:
  - id: tenants_hit
    name: Many tenants hit
    match: {type: [webhook_failed, server_error, request_timeout]}
    group_by: [source]
    threshold:
      value_count: {field: tenant, gte: 4, window: 10s}
    lifecycle: {recovery: 1s, close: 2s, cooldown: 2s}
"""

# An incident is identified by what the log says of it (DESIGN S12): the live service keeps ids that it has announced.
_KEY = "i.workspace, i.rule_id, i.group_key, i.opened_at"
_BESIDE = "FROM {} t JOIN incidents i ON i.id = t.incident_id"
COMPARED = {
    "events": "SELECT * FROM events",
    "claims": "SELECT * FROM claims",
    "dead_letters": "SELECT * FROM dead_letters",
    "configurations": "SELECT * FROM configurations",
    "rollup_1m": "SELECT * FROM rollup_1m",
    "histogram_1m": "SELECT * FROM histogram_1m",
    "incidents": "SELECT * EXCLUDE (id, settled) FROM incidents",
    "incident_tenants": f"SELECT {_KEY}, t.* EXCLUDE (incident_id) {_BESIDE.format('incident_tenants')}",
    "transitions": f"SELECT {_KEY}, t.* EXCLUDE (incident_id, settled) {_BESIDE.format('transitions')}",
    "alerts": f"SELECT {_KEY}, t.* EXCLUDE (id, incident_id, workspace, settled) {_BESIDE.format('alerts')}",
}


def stored(data: Path) -> dict[str, pl.DataFrame]:
    """All rows of all tables, sorted, with incidents by what identifies them."""
    with open_reader(data).connection as con:
        con.execute("SET TimeZone = 'UTC'")
        return {name: con.sql(f"FROM ({sql}) ORDER BY ALL").pl() for name, sql in COMPARED.items()}


def assert_equals_replay(data: Path, fresh: Path, *rules: str | Path) -> dict[str, pl.DataFrame]:
    """The store of a stopped service against a replay of its log; returns what is in them."""
    replay(fresh, data / "log", *rules)
    live = stored(data)
    assert_same(live, stored(fresh), "live against replay:")
    return live


def settled(service: Service, teams: list[Team]) -> None:
    """Wait until time alone changes nothing any more: all incidents are closed, their cooldown over."""
    limit = time.monotonic() + 90
    while any(service.get(team, "/api/v1/incidents")["total"] for team in teams):
        assert time.monotonic() < limit, "timers do not fire"
        time.sleep(0.3)


def test_a_killed_service_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """The machine loses power in the busiest hour, several times: callers retry what got no answer, and afterwards
    every event that was acknowledged is there once, and so is what follows from it."""
    rng, data, rules = random.Random(ROUNDS), tmp_path / "data", tmp_path / "rules.yaml"
    rules.write_text(RULES)
    with serving(data, "--rules", rules, env=UNLIMITED) as service:
        teams = [service.team("Acme"), service.team("Globex")]
        windows = {"recoveryWindowSeconds": 1, "closeWindowSeconds": 1, "cooldownWindowSeconds": 2}
        for team in teams:
            service.data_of(service.client.patch("/api/v1/workspaces/me", headers=team.by_key, json=windows))
        traffic = Traffic(service, teams, seed=ROUNDS)
        for number in range(ROUNDS):
            traffic.begin()
            time.sleep(LONGEST if number == 0 else rng.uniform(0.2, LONGEST))
            before = len(traffic.acknowledged)
            service.kill()
            traffic.end()
            assert before, "the kill hit nothing"
            service.start(ready=rng.random() < 0.7)  # some clients do not wait for it to be ready
        traffic.begin()
        time.sleep(3)
        traffic.end()
        service.wait_ready()
        settled(service, teams)
        assert service.stop() == 0, service.output
    live = assert_equals_replay(data, tmp_path / "fresh", "--rules", rules)
    assert_once(live["events"], traffic)
    assert {name for name, frame in live.items() if not frame.height} <= {"dead_letters"}
    reasons = set(live["transitions"]["reason"])
    assert {"New event during recovery", "New event within cooldown", "Resolved manually"} <= reasons, reasons
    print(f"acknowledged {len(traffic.acknowledged):,}, answers {dict(sorted(traffic.answers.items()))}")


def assert_once(events: pl.DataFrame, traffic: Traffic) -> None:
    """Each acknowledged event is there exactly once, and no event twice."""
    found = Counter(zip(events["workspace"], events["id"], strict=True))
    lost = [one for one in traffic.acknowledged if one not in found]
    twice = [one for one, count in found.items() if count > 1]
    assert not lost, f"{len(lost)} of {len(traffic.acknowledged)} acknowledged events are lost: {lost[:5]}"
    assert not twice, f"{len(twice)} events are there more than once: {twice[:5]}"
