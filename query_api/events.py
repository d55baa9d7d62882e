"""Which events make up an incident?

Those that the incident's rule claims under its group, from the first one counted to the last. A rule that claims an
event beside another one has its claim in `claims`.
"""

import polars as pl
from duckdb import DuckDBPyConnection

from query_api.fetch import fetch
from query_api.incidents import Incident

_OF_INCIDENT = """
    SELECT e.* FROM events e
    WHERE e.workspace = $workspace AND e."at" BETWEEN $first AND $last
      AND ((e.rule_id = $rule AND e.group_key = $group_key) OR EXISTS (
            FROM claims c WHERE c.partition = e.partition AND c."offset" = e."offset"
             AND c.workspace = $workspace AND c.rule_id = $rule AND c.group_key = $group_key))
    ORDER BY e."at", e.partition, e."offset"
    LIMIT $limit
"""


def incident_events(con: DuckDBPyConnection, incident: Incident, limit: int | None = None) -> pl.DataFrame:
    """Return the incident's events in the order they counted: EVENTS columns. Empty where events were not stored."""
    return fetch(
        con,
        _OF_INCIDENT,
        workspace=incident.workspace,
        rule=incident.rule_id,
        group_key=incident.group_key,
        first=incident.first_event_at,
        last=incident.last_event_at,
        limit=limit,
    )


def positions(events: pl.DataFrame) -> list[str]:
    """Return each event's position in the log, `partition:offset`."""
    return [f"{partition}:{offset}" for partition, offset in events.select("partition", "offset").iter_rows()]
