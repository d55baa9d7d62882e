"""Looking for anomalies of identities in the background: `operators.anomaly` on their hours.

Of each identity that was active in the four weeks before the window or within it, each kind of LOOKED_AT is looked at:
its hours, from four weeks before the day in which the window begins. An hour is judged by those before it, once it is
over. It belongs to the window in which it ends, and that is when an anomaly counts as detected. What is found again has
the same id, and keeps what was said about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from connectors.control import Found, Job
from operators.anomaly import HIGH, KINDS, Anomaly, Kind, detect
from operators.events import DAY, HOUR, SECOND
from operators.identity import anomaly_id
from operators.nhi import BY, STREAM, Counted, Past
from operators.scores import LOOKBACK
from query_api.analytics_answer import answer, answers
from query_api.analytics_window import Window, grid_of, window_of
from query_api.envelope import ApiError, ErrorCode
from query_api.integrations_wire import instant, rfc3339_of
from query_api.nhi_asked import Reader
from query_api.nhi_numbers import evidence
from query_api.nhi_schema import DetectionJob, DetectionRequest, QueuedJob
from query_api.reading import read
from query_api.rollups import Wanted, select
from query_api.services import Services, ServicesDep

router = APIRouter()

KIND = "nhi_anomalies"  # of the job
# What is looked at, and in which of the series of `Past.hours`. Identities have no latency; less activity than usual is
# silence, so that `rate` is left with more.
LOOKED_AT: tuple[tuple[Kind, str], ...] = (
    (KINDS["spend_burst"], "spent"),
    (KINDS["denied_attempts"], "denied"),
    (replace(KINDS["rate"], direction=HIGH), "activity"),
    (KINDS["silence"], "activity"),
)
# Low enough that an identity in which nothing changes raises a false alarm in about two months, high enough that three
# denied attempts are noticed where there were none for weeks.
LEVEL = 3e-3
REST = 24  # hours after an anomaly in which the same kind is no news
DETECTION_SECONDS = 120.0  # nobody waits for the answer


@dataclass(frozen=True, slots=True)
class Span:
    """What a detection looks at, in whole hours (µs): history from `begin`, judged from `since` to before `end`."""

    begin: int
    since: int
    end: int


@router.post(
    "/nhi-risk/detect-anomalies",
    status_code=202,
    summary="Look for anomalies of identities",
    response_model=None,
    responses=answers(QueuedJob, 422, status=202),
)
async def start(caller: Reader, services: ServicesDep, body: DetectionRequest | None = None) -> Response:
    """In the background: poll the job by its id. `nhi-anomalies` then lists what was found.

    Every hour that ends within the window is judged, once it is over. To look at the same again finds the same: nothing
    is listed twice, and what was acknowledged stays so. 429 where a hundred jobs wait already.
    """
    asked = body or DetectionRequest()
    window = window_of(asked.from_, asked.to, services.clock())
    grid_of(window, "1h")
    request = {"from": window.start, "to": window.end}
    job = await services.jobs.add(caller, KIND, request)
    return answer({"job_id": job.id, "status": job.status}, 202)


@router.get(
    "/nhi-risk/detect-anomalies/{job_id}",
    summary="How a detection is getting on",
    response_model=None,
    responses=answers(DetectionJob, 404),
)
async def poll(job_id: str, caller: Reader, services: ServicesDep) -> Response:
    """`queued`, `running`, `succeeded` with a `result`, or `failed` with an `error`."""
    job = await run_in_threadpool(services.control.jobs.get, caller.workspace, job_id)
    if job is None or job.kind != KIND:
        raise ApiError(ErrorCode.NOT_FOUND, "Job not found.")
    return answer(
        {
            **Window(job.request["from"], job.request["to"]).wire(),
            "job_id": job.id,
            "status": job.status,
            "result": job.result,
            "error": job.error,
            "created_at": rfc3339_of(job.created_at),
            "finished_at": rfc3339_of(job.finished_at),
        }
    )


async def handle(services: Services, job: Job) -> dict[str, Any]:
    """Do it: record what is found; how many identities were looked at, how many anomalies there are, how many new."""
    window = Window(job.request["from"], job.request["to"])
    span = span_of(window, int(services.clock() * SECOND))
    if span.since >= span.end:
        return {"identities": 0, "anomalies": 0, "new": 0}

    def question(con: DuckDBPyConnection) -> Past:
        begin = span.begin - LOOKBACK  # the evidence of the first hours looks back, too
        return Past(select(con, Wanted(job.workspace, (STREAM,), begin, span.end, {}, BY, HOUR, values=True)))

    past = await read(services.pipeline, question, seconds=DETECTION_SECONDS)
    found: list[Found] = []
    active = past.active(span.begin, span.end)
    for nhi in active:  # one by one, so that the job can be stopped in between
        found += await run_in_threadpool(anomalies, job.workspace, nhi, past, span)
    new = await run_in_threadpool(services.control.anomalies.record, job.workspace, found)
    return {"identities": len(active), "anomalies": len(found), "new": new}


def span_of(window: Window, now: int) -> Span:
    """Return the hours that a window asks for. now: µs; what is not over yet is not judged."""
    since = window.start // HOUR * HOUR
    # From the beginning of a day: all windows that start within it see the same history.
    return Span(since // DAY * DAY - LOOKBACK, since, min(window.end, now) // HOUR * HOUR)


def anomalies(workspace: str, nhi: str, past: Past, span: Span) -> list[Found]:
    """Return what an identity did within the span that it does not usually do."""
    hours = past.hours(nhi, span.begin, span.end)
    found: list[Found] = []
    for kind, name in LOOKED_AT:
        values = hours[name]
        first = span.end - len(values) * HOUR
        since = max(0, (span.since - first) // HOUR)
        alarms = detect(values, kind, since=since, level=LEVEL, rest=REST)
        found += [_found(workspace, nhi, past, one, first + one.bucket * HOUR) for one in alarms]
    return found


def _found(workspace: str, nhi: str, past: Past, one: Anomaly, hour: int) -> Found:
    end = hour + HOUR
    day = past.seen(nhi, end - DAY, end)
    return Found(
        id=anomaly_id(workspace, nhi, one.kind, hour),
        nhi_id=nhi,
        nhi_label=day.label,
        type=one.kind,
        severity=one.severity,
        detected_at=instant(end),
        score=one.score,
        evidence=evidence(_evidence(one, day)),
    )


def _evidence(one: Anomaly, day: Counted) -> dict[str, Any]:
    """What there is to see, of the hour and of the 24 hours that end with it; `rolling_baseline` is what is usual."""
    if one.kind == "spend_burst":
        said: dict[str, Any] = {
            "p99_spend_usd_24h": day.spend.p99,
            "rolling_baseline": day.spend.baseline_p99,
            "spend_usd_1h": one.value,
            "expected_usd_1h": one.baseline,
        }
    elif one.kind == "denied_attempts":
        said = {
            "denied_1h": int(one.value),
            "rolling_baseline": one.baseline,
            "denied_24h": day.denied,
            "attempts_24h": day.attempts,
        }
    else:
        said = {"events_1h": int(one.value), "rolling_baseline": one.baseline, "events_24h": day.activity}
    return said | {"p_value": one.p_value}
