"""Every error that may come out of an endpoint, as an answer of the surface that was asked."""

import re
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from connectors.control import ControlError, ControlUnavailable, Denied, Forbidden, Full, Missing, Refused, Taken
from query_api.envelope import CODES, ApiError, ErrorCode, failure
from query_api.pipeline import Unavailable
from query_api.routes import operations
from query_api.validation import sentence

_CONTROL: dict[type[ControlError], ErrorCode] = {
    Missing: ErrorCode.NOT_FOUND,
    Taken: ErrorCode.CONFLICT,
    Refused: ErrorCode.VALIDATION_ERROR,
    Full: ErrorCode.RATE_LIMITED,
    Denied: ErrorCode.UNAUTHORIZED,
    Forbidden: ErrorCode.FORBIDDEN,
    ControlUnavailable: ErrorCode.UNAVAILABLE,
}
_PARAMETER = re.compile(r"\{[^}]*\}")
_HTTP = {404: "There is nothing at this path.", 405: "This path does not have that method."}


def install(app: FastAPI) -> None:
    """Register a handler for each. What none of them takes is a mistake of ours: `access` answers 500."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


async def _api(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return failure(request.scope["path"], error)


async def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)
    full = ApiError(ErrorCode.UNAVAILABLE, str(error) or "Try again.", retry_after=error.retry_after)
    return failure(request.scope["path"], full)


async def _control(request: Request, error: Exception) -> Response:
    assert isinstance(error, ControlError)
    code = _CONTROL.get(type(error))
    if code is None:
        raise error
    return failure(request.scope["path"], ApiError(code, str(error)))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return failure(request.scope["path"], ApiError(ErrorCode.VALIDATION_ERROR, sentence(error.errors())))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, ErrorCode.VALIDATION_ERROR)
    message = _HTTP.get(error.status_code, error.detail)
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return failure(request.scope["path"], ApiError(code, message), headers)


def _allowed(request: Request) -> str:
    """Return all methods of the path; the router names those of one function only."""
    path = request.scope["path"]
    found = {one.method for one in operations(request.app) if re.fullmatch(_PARAMETER.sub("[^/]+", one.path), path)}
    return ", ".join(sorted(found))


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    ApiError: _api,
    Unavailable: _unavailable,
    ControlError: _control,
    RequestValidationError: _invalid,
    HTTPException: _http,
}
