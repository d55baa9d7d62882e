"""A seeded log in several partitions with everything that happens to logs: what whole-process tests replay.

Partitions cover the same hours at different densities, the last one ends early. Records arrive out of order by up to
25 s; some are minutes late, some delivered twice, some broken; a workspace is configured half-way, an incident is
resolved.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

START = datetime(2025, 3, 26, 6, 0, tzinfo=UTC)
HOURS = 6
WORKSPACES = ("acme", "globex", "initech")
SOURCES = ("checkout", "payments", "search", "ledger", "mailer")
FAILURES: tuple[tuple[str, str | None], ...] = (
    ("auth_failed", "401"),
    ("request_timeout", None),
    ("webhook_failed", "503"),
    ("server_error", "500"),
    ("connection_refused", "ECONNREFUSED"),
    ("job_failed", "429"),
    ("dependency_failed", "circuit_open"),
)
ORDINARY = (("request_completed", "200"), ("heartbeat", None), ("record_synced", None))
RULES = """\
rules:
  - id: tenants_hit
    name: Many tenants hit
    match: {type: [webhook_failed, server_error, request_timeout]}
    group_by: [source, attributes.region]
    threshold:
      value_count: {field: tenant, gte: 4, window: 10m}
  - id: slow
    name: Slow in a region
    match: {where: {attributes.ms|gte: 900}}
    group_by: [attributes.region]
    threshold:
      value_percentile: {percentile: 90, gte: 950, window: 5m, min_events: 5}
"""


def rfc(when: datetime) -> str:
    """An instant as producers write it."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _event(
    rng: random.Random, when: datetime, number: int, episode: tuple[str, str, tuple[str, str | None]] | None
) -> bytes:
    failing = episode is not None and rng.random() < 0.6
    workspace, source, (kind, code) = (
        episode
        if failing and episode is not None
        else (rng.choice(WORKSPACES), rng.choice(SOURCES), rng.choice(ORDINARY))
    )
    row: dict[str, Any] = {"time": rfc(when), "workspace": workspace, "integrationKey": source, "eventType": kind}
    if number % 2:
        row["id"] = f"e-{number}"
    if code is not None:
        row["errorCode"] = code
    if rng.random() < 0.8:
        row["tenantId"] = f"t{rng.randrange(12)}"
    row["rawPayload"] = {"ms": rng.randrange(1_000), "region": rng.choice(("eu", "us")), "n": number}
    return orjson.dumps(row | _dimensions(row, number))


def _dimensions(row: dict[str, Any], number: int) -> dict[str, Any]:
    """What rollups tell apart and add up, of some events: no sum of these values is exact in binary."""
    said: dict[str, Any] = {}
    if number % 3 == 0:
        said["value"] = (number * 7_919 % 20_011 - 300) / 1_000
    if row["eventType"] == "heartbeat" and number % 2:
        said["stream"] = ("verdict", "tool_call", "identity")[number % 3]
        told = {"guardian_id": f"g{number % 5}", "guardian_name": "G\u00fcnther", "nhi_label": "ci", "tag": ""}
        said["rawPayload"] = row["rawPayload"] | {name: told[name] for n, name in enumerate(told) if number & 4 << n}
    return said


def lines(seed: int, events: int, share: float = 1.0) -> list[bytes]:
    """One partition: `events` records and some more, over `share` of the hours, in order of arrival."""
    rng = random.Random(seed)
    span = HOURS * 3600 * share
    arrivals: list[tuple[float, bytes]] = []
    episode = None
    for number in range(events):
        seconds = span * number / events
        if number % max(events // 40, 1) == 0:  # every nine minutes something else fails, or nothing
            failure = (rng.choice(WORKSPACES), rng.choice(SOURCES), rng.choice(FAILURES))
            episode = failure if rng.random() < 0.6 else None
            if number * 40 // events in (18, 19):  # so that there is something to resolve half-way
                episode = ("acme", "payments", ("server_error", "500"))
        line = _event(rng, START + timedelta(seconds=seconds), number, episode)
        delay = rng.random() * 25 if rng.random() < 0.3 else 0.0
        if rng.random() < 0.003:
            delay += 60 + rng.random() * 600  # late
        arrivals.append((seconds + delay, line))
        if rng.random() < 0.01:
            arrivals.append((seconds + delay + 2, line))  # delivered twice; without an id it counts twice
    arrivals += [(span * k / 9, bad) for k, bad in enumerate(_broken(seed), 1)]
    arrivals += [(span * 0.5, line) for line in _commands(START + timedelta(seconds=span * 0.5))]
    arrivals.sort(key=lambda pair: pair[0])
    return [line for _, line in arrivals]


def _broken(seed: int) -> Iterator[bytes]:
    yield b'{"time":"2025-03-26T07:00:00Z","integrationKey":"checkout","eventTy'
    yield b"Traceback (most recent call last):"
    yield b'{"time":"2025-03-26T08:00:00Z","integrationKey":["x"],"eventType":"heartbeat"}'
    yield b'{"integrationKey":"search","eventType":"heartbeat"}'
    yield b'{"time":"2025-03-26T09:00:00Z","integrationKey":"\xff\xfe","eventType":"heartbeat"}'
    yield b'{"time":"2087-01-01T00:00:00Z","integrationKey":"search","eventType":"heartbeat","n":%d}' % seed


def _commands(when: datetime) -> Iterator[bytes]:
    """A person resolves, another configures; one resolves what does not exist, one configures nonsense."""
    for body in ({"rule_id": "server_error_spike", "group_key": "payments"}, {"rule_id": "nonsense", "group_key": "x"}):
        yield orjson.dumps({"record": "resolve", "time": rfc(when), "workspace": "acme", "attributes": body})
    quick: dict[str, Any] = {
        "lifecycle": {"recovery": "2m", "close": "3m"},
        "rules": {"auth_failure": {"enabled": False}},
    }
    for settings in (quick, {"rules": "all of them"}):
        yield orjson.dumps({"record": "configure", "time": rfc(when), "workspace": "globex", "attributes": settings})


def write(folder: Path, events: int, partitions: int = 5) -> Path:
    """Write the partitions of a log with about `events` records, one of them compressed; returns the folder."""
    folder.mkdir(parents=True)
    shares = [1.0] * (partitions - 1) + [0.3]
    weights = [partitions - n for n in range(partitions)]
    for n, (share, weight) in enumerate(zip(shares, weights, strict=True)):
        content = b"\n".join(lines(n, events * weight // sum(weights), share)) + b"\n"
        if n == 1:
            (folder / f"p{n}.jsonl.gz").write_bytes(gzip.compress(content, 1, mtime=0))
        else:
            (folder / f"p{n}.jsonl").write_bytes(content)
    return folder


def write_rules(path: Path) -> Path:
    """Two rules of one's own beside the built-in ones, so that events have several claims."""
    path.write_text(RULES)
    return path
