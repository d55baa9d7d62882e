"""A small store, made by hand, for the tests that read one: an hour of one workspace and its incidents."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from connectors import rulefiles
from connectors.schema import TABLES
from connectors.store import Position, Store
from operators.policy import definition, effective, policy_of

START = datetime(2025, 3, 26, 8, 0, tzinfo=UTC)
AUTH = "inc_auth" + "a" * 22
TIMEOUT = "inc_time" + "b" * 22
VIP = "inc_timf" + "c" * 22
VERSIONS = {rule.id: policy_of(rule).version for rule in rulefiles.builtin()}


def t(minute: float) -> datetime:
    """`minute` minutes into the hour."""
    return START + timedelta(minutes=minute)


def rows(table: str, *values: Mapping[str, Any]) -> pl.DataFrame:
    """Rows of a table; what is not said is null."""
    columns = dict(TABLES[table].columns)
    return pl.DataFrame([[row.get(name) for name in columns] for row in values], schema=columns, orient="row")


def event(offset: int, minute: float, source: str, kind: str, rule: str | None = None, **more: Any) -> dict[str, Any]:
    """A row of `events` at the offset of partition p."""
    at = t(minute)
    base = {"time": at, "ingested_at": at, "at": at, "id": f"e{offset}", "workspace": "default", "late": False}
    place = {"stream": "integration", "source": source, "type": kind, "partition": "p", "offset": offset}
    claim = {"rule_id": rule, "group_key": source if rule else None, "confidence": "High" if rule else None}
    return {**base, **place, **claim, "attributes": '{"n":1}', **more}


def incident(id: str, rule: str, source: str, opened: float, last: float, events: int, **more: Any) -> dict[str, Any]:
    """A closed row of `incidents` whose first event is its opening one."""
    times = {"opened_at": t(opened), "first_event_at": t(opened), "last_event_at": t(last), "closed_at": t(last + 15)}
    what = {"workspace": "default", "rule_id": rule, "rule_version": VERSIONS.get(rule, "0"), "stream": "integration"}
    state = {"status": "Closed", "confidence": "High", "severity": "high", "reopen_count": 0, "tenant_count": 0}
    return {"id": id, **what, **state, **times, "source": source, "group_key": source, "event_count": events,
            "settled": True, **more}  # fmt: skip


def step(
    id: str, n: int, minute: float, to: str, reason: str, events: int, window: int | None = None
) -> dict[str, Any]:
    """A row of `transitions`."""
    before = {"Open": "Recovering", "Recovering": "Open", "Closed": "Recovering"}[to] if n else None
    return {"incident_id": id, "n": n, "from_status": before, "to_status": to, "reason": reason, "at": t(minute),
            "event_count": events, "window_count": window, "rule_version": "v", "settled": True}  # fmt: skip


EVENTS: Sequence[dict[str, Any]] = (
    event(0, 0, "payments", "auth_failed", "auth_failure", tenant="acme", code="401"),
    event(1, 1, "payments", "auth_failed", "auth_failure", tenant="acme"),
    event(2, 2, "orders", "request_timeout", "timeout_spike"),  # too early: 4 minutes before the spike
    *(event(3 + i, 6 + i / 10, "orders", "request_timeout", "timeout_spike", tenant="beta") for i in range(5)),
    *(event(8 + i, 6 + i / 10, "search", "request_timeout", "timeout_spike") for i in range(3)),
    event(11, 7, "cart", "service_unavailable", "server_error_spike", code="503"),
    event(12, 8, "payments", "auth_failed", "auth_failure", tenant="beta"),
    event(13, 9, "idle", "login"),
)


def tables() -> dict[str, pl.DataFrame]:
    """Everything the small store holds."""
    return {
        "events": rows("events", *EVENTS),
        "claims": rows("claims", *({"partition": "p", "offset": n, "workspace": "default", "rule_id": "vip",
                                    "group_key": "orders", "confidence": "High"} for n in (5, 6))),
        "incidents": rows(
            "incidents",
            incident(AUTH, "auth_failure", "payments", 0, 8, 3, tenant_count=2, severity="critical"),
            incident(TIMEOUT, "timeout_spike", "orders", 6.4, 6.4, 5, first_event_at=t(6), tenant_count=1,
                     status="Open", closed_at=None, reopen_count=3),
            incident(VIP, "vip", "orders", 6.2, 6.3, 2, severity=None, status="Recovering", closed_at=None),
        ),
        "incident_tenants": rows(
            "incident_tenants",
            {"incident_id": AUTH, "tenant": "acme", "event_count": 2, "first_seen_at": t(0), "last_seen_at": t(1)},
            {"incident_id": AUTH, "tenant": "beta", "event_count": 1, "first_seen_at": t(8), "last_seen_at": t(8)},
            {"incident_id": TIMEOUT, "tenant": "beta", "event_count": 5, "first_seen_at": t(6), "last_seen_at": t(6.4)},
        ),
        "transitions": rows(
            "transitions",
            step(AUTH, 0, 0, "Open", "Pattern matched: auth_failure", 1, 1),
            step(AUTH, 1, 6, "Recovering", "No events for 5 min", 2),
            step(AUTH, 2, 8, "Open", "New event during recovery", 3, 1),
            step(AUTH, 3, 13, "Recovering", "No events for 5 min", 3),
            step(AUTH, 4, 20, "Closed", "Resolved manually", 3),
            step(TIMEOUT, 0, 6.4, "Open", "Pattern matched: timeout_spike", 5, 5),
        ),
        "alerts": rows(
            "alerts",
            {"id": "alt_1", "incident_id": AUTH, "workspace": "default", "kind": "opened", "cycle": 0, "at": t(0),
             "settled": True},
            {"id": "alt_2", "incident_id": AUTH, "workspace": "default", "kind": "blast_radius_expanded", "cycle": 0,
             "tenant": "beta", "at": t(8), "settled": True},
        ),
        "rules": pl.DataFrame(
            [(rule.id, VERSIONS[rule.id], definition(effective(rule))) for rule in rulefiles.builtin()],
            schema=dict(TABLES["rules"].columns), orient="row",
        ),
        "dead_letters": rows(
            "dead_letters", {"partition": "p", "offset": 14, "raw": "{", "error": "not JSON", "at": t(9)}
        ),
    }  # fmt: skip


def make_store(data: Path) -> Path:
    """Write the small store into `data`; return `data`."""
    with Store.create(data / "store.duckdb", shards=4) as store:
        store.flush(tables(), {"p": Position(15, 0)})
    return data
