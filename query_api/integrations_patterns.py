"""GET /patterns and PATCH /patterns/{id}: what is looked for, and what this workspace wants different about it."""

from typing import Annotated, Any

from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Body, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from operators.durations import format_duration
from operators.events import DAY, SECOND
from operators.rules import Rule
from query_api.caller import CallerDep
from query_api.configure import configure
from query_api.envelope import ApiError, ErrorCode, ok
from query_api.integrations_rules import pattern, rules_of, settings_of
from query_api.integrations_schema import Pattern, answers
from query_api.integrations_submit import SUBMIT_SECONDS, submit
from query_api.integrations_wire import READ_SECONDS, invalid, now
from query_api.reading import read
from query_api.services import Services, ServicesDep

router = APIRouter()

_LONGEST = 365 * DAY // SECOND

_EXAMPLE = {
    "patternId": "webhook_failure_spike",
    "name": "Webhook Failure Spike",
    "priority": 2,
    "triggers": {"eventTypes": ["webhook_failed", "webhook_timeout", "webhook_undeliverable"], "errorCodes": []},
    "isEnabled": True,
    "thresholdCount": 20,
    "thresholdWindowSeconds": 300,
    "openThreshold": {"count": 10, "windowSeconds": 300},
    "severity": "high",
}


class PatternChange(BaseModel):
    """What to change; null takes a setting back. The two thresholds go together."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"isEnabled": True, "thresholdCount": 20, "thresholdWindowSeconds": 300}]},
    )

    isEnabled: Annotated[bool | None, Field(strict=True)] = None
    thresholdCount: Annotated[int | None, Field(strict=True, ge=1, le=1_000_000_000)] = None
    thresholdWindowSeconds: Annotated[int | None, Field(strict=True, ge=1, le=_LONGEST)] = None


@router.get(
    "/patterns",
    summary="List the patterns",
    response_model=None,
    responses=answers(list[Pattern], [_EXAMPLE]),
)
async def patterns(caller: CallerDep, services: ServicesDep) -> Response:
    """All patterns in the order they are tried, as they hold in this workspace."""
    settings = await read(services.pipeline, lambda con: settings_of(con, caller.workspace), seconds=READ_SECONDS)
    return ok([pattern(rule, settings) for rule in rules_of(services).values()])


@router.patch(
    "/patterns/{id}",
    summary="Enable or disable a pattern, or set its alert threshold",
    response_model=None,
    responses=answers(Pattern, _EXAMPLE, 404, 409, 413, accepted="Recorded durably, not in effect yet."),
)
async def change_pattern(
    caller: CallerDep,
    services: ServicesDep,
    ident: Annotated[str, Path(alias="id", max_length=200)],
    change: Annotated[PatternChange, Body()],
) -> Response:
    """Takes effect for what follows. With a threshold incidents open silently, and alert once the count is reached."""
    rule = rules_of(services).get(ident)
    if rule is None:
        raise ApiError(ErrorCode.NOT_FOUND, "Pattern not found.")
    override = _override(change, await _current(services, caller.workspace, rule))
    if not override:
        return ok(await _current(services, caller.workspace, rule))
    body = configure(caller, now(), {"rules": {rule.id: override}})
    receipt = await submit(services.pipeline, caller.workspace, body, detail=True, timeout=SUBMIT_SECONDS)
    if receipt.outcomes and receipt.outcomes[0].error:
        raise ApiError(ErrorCode.CONFLICT, f"The pattern cannot be changed: {receipt.outcomes[0].error}")
    held = await _current(services, caller.workspace, rule)
    if receipt.done:
        return ok(held)
    answer = ok(held, "The change is recorded and will hold as soon as the pipeline has caught up.")
    answer.status_code = 202
    return answer


async def _current(services: Services, workspace: str, rule: Rule) -> dict[str, Any]:
    def question(con: DuckDBPyConnection) -> dict[str, Any]:
        return pattern(rule, settings_of(con, workspace))

    return await read(services.pipeline, question, seconds=READ_SECONDS)


def _override(change: PatternChange, current: dict[str, Any]) -> dict[str, Any]:
    """Return the change as a `configure` record says it. Raises ApiError ValidationError for half a threshold."""
    override: dict[str, Any] = {}
    if "isEnabled" in change.model_fields_set:
        override["enabled"] = change.isEnabled
    names = ("thresholdCount", "thresholdWindowSeconds")
    if change.model_fields_set.isdisjoint(names):
        return override
    # One of the two may stay as it is, if there is one.
    count, window = (getattr(change, name) if name in change.model_fields_set else current[name] for name in names)
    if count is None and window is None:
        override["alert"] = None
    elif count is None or window is None:
        given, lacking = names if window is None else names[::-1]
        raise invalid(f"{lacking} is required with {given}; set both, or both to null.")
    else:
        override["alert"] = {"count": count, "window": format_duration(round(window * SECOND))}
    return override
