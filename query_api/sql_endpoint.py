"""POST /v1/sql: a workspace's own rows, asked in SQL."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from starlette.requests import ClientDisconnect

from query_api.accept import preferred
from query_api.caller import Caller, caller_with
from query_api.envelope import ApiError, ErrorCode
from query_api.openapi import responses
from query_api.reading import read
from query_api.sandbox.messages import Answer, Form, Question, Reason
from query_api.sandbox.process import Refused
from query_api.services import Services, ServicesDep

router = APIRouter(tags=["SQL"])

_LONGEST = 100_000  # characters
_MEDIA: dict[Form, str] = {
    "json": "application/json",
    "arrow": "application/vnd.apache.arrow.stream",
    "csv": "text/csv",
}
_CODES: dict[Reason, ErrorCode] = {
    "wrong": ErrorCode.VALIDATION_ERROR,
    "memory": ErrorCode.UNPROCESSABLE,
    "large": ErrorCode.UNPROCESSABLE,
    "gone": ErrorCode.UNAVAILABLE,
}
# Of the general deadline: the rest is for telling that it was too long.
_SHARE = 0.95

Scalar = StrictStr | StrictBool | StrictInt | StrictFloat | None


def _sendable(values: dict[str, Scalar] | None) -> dict[str, Scalar] | None:
    """Raises ValueError for what cannot be put into words of 64 bits or Unicode."""
    try:
        orjson.dumps(values)
    except (TypeError, ValueError):
        raise ValueError("parameters must be text in Unicode, or numbers of at most 64 bits.") from None
    return values


class Statement(BaseModel):
    """One SQL statement that reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sql: Annotated[
        str,
        Field(
            min_length=1,
            max_length=_LONGEST,
            description="DuckDB's SQL: SELECT, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN.",
            examples=["SELECT rule_id, count(*) AS incidents FROM incidents WHERE opened_at >= $since::TIMESTAMPTZ "
                      "GROUP BY ALL ORDER BY incidents DESC"],
        ),
    ]  # fmt: skip
    parameters: Annotated[
        dict[str, Scalar] | None,
        AfterValidator(_sendable),
        Field(description="Values of its `$name` parameters.", examples=[{"since": "2025-03-01T00:00:00Z"}]),
    ] = None
    limit: Annotated[
        int | None, Field(ge=1, description="Rows at most; there is a limit in any case.", examples=[1000])
    ] = None


class Column(BaseModel):
    """A column of the answer. type: DuckDB's name of it."""

    name: str
    type: str


class Table(BaseModel):
    """The answer. truncated: there are more rows than were asked for, or than are ever given."""

    columns: list[Column]
    rows: list[list[Any]]
    row_count: int
    truncated: bool
    elapsed_ms: float


_EXAMPLE = {
    "columns": [{"name": "rule_id", "type": "VARCHAR"}, {"name": "incidents", "type": "BIGINT"}],
    "rows": [["auth_failure", 12], ["timeout_spike", 3]],
    "row_count": 2,
    "truncated": False,
    "elapsed_ms": 14.2,
}


@router.post(
    "/v1/sql",
    summary="Ask in SQL",
    response_model=None,
    responses={
        200: {
            "model": Table,
            "description": "The rows, in the form that `Accept` names.",
            "headers": {"X-Truncated": {"description": "`true` where there are more.", "schema": {"type": "string"}}},
            "content": {
                _MEDIA["json"]: {"example": _EXAMPLE},
                _MEDIA["arrow"]: {"schema": {"type": "string", "format": "binary"}},
                _MEDIA["csv"]: {"schema": {"type": "string"}},
            },
        },
        **responses(400, 413, 422),
    },
)
async def sql(
    body: Statement,
    caller: Annotated[Caller, Depends(caller_with("sql:read"))],
    services: ServicesDep,
    request: Request,
) -> Response:
    """One statement that reads, over the rows of this workspace and no others.

    Tables: `events`, `claims`, `incidents`, `incident_tenants`, `transitions`, `alerts`, `rules`, `configurations`,
    `rollup_1m`, `histogram_1m`. Files, the network, settings and other workspaces are out of reach. `Accept: text/csv`
    and `application/vnd.apache.arrow.stream` give CSV and Arrow.
    """
    form = wanted(request.headers.get("accept", ""))
    settings = services.settings
    question = Question(
        sql=body.sql,
        parameters=dict(body.parameters or {}),
        limit=min(body.limit or settings.sql_rows, settings.sql_rows),
        form=form,
        memory=settings.sql_memory,
        seconds=min(settings.sql_seconds, _SHARE * settings.deadline_seconds),
    )
    found = await _while_there(request, _ask(services, caller.workspace, question))
    headers = {"X-Truncated": str(found.truncated).lower()}
    return Response(found.body, headers=headers, media_type=_MEDIA[form])


def wanted(accept: str) -> Form:
    """Return the form that an `Accept` header likes best, JSON where it names none of ours."""
    liked = preferred(accept, tuple(_MEDIA.values()))
    return next(form for form, media in _MEDIA.items() if media == liked)


async def _while_there(request: Request, asking: Coroutine[Any, Any, Answer]) -> Answer:
    """Wait for an answer, as long as somebody waits for ours. Raises ClientDisconnect."""
    asked, left = asyncio.create_task(asking), asyncio.create_task(_left(request))
    try:
        await asyncio.wait({asked, left}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            raise ClientDisconnect
        return await asked
    finally:
        left.cancel()
        asked.cancel()
        await asyncio.wait({asked, left})


async def _left(request: Request) -> None:
    """Wait until the client goes away; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _ask(services: Services, workspace: str, question: Question) -> Answer:
    loop = asyncio.get_running_loop()
    end = loop.time() + question.seconds
    try:
        async with asyncio.timeout_at(end), services.places.of(workspace) as process:
            needed = await services.places.run(lambda: process.begin(question))
            if needed:
                left = max(end - loop.time(), 0.0)
                await read(services.pipeline, lambda con: process.feed(con, workspace, needed), seconds=left)
            return await services.places.run(process.finish)
    except Refused as refused:
        retry_after = 1 if refused.reason == "gone" else None
        raise ApiError(_CODES[refused.reason], str(refused), retry_after=retry_after) from None
    except TimeoutError:
        raise _late(question) from None
    except ApiError as wrong:
        raise (_late(question) if wrong.code is ErrorCode.TIMEOUT else wrong) from None


def _late(question: Question) -> ApiError:
    message = f"The statement took longer than {question.seconds:g} s: ask for less time, or for fewer columns."
    return ApiError(ErrorCode.TIMEOUT, message)
