"""The obvious definition of thresholds (S8), lifecycle (S9), alerts (S10) and the end of input (S14).

One match at a time, over plain dataclasses; the engine in `operators/` must give the same tables. Where the two
differ, DESIGN section 4 decides, not this file; but this file is the shorter one to read.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from operators.events import SEVERITIES
from operators.identity import alert_id, incident_id
from operators.policy import Policy
from operators.rules import Anomaly, EventCount, Ratio, ThresholdSpec, ValueAvg, ValueCount, ValuePercentile, ValueSum

MATCH, WITNESS, RESOLVE = 0, 1, 2
MICRO = 1_000_000
LARGEST = 9e12  # values beyond are counted as this

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Match:
    """An event claimed by a rule, a witness of a ratio's volume, or a command. `at`: microseconds."""

    at: int
    partition: str
    offset: int
    policy: Policy
    workspace: str = "default"
    group_key: str = "api"
    source: str = "api"
    tenant: str | None = None
    confidence: int = 1  # 1 Medium, 2 High
    severity: int = -1  # an index of SEVERITIES, -1 none
    measure: float | None = None
    item: str | None = None
    kind: int = MATCH

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.workspace, self.policy.rule_id, self.group_key)

    @property
    def order(self) -> tuple[int, str, int]:
        return (self.at, self.partition, self.offset)


# ---------------------------------------------------------------- thresholds


def micro(number: float) -> int:
    """A number in millionths, rounded half to even: sums must not depend on the order of their terms."""
    return round(max(-LARGEST, min(LARGEST, number)) * MICRO)


def numbers(matches: list[Match]) -> list[float]:
    return [m.measure for m in matches if m.measure is not None and math.isfinite(m.measure)]


def reached(spec: ThresholdSpec | None, counted: list[Match], witnesses: int) -> bool:
    """Whether the matches in the window, the present one included, meet the threshold `spec`."""
    values = sorted(numbers(counted))
    match spec:
        case None:
            return True
        case EventCount():
            return len(counted) >= spec.gte
        case ValueCount():
            return len({m.item for m in counted if m.item is not None}) >= spec.gte
        case ValueSum():
            return sum(micro(v) for v in values) >= round(spec.gte * MICRO)
        case ValueAvg():
            enough = len(values) >= max(1, spec.min_events)
            return enough and sum(micro(v) for v in values) >= round(spec.gte * MICRO) * len(values)
        case ValuePercentile():
            enough = len(values) >= max(1, spec.min_events)
            return enough and values[max(1, math.ceil(spec.percentile * len(values) / 100)) - 1] >= spec.gte
        case Ratio():
            volume = len(counted) + witnesses
            return volume >= spec.min_volume and len(counted) / volume >= spec.gte
        case Anomaly():
            return unusual(spec, [m.at for m in counted])


def unusual(spec: Anomaly, times: list[int]) -> bool:
    """Whether the bucket that ends with the last of these times holds more than the complete ones before it promise."""
    now, bucket = times[-1], spec.bucket
    running = sum(at > now - bucket for at in times)
    begins = range(bucket * (times[0] // bucket + 1), now - 2 * bucket + 2, bucket)  # over before the last one begins
    history = len(begins)
    if history < spec.min_history or running < spec.min_events:
        return False
    counts = [sum(begin <= at < begin + bucket for at in times) for begin in begins]
    mean = sum(counts) / history
    variance = statistics.variance(counts) if history > 1 else 0.0
    clumped = max(1.0, variance / mean) if mean else 1.0
    expected = mean + 0.5 / history
    size = expected / (clumped * (1 + 1 / history) - 1)
    # Successes before `size` failures: the probability of fewer than the others in the running bucket, term by term.
    fewer, odds = 0.0, expected / (expected + size)
    for k in range(running - 1):
        ways = math.prod((size + i) / (i + 1) for i in range(k))
        fewer += ways * odds**k * (1 - odds) ** size
    return 1 - fewer <= spec.level


# ---------------------------------------------------------------- one incident


@dataclass
class Incident:
    opening: Match
    counted: list[Match]
    policy: Policy  # of the last event: its deadlines apply
    events: list[Match] = field(default_factory=list)
    status: str | None = None
    since: int = 0  # when the status began
    reopen_count: int = 0
    reopened_at: int | None = None
    alerted_at: int | None = None
    announced: bool = False  # in this cycle
    affected: set[str] = field(default_factory=set)  # tenants, in this cycle
    transitions: list[Row] = field(default_factory=list)
    alerts: dict[str, Row] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return incident_id(*self.opening.key, self.opening.at)

    @property
    def last_at(self) -> int:
        return self.events[-1].at

    def step(self, to: str, at: int, reason: str, window_count: int | None, policy: Policy) -> None:
        row = {
            "incident_id": self.id,
            "n": len(self.transitions),
            "from_status": self.status,
            "to_status": to,
            "reason": reason,
            "at": at,
            "event_count": len(self.events),
            "window_count": window_count,
            "rule_version": policy.version,
        }
        self.transitions.append(row)
        self.status, self.since = to, at

    def alert(self, kind: str, at: int, tenant: str | None = None) -> None:
        id = alert_id(self.id, kind, self.reopen_count, tenant)
        row = {"id": id, "incident_id": self.id, "workspace": self.opening.workspace, "kind": kind}
        self.alerts.setdefault(id, row | {"cycle": self.reopen_count, "tenant": tenant, "at": at})

    def owned(self, held: list[Match]) -> int:
        """How many of these are the incident's: none from before the first event counted at its opening."""
        return sum(m.kind == MATCH and m.order >= self.counted[0].order for m in held)

    def announce_if_due(self, event: Match, alerting: list[Match]) -> None:
        if event.policy.alert_count is not None and self.owned(alerting) < event.policy.alert_count:
            return
        self.announced = True
        self.alert("opened" if self.alerted_at is None else "reopened", event.at)
        if self.alerted_at is None:
            self.alerted_at = event.at

    def open(self, alerting: list[Match]) -> None:
        event = self.opening
        self.events += self.counted
        self.affected = {m.tenant for m in self.counted if m.tenant is not None}
        self.step("Open", event.at, f"Pattern matched: {event.policy.rule_id}", len(self.counted), event.policy)
        self.announce_if_due(event, alerting)

    def take(self, event: Match, counting: list[Match], alerting: list[Match]) -> None:
        """A match of the open, recovering or closed (but not forgotten) incident; what its two windows hold."""
        before = self.status
        self.events.append(event)
        self.policy = event.policy
        if before != "Open":
            reason = "New event during recovery" if before == "Recovering" else "New event within cooldown"
            count = self.owned(counting)
            if before == "Closed":
                self.reopen_count += 1
                self.reopened_at = event.at
                self.announced = False
                self.affected = set()
            self.step("Open", event.at, reason, count, event.policy)
        joined = event.tenant is not None and event.tenant not in self.affected
        if event.tenant is not None:
            self.affected.add(event.tenant)
        if not self.announced:
            self.announce_if_due(event, alerting)
            return
        if before == "Recovering":
            self.alert("reopened", event.at)
        if joined:
            self.alert("blast_radius_expanded", event.at, event.tenant)

    def resolve(self, command: Match) -> None:
        if self.status != "Closed":
            self.close(command.at, "Resolved manually")

    def close(self, at: int, reason: str) -> None:
        self.step("Closed", at, reason, None, self.policy)
        if self.announced:
            self.alert("resolved", at)

    def run_timers(self, until: int) -> bool:
        """Fire what is due by `until`; True when that forgets the incident."""
        policy = self.policy
        if self.status == "Open" and self.last_at + policy.recovery <= until:
            reason = f"No events for {spell(policy.recovery)}"
            self.step("Recovering", self.last_at + policy.recovery, reason, None, policy)
        if self.status == "Recovering" and self.since + policy.close <= until:
            self.close(self.since + policy.close, f"Stable for {spell(policy.close)}")
        return self.status == "Closed" and self.since + policy.cooldown <= until

    def row(self) -> Row:
        policy, opening = self.opening.policy, self.opening
        worst = max(m.severity for m in self.events)
        tenants = {m.tenant for m in self.events} - {None}
        return {
            "id": self.id,
            "workspace": opening.workspace,
            "rule_id": policy.rule_id,
            "rule_version": policy.version,
            "stream": policy.stream,
            "source": opening.source,
            "group_key": opening.group_key,
            "status": self.status,
            "confidence": {1: "Medium", 2: "High"}[max(m.confidence for m in self.events)],
            "severity": policy.severity or (SEVERITIES[worst] if worst >= 0 else None),
            "opened_at": opening.at,
            "recovering_at": self.since if self.status == "Recovering" else None,
            "closed_at": self.since if self.status == "Closed" else None,
            "reopened_at": self.reopened_at,
            "reopen_count": self.reopen_count,
            "first_event_at": min(m.at for m in self.events),
            "last_event_at": self.last_at,
            "event_count": len(self.events),
            "tenant_count": len(tenants),
            "alerted_at": self.alerted_at,
        }

    def tenant_rows(self) -> list[Row]:
        rows = []
        for tenant in sorted({m.tenant for m in self.events if m.tenant is not None}):
            times = [m.at for m in self.events if m.tenant == tenant]
            row = {"incident_id": self.id, "tenant": tenant, "event_count": len(times)}
            rows.append(row | {"first_seen_at": min(times), "last_seen_at": max(times)})
        return rows


def spell(duration: int) -> str:
    """A duration as the timeline says it: in the largest unit that divides it."""
    for unit, size in (("d", 86_400 * MICRO), ("h", 3_600 * MICRO), ("min", 60 * MICRO), ("s", MICRO), ("ms", 1_000)):
        if duration % size == 0:
            return f"{duration // size} {unit}"
    return f"{duration} us"


# ---------------------------------------------------------------- one key, all keys


@dataclass
class Window:
    """The rows of a key that a sliding window holds, for its threshold or for its alert.

    What it has let go is gone, also when a later policy has a longer window: so state can be dropped as time passes.
    """

    held: list[Match] = field(default_factory=list)  # matches and witnesses
    length: int | None = None  # of the last row's policy

    def take(self, row: Match, length: int) -> None:
        shorter = length if self.length is None else min(length, self.length)
        self.held = [m for m in self.held if shorter > 0 and m.at > row.at - shorter] + [row]
        self.length = length


@dataclass
class Key:
    counting: Window = field(default_factory=Window)
    alerting: Window = field(default_factory=Window)
    incident: Incident | None = None  # until it is forgotten
    incidents: list[Incident] = field(default_factory=list)

    def run_timers(self, until: int) -> None:
        if self.incident is not None and self.incident.run_timers(until):
            self.incident = None
            self.counting, self.alerting = Window(), Window()

    def take(self, match: Match) -> None:
        self.run_timers(match.at)
        if match.kind == RESOLVE:
            if self.incident is not None:
                self.incident.resolve(match)
            return
        self.counting.take(match, match.policy.threshold.window if match.policy.threshold else 0)
        self.alerting.take(match, match.policy.alert_window or 0)
        if match.kind == WITNESS:
            return
        if self.incident is not None:
            self.incident.take(match, self.counting.held, self.alerting.held)
        else:
            self._open_if_reached(match)

    def _open_if_reached(self, event: Match) -> None:
        counted = [m for m in self.counting.held if m.kind == MATCH]
        if reached(event.policy.threshold, counted, witnesses=len(self.counting.held) - len(counted)):
            self.incident = Incident(event, counted, event.policy)
            self.incidents.append(self.incident)
            self.incident.open(self.alerting.held)


@dataclass
class Tables:
    """The store's tables as lists of dicts, times in microseconds, without the column `settled`."""

    incidents: list[Row] = field(default_factory=list)
    incident_tenants: list[Row] = field(default_factory=list)
    transitions: list[Row] = field(default_factory=list)
    alerts: list[Row] = field(default_factory=list)


def run(matches: Iterable[Match], until: int) -> Tables:
    """All matches with `at` up to `until`, in the order of S6, then the timers due by then."""
    return tables(states(matches, until).values())


def states(matches: Iterable[Match], until: int) -> dict[tuple[str, str, str], Key]:
    keys: dict[tuple[str, str, str], Key] = {}
    for match in sorted(matches, key=lambda m: m.order):
        if match.at <= until:
            keys.setdefault(match.key, Key()).take(match)
    for key in keys.values():
        key.run_timers(until)
    return keys


def tables(keys: Iterable[Key]) -> Tables:
    out = Tables()
    for key in keys:
        for incident in key.incidents:
            out.incidents.append(incident.row())
            out.incident_tenants += incident.tenant_rows()
            out.transitions += incident.transitions
            out.alerts += incident.alerts.values()
    return out
