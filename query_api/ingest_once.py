"""Idempotency-Key: what was asked twice happens once, and gets the first answer again.

In memory there are the answers of the last day, as many as fit; requests with the same key wait for the first of them.
What memory forgets, or a crash takes, the log still knows: events without an id get one that is derived from the key,
and an id that comes again within 24 h is a duplicate (S5).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fastapi import Request, Response

from query_api.envelope import ApiError, ErrorCode

HEADER = "idempotency-key"
LONGEST = 255  # characters of a key
REMEMBERED = 24 * 3600  # seconds
ENTRIES = 50_000
BYTES = 32 << 20  # of answers
_COST = 500  # bytes of an entry beside its answer

Send = Callable[[], Awaitable[Response]]


@dataclass(slots=True)
class _Entry:
    digest: bytes
    until: float
    done: asyncio.Event = field(default_factory=asyncio.Event)
    answer: tuple[int, bytes, str | None] | None = None
    busy: bool = True

    @property
    def size(self) -> int:
        return _COST + (len(self.answer[1]) if self.answer else 0)


class Answers:
    """The answers that were given under a key. Used from the event loop; memory is bounded."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._held = 0
        self._clock = clock

    async def once(self, workspace: str, key: str, digest: bytes, send: Send) -> Response:
        """`send`'s answer, or the one it gave before to the same request. Raises ApiError where the request differs."""
        place = (workspace, key)
        while True:
            entry = self._entries.get(place)
            if entry is None or self._clock() > entry.until:
                entry = self._begin(place, digest)
                break
            if entry.digest != digest:
                message = "This Idempotency-Key was used with another request within the last 24 hours."
                raise ApiError(ErrorCode.UNPROCESSABLE, message)
            if entry.answer is not None:
                status, content, media_type = entry.answer
                return Response(content, status, media_type=media_type)
            if not entry.busy:  # it was not finished then: the log knows what became of it
                entry.busy = True
                entry.done.clear()
                break
            await entry.done.wait()
        return await self._send(place, entry, send)

    async def _send(self, place: tuple[str, str], entry: _Entry, send: Send) -> Response:
        try:
            response = await send()
        except BaseException:
            self._forget(place, entry)
            raise
        else:
            if response.status_code == 200 and self._entries.get(place) is entry:
                self._held -= entry.size
                entry.answer = (200, bytes(response.body), response.media_type)
                self._held += entry.size
                self._shrink()
            return response
        finally:
            entry.busy = False
            entry.done.set()

    def _begin(self, place: tuple[str, str], digest: bytes) -> _Entry:
        old = self._entries.pop(place, None)
        if old is not None:
            self._held -= old.size
        entry = self._entries[place] = _Entry(digest, self._clock() + REMEMBERED)
        self._held += entry.size
        self._shrink()
        return entry

    def _forget(self, place: tuple[str, str], entry: _Entry) -> None:
        if self._entries.get(place) is entry:
            del self._entries[place]
            self._held -= entry.size

    def _shrink(self) -> None:
        while len(self._entries) > 1 and (len(self._entries) > ENTRIES or self._held > BYTES):
            self._held -= self._entries.popitem(last=False)[1].size


def key_of(request: Request) -> str | None:
    """The request's Idempotency-Key. Raises ApiError where it cannot be one."""
    key = request.headers.get(HEADER)
    if key is not None and not (0 < len(key) <= LONGEST):
        raise ApiError(ErrorCode.VALIDATION_ERROR, f"Idempotency-Key must have 1 to {LONGEST} characters.")
    return key


def derived_id(key: str | None) -> str | None:
    """The id of an event that has none of its own."""
    if key is None:
        return None
    digest = hashlib.blake2b(key.encode(), digest_size=16, person=b"tocsin event id")
    return str(uuid.UUID(bytes=digest.digest()))


async def once(request: Request, workspace: str, key: str | None, body: bytes, send: Send) -> Response:
    """`send`'s answer; with a key, the first one again."""
    if key is None:
        return await send()
    state = request.app.state
    if not hasattr(state, "answers"):
        state.answers = Answers()
    answers: Answers = state.answers
    asked = f"{request.url.path}\n{request.headers.get('content-type', '')}\n".encode()
    return await answers.once(workspace, key, hashlib.blake2b(asked + body, digest_size=32).digest(), send)
