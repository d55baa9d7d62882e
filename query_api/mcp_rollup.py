"""Rollups on demand: what is stored of a span of time is made anew from its events, and compared.

Rollups follow the log by themselves, so this changes nothing. It is for who wants to see that, or has reason to doubt.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.control import Job
from operators.events import DAY, HOUR
from query_api.analytics_answer import answer, answers
from query_api.analytics_schema import Rollup, RollupQueued
from query_api.analytics_window import DATE_TIME, Window, too_large
from query_api.envelope import ApiError, ErrorCode
from query_api.integrations_wire import invalid, parse_instant, rfc3339_of
from query_api.mcp_tools import Reader
from query_api.services import Services, ServicesDep

router = APIRouter()

KIND = "rollup"
LONGEST_DAYS = 31


class RollupRequest(BaseModel):
    """A span of time, RFC 3339; hours of which it has a part are made as a whole."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"from": "2026-05-01T00:00:00Z", "to": "2026-05-01T23:59:59Z"}]}
    )

    start: Annotated[str, Field(alias="from", min_length=1, json_schema_extra=DATE_TIME)]
    end: Annotated[str, Field(alias="to", min_length=1, json_schema_extra=DATE_TIME)]


@router.post(
    "/rollup", summary="Roll a window up again", status_code=202, response_model=None,
    responses=answers(RollupQueued, 422, status=202),
)  # fmt: skip
async def ask(caller: Reader, services: ServicesDep, body: Annotated[RollupRequest, Body()]) -> Response:
    """Up to 31 days. It is done in the background; `GET /v1/mcp/analytics/rollup/{id}` says what came of it."""
    window = _window(body)
    job = await services.jobs.add(caller, KIND, {"start": window.start, "end": window.end})
    return answer({"rollup_id": job.id, "status": "queued"}, status=202)


@router.get(
    "/rollup/{id}", summary="What came of a rollup", response_model=None, responses=answers(Rollup, 404),
)  # fmt: skip
async def found(
    caller: Reader, services: ServicesDep, ident: Annotated[str, Path(alias="id", max_length=200)]
) -> Response:
    """`changed` says whether the stored rollups were other than their events; `compared` by how much."""
    job = await run_in_threadpool(services.control.jobs.get, caller.workspace, ident)
    if job is None or job.kind != KIND:
        raise ApiError(ErrorCode.NOT_FOUND, "Rollup not found.")
    return answer(_shown(job))


async def handle(services: Services, job: Job) -> Mapping[str, Any]:
    """Do the job. Raises Unavailable."""
    start, end = (int(job.request[name]) for name in ("start", "end"))
    done = await run_in_threadpool(
        services.pipeline.roll_up, job.workspace, start // HOUR * HOUR, -(-end // HOUR) * HOUR
    )
    return {
        "changed": done.changed > 0,
        "compared": {
            "minutes": done.minutes,
            "rows": done.rows,
            "rows_changed": done.changed,
            "events_before": done.before,
            "events_after": done.after,
        },
    }


def _window(body: RollupRequest) -> Window:
    start, end = parse_instant(body.start, "from"), parse_instant(body.end, "to")
    if start is None or end is None or start >= end:
        raise invalid("from must lie before to.")
    if end - start > LONGEST_DAYS * DAY:
        raise too_large(f"The window is longer than {LONGEST_DAYS} days; ask for parts of it.")
    return Window(start, end)


def _shown(job: Job) -> dict[str, Any]:
    result = job.result or {}
    return {
        "rollup_id": job.id,
        "status": job.status,
        **Window(int(job.request["start"]), int(job.request["end"])).wire(),
        "requested_at": rfc3339_of(job.created_at),
        "started_at": rfc3339_of(job.started_at),
        "finished_at": rfc3339_of(job.finished_at),
        "changed": result.get("changed"),
        "compared": result.get("compared"),
        "error": job.error,
    }
