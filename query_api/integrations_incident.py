"""GET /incidents/{id}, its timeline, and POST /incidents/{id}/resolve: one incident, its course, its end by hand."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Body, Path, Response

from operators.rules import Rule
from query_api.caller import CallerDep
from query_api.envelope import ApiError, ErrorCode, ok
from query_api.integrations_incident_rows import EXAMPLE, Found, check_owner, find, wire
from query_api.integrations_rules import rules_of
from query_api.integrations_schema import IncidentDetail, TimelineStep, answers
from query_api.integrations_submit import SUBMIT_SECONDS, submit
from query_api.integrations_wire import READ_SECONDS, rfc3339
from query_api.reading import read, rows
from query_api.services import Services, ServicesDep

router = APIRouter()

IncidentId = Annotated[str, Path(alias="id", max_length=200)]
MOST_TENANTS = 1_000
MOST_STEPS = 10_000

# Looked up first, sorted afterwards: a LIMIT beside an ORDER BY would put a second condition on the scan, and the key
# of what is still live serves but one.
_TENANTS = """
    WITH hit AS MATERIALIZED (
        SELECT tenant, event_count, first_seen_at, last_seen_at FROM incident_tenants WHERE incident_id = $id)
    SELECT tenant, event_count, epoch_us(first_seen_at), epoch_us(last_seen_at) FROM hit
    ORDER BY event_count DESC, tenant
"""
_STEPS = """
    WITH taken AS MATERIALIZED (
        SELECT n, from_status, to_status, reason, "at", window_count, rule_version FROM transitions
        WHERE incident_id = $id)
    SELECT from_status, to_status, reason, epoch_us("at"), window_count, rule_version FROM taken ORDER BY n
"""

_TENANT_EXAMPLE = {
    "tenantId": "7d0c0f0e-2a44-4c55-9d2f-6f4f0a7b1c3d",
    "tenantName": "acme-corp",
    "eventCount": 9,
    "firstSeenAt": "2025-03-26T08:14:22Z",
    "lastSeenAt": "2025-03-26T08:31:07Z",
}
_DETAIL_EXAMPLE = EXAMPLE | {"affectedTenants": [_TENANT_EXAMPLE]}
_TIMELINE_EXAMPLE = [
    {
        "fromStatus": None,
        "toStatus": "Open",
        "reason": "Pattern matched: auth_failure",
        "occurredAt": "2025-03-26T08:14:22Z",
        "windowCount": 1,
        "ruleVersion": "a3f9d2c8",
    },
    {
        "fromStatus": "Open",
        "toStatus": "Recovering",
        "reason": "No events for 5 min",
        "occurredAt": "2025-03-26T08:19:22Z",
        "windowCount": None,
        "ruleVersion": "a3f9d2c8",
    },
]


@router.get(
    "/incidents/{id}",
    summary="An incident and whom it hit",
    response_model=None,
    responses=answers(IncidentDetail, _DETAIL_EXAMPLE, 404),
)
async def incident(caller: CallerDep, services: ServicesDep, ident: IncidentId) -> Response:
    """The full incident, with the affected tenants, the hardest hit first (at most 1,000)."""
    return ok(await _detail(services, caller.workspace, ident))


@router.get(
    "/incidents/{id}/timeline",
    summary="What happened to an incident, step by step",
    response_model=None,
    responses=answers(list[TimelineStep], _TIMELINE_EXAMPLE, 404),
)
async def timeline(caller: CallerDep, services: ServicesDep, ident: IncidentId) -> Response:
    """State transitions in order of time, each with its cause (at most 10,000; the message says if there are more)."""

    def steps(con: DuckDBPyConnection) -> tuple[list[tuple[Any, ...]], bool]:
        return rows(con, _STEPS, {"id": check_owner(con, caller.workspace, ident)}, MOST_STEPS)

    found, truncated = await read(services.pipeline, steps, seconds=READ_SECONDS)
    return ok(
        [
            {
                "fromStatus": before,
                "toStatus": after,
                "reason": reason,
                "occurredAt": rfc3339(at),
                "windowCount": count,
                "ruleVersion": version,
            }
            for before, after, reason, at, count, version in found
        ],
        f"Only the first {MOST_STEPS:,} steps are listed." if truncated else "",
    )


@router.post(
    "/incidents/{id}/resolve",
    summary="Resolve an incident by hand",
    response_model=None,
    responses=answers(
        IncidentDetail,
        _DETAIL_EXAMPLE | {"status": "Closed", "closedAt": "2025-03-26T08:40:00Z"},
        404,
        409,
        413,
        accepted="Recorded durably, not carried out yet; the incident is as it was.",
    ),
)
async def resolve(
    caller: CallerDep,
    services: ServicesDep,
    ident: IncidentId,
    body: Annotated[dict[str, Any] | None, Body(description="Not read.")] = None,
) -> Response:
    """Closes an Open or Recovering incident now. An event within the cooldown reopens it, as after any close."""
    found = await read(services.pipeline, lambda con: find(con, caller.workspace, ident), seconds=READ_SECONDS)
    if found.status == "Closed":
        raise ApiError(ErrorCode.CONFLICT, "The incident is closed already.")
    receipt = await submit(services.pipeline, caller.workspace, _command(found), detail=True, timeout=SUBMIT_SECONDS)
    if receipt.outcomes and receipt.outcomes[0].error:
        raise ApiError(ErrorCode.CONFLICT, f"The incident cannot be resolved: {receipt.outcomes[0].error}")
    detail = await _detail(services, caller.workspace, ident)
    if receipt.done:
        return ok(detail)
    answer = ok(detail, "The command is recorded and will be carried out as soon as the pipeline has caught up.")
    answer.status_code = 202
    return answer


def _command(found: Found) -> bytes:
    """The record that closes the incident of this key (S13)."""
    return orjson.dumps(
        {
            "record": "resolve",
            "time": datetime.now(UTC),
            "attributes": {"rule_id": found.rule_id, "group_key": found.group_key},
        },
        option=orjson.OPT_UTC_Z,
    )


async def _detail(services: Services, workspace: str, ident: str) -> dict[str, Any]:
    rules = rules_of(services)
    return await read(
        services.pipeline, lambda con: _answer(con, services, workspace, ident, rules), seconds=READ_SECONDS
    )


def _answer(
    con: DuckDBPyConnection, services: Services, workspace: str, ident: str, rules: Mapping[str, Rule]
) -> dict[str, Any]:
    found = find(con, workspace, ident)
    tenants, truncated = rows(con, _TENANTS, {"id": found.id}, MOST_TENANTS)
    known = services.control.tenant_names(workspace, [tenant for tenant, *_ in tenants]) if tenants else {}
    affected = []
    for tenant, count, first, last in tenants:
        info = known.get(tenant)
        affected.append(
            {
                "tenantId": info.id if info else tenant,
                "tenantName": info.name if info else tenant,
                "eventCount": count,
                "firstSeenAt": rfc3339(first),
                "lastSeenAt": rfc3339(last),
            }
        )
    return wire(found.row, rules) | {"affectedTenants": affected} | ({"truncated": True} if truncated else {})
