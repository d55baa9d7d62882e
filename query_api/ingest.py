"""Sending events: one, many, as CloudEvents, as OpenTelemetry logs.

An answer says what is durable: 200 that the event is stored and processed, 202 that it is stored. An event that was
acknowledged is never lost; one that got an error left nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar

import orjson
from fastapi import APIRouter, Depends, Request, Response

from query_api import ingest_batch, ingest_cloudevents, ingest_otlp, ingest_schema
from query_api.caller import Caller, caller_with
from query_api.envelope import ApiError, ErrorCode, ok
from query_api.ingest_answer import submit, submit_one
from query_api.ingest_batch import Checked
from query_api.ingest_body import read_body
from query_api.ingest_event import NotAcceptable, accept
from query_api.ingest_once import derived_id, key_of, once
from query_api.ingest_room import room_for
from query_api.ingest_tenants import refusals
from query_api.services import Services, ServicesDep

EVENT_BYTES = 1 << 20
BATCH_BYTES = 32 << 20
BATCH_SECONDS = 8.0  # for the processing of a batch
ERRORS = 1_000  # told of one batch

T = TypeVar("T")
Sender = Annotated[Caller, Depends(caller_with("events:write"))]
router = APIRouter(tags=["Events"])


@router.post("/api/v1/events", summary="Send an event", **ingest_schema.EVENT)
async def post_event(request: Request, caller: Sender, services: ServicesDep) -> Response:
    """Store one event and say what became of it: its incident, whether it is new, whom it hits.

    JSON as below, or a CloudEvent: structured (application/cloudevents+json), batched
    (application/cloudevents-batch+json, answered as a batch) or binary (ce-* headers).
    """
    kind = content_type(request)
    if kind == ingest_cloudevents.BATCHED:
        return await _cloud_events(request, caller, services)
    body = await read_body(request, EVENT_BYTES)
    now = int(services.clock() * 1e6)
    headers = request.headers
    key = key_of(request)
    try:
        if ingest_cloudevents.is_binary(headers):
            event = ingest_cloudevents.binary(headers, body, now)
        elif kind == ingest_cloudevents.STRUCTURED:
            event = ingest_cloudevents.structured(body, now)
        else:
            event = accept(body, now, derived_id(key))
    except NotAcceptable as wrong:
        raise ApiError(ErrorCode.VALIDATION_ERROR, str(wrong)) from None
    if key is None:
        return await submit_one(services, caller, event)
    return await once(request, caller.workspace, key, body, lambda: submit_one(services, caller, event))


@router.post("/api/v1/events/batch", summary="Send up to 50,000 events", **ingest_schema.BATCH)
async def post_batch(request: Request, caller: Sender, services: ServicesDep) -> Response:
    """Store many events, as JSON lines or as a JSON array. Good ones are accepted whatever the others are.

    An index in `errors` is the event's place in the batch, from 0; of JSON lines, the number of its line.
    """
    async with room_for(request, caller.workspace, BATCH_BYTES):
        body = await read_body(request, BATCH_BYTES)
        key = key_of(request)

        async def send() -> Response:
            now = int(services.clock() * 1e6)
            batch = await _in_thread(lambda: ingest_batch.check(body, now, derived_id(key)))
            return await _submit_batch(services, caller, batch)

        return await once(request, caller.workspace, key, body, send)


@router.post(
    "/v1/logs",
    summary="Send OpenTelemetry logs (OTLP/HTTP)",
    **ingest_schema.LOGS,
)
async def post_logs(request: Request, caller: Sender, services: ServicesDep) -> Response:
    """Store log records, JSON or protobuf. Those that cannot be used are counted in partial_success."""
    kind = content_type(request)
    try:
        async with room_for(request, caller.workspace, BATCH_BYTES):
            export = await _export(await read_body(request, BATCH_BYTES), kind, services)
            await _count(services, caller, len(export.events) + export.rejected)
            tenants = {event.tenant for event in export.events if event.tenant is not None}
            if tenants:
                export.refuse(await refusals(services, caller.workspace, tenants))
            if export.events:
                bodies = [event.body for event in export.events]
                await submit(services, bodies, caller.workspace, detail=False)
        return ingest_otlp.answer(export, kind)
    except ApiError as error:
        return ingest_otlp.refusal(error, kind)


def content_type(request: Request) -> str:
    """The media type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _export(body: bytes, kind: str, services: Services) -> ingest_otlp.Export:
    now = int(services.clock() * 1e6)
    try:
        return await _in_thread(lambda: ingest_otlp.read(body, kind, now))
    except NotAcceptable as wrong:
        raise ApiError(ErrorCode.VALIDATION_ERROR, str(wrong)) from None


async def _cloud_events(request: Request, caller: Caller, services: Services) -> Response:
    async with room_for(request, caller.workspace, BATCH_BYTES):
        body = await read_body(request, BATCH_BYTES)
        now = int(services.clock() * 1e6)
        batch = await _in_thread(lambda: ingest_cloudevents.batch(body, now))
        return await once(
            request, caller.workspace, key_of(request), body, lambda: _submit_batch(services, caller, batch)
        )


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(ingest_batch.threads(), work)


async def _submit_batch(services: Services, caller: Caller, batch: Checked) -> Response:
    await _count(services, caller, len(batch.good) + len(batch.errors))
    tenants = batch.tenants
    if tenants:
        batch.refuse(await refusals(services, caller.workspace, tenants))
    bodies = batch.bodies
    told = _told(len(bodies), batch.errors)
    if not bodies:
        return _nothing_accepted(f"No event of the batch is acceptable. {batch.errors[min(batch.errors)]}", told)
    receipt = await submit(services, bodies, caller.workspace, detail=False, timeout=BATCH_SECONDS)
    if not receipt.done:
        return ok(told, "The events are stored; their processing goes on.", status=202)
    return ok(told)


def _told(accepted: int, errors: dict[int, str]) -> dict[str, object]:
    listed = [{"index": n, "message": errors[n]} for n in sorted(errors)[:ERRORS]]
    told: dict[str, object] = {"accepted": accepted, "rejected": len(errors), "errors": listed}
    if len(listed) < len(errors):
        told["truncated"] = True
    return told


def _nothing_accepted(message: str, told: dict[str, object]) -> Response:
    code = ErrorCode.VALIDATION_ERROR
    body = {"isSuccess": False, "errorCode": int(code), "message": message, "data": told}
    return Response(orjson.dumps(body), code.status, media_type="application/json")


async def _count(services: Services, caller: Caller, events: int) -> None:
    """Count events against the workspace's limit. Raises ApiError RateLimited."""
    if events:
        await services.rates.events(caller.workspace, events)
