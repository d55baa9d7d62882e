"""GET /v1/analytics/query: events in numbers, over time, by any dimension."""

from typing import Annotated, Any

from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Depends, Query, Request, Response

from query_api.accept import preferred
from query_api.analytics_formats import ARROW, CSV, JSON, written
from query_api.analytics_query_schema import QueryAnswer
from query_api.analytics_question import Asked, question
from query_api.analytics_series import Answer, answer
from query_api.caching import cacheable
from query_api.caller import Caller, caller_with
from query_api.integrations_wire import READ_SECONDS, rfc3339
from query_api.openapi import responses
from query_api.reading import read
from query_api.services import ServicesDep

router = APIRouter(prefix="/v1/analytics", tags=["Analytics"])

# Late events may still change what is settled, so that it is kept for minutes, not for days.
MAX_AGE = 300
_TEXT = {"schema": {"type": "string"}}
_HEADERS: dict[str, Any] = {
    "ETag": {"description": "Changes with the answer.", **_TEXT},
    "Cache-Control": {"description": f"`max-age={MAX_AGE}` where only late events can change it.", **_TEXT},
    "X-Complete-Through": {"description": "As `complete_through`; not there where it is null.", **_TEXT},
    "X-Truncated": {"description": "As `truncated`.", **_TEXT},
}


@router.get(
    "/query",
    summary="Events in numbers: over time, by any dimension",
    response_class=Response,
    responses={
        200: {"model": QueryAnswer, "headers": _HEADERS, "content": {CSV: _TEXT, ARROW: _TEXT}},
        304: {"description": "The client has the answer: `If-None-Match` names it."},
        **responses(400, 422),
    },
)
async def query(
    request: Request,
    caller: Annotated[Caller, Depends(caller_with("logs:read", "mcp:read", "nhi:read"))],
    services: ServicesDep,
    asked: Annotated[Asked, Query()],
) -> Response:
    """Counts, rates, means, percentiles (within 1 %) and numbers of different values.

    One series for each group, the largest first and all others in one; each with its total over the window and its
    values by bucket. `Accept` chooses between JSON, CSV and an Arrow stream. See docs/analytics.md.
    """
    meant = question(asked, set(request.query_params), caller.scopes, services.clock())
    kind = preferred(request.headers.get("accept", ""), (JSON, CSV, ARROW))
    catching_up = services.pipeline.health().catching_up > 0

    def ask(con: DuckDBPyConnection) -> tuple[Answer, bytes]:
        found = answer(con, meant, caller.workspace, catching_up=catching_up)
        return found, written(found, kind)

    found, body = await read(services.pipeline, ask, seconds=READ_SECONDS)
    complete = rfc3339(found.complete_through)
    said = {"X-Truncated": str(found.truncated).lower()} | ({"X-Complete-Through": complete} if complete else {})
    return cacheable(request, body, kind, said, MAX_AGE if found.settled else None)
