"""Which incidents were there? And: which one does this id, or the beginning of one, mean?"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from duckdb import DuckDBPyConnection
from pydantic import BaseModel, ConfigDict, Field, computed_field

from query_api.fetch import QueryError, fetch

STATUSES = ("Open", "Recovering", "Closed")
CHRONIC_REOPENS = 3
_PREFIX = "inc_"

# A null parameter filters nothing.
_FILTERS = """
    FROM incidents i
    WHERE ($status IS NULL OR list_contains($status, i.status))
      AND ($rule IS NULL OR list_contains($rule, i.rule_id))
      AND ($severity IS NULL OR list_contains($severity, i.severity))
      AND ($source IS NULL OR i.source = $source)
      AND ($workspace IS NULL OR i.workspace = $workspace)
      AND ($start IS NULL OR i.opened_at >= $start)
      AND ($end IS NULL OR i.opened_at < $end)
      AND ($reopens IS NULL OR i.reopen_count >= $reopens)
      AND ($tenant IS NULL OR EXISTS (
            FROM incident_tenants t WHERE t.incident_id = i.id AND t.tenant = $tenant))
"""
_NEWEST = f"SELECT i.* {_FILTERS} ORDER BY i.opened_at DESC, i.id LIMIT $limit"
_COUNT = f"SELECT count(*) AS n {_FILTERS}"
_BY_PREFIX = "SELECT * FROM incidents WHERE starts_with(id, $prefix) ORDER BY id LIMIT 6"


class Incident(BaseModel):
    """A row of `incidents`, with what follows from it."""

    model_config = ConfigDict(frozen=True)

    id: str
    workspace: str
    rule_id: str
    rule_version: str | None
    stream: str | None
    source: str | None
    group_key: str
    status: str
    confidence: str | None
    severity: str | None
    opened_at: datetime
    recovering_at: datetime | None
    closed_at: datetime | None
    reopened_at: datetime | None
    reopen_count: int
    first_event_at: datetime
    last_event_at: datetime
    event_count: int
    tenant_count: int
    alerted_at: datetime | None
    settled: bool

    @computed_field  # type: ignore[prop-decorator]
    @property
    def chronic(self) -> bool:
        """True from the third reopening on."""
        return self.reopen_count >= CHRONIC_REOPENS

    @property
    def short_id(self) -> str:
        """Enough of the id to type."""
        return self.id[: len(_PREFIX) + 8]

    @property
    def lasted(self) -> timedelta:
        """From opening to closing, or to the last event while it is not closed."""
        return (self.closed_at or self.last_event_at) - self.opened_at


class IncidentFilter(BaseModel):
    """What to list. Lists mean any of; `start` is inclusive, `end` exclusive, both about `opened_at`."""

    status: list[str] | None = None
    rule: list[str] | None = None
    severity: list[str] | None = None
    source: str | None = None
    workspace: str | None = None
    tenant: str | None = None
    chronic: bool = False
    start: datetime | None = None
    end: datetime | None = None
    limit: Annotated[int, Field(ge=1)] = 50

    def parameters(self) -> dict[str, object]:
        """Return the values of the filter's parameters."""
        values = self.model_dump(exclude={"chronic", "limit"})
        return {**values, "reopens": CHRONIC_REOPENS if self.chronic else None}


def find_incidents(con: DuckDBPyConnection, wanted: IncidentFilter) -> tuple[list[Incident], int]:
    """Return the newest incidents that pass the filter, newest first, and how many pass it in all."""
    values = wanted.parameters()
    rows = fetch(con, _NEWEST, **values, limit=wanted.limit)
    return [Incident(**row) for row in rows.to_dicts()], int(fetch(con, _COUNT, **values)["n"][0])


def get_incident(con: DuckDBPyConnection, given: str) -> Incident:
    """Return the one incident whose id begins with `given`, with `inc_` or without. Raises QueryError."""
    text = given.strip().lower()
    if not text.removeprefix(_PREFIX):
        raise QueryError("which incident? Give the beginning of its id")
    prefix = text if text.startswith(_PREFIX) else _PREFIX + text
    found: Sequence[Incident] = [Incident(**row) for row in fetch(con, _BY_PREFIX, prefix=prefix).to_dicts()]
    if not found:
        raise QueryError(f"no incident has an id that begins with {given}")
    if len(found) > 1 and found[0].id != prefix:
        ids = ", ".join(incident.id for incident in found[:5])
        raise QueryError(f"{given} begins the ids of several incidents: {ids}{', …' if len(found) > 5 else ''}")
    return found[0]
