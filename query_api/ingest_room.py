"""How many bytes of batches may be in memory at a time; who comes when it is full, waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import Request

MOST = 64 << 20  # bytes of bodies; a batch needs about four times as much while it is taken apart


class Room:
    """Bytes that are shared out. Used from one event loop."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held = 0
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes, or all there are, once they are free."""
        size = min(size, self._most)
        async with self._freed:
            await self._freed.wait_for(lambda: self._held + size <= self._most)
            self._held += size
        try:
            yield
        finally:
            self._held -= size
            async with self._freed:
                self._freed.notify_all()


def room_for(request: Request, most: int) -> AbstractAsyncContextManager[None]:
    """Room for the request's body: as much as it says, or `most` where it does not, or is compressed."""
    state = request.app.state
    if not hasattr(state, "room"):
        state.room = Room()
    room: Room = state.room
    length = request.headers.get("content-length", "")
    plain = "content-encoding" not in request.headers
    return room.taken(min(int(length), most) if length.isdecimal() and plain else most)
