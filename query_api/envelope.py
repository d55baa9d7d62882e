"""The one shape of every answer under /api/v1: {isSuccess, errorCode, message, data}; elsewhere errors are RFC 9457's.

`ok` for what succeeded; `raise ApiError(...)` for what did not, wherever it is noticed: the application makes it an
answer of the surface that was asked (`failure`).
"""

from collections.abc import Mapping
from enum import IntEnum
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response


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


def failure(path: str, error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the error as the surface that `path` belongs to says it."""
    status = error.code.status
    sent = dict(headers or {})
    if error.code is ErrorCode.UNAUTHORIZED:
        sent.setdefault("WWW-Authenticate", "Bearer")
    retry_after = error.retry_after or (1 if status in (429, 503) else None)
    if retry_after is not None:
        sent["Retry-After"] = str(retry_after)
    if not enveloped(path):
        return problem(status, error.message, sent)
    body: dict[str, Any] = {"isSuccess": False, "errorCode": int(error.code), "message": error.message}
    if status == 429:
        body["statusCode"] = status
    return Response(orjson.dumps(body), status, sent, media_type="application/json")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the shape of RFC 9457."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(orjson.dumps(body), status, headers, media_type="application/problem+json")


def enveloped(path: str) -> bool:
    """Whether answers at this path have the envelope."""
    return path == SURFACE or path.startswith(f"{SURFACE}/")
