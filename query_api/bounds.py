"""What one request may take: a place among those under way, bytes of body, seconds until its answer begins.

An answer that has begun may go on as long as it likes (an export, a live feed); a live feed gives its place back.
"""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from query_api.envelope import ApiError, ErrorCode, failure
from query_api.settings import ServiceSettings

# What tells whether we are well has to work when nothing else does.
_ALWAYS = frozenset({"/health", "/-/ready", "/metrics"})


class Bounds:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._body = settings.body_limit_bytes
        self._deadline = settings.deadline_seconds
        self._places = settings.max_concurrency
        self._taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._taken >= self._places:
            full = ApiError(ErrorCode.UNAVAILABLE, "Too many requests at once. Try again in 1 second.", retry_after=1)
            await failure(scope["path"], full)(scope, receive, send)
            return
        length, chunked = _length(scope)
        if length > self._body:
            # The body is not read, so the connection cannot be used again.
            await failure(scope["path"], self._too_large(), {"Connection": "close"})(scope, receive, send)
            return
        await self._within(scope, self._counted(receive) if chunked else receive, send)

    async def _within(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = freed = False
        self._taken += 1

        async def answer(message: Message) -> None:
            nonlocal begun, freed
            if not begun and message["type"] == "http.response.start":
                begun = True
                if not deadline.expired():
                    deadline.reschedule(None)
                if _is_feed(message):
                    freed = True
                    self._taken -= 1
            await send(message)

        try:
            async with asyncio.timeout(self._deadline) as deadline:
                await self._app(scope, receive, answer)
        except TimeoutError:
            if begun or not deadline.expired():
                raise
            late = ApiError(ErrorCode.TIMEOUT, f"The answer took longer than {self._deadline:g} s.")
            await failure(scope["path"], late)(scope, receive, send)
        finally:
            if not freed:
                self._taken -= 1

    def _counted(self, receive: Receive) -> Receive:
        """Return `receive`, which stops a body without a stated length where it grows too long."""
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._body:
                raise HTTPException(413, self._too_large().message, {"Connection": "close"})
            return message

        return counted

    def _too_large(self) -> ApiError:
        return ApiError(ErrorCode.PAYLOAD_TOO_LARGE, f"The body is larger than {self._body:,} bytes.")


def _length(scope: Scope) -> tuple[int, bool]:
    """Return the body's stated length in bytes, and whether it comes without one. The server has checked the header."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return (int(value), False) if value.isdigit() else (0, True)
        if name == b"transfer-encoding":
            return 0, True
    return 0, True


def _is_feed(start: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in start["headers"])
