"""Memory for batches is shared out, and not to one workspace alone."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from query_api.ingest_room import Room


def test_slow_senders_of_one_workspace_leave_room_for_the_others() -> None:
    """Two requests that promise much and send nothing must not stop everybody's batches."""

    async def play() -> None:
        room = Room(100)
        async with AsyncExitStack() as held:
            await held.enter_async_context(room.taken(50, "slow"))
            second = asyncio.create_task(held.enter_async_context(room.taken(50, "slow")))
            async with asyncio.timeout(10), room.taken(50, "other"):
                assert not second.done()
            second.cancel()

    asyncio.run(play())


def test_who_waits_comes_in_when_somebody_leaves() -> None:
    """A body larger than a workspace's share takes the share, alone, and is not refused."""

    async def play() -> None:
        room = Room(100)
        order: list[str] = []

        async def send(name: str, size: int) -> None:
            async with room.taken(size, "acme"):
                order.append(name)
                await asyncio.sleep(0)

        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for name, size in (("whole", 1_000), ("half", 25), ("other half", 25)):
                group.create_task(send(name, size))
        assert order == ["whole", "half", "other half"]

    asyncio.run(play())


@pytest.mark.parametrize("fails", [False, True])
def test_room_is_given_back_whatever_happened(fails: bool) -> None:
    """A client that goes away in the middle must not keep its room."""

    async def play() -> None:
        room = Room(100)
        for _ in range(3):
            try:
                async with asyncio.timeout(10), room.taken(50, "acme"):
                    if fails:
                        raise ConnectionError
            except ConnectionError:
                assert fails

    asyncio.run(play())
