"""How many bytes of batches may be in memory at a time; who comes when it is full, waits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import Request

MOST = 64 << 20  # bytes of bodies; a batch needs about four times as much while it is taken apart


class Room:
    """Bytes that are shared out, at most half of them to one workspace. Used from one event loop."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._share = most, most // 2
        self._held: Counter[str] = Counter()
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, size: int, workspace: str) -> AsyncIterator[None]:
        """Hold `size` bytes, or all that a workspace may have, once they are free."""
        size = min(size, self._share)
        async with self._freed:
            await self._freed.wait_for(lambda: self._is_free(size, workspace))
            self._held[workspace] += size
        try:
            yield
        finally:
            self._held[workspace] -= size
            if not self._held[workspace]:
                del self._held[workspace]
            async with self._freed:
                self._freed.notify_all()

    def _is_free(self, size: int, workspace: str) -> bool:
        return self._held[workspace] + size <= self._share and self._held.total() + size <= self._most


def room_for(request: Request, workspace: str, most: int) -> AbstractAsyncContextManager[None]:
    """Room for the request's body: as much as it says, or `most` where it does not, or is compressed."""
    state = request.app.state
    if not hasattr(state, "room"):
        state.room = Room()
    room: Room = state.room
    length = request.headers.get("content-length", "")
    plain = "content-encoding" not in request.headers
    return room.taken(min(int(length), most) if length.isdecimal() and plain else most, workspace)
