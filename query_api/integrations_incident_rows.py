"""An incident as the Integrations API shows it, from a row of the store.

The keys of what is still live serve one equality with a constant, nothing else: so an incident is looked up by its id
alone, and its workspace is checked on the row that was found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from operators.rules import Rule
from query_api.envelope import ApiError, ErrorCode
from query_api.incidents import CHRONIC_REOPENS
from query_api.integrations_rules import pattern_name
from query_api.integrations_wire import clean, rfc3339

COLUMNS = """
    id, workspace, source, rule_id, status, confidence, epoch_us(opened_at), epoch_us(recovering_at),
    epoch_us(closed_at), epoch_us(reopened_at), reopen_count, event_count, tenant_count
"""
_OWNER = "SELECT workspace FROM incidents WHERE id = $id"  # in half the time of all columns
_ONE = f"SELECT {COLUMNS}, group_key, epoch_us(first_event_at), epoch_us(last_event_at) FROM incidents WHERE id = $id"

EXAMPLE = {
    "id": "inc_4hq7c2mzk6v3xw5tdn2yr7ueoa",
    "workspaceId": "3fa1c2d4-9b1e-4c1d-8f57-0f7f5d0a1b2c",
    "integrationKey": "payments-service",
    "patternId": "auth_failure",
    "patternName": "Auth Failure",
    "status": "Open",
    "confidence": "High",
    "openedAt": "2025-03-26T08:14:22Z",
    "recoveringAt": None,
    "closedAt": None,
    "reopenedAt": None,
    "reopenCount": 0,
    "eventCount": 14,
    "tenantCount": 3,
    "isChronic": False,
}


@dataclass(frozen=True, slots=True)
class Found:
    """An incident of the caller's workspace. first, last: of its events, µs."""

    row: tuple[Any, ...]
    group_key: str
    first: int
    last: int

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.row[0])

    @property
    def rule_id(self) -> str:
        """Its pattern."""
        return str(self.row[3])

    @property
    def status(self) -> str:
        """Open, Recovering or Closed."""
        return str(self.row[4])

    @property
    def event_count(self) -> int:
        """How many events it has."""
        return int(self.row[11])


def find(con: DuckDBPyConnection, workspace: str, incident_id: str) -> Found:
    """Return an incident of this workspace. Raises ApiError NotFound, also where it is another one's."""
    row = con.execute(_ONE, {"id": clean(incident_id)}).fetchone()
    if row is None or row[1] != workspace:
        raise ApiError(ErrorCode.NOT_FOUND, "Incident not found.")
    return Found(row[:13], row[13], row[14], row[15])


def check_owner(con: DuckDBPyConnection, workspace: str, incident_id: str) -> str:
    """Return the id as the store has it. Raises ApiError NotFound, also where the incident is another workspace's."""
    sought = clean(incident_id)
    row = con.execute(_OWNER, {"id": sought}).fetchone()
    if sought is None or row is None or row[0] != workspace:
        raise ApiError(ErrorCode.NOT_FOUND, "Incident not found.")
    return sought


def wire(row: tuple[Any, ...], rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Return the fields of `integrations_schema.IncidentSummary` from a row with COLUMNS."""
    (ident, workspace, source, rule_id, status, confidence, opened, recovering, closed, reopened, reopens, events,
     tenants) = row  # fmt: skip
    return {
        "id": ident,
        "workspaceId": workspace,
        "integrationKey": source,
        "patternId": rule_id,
        "patternName": pattern_name(rules, rule_id),
        "status": status,
        "confidence": confidence,
        "openedAt": rfc3339(opened),
        "recoveringAt": rfc3339(recovering),
        "closedAt": rfc3339(closed),
        "reopenedAt": rfc3339(reopened),
        "reopenCount": reopens,
        "eventCount": events,
        "tenantCount": tenants,
        "isChronic": reopens >= CHRONIC_REOPENS,
    }
