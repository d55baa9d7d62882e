"""The processes of the service: few, so that questions cannot take what everything else lives on."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from query_api.envelope import ApiError, ErrorCode
from query_api.sandbox.process import Process

T = TypeVar("T")

PLACES = 2
# Of one workspace: another one always finds a place.
EACH = PLACES - 1
WAIT = 1.0  # seconds for a place
_LOOK = 0.02
_FULL = "Too many SQL statements run at once. Try again in 1 second."
_OWN = "A SQL statement of this workspace is running already. Try again in 1 second."


class Places:
    """Processes, started when they are needed. For one event loop at a time."""

    def __init__(self) -> None:
        self._idle = [Process() for _ in range(PLACES)]
        self._taken: Counter[str] = Counter()
        self._all = set(self._idle)
        self._threads = ThreadPoolExecutor(PLACES, thread_name_prefix="sql")
        self._closed = False

    @asynccontextmanager
    async def of(self, workspace: str) -> AsyncIterator[Process]:
        """A process for a workspace's question, killed where that comes to no end. Raises ApiError Unavailable."""
        process = await self._take(workspace)
        try:
            yield process
        finally:
            self._taken[workspace] -= 1
            if not process.clean:
                process.kill()
                self._all.discard(process)
                if not self._closed:
                    self._threads.submit(process.close)
                process = Process()
                self._all.add(process)
            self._idle.append(process)

    async def run(self, work: Callable[[], T]) -> T:
        """Run what blocks, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """End all processes; questions under way fail."""
        self._closed = True
        for process in self._all:
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._all:
            process.close()

    async def _take(self, workspace: str) -> Process:
        until = time.monotonic() + WAIT
        while True:
            own = self._taken[workspace] >= EACH
            if self._closed:
                raise ApiError(ErrorCode.UNAVAILABLE, "The service is stopping.", retry_after=1)
            if self._idle and not own:
                self._taken[workspace] += 1
                return self._idle.pop()  # the last one used: the others may end
            if time.monotonic() > until:
                raise ApiError(ErrorCode.UNAVAILABLE, _OWN if own else _FULL, retry_after=1)
            await asyncio.sleep(_LOOK)
