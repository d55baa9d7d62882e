"""The one shape of every answer of the Integrations API: {isSuccess, errorCode, message, data}."""

from enum import IntEnum

import orjson
from fastapi import Response


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


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(self, code: ErrorCode, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


def ok(data: object, message: str = "") -> Response:
    """Return the envelope of a success."""
    body = orjson.dumps({"isSuccess": True, "errorCode": 0, "message": message, "data": data})
    return Response(body, media_type="application/json")
