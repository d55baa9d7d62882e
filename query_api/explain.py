"""Why did this incident open, and why did each step follow? (`query_api.why_not`: why did one not open?)"""

from typing import Any, Literal

import polars as pl
from duckdb import DuckDBPyConnection
from pydantic import BaseModel

from operators.rules import Rule
from query_api.events import incident_events, positions
from query_api.fetch import QueryError
from query_api.incidents import Incident
from query_api.rules import stored_rule, threshold_text
from query_api.timeline import Transition, timeline


class Cause(BaseModel):
    """A transition with its cause: an event (and where it lies), a timer after the last event, or a command."""

    transition: Transition
    kind: Literal["event", "timer", "command"]
    position: str | None  # of the event; for a timer of the last event before it; null where events were not stored


class CountedEvent(BaseModel):
    """An event that was counted when the incident opened."""

    position: str
    at: Any
    source: str | None
    type: str | None
    code: str | None
    tenant: str | None
    late: bool


class Explanation(BaseModel):
    """Why an incident opened. `counted`: the events in the window, the last one opened it; empty if none are stored."""

    incident: Incident
    threshold: str
    definition: dict[str, Any] | None  # null where the rule is not in the store
    window_count: int | None
    counted: list[CountedEvent]
    events_stored: bool
    causes: list[Cause]


def explain_incident(con: DuckDBPyConnection, incident: Incident) -> Explanation:
    """Return why `incident` opened and what caused each of its steps."""
    steps = timeline(con, incident).transitions
    events = incident_events(con, incident)
    rule = _rule(con, incident)
    opening = steps[0].window_count if steps else None
    return Explanation(
        incident=incident,
        threshold=threshold_text(rule.threshold.spec if rule.threshold else None) if rule else "unknown",
        definition=rule.model_dump(mode="json", exclude_none=True) if rule else None,
        window_count=opening,
        # The events of an incident in the order they counted: the window's are the first ones.
        counted=_counted(events.head(opening or 1)),
        events_stored=not events.is_empty(),
        causes=[_cause(step, positions(events)) for step in steps],
    )


def _rule(con: DuckDBPyConnection, incident: Incident) -> Rule | None:
    try:
        return stored_rule(con, incident.rule_id, incident.rule_version)[1]
    except QueryError:
        return None


def _cause(step: Transition, places: list[str]) -> Cause:
    # `event_count` numbers the incident's events up to this step, so it names the one that came last.
    last = step.event_count - 1
    kind: Literal["event", "timer", "command"] = "event"
    if step.window_count is None:
        kind = "command" if step.reason == "Resolved manually" else "timer"
    return Cause(transition=step, kind=kind, position=places[last] if 0 <= last < len(places) else None)


def _counted(events: pl.DataFrame) -> list[CountedEvent]:
    columns = events.select("at", "source", "type", "code", "tenant", "late").to_dicts()
    return [CountedEvent(position=place, **row) for place, row in zip(positions(events), columns, strict=True)]
