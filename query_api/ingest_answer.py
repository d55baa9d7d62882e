"""Handing events to the pipeline, and what the sender is told of them."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Response

from query_api.caller import Caller
from query_api.envelope import ApiError, ErrorCode, ok
from query_api.ingest_event import Accepted
from query_api.ingest_tenants import refusals
from query_api.pipeline import Outcome, Receipt, Unavailable
from query_api.services import Services

PATIENCE = 2.0  # seconds a sender waits for the incident of an event


async def submit(
    services: Services, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float = PATIENCE
) -> Receipt:
    """Append records and wait. Raises ApiError Unavailable."""
    try:
        return await services.pipeline.submit(bodies, workspace, detail=detail, timeout=timeout)
    except Unavailable as error:
        raise ApiError(ErrorCode.UNAVAILABLE, str(error), retry_after=error.retry_after) from None


async def submit_one(services: Services, caller: Caller, event: Accepted) -> Response:
    """Append one event and say what became of it: 200 when that is known, 202 while it is only durable.

    Raises ApiError.
    """
    if event.tenant is not None:
        refused = await refusals(services, caller.workspace, (event.tenant,))
        if refused:
            raise refused[event.tenant]
    receipt = await submit(services, (event.body,), caller.workspace, detail=True)
    if not receipt.done or not receipt.outcomes:
        pending = Outcome(receipt.first, event.id or f"{receipt.partition}:{receipt.first}")
        return ok(told(pending), "The event is stored; its processing goes on.", status=202)
    outcome = receipt.outcomes[0]
    if outcome.error is not None:
        raise ApiError(ErrorCode.VALIDATION_ERROR, outcome.error)
    return ok(told(outcome))


def told(outcome: Outcome) -> dict[str, object]:
    """What became of an event, in the surface's words."""
    data: dict[str, object] = {
        "eventId": outcome.event_id,
        "incidentId": outcome.incident_id,
        "incidentStatus": outcome.status,
        "patternId": outcome.rule_id,
        "confidence": outcome.confidence,
        "isNewIncident": outcome.is_new,
        "affectedTenants": outcome.tenants,
    }
    if outcome.duplicate:
        data["duplicate"] = True
    return data
