"""GET /stream: transitions and alerts of one's workspace as server-sent events, as they are committed.

Guarantee: after a reconnect with the last id everything since comes, once and in order. What the feed no longer holds
is announced by an event `gap`. Without an id the stream begins now.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from query_api.caller import CallerDep
from query_api.envelope import ApiError, ErrorCode
from query_api.integrations_feed import PAGE, Entry, Tail, bounds, frame, page_after, tail_of
from query_api.integrations_schema import problems
from query_api.integrations_wire import READ_SECONDS, invalid, shown
from query_api.pipeline import Pipeline
from query_api.reading import read
from query_api.services import ServicesDep

router = APIRouter()

HEARTBEAT = 15.0  # seconds without anything: below the idle limit of common proxies
MOST_STREAMS = 100  # of one workspace
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_EXAMPLE = (
    'id: 1042\nevent: transition\ndata: {"incidentId":"inc_4hq7c2mzk6v3xw5tdn2yr7ueoa","fromStatus":null,'
    '"toStatus":"Open","reason":"Pattern matched: auth_failure","occurredAt":"2025-03-26T08:14:22Z",'
    '"windowCount":1,"ruleVersion":"a3f9d2c8"}\n\n'
    'id: 1043\nevent: alert\ndata: {"id":"inc_4hq7c2mzk6v3xw5tdn2yr7ueoa.opened.0",'
    '"incidentId":"inc_4hq7c2mzk6v3xw5tdn2yr7ueoa","kind":"opened","cycle":0,"tenantId":null,'
    '"occurredAt":"2025-03-26T08:14:22Z"}\n\n'
)
_SUCCESS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `transition`, `alert`, `gap`; comments as heartbeats.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}


class _Stream(StreamingResponse):
    """Tells when it is over, however it ended."""

    def __init__(self, content: AsyncGenerator[bytes], tail: Tail, workspace: str) -> None:
        super().__init__(content, media_type="text/event-stream", headers=_HEADERS)
        self._content, self._tail, self._workspace = content, tail, workspace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client or the server ends it."""
        self._tail.join()
        _OPEN[self._workspace] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            _OPEN[self._workspace] -= 1
            if not _OPEN[self._workspace]:
                del _OPEN[self._workspace]
            self._tail.leave()
            await self._content.aclose()


_OPEN: Counter[str] = Counter()


@router.get(
    "/stream",
    summary="Follow transitions and alerts as they happen",
    response_model=None,
    response_class=StreamingResponse,
    responses=_SUCCESS | problems(),
)
async def stream(
    caller: CallerDep,
    services: ServicesDep,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", max_length=40, description="Resume behind this id.")
    ] = None,
    last_event_id_query: Annotated[
        str | None,
        Query(
            alias="lastEventId", max_length=40, description="The same, where headers cannot be set; the header counts."
        ),
    ] = None,
) -> StreamingResponse:
    """An `EventSource` resumes by itself. Connections that fall behind are not cut: they read on from the store."""
    after = _number(last_event_id or last_event_id_query)
    if _OPEN[caller.workspace] >= MOST_STREAMS:
        message = f"This workspace has {MOST_STREAMS} streams open already."
        raise ApiError(ErrorCode.RATE_LIMITED, message, retry_after=30)
    tail = tail_of(services.pipeline)
    await tail.ready()
    return _Stream(follow(services.pipeline, tail, caller.workspace, after), tail, caller.workspace)


async def follow(
    pipeline: Pipeline, tail: Tail, workspace: str, after: int | None, heartbeat: float = HEARTBEAT
) -> AsyncGenerator[bytes]:
    """Yield what comes behind number `after` (None: from now on), until the tail is closed."""
    place = tail.last
    yield b"retry: 2000\n\n"  # also sends the headers, so that the client knows it is connected
    if after is not None:
        place, lost = await _resume(pipeline, tail, after)
        if lost:
            yield lost
    quiet_since = asyncio.get_running_loop().time()
    while not tail.closed:
        reached = tail.last
        entries = tail.held(place, workspace)
        if entries is None:
            place, lost = await _resume(pipeline, tail, place)  # the feed may have been cut while it was behind
            if lost:
                yield lost
            entries = await _older(pipeline, place, workspace)
            if entries:  # a whole page ends before `reached`; a shorter one has what came while it was read, too
                reached = entries[-1].seq if len(entries) == PAGE else max(reached, entries[-1].seq)
        place = max(place, reached)
        now = asyncio.get_running_loop().time()
        if entries:
            yield b"".join(entry.frame for entry in entries)
            quiet_since = now
        elif now - quiet_since >= heartbeat:
            yield b": heartbeat\n\n"
            quiet_since = now
        await tail.wait(place, max(0.0, quiet_since + heartbeat - now))


async def _older(pipeline: Pipeline, after: int, workspace: str) -> list[Entry]:
    return await read(pipeline, lambda con: page_after(con, after, workspace), seconds=READ_SECONDS)


async def _resume(pipeline: Pipeline, tail: Tail, after: int) -> tuple[int, bytes | None]:
    """Return where to go on, and the event that says what cannot be had any more."""
    ends = await read(pipeline, bounds, seconds=READ_SECONDS)
    if ends is None:
        first, last = tail.last + 1, tail.last
    else:
        first, last = ends
    if after + 1 < first:
        return first - 1, frame(first - 1, "gap", {"from": after + 1, "to": first - 1})
    if after > last:  # an id of another store: nobody knows what was missed
        return last, frame(last, "gap", {"from": None, "to": last})
    return after, None


def _number(given: str | None) -> int | None:
    if not given:
        return None
    if not (given.isascii() and given.isdigit()):
        raise invalid(f"Last-Event-ID: expected the id of an event of this stream, got {shown(given)}.")
    return int(given)
