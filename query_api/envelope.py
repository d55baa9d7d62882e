"""What succeeded under /api/v1 ({isSuccess, errorCode, message, data}), and what did not, anywhere.

`ok` for what succeeded; `raise ApiError(...)` for what did not, wherever it is noticed: the application makes it an
answer of the surface that was asked (`failure`). `SURFACES` says how each of them puts it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from query_api.wire import AnalyticsFailure, Failure, Problem


class ErrorCode(IntEnum):
    """What went wrong, as the envelope numbers it."""

    SUCCESS = 0
    NOT_FOUND = 1
    UNAUTHORIZED = 2
    FORBIDDEN = 3
    VALIDATION_ERROR = 4
    CONFLICT = 5
    RATE_LIMITED = 6
    PAYLOAD_TOO_LARGE = 7
    UNAVAILABLE = 8
    INTERNAL = 9
    UNPROCESSABLE = 10
    TIMEOUT = 11
    METHOD_NOT_ALLOWED = 12

    @property
    def status(self) -> int:
        """The HTTP status that goes with it."""
        return _STATUS[self]


_STATUS = {
    ErrorCode.SUCCESS: 200,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.VALIDATION_ERROR: 400,
    ErrorCode.CONFLICT: 409,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNPROCESSABLE: 422,
    ErrorCode.TIMEOUT: 504,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
}
# As the Analytics surface names them.
_WORDS = {
    ErrorCode.NOT_FOUND: "not_found",
    ErrorCode.UNAUTHORIZED: "unauthenticated",
    ErrorCode.FORBIDDEN: "forbidden",
    ErrorCode.VALIDATION_ERROR: "validation_error",
    ErrorCode.CONFLICT: "conflict",
    ErrorCode.RATE_LIMITED: "rate_limited",
    ErrorCode.PAYLOAD_TOO_LARGE: "payload_too_large",
    ErrorCode.UNAVAILABLE: "unavailable",
    ErrorCode.INTERNAL: "internal_error",
    ErrorCode.UNPROCESSABLE: "unprocessable_entity",
    ErrorCode.TIMEOUT: "timeout",
    ErrorCode.METHOD_NOT_ALLOWED: "method_not_allowed",
}
CODES = {status: code for code, status in _STATUS.items()}
SURFACE = "/api/v1"  # where answers have the envelope


class ApiError(Exception):
    """An answer that is no success. message: a sentence for the caller. retry_after: seconds, for 429 and 503."""

    def __init__(self, code: ErrorCode, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


def ok(data: object, message: str = "", *, status: int = 200, beside: Mapping[str, object] | None = None) -> Response:
    """Return the envelope of a success. beside: members beside `data`, such as the number of a page."""
    body = {"isSuccess": True, "errorCode": 0, "message": message, "data": data}
    if beside:
        body.update(beside)
    return Response(orjson.dumps(body), status, media_type="application/json")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a surface says an error: the media type, the body and, for the OpenAPI document, its model."""

    media_type: str
    model: type[BaseModel]
    body: Callable[[ApiError], dict[str, Any]]


def failure(path: str, error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the error as the surface that `path` belongs to says it."""
    status = error.code.status
    sent = dict(headers or {})
    if error.code is ErrorCode.UNAUTHORIZED:
        sent.setdefault("WWW-Authenticate", "Bearer")
    retry_after = error.retry_after or (1 if status in (429, 503) else None)
    if retry_after is not None:
        sent["Retry-After"] = str(retry_after)
    shape = shape_of(path)
    return Response(orjson.dumps(shape.body(error)), status, sent, media_type=shape.media_type)


def shape_of(path: str) -> Shape:
    """Return how errors are said at this path. May be a route's pattern."""
    for prefix, shape in SURFACES:
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
            return shape
    return PROBLEM


def _failure(error: ApiError) -> dict[str, Any]:
    body: dict[str, Any] = {"isSuccess": False, "errorCode": int(error.code), "message": error.message}
    if error.code is ErrorCode.RATE_LIMITED:
        body["statusCode"] = error.code.status
    return body


def _analytics(error: ApiError) -> dict[str, Any]:
    return {"error": {"code": _WORDS[error.code], "message": error.message}}


def _problem(error: ApiError) -> dict[str, Any]:
    status = error.code.status
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": error.message}


ENVELOPE = Shape("application/json", Failure, _failure)
ANALYTICS = Shape("application/json", AnalyticsFailure, _analytics)
PROBLEM = Shape("application/problem+json", Problem, _problem)

# The first prefix that fits counts; errors elsewhere are problems (RFC 9457), as are those of all native endpoints.
SURFACES: tuple[tuple[str, Shape], ...] = (
    (SURFACE, ENVELOPE),
    ("/v1/analytics/query", PROBLEM),
    ("/v1/analytics", ANALYTICS),
    ("/v1/mcp", ANALYTICS),
)
