"""GET /incidents: which incidents are there, newest first?

Two statements. The first looks at one narrow column of what passes the filters, the second reads all columns of a short
span of opening times that is sure, or likely, to hold the page: DuckDB has no index that ranges could use, and sorting
whole rows, or their ids, takes several times as long (docs/performance.md).
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
    "active": "status <> 'Closed'",  # in a third of the time of IN
    "open": "status = 'Open'",
    "recovering": "status = 'Recovering'",
    "closed": "status = 'Closed'",
}

# How many there are, and since when: tells about how far back a first page reaches.
_EXTENT = "SELECT count(*), epoch_us(min(opened_at)), epoch_us(max(opened_at)) FROM incidents WHERE {where}"
_NEWEST = f"""
    SELECT {COLUMNS} FROM incidents WHERE {{where}} AND opened_at >= $floor {{after}}
    ORDER BY opened_at DESC, id LIMIT $limit
"""
_AFTER = "AND opened_at <= $cursor AND (opened_at < $cursor OR id > $id)"
# Below this DuckDB sorts row numbers and fetches the rows afterwards, which takes longer than sorting so few of them.
_LEAST_LIMIT = 51
_SLACK, _WIDER = 4, 16

# Where a later page lies. Ties on opened_at are counted, and told apart by id in the second statement.
_SPAN = """
    WITH passing AS MATERIALIZED (SELECT opened_at FROM incidents WHERE {where}),
    page AS (SELECT opened_at FROM passing ORDER BY opened_at DESC LIMIT $size OFFSET $skip),
    span AS (SELECT min(opened_at) AS oldest, max(opened_at) AS newest FROM page)
    SELECT count(*), count(*) FILTER (opened_at > newest), any_value(epoch_us(oldest)), any_value(epoch_us(newest))
    FROM passing, span
"""
_PAGE = f"""
    SELECT {COLUMNS} FROM incidents WHERE {{where}} AND opened_at >= $oldest AND opened_at <= $newest
    ORDER BY opened_at DESC, id LIMIT $size OFFSET $skip
"""

Row = tuple[Any, ...]


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


def list_incidents(con: DuckDBPyConnection, wanted: Filter, place: Place) -> tuple[list[Row], int, bool]:
    """Return the rows of a page (COLUMNS), how many pass the filter in all, and whether more follow the page."""
    size = place.size + 1  # one more tells whether there is a next page
    if place.skip:
        rows, total = _later(con, wanted, place.skip, size)
    else:
        rows, total = _newest(con, wanted, place.after, size)
    return rows[: place.size], total, len(rows) > place.size


def _newest(con: DuckDBPyConnection, wanted: Filter, after: tuple[int, str] | None, size: int) -> tuple[list[Row], int]:
    """The newest rows, or the newest behind `after`, and how many there are in all."""
    found = con.execute(_EXTENT.format(where=wanted.where), wanted.values).fetchone()
    total, first, last = found or (0, None, None)
    if not total:
        return [], 0
    sql = _NEWEST.format(where=wanted.where, after=_AFTER if after else "")
    values = {**wanted.values, "limit": max(size, _LEAST_LIMIT)}
    if after:
        values |= {"cursor": as_time(after[0]), "id": after[1]}
    top = min(after[0], last) if after else last
    # As if they had opened evenly; looks further back where they did not.
    reach = _SLACK * size * max((last - first) // total, 1)
    while True:
        floor = max(top - reach, first)
        rows = con.execute(sql, values | {"floor": as_time(floor)}).fetchall()
        if len(rows) >= size or floor == first:
            return rows[:size], total
        reach *= _WIDER


def _later(con: DuckDBPyConnection, wanted: Filter, skip: int, size: int) -> tuple[list[Row], int]:
    """The rows from number `skip` on, and how many there are in all."""
    values = {**wanted.values, "size": size}
    found = con.execute(_SPAN.format(where=wanted.where), values | {"skip": skip}).fetchone()
    total, newer, oldest, newest = found or (0, 0, None, None)
    if oldest is None:
        return [], total
    values |= {"oldest": as_time(oldest), "newest": as_time(newest), "skip": skip - newer}
    return con.execute(_PAGE.format(where=wanted.where), values).fetchall(), total


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
