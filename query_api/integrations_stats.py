"""GET /workspaces/stats: how is this workspace doing?

- openIncidents, recoveringIncidents: now.
- closedIncidents, mttrSeconds: incidents closed in the window; the mean of closed_at − opened_at.
- reopenRate: of the incidents opened in the window that have been closed at least once, the share that came back.
- chronicIncidents, topPatterns: incidents opened in the window; chronic: reopened three times or more.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Query, Response

from operators.events import DAY
from query_api.caller import CallerDep
from query_api.envelope import ok
from query_api.incidents import CHRONIC_REOPENS
from query_api.integrations_rules import pattern_name, rules_of
from query_api.integrations_schema import Stats, answers
from query_api.integrations_wire import READ_SECONDS, as_time, invalid, now, parse_instant, rfc3339, within
from query_api.reading import read
from query_api.services import ServicesDep

router = APIRouter()

TOP_PATTERNS = 5
LONGEST_DAYS = 3_650

_FIGURES = f"""
    SELECT
        count(*) FILTER (status = 'Open'),
        count(*) FILTER (status = 'Recovering'),
        count(*) FILTER (closed_at >= $start AND closed_at < $end),
        avg(epoch_us(closed_at) - epoch_us(opened_at)) FILTER (closed_at >= $start AND closed_at < $end) / 1e6,
        count(*) FILTER (opened AND (reopen_count > 0 OR status = 'Closed')),
        count(*) FILTER (opened AND reopen_count > 0),
        count(*) FILTER (opened AND reopen_count >= {CHRONIC_REOPENS})
    FROM (SELECT *, opened_at >= $start AND opened_at < $end AS opened FROM incidents WHERE workspace = $workspace)
"""
_TOP = f"""
    SELECT rule_id, count(*) AS n FROM incidents
    WHERE workspace = $workspace AND opened_at >= $start AND opened_at < $end
    GROUP BY rule_id ORDER BY n DESC, rule_id LIMIT {TOP_PATTERNS}
"""

_EXAMPLE = {
    "openIncidents": 3,
    "recoveringIncidents": 1,
    "closedIncidents": 42,
    "mttrSeconds": 1284.5,
    "reopenRate": 0.12,
    "chronicIncidents": 2,
    "topPatterns": [{"patternId": "auth_failure", "patternName": "Auth Failure", "incidentCount": 17}],
    "window": {"from": "2025-02-24T08:00:00Z", "to": "2025-03-26T08:00:00Z"},
}


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time in µs: from `start`, to before `end`."""

    start: int
    end: int


def span_of(start: str | None, end: str | None, days: int) -> Span:
    """Return the window asked for: `days` up to `end`, or from `start`. Raises ApiError ValidationError."""
    until = parse_instant(end, "to")
    until = now() if until is None else until
    since = parse_instant(start, "from")
    since = within(until - days * DAY) if since is None else since
    if since > until:
        raise invalid("from must not lie after to.")
    return Span(since, until)


@router.get(
    "/workspaces/stats",
    summary="Open incidents, MTTR, reopen rate, top patterns",
    response_model=None,
    responses=answers(Stats, _EXAMPLE),
)
async def stats(
    caller: CallerDep,
    services: ServicesDep,
    days: Annotated[int, Query(ge=1, le=LONGEST_DAYS, description="The window ends now, or at `to`.")] = 30,
    start: Annotated[str | None, Query(alias="from", description="RFC 3339; instead of days.")] = None,
    end: Annotated[str | None, Query(alias="to", description="RFC 3339, exclusive.")] = None,
) -> Response:
    """Figures of the workspace. Those of now are the same in every window; null where there is nothing to divide by."""
    span = span_of(start, end, days)
    values = {"workspace": caller.workspace, "start": as_time(span.start), "end": as_time(span.end)}

    def question(con: DuckDBPyConnection) -> tuple[tuple[Any, ...], list[tuple[str, int]]]:
        figures = con.execute(_FIGURES, values).fetchone() or (0, 0, 0, None, 0, 0, 0)
        return figures, con.execute(_TOP, values).fetchall()

    figures, top = await read(services.pipeline, question, seconds=READ_SECONDS)
    open_now, recovering, closed, mttr, ended, reopened, chronic = figures
    rules = rules_of(services)
    return ok(
        {
            "openIncidents": open_now,
            "recoveringIncidents": recovering,
            "closedIncidents": closed,
            "mttrSeconds": mttr,
            "reopenRate": reopened / ended if ended else None,
            "chronicIncidents": chronic,
            "topPatterns": [
                {"patternId": rule, "patternName": pattern_name(rules, rule), "incidentCount": count}
                for rule, count in top
            ],
            "window": {"from": rfc3339(span.start), "to": rfc3339(span.end)},
        }
    )
