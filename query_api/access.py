"""The outermost layer of a request: its id, its line in the log, its place in the metrics, and an answer in any case.

The line has the route's pattern, never the path, the query, a header or a body: those may hold what nobody should read.
Plain ASGI, as is every layer here: a few microseconds a request.
"""

import re
import uuid
from collections.abc import Mapping
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from query_api.caller import WORKSPACE
from query_api.envelope import ApiError, ErrorCode, failure
from query_api.http_metrics import HttpMetrics
from query_api.logs import Log

REQUEST_ID = "tocsin.request_id"  # where in the ASGI scope it is
UNMATCHED = "unmatched"  # the route of a path that we do not have
_QUIET = frozenset({"/health", "/-/ready", "/metrics"})  # asked every few seconds; logged when they fail
_DOCUMENTS = frozenset({"/openapi.json"})  # FastAPI's own route does not leave its pattern in the scope
_ID = re.compile(rb"[A-Za-z0-9._\-]{1,64}")


class Access:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, log: Log, metrics: HttpMetrics, names: Mapping[int, str]) -> None:
        """names: the whole pattern of a route, by the route's `id`; the route itself knows only its end."""
        self._app, self._log, self._metrics, self._names = app, log, metrics, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        request_id = _request_id(scope)
        scope[REQUEST_ID] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            pass  # in the middle of its own request; noted below
        except Exception as wrong:
            self._log.error("unhandled error", request_id=request_id.decode(), route=self._route(scope), exc_info=wrong)
            if status:
                raise  # the answer has begun: only breaking it off tells the client
            error = ApiError(
                ErrorCode.INTERNAL, "Something went wrong on our side; the log has it under the request's id."
            )
            await failure(scope["path"], error)(scope, receive, answer)
        finally:
            self._note(scope, request_id, status, perf_counter() - began)

    def _note(self, scope: Scope, request_id: bytes, status: int, seconds: float) -> None:
        route, method = self._route(scope), scope["method"]
        self._metrics.observe(method, route, status, seconds)
        if route in _QUIET and status < 400:
            return
        self._log.info(
            "request",
            request_id=request_id.decode(),
            method=method if len(method) <= 16 else "other",
            route=route,
            status=status,
            ms=round(seconds * 1000, 3),
            workspace=scope.get(WORKSPACE),
        )

    def _route(self, scope: Scope) -> str:
        name = self._names.get(id(scope.get("route")), UNMATCHED)
        return scope["path"] if name is UNMATCHED and scope["path"] in _DOCUMENTS else name


def _request_id(scope: Scope) -> bytes:
    """Return the client's own id of the request where it sent a sensible one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            sent: bytes = value
            return sent if _ID.fullmatch(sent) else uuid.uuid4().hex.encode()
    return uuid.uuid4().hex.encode()
