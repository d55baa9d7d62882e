"""What the Integrations API answers, for its OpenAPI document. Answers themselves are made without these models."""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")
Status = Literal["Open", "Recovering", "Closed"]


class Envelope(BaseModel, Generic[T]):
    """Every success."""

    isSuccess: Literal[True]
    errorCode: Literal[0]
    message: str
    data: T


class Refusal(BaseModel):
    """Every error. errorCode: 1 NotFound, 2 Unauthorized, 3 Forbidden, 4 ValidationError, 5 Conflict, 6 RateLimited,
    7 PayloadTooLarge, 8 Unavailable, 9 Internal, 10 Unprocessable, 11 Timeout."""

    isSuccess: Literal[False]
    errorCode: int = Field(ge=1, le=11)
    message: str
    statusCode: int | None = None


_PROBLEMS: dict[int, tuple[str, int, str]] = {
    400: (
        "A parameter or the body cannot be used; the message says why.",
        4,
        "pageSize must be at most 100.",
    ),
    401: ("No valid API key or token.", 2, "Missing or invalid API key."),
    403: ("The token does not allow this.", 3, "This token is not for a workspace."),
    404: ("There is no such thing in this workspace.", 1, "Incident not found."),
    409: ("It is not in a state that allows this.", 5, "The incident is closed already."),
    413: ("The body is too large.", 7, "The body is larger than 1 MiB."),
    429: (
        "Too many requests; see `Retry-After`.",
        6,
        "Rate limit exceeded. Try again in 43 seconds.",
    ),
    503: ("Not taken, nothing is kept; see `Retry-After`.", 8, "The pipeline lags behind."),
    504: ("It took too long.", 11, "The answer took longer than 5 s; ask for a shorter time or a smaller page."),
}
ALWAYS = (400, 401, 403, 429, 503, 504)
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def answers(data: Any, example: object, *also: int, accepted: str | None = None) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: 200 with `data` and an example, the errors every route has, and `also`.

    accepted: what 202 means, where the route answers it.
    """
    envelope: Any = Envelope[data]
    success = _content(envelope, {"isSuccess": True, "errorCode": 0, "message": "", "data": example})
    found: dict[int | str, dict[str, Any]] = {200: {"description": "Success.", **success}}
    if accepted is not None:
        found[202] = {"description": accepted, **success}
    return found | problems(*also)


def problems(*also: int) -> dict[int | str, dict[str, Any]]:
    """Return the error responses every route has, and `also`."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*ALWAYS, *also}):
        description, code, message = _PROBLEMS[status]
        body = {"isSuccess": False, "errorCode": code, "message": message}
        found[status] = {"description": description, **_content(Refusal, body)}
        if status in (429, 503):
            found[status]["headers"] = _RETRY_AFTER
    return found


def _content(model: Any, example: object) -> dict[str, Any]:
    return {"model": model, "content": {"application/json": {"example": example}}}


class IncidentSummary(BaseModel):
    """An incident, as lists show it. Times are RFC 3339, UTC."""

    id: str
    workspaceId: str
    integrationKey: str | None
    patternId: str
    patternName: str
    status: Status
    confidence: Literal["High", "Medium"] | None
    openedAt: str
    recoveringAt: str | None
    closedAt: str | None
    reopenedAt: str | None
    reopenCount: int
    eventCount: int
    tenantCount: int
    isChronic: bool


class AffectedTenant(BaseModel):
    """A tenant that an incident hit. tenantName is its external id unless it was given a name."""

    tenantId: str
    tenantName: str
    eventCount: int
    firstSeenAt: str
    lastSeenAt: str


class IncidentDetail(IncidentSummary):
    """An incident and whom it hit, the hardest hit first. truncated: there, and true, where tenants are left out."""

    affectedTenants: list[AffectedTenant]
    truncated: bool | None = None


class PageOf(BaseModel, Generic[T]):
    """A page. nextCursor: null on the last one."""

    items: list[T]
    page: int
    pageSize: int
    total: int
    hasMore: bool
    nextCursor: str | None


class TimelineStep(BaseModel):
    """A step of a timeline. windowCount: matches in the pattern's window; null where a timer or a person caused it."""

    fromStatus: Status | None
    toStatus: Status
    reason: str
    occurredAt: str
    windowCount: int | None
    ruleVersion: str | None


class StoredEvent(BaseModel):
    """An event of an incident. occurredAt: when it counted; rawPayload: what else it said."""

    id: str
    incidentId: str
    integrationKey: str | None
    eventType: str | None
    errorCode: str | None
    tenantId: str | None
    severity: str | None
    message: str | None
    value: float | None
    confidence: str | None
    happenedAt: str | None
    occurredAt: str
    receivedAt: str | None
    isLate: bool
    rawPayload: Any


class Triggers(BaseModel):
    """An event matches when its type or its code is listed; with neither list, every event of the stream does."""

    eventTypes: list[str]
    errorCodes: list[str]


class OpenThreshold(BaseModel):
    """When an incident opens. count: null where something else than events is counted."""

    count: int | None
    windowSeconds: float | None


class Pattern(BaseModel):
    """A pattern as it holds in the workspace. The two alert thresholds are null without one."""

    patternId: str
    name: str
    priority: int | None
    triggers: Triggers
    isEnabled: bool
    thresholdCount: int | None
    thresholdWindowSeconds: float | None
    openThreshold: OpenThreshold
    severity: str | None


class TopPattern(BaseModel):
    """A pattern and how many incidents it opened in the window."""

    patternId: str
    patternName: str
    incidentCount: int


class Window(BaseModel):
    """A span of time: `from` inclusive, `to` exclusive."""

    from_: str = Field(alias="from")
    to: str


class Stats(BaseModel):
    """Figures of a workspace. The first two are of now, the others of the window; null where nothing can be divided."""

    openIncidents: int
    recoveringIncidents: int
    closedIncidents: int
    mttrSeconds: float | None
    reopenRate: float | None
    chronicIncidents: int
    topPatterns: list[TopPattern]
    window: Window


class Bucket(BaseModel):
    """Incidents opened from `start` on, for one bucket's length. isComplete: false for the one still running."""

    start: str
    incidentCount: int
    isComplete: bool


class PatternTrend(BaseModel):
    """A pattern's incidents by time. adjustedPValue: after the correction for the number of patterns; decides."""

    patternId: str
    patternName: str
    incidentCount: int
    direction: Literal["rising", "falling", "stable"]
    pValue: float | None
    adjustedPValue: float | None
    test: str
    slopePerBucket: float | None
    reason: str | None
    buckets: list[Bucket]


class Trends(BaseModel):
    """Trends of all patterns that opened an incident in the window."""

    bucket: Literal["1h", "1d"]
    level: float
    window: Window
    patterns: list[PatternTrend]
    truncated: bool
