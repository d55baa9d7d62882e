"""GET /incidents: which incidents are there, newest first?

Two statements. The first looks at one narrow column of what passes the filters: how many, and between which opening
times the page lies. The second reads all columns of just that span. Sorting whole rows, or their ids, took twice as
long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Query, Response

from query_api.caller import CallerDep
from query_api.envelope import ok
from query_api.incidents import CHRONIC_REOPENS
from query_api.integrations_incident_rows import COLUMNS, EXAMPLE, wire
from query_api.integrations_rules import rules_of
from query_api.integrations_schema import IncidentSummary, PageOf, answers
from query_api.integrations_wire import (
    DEFAULT_PAGE_SIZE,
    READ_SECONDS,
    Cursor,
    Page,
    PageSize,
    as_time,
    clean,
    decode_cursor,
    encode_cursor,
    invalid,
    parse_instant,
)
from query_api.reading import read
from query_api.services import ServicesDep

router = APIRouter()

StatusFilter = Literal["active", "open", "recovering", "closed", "all"]
_STATUS = {
    "active": "status IN ('Open', 'Recovering')",
    "open": "status = 'Open'",
    "recovering": "status = 'Recovering'",
    "closed": "status = 'Closed'",
}

# Where the page lies. Ties on opened_at are counted, and told apart by id in the second statement.
_SPAN = """
    WITH passing AS MATERIALIZED (SELECT opened_at FROM incidents WHERE {where}),
    page AS (SELECT opened_at FROM passing {before} ORDER BY opened_at DESC LIMIT $size OFFSET $skip),
    span AS (SELECT min(opened_at) AS oldest, max(opened_at) AS newest FROM page)
    SELECT count(*), count(*) FILTER (opened_at > newest), any_value(epoch_us(oldest)), any_value(epoch_us(newest))
    FROM passing, span
"""
_PAGE = f"""
    SELECT {COLUMNS} FROM incidents WHERE {{where}} AND opened_at >= $oldest AND opened_at <= $newest {{after}}
    ORDER BY opened_at DESC, id LIMIT $size OFFSET $skip
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Fixed clauses, and the values of their parameters."""

    clauses: tuple[str, ...]
    values: dict[str, object] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The clauses as one condition."""
        return " AND ".join(self.clauses)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: after `skip` rows, or behind the incident `after` (opened at, µs; id)."""

    number: int
    size: int
    after: tuple[int, str] | None = None

    @property
    def skip(self) -> int:
        """Rows before the page, where they are counted."""
        return 0 if self.after else (self.number - 1) * self.size


def incident_filter(
    workspace: str,
    *,
    status: StatusFilter = "active",
    source: str | None = None,
    rule: str | None = None,
    tenant: str | None = None,
    chronic: bool = False,
    start: int | None = None,
    end: int | None = None,
) -> Filter:
    """Return the condition for these filters; None filters nothing. start, end: µs, about opened_at, end exclusive."""
    wanted: list[tuple[str, dict[str, object]]] = [("workspace = $workspace", {"workspace": workspace})]
    if status in _STATUS:
        wanted.append((_STATUS[status], {}))
    for clause, name, value in (
        ("source = $source", "source", source),
        ("rule_id = $rule", "rule", rule),
        ("id IN (SELECT incident_id FROM incident_tenants WHERE tenant = $tenant)", "tenant", tenant),
        ("opened_at >= $start", "start", as_time(start)),
        ("opened_at < $end", "end", as_time(end)),
    ):
        if value is not None:
            wanted.append((clause, {name: value}))
    if chronic:
        wanted.append((f"reopen_count >= {CHRONIC_REOPENS}", {}))
    values = {name: value for _, given in wanted for name, value in given.items()}
    return Filter(tuple(clause for clause, _ in wanted), values)


def list_incidents(con: DuckDBPyConnection, wanted: Filter, place: Place) -> tuple[list[tuple[Any, ...]], int, bool]:
    """Return the rows of a page (COLUMNS), how many pass the filter in all, and whether more follow the page."""
    size = place.size + 1  # one more tells whether there is a next page
    values: dict[str, object] = {**wanted.values, "size": size, "skip": place.skip}
    before, after = "", ""
    cursor: dict[str, object] = {}
    if place.after:
        # Those that opened at the cursor's very instant come on top; `size` strictly older ones are enough.
        before, after = "WHERE opened_at < $cursor", "AND (opened_at < $cursor OR id > $id)"
        cursor = {"cursor": as_time(place.after[0])}
    span_sql = _SPAN.format(where=wanted.where, before=before)
    total, newer, oldest, newest = con.execute(span_sql, values | cursor).fetchone() or (0, 0, None, None)
    if place.after:
        oldest, newest, newer = place.after[0] if oldest is None else oldest, place.after[0], 0
        cursor["id"] = place.after[1]
    if not total or oldest is None:
        return [], total, False
    page = {"oldest": as_time(oldest), "newest": as_time(newest), "skip": 0 if place.after else place.skip - newer}
    rows = con.execute(_PAGE.format(where=wanted.where, after=after), values | cursor | page).fetchall()
    return rows[: place.size], total, len(rows) > place.size


_EXAMPLE = {"items": [EXAMPLE], "page": 1, "pageSize": 25, "total": 1, "hasMore": False, "nextCursor": None}


@router.get(
    "/incidents",
    summary="List incidents",
    response_model=None,
    responses=answers(PageOf[IncidentSummary], _EXAMPLE),
)
async def incidents(
    caller: CallerDep,
    services: ServicesDep,
    status: Annotated[StatusFilter, Query(description="active: Open or Recovering")] = "active",
    integration_key: Annotated[str | None, Query(alias="integrationKey", max_length=1_000)] = None,
    pattern_id: Annotated[str | None, Query(alias="patternId", max_length=1_000)] = None,
    tenant_id: Annotated[
        str | None, Query(alias="tenantId", max_length=1_000, description="As your events name it.")
    ] = None,
    chronic: Annotated[bool, Query(description="true: only those reopened three times or more")] = False,
    start: Annotated[str | None, Query(alias="from", description="Opened at or after. RFC 3339.")] = None,
    end: Annotated[str | None, Query(alias="to", description="Opened before. RFC 3339.")] = None,
    page: Page = 1,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    cursor: Cursor = None,
) -> Response:
    """Newest first. Walk by page, or by `nextCursor`, which misses and repeats nothing while incidents open."""
    wanted = incident_filter(
        caller.workspace,
        status=status,
        source=clean(integration_key),
        rule=clean(pattern_id),
        tenant=clean(tenant_id),
        chronic=chronic,
        start=parse_instant(start, "from"),
        end=parse_instant(end, "to"),
    )
    place = _place(page, page_size, cursor)
    rows, total, more = await read(
        services.pipeline, lambda con: list_incidents(con, wanted, place), seconds=READ_SECONDS
    )
    rules = rules_of(services)
    return ok(
        {
            "items": [wire(row, rules) for row in rows],
            "page": place.number,
            "pageSize": place.size,
            "total": total,
            "hasMore": more,
            "nextCursor": encode_cursor(rows[-1][6], rows[-1][0], place.number + 1) if more else None,
        }
    )


def _place(page: int, size: int, cursor: str | None) -> Place:
    if not cursor:
        return Place(page, size)
    opened, ident, number = decode_cursor(cursor, (int, str, int))
    if not (isinstance(opened, int) and isinstance(number, int)) or number < 1:
        raise invalid("cursor: not one of this endpoint's; take nextCursor of an answer as it is.")
    return Place(number, size, (opened, clean(str(ident)) or ""))
