"""What identities did that they do not usually do, and who has looked at it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from connectors.control import Anomaly
from query_api.analytics_answer import answer, answers
from query_api.analytics_window import DATE_TIME, whole_of
from query_api.envelope import ApiError, ErrorCode
from query_api.integrations_wire import clean, instant, rfc3339_of
from query_api.nhi_asked import Reader
from query_api.nhi_schema import Acknowledgement, AnomalyBody, AnomalyPage
from query_api.pages import PAGE, Cursor, Limit, listing, place
from query_api.services import ServicesDep

router = APIRouter()


@router.get("/nhi-anomalies", summary="Anomalies of identities", response_model=None, responses=answers(AnomalyPage))
async def anomalies(
    caller: Reader,
    services: ServicesDep,
    status: Annotated[Literal["open", "acknowledged", "all"], Query(description="Which ones.")] = "open",
    nhi_id: Annotated[str | None, Query(max_length=500, description="Only those of this identity.")] = None,
    type: Annotated[str | None, Query(max_length=500, description="Only those of this type.")] = None,
    start: Annotated[
        str | None, Query(alias="from", description="RFC 3339: detected then or later.", json_schema_extra=DATE_TIME)
    ] = None,
    end: Annotated[
        str | None, Query(alias="to", description="RFC 3339: detected before.", json_schema_extra=DATE_TIME)
    ] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response:
    """The latest first; open ones by default, however long ago.

    They are found by `POST /v1/analytics/nhi-risk/detect-anomalies`.
    """
    window = whole_of(start, end)
    found, more = await run_in_threadpool(
        services.control.anomalies.page,
        caller.workspace,
        limit=limit,
        after=place(cursor),
        status=None if status == "all" else status,
        nhi=clean(nhi_id),
        type=clean(type),
        start=instant(window.start) if start else None,
        end=instant(window.end) if end else None,
    )
    last = (found[-1].detected_at, found[-1].id) if found else None
    return answer(listing([shown(one) for one in found], more, last).model_dump())


@router.post(
    "/nhi-anomalies/{id}/ack",
    summary="Acknowledge an anomaly",
    response_model=None,
    responses=answers(AnomalyBody, 404),
)
async def acknowledge(id: str, caller: Reader, services: ServicesDep, body: Acknowledgement | None = None) -> Response:
    """It is not open any more, and no sign of risk. May be repeated: a new note replaces the one before.

    Who may read anomalies may acknowledge them.
    """
    note = body.note if body else None
    done = services.control.anomalies.acknowledge
    found = await run_in_threadpool(done, caller.workspace, id, note, caller.user)
    if found is None:
        raise ApiError(ErrorCode.NOT_FOUND, "Anomaly not found.")
    return answer(shown(found))


def shown(one: Anomaly) -> dict[str, Any]:
    """Return an anomaly as answers say it."""
    body: dict[str, Any] = {
        "anomaly_id": one.id,
        "nhi_id": one.nhi_id,
        "type": one.type,
        "severity": one.severity,
        "detected_at": rfc3339_of(one.detected_at),
        "evidence": one.evidence,
        "status": one.status,
    }
    if one.acknowledged_at is not None:
        body |= {"note": one.note, "acknowledged_at": rfc3339_of(one.acknowledged_at)}
    return body
