"""Six weeks of five identities, written down in plain Python, and the figures that follow from it by counting."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from flows.live import LivePipeline
from query_api import reading
from query_api.settings import ServiceSettings
from tests.query_api import analytics_day
from tests.query_api.service import Service, Team

START = datetime(2026, 4, 30, tzinfo=UTC)
DAY = {"from": "2026-04-30T00:00:00Z", "to": "2026-05-01T00:00:00Z"}
WEEK = {"from": "2026-04-24T00:00:00Z", "to": "2026-05-01T00:00:00Z"}
HOUR, LOOKBACK = timedelta(hours=1), timedelta(days=28)

CI, BOT, BACK, NEW, ROGUE, GONE = "nhi_ci", "nhi_bot", "nhi_back", "nhi_new", "nhi_rogue", "nhi_gone"
LABELS = {CI: "ci-runner-prod", BOT: "support-bot", ROGUE: "scraper"}


@dataclass(frozen=True)
class Event:
    """What is sent, and what is counted. hours: before or after the day's begin."""

    hours: float
    nhi: str
    type: str
    code: str | None = None
    value: float | None = None
    guardian: str | None = None
    environment: str | None = None
    tag: str | None = None
    number: int = 0

    @property
    def time(self) -> datetime:
        """When it happened."""
        return START + timedelta(seconds=round(self.hours * 3_600))

    def body(self) -> dict[str, Any]:
        """As it is sent."""
        said = {"nhi_label": LABELS.get(self.nhi), "guardian_id": self.guardian}
        said |= {"environment": self.environment, "tag": self.tag}
        base = {"time": stamp(self.time), "stream": "identity", "source": self.nhi, "type": self.type}
        rest = {"value": self.value, "code": self.code, "id": f"i{self.number}"}
        attributes = {name: value for name, value in said.items() if value is not None}
        return {name: value for name, value in (base | rest | {"attributes": attributes}).items() if value is not None}


def script() -> list[Event]:
    """What they did."""
    chance = random.Random(5)
    found: list[Event] = []

    def ci(hours: float, kind: str, code: str | None = None, value: float | None = None) -> None:
        found.append(Event(hours, CI, kind, code, value, "gov_a", "live", "payments"))

    # A runner that works around the clock, spends little and may do what it does, until the last day.
    ci(-24 * 40, "tier", value=2)
    ci(-24 * 39, "tier", value=1)
    ci(-24 * 35, "tier", value=2)
    ci(-24 * 34, "federation", "expired")
    ci(-24 * 15.4 + 24, "federation", "verified")
    for hour in range(-24 * 35, 24):
        for _ in range(3):
            ci(hour + chance.random() * 0.99, "tool_attempt", "allowed")
        ci(hour + 0.5, "spend", value=round(chance.uniform(0.5, 0.83), 4))
    for minute in (2, 3, 8):
        ci(8 + minute / 60, "tool_attempt", "denied")
    ci(8.2, "tool_attempt", "error")
    for minute in range(14, 24):
        ci(8 + minute / 60, "spend", value=12.4)
    # A bot by day that has no tier and no issuer, and names a guardian every other time.
    for day in range(-10, 1):
        for n in range(8):
            at = 24 * day + 9 + n
            found.append(Event(at + 0.25, BOT, "activity", guardian="gov_b" if n % 2 else None, environment="live"))
    # Back after a fortnight; never seen in the four weeks before; and one that nobody vouches for.
    found += [Event(-24 * 13, BACK, "activity"), Event(10.5, BACK, "activity", environment="dev")]
    found += [Event(-24 * 39, NEW, "activity"), Event(12, NEW, "tool_attempt", "allowed", environment="dev", tag="x")]
    found += [Event(-24 + n, ROGUE, "tool_attempt", "denied", environment="test") for n in range(48)]
    found += [Event(-30, ROGUE, "federation", "verified"), Event(3.5, ROGUE, "federation", "untrusted")]
    found += [Event(2, ROGUE, "tier", value=4)]
    # Not there on the day; and what is no identity's.
    found += [Event(-60 + n, GONE, "activity") for n in range(5)]
    return [Event(**{**vars(one), "number": n}) for n, one in enumerate(found)]


def stamp(time: datetime) -> str:
    """A time as answers say it: no fraction where there is none."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


# ------------------------------------------------------------ counting by hand


@dataclass(frozen=True)
class Tally:
    """What there is to count of one identity in a window. silence: days; age: of the federation, days."""

    events: list[Event]
    attempts: int
    allowed: int
    denied: int
    spent: float
    p99: float | None
    hour: float | None
    baseline_p99: float | None
    baseline_hour: float | None
    known: int
    silence: float
    seen_before: bool
    coverage: float
    tier: float | None
    federation: str | None
    age: float | None


def tally(events: Sequence[Event], nhi: str, window: dict[str, str]) -> Tally:
    """Count one identity's events, one after the other."""
    start, end = (datetime.fromisoformat(window[name]) for name in ("from", "to"))
    mine = sorted((one for one in events if one.nhi == nhi), key=lambda one: one.time)
    upto = start.replace(minute=0, second=0, microsecond=0)
    within = [one for one in mine if start <= one.time < end]
    before = [one for one in mine if upto - LOOKBACK <= one.time < upto]
    tries = [one for one in within if one.type == "tool_attempt"]
    active = [one for one in within if one.type not in ("tier", "federation")]
    spends, earlier = ([one for one in some if one.type == "spend"] for some in (within, before))
    instants = [before[-1].time if before else upto - LOOKBACK, *(one.time for one in within)]
    hours = [one.replace(minute=0, second=0, microsecond=0) for one in instants] + [end]
    said = {one.type: one for one in mine if one.time < end and one.type in ("tier", "federation")}
    issuer, tier = said.get("federation"), said.get("tier")
    return Tally(
        within,
        len(tries),
        sum(one.code == "allowed" for one in tries),
        sum(one.code == "denied" for one in tries),
        sum(one.value or 0 for one in spends),
        nearest(spends),
        busiest(spends),
        nearest(earlier),
        busiest(earlier),
        len(earlier),
        min(max(b - a for a, b in pairwise(hours)), LOOKBACK) / timedelta(days=1),
        bool(before),
        sum(one.guardian is not None for one in active) / len(active) if active else 1.0,
        None if tier is None else tier.value,
        None if issuer is None else issuer.code,
        None if issuer is None else (end - issuer.time) / timedelta(days=1),
    )


def nearest(spends: Sequence[Event]) -> float | None:
    """The 99th percentile, of the nearest rank."""
    values = sorted(one.value for one in spends if one.value is not None)
    return values[math.ceil(0.99 * len(values)) - 1] if values else None


def busiest(spends: Sequence[Event]) -> float | None:
    """The most within an hour of the clock."""
    sums: dict[datetime, float] = defaultdict(float)
    for one in spends:
        sums[one.time.replace(minute=0, second=0)] += one.value or 0
    return max(sums.values(), default=None)


def strengths(seen: Tally) -> dict[str, float]:
    """The signs, from the formulas of the documentation, without anomalies."""
    found = {"anomalies": 0.0, "denied_attempts": 0.0, "spend_burst": 0.0, "federation": 0.0}
    if seen.denied:
        n, p, z = seen.attempts, seen.denied / seen.attempts, 1.959964
        lower = (p + z * z / (2 * n) - z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
        found["denied_attempts"] = min(1.0, 2 * lower)
    if seen.known >= 20 and seen.p99 and seen.hour and seen.baseline_p99 and seen.baseline_hour:
        ratio = max(seen.p99 / seen.baseline_p99, seen.hour / seen.baseline_hour)
        found["spend_burst"] = max(0.0, 1 - 2 / ratio)
    if seen.federation in ("untrusted", "expired"):
        found["federation"] = {"untrusted": 1.0, "expired": 0.5}[seen.federation]
    found["dormancy"] = min(1.0, max(0.0, (seen.silence - 7) / 21))
    return found


WEIGHTS = {"anomalies": 0.8, "denied_attempts": 0.5, "spend_burst": 0.5, "federation": 0.5, "dormancy": 0.2}


def score(seen: Tally, anomalies: float = 0.0) -> float:
    """The risk."""
    signs = strengths(seen) | {"anomalies": anomalies}
    impact = 1.0 if seen.tier is None else (1 + seen.tier) / 5
    return (1 - math.prod(1 - WEIGHTS[name] * value for name, value in signs.items())) * impact


def status(seen: Tally) -> float:
    """How far the issuer can be relied on."""
    if seen.federation != "verified" or seen.age is None:
        return {"untrusted": 0.0, "expired": 0.25}.get(seen.federation or "", 0.5)
    return 0.5 + 0.5 * (1 - min(1.0, max(0.0, (seen.age - 7) / 21)))


# ------------------------------------------------------------ the service


class World(analytics_day.World):
    """The service, whose identities they are, and another workspace with one of the same name."""

    def detect(self, team: Team | None = None, **body: Any) -> dict[str, Any]:
        """Look for anomalies, and wait."""
        begun = self.ask("POST", "/v1/analytics/nhi-risk/detect-anomalies", team, json=body)
        assert begun.status_code == 202, begun.text
        assert self.service.run_jobs() == 1
        job = self.ask("GET", f"/v1/analytics/nhi-risk/detect-anomalies/{begun.json()['job_id']}", team).json()
        assert job["status"] == "succeeded", job
        found: dict[str, Any] = job["result"]
        return found


def send(service: Service, team: Team, events: Sequence[Event]) -> None:
    """Ingest, as a client does."""
    for at in range(0, len(events), 5_000):
        bodies = [one.body() for one in events[at : at + 5_000]]
        done = service.post("/api/v1/events/batch", headers=team.by_key, json=bodies)
        assert (done.status_code, done.json()["data"]["rejected"]) == (200, 0), done.text


@contextmanager
def world_of(directory: Path) -> Iterator[World]:
    """A service with the real pipeline, after these weeks."""
    pipeline = LivePipeline.start(directory)
    service = Service(directory, ServiceSettings(sign_ins_per_minute=10_000, requests_per_minute=100_000), pipeline)
    try:
        mine, others = service.team("Mine"), service.team("Others")
        events = script()
        send(service, mine, events)
        send(service, others, [Event(5, CI, "tool_attempt", "denied", number=1), Event(6, "nhi_theirs", "activity")])
        yield World(service, mine, others, events)
    finally:
        service.close()
        reading.close(pipeline)
        pipeline.stop()
