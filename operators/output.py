"""What a run of the engine writes: rows of the store's tables, collected as columns and named at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.events import DAY, HOUR, MINUTE, SECOND, SEVERITIES, TIMESTAMP
from operators.keys import CLOSED, NONE, RECOVERING, STATUS, Table
from operators.matches import CONFIDENCES, Name
from operators.policies import Policies
from operators.policy import Policy

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

    def with_tenants(self, rows: pl.DataFrame) -> Output:
        """This with other rows of tenants."""
        return replace(self, incident_tenants=rows)


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
    """Collects one run's rows. Incidents are referred to by a number into `ids`.

    tracks: also which match is in which incident; the rows of the run then have the columns `partition` and `offset`.
    """

    policies: Policies
    tracks: bool = False
    ids: list[str] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)
    _incidents: list[tuple[Table, list[str], list[Name], list[str | None]]] = field(default_factory=list)
    _transitions: list[tuple[Ints, ...]] = field(default_factory=list)
    _alerts: list[pl.DataFrame] = field(default_factory=list)
    _tenants: list[pl.DataFrame] = field(default_factory=list)
    _members: list[pl.DataFrame] = field(default_factory=list)

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

    def belong(self, rows: pl.DataFrame, ref: Ints, opened: Any) -> None:
        """Say of some matches, rows with `partition` and `offset`, which incident they are in and which opened it."""
        if len(ref):
            where = rows.select("partition", "offset")
            self._members.append(where.with_columns(pl.Series("ref", ref), pl.Series("opened", opened)))

    def members(self) -> pl.DataFrame:
        """The new matches that are in an incident: MEMBERS."""
        if not self._members:
            return pl.DataFrame(schema=MEMBERS)
        rows = pl.concat(self._members).filter(pl.col("offset").is_not_null())
        ids = pl.Series(self.ids, dtype=pl.String)
        rules = pl.Series([name[1] for name in self.names], dtype=pl.String)
        ref = rows["ref"]
        return rows.with_columns(rule_id=rules.gather(ref), incident_id=ids.gather(ref)).select(MEMBERS.keys())

    def transitions(self, ref: Ints, n: Ints, before: Any, after: Any, why: Any, at: Ints, events: Ints, window: Any,
                    policy: Ints) -> None:  # fmt: skip
        """Steps of timelines; scalars are repeated."""
        if len(ref):
            columns = np.broadcast_arrays(ref, n, before, after, why, at, events, window, policy)
            self._transitions.append(tuple(np.asarray(column, np.int64) for column in columns))

    def alerts(self, ref: Ints, kind: Any, cycle: Ints, at: Ints, tenant: pl.Series | None = None) -> None:
        """Intents to notify; `tenant` where the alert is about one."""
        if len(ref):
            who = pl.Series("tenant", [None], dtype=pl.String).new_from_index(0, len(ref)) if tenant is None else tenant
            kinds = np.broadcast_to(np.asarray(kind, np.int64), ref.shape)
            self._alerts.append(pl.DataFrame({"ref": ref, "kind": kinds, "cycle": cycle, "at": at, "tenant": who}))

    def tenants(self, rows: pl.DataFrame) -> None:
        """Counts of tenants: columns ref, tenant, count, first, last."""
        if rows.height:
            self._tenants.append(rows)

    def output(self, *, settled: bool) -> Output:
        """Everything collected, as rows of the store's tables in a fixed order."""
        ids = pl.Series("ids", self.ids, dtype=pl.String)
        flag = pl.lit(settled).alias("settled")
        return Output(
            self._incident_frame(settled),
            self._tenant_frame(ids),
            self._transition_frame(ids).with_columns(flag).select(TRANSITIONS.keys()),
            self._alert_frame(ids).with_columns(flag).select(ALERTS.keys()),
        )

    def _incident_frame(self, settled: bool) -> pl.DataFrame:
        if not self._incidents:
            return pl.DataFrame(schema=INCIDENTS)
        rows = np.concatenate([part[0] for part in self._incidents])
        names = [name for part in self._incidents for name in part[2]]
        policies = self.policies.items
        opening = [policies[n] for n in rows["opening_policy"].tolist()]
        status = rows["status"]
        count = np.int64
        frame = pl.DataFrame(
            {
                "id": [i for part in self._incidents for i in part[1]],
                "workspace": [name[0] for name in names],
                "rule_id": [name[1] for name in names],
                "rule_version": [policy.version for policy in opening],
                "stream": [policy.stream for policy in opening],
                "source": [source for part in self._incidents for source in part[3]],
                "group_key": [name[2] for name in names],
                "status": _pick(STATUS, status),
                "confidence": _pick([CONFIDENCES.get(n) for n in range(3)], rows["confidence"]),
                "severity": _pick([*SEVERITIES, None], rows["severity"]),
                "opened_at": _times(rows["opened"]),
                "recovering_at": _times(np.where(status == RECOVERING, rows["recover"], NONE)),
                "closed_at": _times(np.where(status == CLOSED, rows["close"], NONE)),
                "reopened_at": _times(rows["reopened"]),
                "reopen_count": rows["reopens"].astype(count),
                "first_event_at": _times(rows["first"]),
                "last_event_at": _times(rows["last"]),
                "event_count": rows["events"].astype(count),
                "tenant_count": rows["tenants"].astype(count),
                "alerted_at": _times(rows["alerted"]),
                "settled": np.full(len(rows), settled),
            },
            schema=INCIDENTS,
        )
        # An incident met in several rounds of one run: the last row holds.
        return frame.unique("id", keep="last", maintain_order=True).sort("opened_at", "id")

    def _tenant_frame(self, ids: pl.Series) -> pl.DataFrame:
        if not self._tenants:
            return pl.DataFrame(schema=INCIDENT_TENANTS)
        rows = pl.concat(self._tenants)
        return (
            rows.select(
                ids.gather(rows["ref"]).alias("incident_id"),
                "tenant",
                pl.col("count").cast(pl.Int64).alias("event_count"),
                pl.col("first").cast(TIMESTAMP).alias("first_seen_at"),
                pl.col("last").cast(TIMESTAMP).alias("last_seen_at"),
            )
            .unique(["incident_id", "tenant"], keep="last", maintain_order=True)
            .sort("incident_id", "tenant")
        )

    def _transition_frame(self, ids: pl.Series) -> pl.DataFrame:
        if not self._transitions:
            return pl.DataFrame(schema=TRANSITIONS)
        columns = [np.concatenate(parts) for parts in zip(*self._transitions, strict=True)]
        ref, n, before, after, why, at, events, window, policy = columns
        policies = self.policies.items
        causes, which = np.unique(why * len(policies) + policy, return_inverse=True)
        texts = [reason(cause // len(policies), policies[cause % len(policies)]) for cause in causes.tolist()]
        counts = pl.Series("window_count", window)
        return pl.DataFrame(
            {
                "incident_id": ids.gather(ref),
                "n": n,
                "from_status": _pick([*STATUS, None], before),
                "to_status": _pick(STATUS, after),
                "reason": _pick(texts, which),
                "at": _times(at),
                "event_count": events,
                "window_count": counts.set(counts == NO_COUNT, None),
                "rule_version": _pick([p.version for p in policies], policy),
            }
        ).sort("at", "incident_id", "n")

    def _alert_frame(self, ids: pl.Series) -> pl.DataFrame:
        if not self._alerts:
            return pl.DataFrame(schema=ALERTS)
        rows = pl.concat(self._alerts)
        workspaces = pl.Series("workspace", [name[0] for name in self.names], dtype=pl.String)
        named = rows.select(
            ids.gather(rows["ref"]).alias("incident_id"),
            workspaces.gather(rows["ref"]).alias("workspace"),
            _pick(KINDS, rows["kind"].to_numpy()).alias("kind"),
            "cycle",
            "tenant",
            pl.col("at").cast(TIMESTAMP),
        )
        # The same words as `identity.alert_id`, a column at a time.
        parts = pl.concat_str("incident_id", "kind", "cycle", "tenant", separator=".", ignore_nulls=True)
        return named.with_columns(parts.alias("id")).sort("at", "id")


def _pick(values: Sequence[str | None], index: Any) -> pl.Series:
    """values[index] as a column; −1 picks the last."""
    where = np.asarray(index, np.int64)
    texts = pl.Series(values=list(values), dtype=pl.String)
    return texts.gather(np.where(where < 0, len(values) - 1, where))


def _times(micros: Ints) -> pl.Series:
    times = pl.Series(values=np.asarray(micros, np.int64))
    return times.set(times == NONE, None).cast(TIMESTAMP)
