"""Is it running, is it ready, how does it do? For load balancers and Prometheus; no key is needed."""

import asyncio
from typing import Annotated, Any

import orjson
from anyio import to_thread
from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, Field
from starlette.responses import Response

from connectors.control import ControlUnavailable
from query_api.services import Services, ServicesDep

router = APIRouter(tags=["Operation"])

_PATIENCE = 2.0  # seconds that the control database has to answer


class Alive(BaseModel):
    """The process answers."""

    status: str = "ok"


class Ready(BaseModel):
    """Whether it takes and answers requests. Of each part: null, or what is wrong with it."""

    ready: bool
    flow: str | None
    log: str | None
    store: str | None
    control: str | None
    lag_records: Annotated[int, Field(description="Accepted records that cannot be queried yet.")]
    lag_seconds: Annotated[float, Field(description="How long the oldest of them has waited.")]


@router.get("/health", summary="Whether the process runs", response_model=Alive)
@router.head("/health", include_in_schema=False)
async def health() -> Response:
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get(
    "/-/ready",
    summary="Whether it takes and answers requests",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "Not ready; the body says why."}},
)
@router.head("/-/ready", include_in_schema=False)
async def ready(services: ServicesDep) -> Response:
    found = await _readiness(services)
    body = orjson.dumps(found.model_dump(mode="json"))
    if found.ready:
        return Response(body, media_type="application/json")
    return Response(body, 503, {"Retry-After": "1"}, media_type="application/json")


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request, services: ServicesDep) -> Response:
    encode, kind = choose_encoder(request.headers.get("accept", ""))
    body: Any = encode(services.registry)
    return Response(body, headers={"Content-Type": kind})


async def _readiness(services: Services) -> Ready:
    found, control = services.pipeline.health(), None
    try:
        async with asyncio.timeout(_PATIENCE):
            await to_thread.run_sync(services.control.ping, abandon_on_cancel=True)
    except (ControlUnavailable, TimeoutError):
        control = "The control database does not answer."
    flow = found.flow
    if flow is None and found.catching_up:
        flow = f"Catching up with the log: {found.catching_up} records to go."
    elif flow is None and found.lag_seconds > services.settings.ready_lag_seconds:
        flow = f"{found.lag_records} records wait, the oldest for {found.lag_seconds:.1f} s."
    return Ready(
        ready=(flow is None or (found.takes and not found.catching_up))
        and found.log is None
        and found.store is None
        and control is None,
        flow=flow,
        log=found.log,
        store=found.store,
        control=control,
        lag_records=found.lag_records,
        lag_seconds=found.lag_seconds,
    )
