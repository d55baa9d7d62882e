"""GET /events: which events make up an incident, with what they said?

Those that its rule claims under its group, from the first one counted to the last, in the order in which they counted.
An exclusive rule's claim stands on the event, another rule's in `claims`: two branches, each with its own pushed-down
filters.
"""

from typing import Annotated, Any

import orjson
from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Query, Response

from query_api.caller import CallerDep
from query_api.envelope import ok
from query_api.integrations_incident_rows import Found, find
from query_api.integrations_schema import PageOf, StoredEvent, answers
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
    rfc3339,
)
from query_api.reading import read
from query_api.services import ServicesDep

router = APIRouter()

_COLUMNS = """
    e."at" AS counted, e.partition, e."offset", e.id, e.source, e.type, e.code, e.tenant, e.severity, e.message,
    e.value, e.time, e.ingested_at, e.late, e.attributes
"""
# first, last: when the page may begin and the incident ends.
_SPAN = 'e.workspace = $workspace AND e."at" >= $first AND e."at" <= $last'
_OWN = f"SELECT {_COLUMNS}, e.confidence FROM events e WHERE {_SPAN} AND e.rule_id = $rule AND e.group_key = $group"
_CLAIMED = f"""
    SELECT {_COLUMNS}, c.confidence FROM events e
    JOIN claims c ON c.partition = e.partition AND c."offset" = e."offset"
    WHERE {_SPAN} AND c.workspace = $workspace AND c.rule_id = $rule AND c.group_key = $group
"""
_PAGE = """
    SELECT epoch_us(counted), partition, "offset", id, source, type, code, tenant, severity, message, value,
           epoch_us(time), epoch_us(ingested_at), late, attributes, confidence
    FROM ({branches}) {after} ORDER BY counted, partition, "offset" LIMIT $size OFFSET $skip
"""
_AFTER = 'WHERE counted > $first OR (counted = $first AND (partition, "offset") > ($partition, $offset))'
_HAS_CLAIMS = "SELECT 1 FROM claims WHERE rule_id = $rule AND workspace = $workspace LIMIT 1"

Row = tuple[Any, ...]

_EXAMPLE = {
    "id": "b2e3a1f4-7c8d-4e9f-a1b2-c3d4e5f6a7b8",
    "incidentId": "inc_4hq7c2mzk6v3xw5tdn2yr7ueoa",
    "integrationKey": "payments-service",
    "eventType": "webhook_failed",
    "errorCode": "503",
    "tenantId": "acme-corp",
    "severity": None,
    "message": None,
    "value": None,
    "confidence": "High",
    "happenedAt": "2025-03-26T08:14:21.907Z",
    "occurredAt": "2025-03-26T08:14:21.907Z",
    "receivedAt": "2025-03-26T08:14:22.018Z",
    "isLate": False,
    "rawPayload": {"endpoint": "/v2/webhooks/deliver", "durationMs": 12043, "attemptNumber": 3},
}
_PAGE_EXAMPLE = {"items": [_EXAMPLE], "page": 1, "pageSize": 25, "total": 14, "hasMore": False, "nextCursor": None}


def events_of(
    con: DuckDBPyConnection, found: Found, workspace: str, size: int, skip: int, after: tuple[int, str, int] | None
) -> tuple[list[Row], bool]:
    """Return a page of an incident's events and whether more follow. after: (at in µs, partition, offset) before it."""
    values: dict[str, object] = {
        "workspace": workspace,
        "rule": found.rule_id,
        "group": found.group_key,
        "first": as_time(max(found.first, after[0]) if after else found.first),
        "last": as_time(found.last),
        "size": size + 1,
        "skip": 0 if after else skip,
    }
    # Nearly all rules are exclusive: not joining at all is four times as fast.
    claimed = con.execute(_HAS_CLAIMS, {name: values[name] for name in ("rule", "workspace")}).fetchone() is not None
    branches = f"{_OWN} UNION ALL {_CLAIMED}" if claimed else _OWN
    if after:
        values |= {"partition": after[1], "offset": after[2]}
    rows = con.execute(_PAGE.format(branches=branches, after=_AFTER if after else ""), values).fetchall()
    return rows[:size], len(rows) > size


@router.get(
    "/events",
    summary="List the events of an incident",
    response_model=None,
    responses=answers(PageOf[StoredEvent], _PAGE_EXAMPLE, 404),
)
async def events(
    caller: CallerDep,
    services: ServicesDep,
    incident_id: Annotated[str, Query(alias="incidentId", min_length=1, max_length=200)],
    page: Page = 1,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    cursor: Cursor = None,
) -> Response:
    """The events that an incident counted, in the order they counted, with their payload."""
    number, after = _place(page, cursor)

    def question(con: DuckDBPyConnection) -> tuple[Found, list[Row], bool]:
        found = find(con, caller.workspace, incident_id)
        return found, *events_of(con, found, caller.workspace, page_size, (number - 1) * page_size, after)

    found, rows, more = await read(services.pipeline, question, seconds=READ_SECONDS)
    return ok(
        {
            "items": [_wire(row, found.id) for row in rows],
            "page": number,
            "pageSize": page_size,
            "total": found.event_count,
            "hasMore": more,
            "nextCursor": encode_cursor(*rows[-1][:3], number + 1) if more else None,
        }
    )


def _place(page: int, cursor: str | None) -> tuple[int, tuple[int, str, int] | None]:
    if not cursor:
        return page, None
    at, partition, offset, number = decode_cursor(cursor, (int, str, int, int))
    if not (isinstance(at, int) and isinstance(offset, int) and isinstance(number, int)) or number < 1:
        raise invalid("cursor: not one of this endpoint's; take nextCursor of an answer as it is.")
    return number, (at, clean(str(partition)) or "", offset)


def _wire(row: Row, incident_id: str) -> dict[str, Any]:
    (at, partition, offset, ident, source, kind, code, tenant, severity, message, value, time, ingested, late,
     attributes, confidence) = row  # fmt: skip
    return {
        "id": ident or f"{partition}:{offset}",
        "incidentId": incident_id,
        "integrationKey": source,
        "eventType": kind,
        "errorCode": code,
        "tenantId": tenant,
        "severity": severity,
        "message": message,
        "value": value,
        "confidence": confidence,
        "happenedAt": rfc3339(time),
        "occurredAt": rfc3339(at),
        "receivedAt": rfc3339(ingested),
        "isLate": bool(late),
        "rawPayload": _payload(attributes),
    }


def _payload(text: str | None) -> Any:
    try:
        return None if text is None else orjson.loads(text)
    except ValueError:  # JSON beyond what we read, such as a number with a thousand digits: as it was written
        return text
