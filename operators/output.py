"""What a run of the engine writes: rows of the store's tables, collected as columns and named at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.events import DAY, HOUR, MINUTE, SECOND, SEVERITIES, TIMESTAMP
from operators.frames import FEW, empty, framed, last_of, nullable, order_of, pick, ranks
from operators.identity import alert_id
from operators.keys import CLOSED, NONE, RECOVERING, STATUS
from operators.matches import CONFIDENCES, Name
from operators.policies import Policies
from operators.policy import Policy
from operators.tables import Mask, Table, distinct, joined, order_by, take
from operators.texts import NO_TEXT, Texts

INCIDENTS: dict[str, pl.DataType] = {
    "id": pl.String(),
    "workspace": pl.String(),
    "rule_id": pl.String(),
    "rule_version": pl.String(),
    "stream": pl.String(),
    "source": pl.String(),
    "group_key": pl.String(),
    "status": pl.String(),
    "confidence": pl.String(),
    "severity": pl.String(),
    "opened_at": TIMESTAMP,
    "recovering_at": TIMESTAMP,
    "closed_at": TIMESTAMP,
    "reopened_at": TIMESTAMP,
    "reopen_count": pl.Int64(),
    "first_event_at": TIMESTAMP,
    "last_event_at": TIMESTAMP,
    "event_count": pl.Int64(),
    "tenant_count": pl.Int64(),
    "alerted_at": TIMESTAMP,
    "settled": pl.Boolean(),
}
INCIDENT_TENANTS: dict[str, pl.DataType] = {
    "incident_id": pl.String(),
    "tenant": pl.String(),
    "event_count": pl.Int64(),
    "first_seen_at": TIMESTAMP,
    "last_seen_at": TIMESTAMP,
}
TRANSITIONS: dict[str, pl.DataType] = {
    "incident_id": pl.String(),
    "n": pl.Int64(),
    "from_status": pl.String(),
    "to_status": pl.String(),
    "reason": pl.String(),
    "at": TIMESTAMP,
    "event_count": pl.Int64(),
    "window_count": pl.Int64(),
    "rule_version": pl.String(),
    "settled": pl.Boolean(),
}
ALERTS: dict[str, pl.DataType] = {
    "id": pl.String(),
    "incident_id": pl.String(),
    "workspace": pl.String(),
    "kind": pl.String(),
    "cycle": pl.Int64(),
    "tenant": pl.String(),
    "at": TIMESTAMP,
    "settled": pl.Boolean(),
}

# Which match is in which incident: where it stands in the log, and whether it opened it.
MEMBERS: dict[str, pl.DataType] = {
    "partition": pl.Int64(),
    "offset": pl.Int64(),
    "rule_id": pl.String(),
    "incident_id": pl.String(),
    "opened": pl.Boolean(),
}

# Why a transition happened.
MATCHED, QUIET, RELAPSED, STABLE, RETURNED, RESOLVED = range(6)
# What an alert says.
KINDS = ("opened", "reopened", "resolved", "blast_radius_expanded")
OPENED_ALERT, REOPENED_ALERT, RESOLVED_ALERT, EXPANDED_ALERT = range(4)
NO_COUNT = -1
NO_STATUS = -1

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Output:
    """Rows for the store. Settled transitions and alerts are new ones; any other row replaces the one with its key."""

    incidents: pl.DataFrame
    incident_tenants: pl.DataFrame
    transitions: pl.DataFrame
    alerts: pl.DataFrame

    def tables(self) -> dict[str, pl.DataFrame]:
        """The frames by the names of their tables."""
        return {
            "incidents": self.incidents,
            "incident_tenants": self.incident_tenants,
            "transitions": self.transitions,
            "alerts": self.alerts,
        }

    def joined(self, other: Output) -> Output:
        """These rows and the other's behind them."""
        if self is NO_OUTPUT:
            return other
        mine, more = self.tables(), other.tables()
        return Output(
            **{name: pl.concat([mine[name], more[name]]) if more[name].height else mine[name] for name in mine}
        )

    def without_state_of(self, incidents: Collection[str]) -> Output:
        """All but the rows that say how these incidents and their tenants are now."""
        if not incidents:
            return self
        listed = list(incidents)
        return replace(
            self,
            incidents=self.incidents.filter(~pl.col("id").is_in(listed)),
            incident_tenants=self.incident_tenants.filter(~pl.col("incident_id").is_in(listed)),
        )

    def with_settled(self, incidents: Collection[str]) -> Output:
        """This with the rows of some incidents said to be final."""
        settled = pl.col("settled") | pl.col("id").is_in(list(incidents))
        return replace(self, incidents=self.incidents.with_columns(settled))

    def with_tenants(self, rows: pl.DataFrame) -> Output:
        """This with other rows of tenants."""
        return replace(self, incident_tenants=rows)


NO_OUTPUT = Output(empty(INCIDENTS), empty(INCIDENT_TENANTS), empty(TRANSITIONS), empty(ALERTS))


def reason(kind: int, policy: Policy) -> str:
    """A transition's cause in the words of the timeline (DESIGN S9)."""
    match kind:
        case 0:
            return f"Pattern matched: {policy.rule_id}"
        case 1:
            return f"No events for {_spoken(policy.recovery)}"
        case 2:
            return "New event during recovery"
        case 3:
            return f"Stable for {_spoken(policy.close)}"
        case 4:
            return "New event within cooldown"
        case _:
            return "Resolved manually"


def _spoken(micros: int) -> str:
    """A duration in the largest unit that divides it: 5 min, 90 s, 2 h."""
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s"), (1_000, "ms")):
        if micros % size == 0:
            return f"{micros // size} {unit}"
    return f"{micros} us"


@dataclass
class Emission:
    """Collects one run's rows. Incidents are referred to by a number into `ids`, tenants by one into `texts`.

    tracks: also which match is in which incident, for those from this offset on.
    """

    policies: Policies
    texts: Texts
    tracks: int | None = None
    ids: list[str] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    _incidents: list[tuple[Table, list[str], list[Name], list[str | None]]] = field(default_factory=list)
    _transitions: list[tuple[Ints, ...]] = field(default_factory=list)
    _alerts: list[tuple[Ints, ...]] = field(default_factory=list)
    _tenants: list[tuple[Ints, Table]] = field(default_factory=list)
    _members: list[tuple[NDArray[Any], ...]] = field(default_factory=list)

    def refer(self, ids: Sequence[str], names: Sequence[Name]) -> Ints:
        """Numbers for these incidents."""
        first = len(self.ids)
        self.ids += ids
        self.names += names
        return np.arange(first, first + len(ids))

    def incidents(self, rows: Table, ids: list[str], names: list[Name], sources: list[str | None]) -> None:
        """The present state of incidents, KEY rows and what stands beside them."""
        if len(rows):
            self._incidents.append((rows, ids, names, sources))

    def reported(self) -> dict[Name, list[str]]:
        """The ids of the incidents written so far, by key."""
        found: dict[Name, list[str]] = {}
        for _, ids, names, _ in self._incidents:
            for identity, name in zip(ids, names, strict=True):
                found.setdefault(name, []).append(identity)
        return found

    def states(self) -> dict[Name, dict[str, tuple[int, int]]]:
        """How many transitions and events each of the incidents written has, by key."""
        found: dict[Name, dict[str, tuple[int, int]]] = {}
        for rows, ids, names, _ in self._incidents:
            steps, events = rows["transitions"].tolist(), rows["events"].tolist()
            for identity, name, *counts in zip(ids, names, steps, events, strict=True):
                found.setdefault(name, {})[identity] = (counts[0], counts[1])
        return found

    def keys(self) -> Mapping[str, Name]:
        """The key of each incident that was referred to."""
        return dict(zip(self.ids, self.names, strict=True))

    def belong(self, rows: Table, at: Ints, ref: Ints, opened: Mask) -> None:
        """Say of the matches `rows[at]` (ROW) which incident they are in and which opened it."""
        offset = rows["offset"][at]
        new = (offset >= max(self.tracks or 0, 0)).nonzero()[0]  # one that was retained has no offset (−1) any more
        self._members.append((rows["partition"][at[new]], offset[new], ref[new], opened[new]))

    def members(self) -> pl.DataFrame:
        """The tracked matches that are in an incident: MEMBERS."""
        if not self._members:
            return empty(MEMBERS)
        partition, offset, ref, opened = (np.concatenate(parts) for parts in zip(*self._members, strict=True))
        rules = [name[1] for name in self.names]
        return framed(MEMBERS, partition, offset, pick(rules, ref), pick(self.ids, ref), opened)

    def transitions(self, ref: Ints, n: Ints, before: Any, after: Any, why: Any, at: Ints, events: Ints, window: Any,
                    policy: Ints) -> None:  # fmt: skip
        """Steps of timelines; scalars are repeated."""
        if len(ref):
            self._transitions.append(_alike(ref, n, before, after, why, at, events, window, policy))

    def alerts(self, ref: Ints, kind: Any, cycle: Ints, at: Ints, tenant: Any = NO_TEXT) -> None:
        """Intents to notify; `tenant`: its number where the alert is about one."""
        if len(ref):
            self._alerts.append(_alike(ref, kind, cycle, at, tenant))

    def tenants(self, ref: Ints, rows: Table) -> None:
        """Counts of an incident's tenants: TENANT."""
        if len(rows):
            self._tenants.append((ref, rows))

    def output(self, *, settled: bool) -> Output:
        """Everything collected, as rows of the store's tables in a fixed order."""
        if not (self._incidents or self._tenants or self._transitions or self._alerts):
            return NO_OUTPUT
        return Output(
            self._incident_frame(settled), self._tenant_frame(), self._transition_frame(settled),
            self.alert_frame(settled),
        )  # fmt: skip

    def _incident_frame(self, settled: bool) -> pl.DataFrame:
        if not self._incidents:
            return empty(INCIDENTS)
        rows = joined(*(part[0] for part in self._incidents))
        ids = [i for part in self._incidents for i in part[1]]
        names = [name for part in self._incidents for name in part[2]]
        sources = [source for part in self._incidents for source in part[3]]
        # An incident met in several rounds of one run: the last row holds.
        last = {identity: n for n, identity in enumerate(ids)}
        opened = rows["opened"].tolist()
        order = sorted(last.values(), key=lambda n: (opened[n], ids[n]))
        rows = take(rows, np.array(order))
        names = [names[n] for n in order]
        policies = self.policies.items
        opening = [policies[n] for n in rows["opening_policy"].tolist()]
        status = rows["status"]
        return framed(
            INCIDENTS,
            [ids[n] for n in order],
            [name[0] for name in names],
            [name[1] for name in names],
            [policy.version for policy in opening],
            [policy.stream for policy in opening],
            [sources[n] for n in order],
            [name[2] for name in names],
            pick(STATUS, status),
            pick(_CONFIDENCES, rows["confidence"]),
            pick(_SEVERITIES, rows["severity"]),
            rows["opened"],
            nullable(rows["recover"], status == RECOVERING),
            nullable(rows["close"], status == CLOSED),
            nullable(rows["reopened"], rows["reopened"] != NONE),
            rows["reopens"],
            rows["first"],
            rows["last"],
            rows["events"],
            rows["tenants"],
            nullable(rows["alerted"], rows["alerted"] != NONE),
            np.full(len(rows), settled),
        )

    def _tenant_frame(self) -> pl.DataFrame:
        if not self._tenants:
            return empty(INCIDENT_TENANTS)
        ref = np.concatenate([part[0] for part in self._tenants])
        rows = joined(*(part[1] for part in self._tenants))
        tenant = rows["tenant"]
        if len(self._tenants) > 1:
            # Met in several rounds of one run: the last row holds. An incident has one number a round.
            number = {identity: n for n, identity in enumerate(self.ids)}
            ref = np.array([number[identity] for identity in self.ids])[ref]
            last = last_of(tenant, ref)
            rows, ref, tenant = take(rows, last), ref[last], tenant[last]
        used, which = distinct(tenant, len(self.texts))
        order = order_by(ranks(self.texts.named(used))[which], ranks(self.ids)[ref])
        rows, ids = take(rows, order), pick(self.ids, ref[order])
        tenants = self.texts.column(rows["tenant"])
        return framed(INCIDENT_TENANTS, ids, tenants, rows["count"], rows["first"], rows["last"])

    def _transition_frame(self, settled: bool) -> pl.DataFrame:
        if not self._transitions:
            return empty(TRANSITIONS)
        columns = [np.concatenate(parts) for parts in zip(*self._transitions, strict=True)]
        order = order_of(columns[5], pick(self.ids, columns[0]), columns[1])
        ref, n, before, after, why, at, events, window, policy = (column[order] for column in columns)
        policies = self.policies.items
        causes, which = np.unique(why * len(policies) + policy, return_inverse=True)
        texts = [reason(cause // len(policies), policies[cause % len(policies)]) for cause in causes.tolist()]
        return framed(
            TRANSITIONS,
            pick(self.ids, ref),
            n,
            pick(_FROM, before),
            pick(STATUS, after),
            pick(texts, which),
            at,
            events,
            nullable(window, window != NO_COUNT),
            pick([p.version for p in policies], policy),
            np.full(len(ref), settled),
        )

    def alert_frame(self, settled: bool) -> pl.DataFrame:
        """The alerts collected: ALERTS."""
        if not self._alerts:
            return empty(ALERTS)
        columns = [np.concatenate(parts) for parts in zip(*self._alerts, strict=True)]
        ids = self._alert_ids(*columns)
        order = order_of(columns[3], ids)
        ref, kind, cycle, at, tenant = (column[order] for column in columns)
        workspaces = [name[0] for name in self.names]
        return framed(
            ALERTS,
            ids[order] if len(ids) > 1 else ids,
            pick(self.ids, ref),
            pick(workspaces, ref),
            pick(KINDS, kind),
            cycle,
            self.texts.column(tenant),
            at,
            np.full(len(ref), settled),
        )

    def _alert_ids(self, ref: Ints, kind: Ints, cycle: Ints, at: Ints, tenant: Ints) -> pl.Series:
        """The same words as `identity.alert_id`, many at a time."""
        if len(ref) <= FEW:
            rows = zip(ref.tolist(), kind.tolist(), cycle.tolist(), tenant.tolist(), strict=True)
            return pl.Series(values=[alert_id(self.ids[r], KINDS[k], c, self.texts[t]) for r, k, c, t in rows])
        parts = [pick(self.ids, ref), pick(KINDS, kind), pl.Series(cycle), self.texts.column(tenant)]
        columns = pl.DataFrame([part.alias(name) for name, part in zip("ikct", parts, strict=True)])
        return columns.select(pl.concat_str("i", "k", "c", "t", separator=".", ignore_nulls=True)).to_series()


_CONFIDENCES = [CONFIDENCES.get(n) for n in range(3)]
_SEVERITIES = [*SEVERITIES, None]
_FROM = [*STATUS, None]


def _alike(*columns: Any) -> tuple[Ints, ...]:
    """The columns as integers, scalars repeated as often as the first one is long."""
    size = len(columns[0])
    return tuple(
        column.astype(np.int64, copy=False) if isinstance(column, np.ndarray) else np.full(size, column, np.int64)
        for column in columns
    )
