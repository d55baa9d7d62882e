"""What happened to an incident, step by step, whom it hit, and what was announced?"""

from datetime import datetime

from duckdb import DuckDBPyConnection
from pydantic import BaseModel

from query_api.fetch import fetch
from query_api.incidents import Incident

_TRANSITIONS = "SELECT * EXCLUDE (incident_id) FROM transitions WHERE incident_id = $id ORDER BY n"
_TENANTS = """
    SELECT tenant, event_count, first_seen_at, last_seen_at FROM incident_tenants
    WHERE incident_id = $id ORDER BY event_count DESC, tenant
"""
_ALERTS = """
    SELECT id, kind, cycle, tenant, "at", settled FROM alerts
    WHERE incident_id = $id ORDER BY "at", cycle, kind, tenant
"""


class Transition(BaseModel):
    """One step. `window_count`: the matches in the rule's window; null where a timer or a person caused it."""

    n: int
    from_status: str | None
    to_status: str
    reason: str
    at: datetime
    event_count: int
    window_count: int | None
    rule_version: str | None
    settled: bool


class AffectedTenant(BaseModel):
    """A tenant that an incident hit."""

    tenant: str
    event_count: int
    first_seen_at: datetime
    last_seen_at: datetime


class Alert(BaseModel):
    """An intent to notify."""

    id: str
    kind: str
    cycle: int
    tenant: str | None
    at: datetime
    settled: bool


class Timeline(BaseModel):
    """An incident and all that is known of its course."""

    incident: Incident
    transitions: list[Transition]
    tenants: list[AffectedTenant]
    alerts: list[Alert]


def timeline(con: DuckDBPyConnection, incident: Incident) -> Timeline:
    """Return the course of `incident`: steps by number, tenants by their share, alerts by time."""
    return Timeline(
        incident=incident,
        transitions=[Transition(**row) for row in fetch(con, _TRANSITIONS, id=incident.id).to_dicts()],
        tenants=[AffectedTenant(**row) for row in fetch(con, _TENANTS, id=incident.id).to_dicts()],
        alerts=[Alert(**row) for row in fetch(con, _ALERTS, id=incident.id).to_dicts()],
    )
