"""The feed as server-sent events."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from query_api import integrations_feed, integrations_stream
from query_api.integrations_feed import Tail, close_streams, tail_of
from query_api.integrations_stream import follow
from tests.query_api.fakes import MINE, OTHERS, Api, FakePipeline, make_app

OPENED = {"incident_id": "inc_a", "n": 0, "from_status": None, "to_status": "Open", "reason": "Pattern matched: r",
          "window_count": 1, "rule_version": "v", "event_count": 1, "settled": False}  # fmt: skip
ALERT = {"id": "inc_a.opened.0", "incident_id": "inc_a", "kind": "opened", "cycle": 0, "tenant": None}

Event = dict[str, Any]
Story = Callable[[Tail, "Reader"], Awaitable[None]]


def announce(pipeline: FakePipeline, workspace: str = MINE, times: int = 1) -> None:
    for _ in range(times):
        pipeline.announce(workspace, "transition", "inc_a", "0", OPENED)


def parse(frames: bytes) -> list[Event]:
    """The events of a piece of the stream; comments and `retry` are none."""
    found = []
    for block in frames.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append({"id": int(fields["id"]), "event": fields["event"], "data": json.loads(fields["data"])})
    return found


class Reader:
    """Reads streams of one pipeline."""

    def __init__(self, pipeline: FakePipeline, tail: Tail) -> None:
        self.pipeline, self.tail = pipeline, tail
        self.open: list[AsyncGenerator[bytes]] = []

    async def start(self, after: int | None, workspace: str = MINE, heartbeat: float = 15) -> AsyncGenerator[bytes]:
        stream = follow(self.pipeline, self.tail, workspace, after, heartbeat)
        self.open.append(stream)
        assert await anext(stream) == b"retry: 2000\n\n"
        return stream


async def take(stream: AsyncGenerator[bytes], count: int) -> list[Event]:
    found: list[Event] = []
    while len(found) < count:
        found += parse(await asyncio.wait_for(anext(stream), 5))
    return found


def tell(pipeline: FakePipeline, story: Story) -> None:
    """Run a story in an event loop with a tail."""

    async def run() -> None:
        tail = tail_of(pipeline)
        await tail.ready()
        reader = Reader(pipeline, tail)
        try:
            await story(tail, reader)
        finally:
            close_streams(pipeline)
            for stream in reader.open:
                await stream.aclose()

    asyncio.run(run())


def test_transitions_and_alerts_arrive_as_the_timeline_tells_them(pipeline: FakePipeline) -> None:
    """One shape for the same thing, wherever it is read; and nothing of another workspace."""

    async def story(tail: Tail, reader: Reader) -> None:
        stream = await reader.start(None)
        announce(pipeline, OTHERS)
        announce(pipeline)
        pipeline.announce(MINE, "alert", "inc_a", "inc_a.opened.0", ALERT)
        assert await take(stream, 2) == [
            {"id": 2, "event": "transition", "data": {
                "incidentId": "inc_a", "fromStatus": None, "toStatus": "Open", "reason": "Pattern matched: r",
                "occurredAt": "2025-03-26T08:00:01Z", "windowCount": 1, "ruleVersion": "v"}},
            {"id": 3, "event": "alert", "data": {
                "id": "inc_a.opened.0", "incidentId": "inc_a", "kind": "opened", "cycle": 0, "tenantId": None,
                "occurredAt": "2025-03-26T08:00:02Z"}},
        ]  # fmt: skip

    tell(pipeline, story)


def test_a_new_stream_begins_now(pipeline: FakePipeline) -> None:
    """A dashboard lists what is open and then follows; history is not sent again."""
    announce(pipeline, times=3)

    async def story(tail: Tail, reader: Reader) -> None:
        stream = await reader.start(None)
        announce(pipeline)
        assert [event["id"] for event in await take(stream, 1)] == [4]

    tell(pipeline, story)


@pytest.mark.parametrize("page", [2, 500])
def test_resuming_sends_everything_since_once_and_in_order(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """Across pages of the store, then from memory, with another workspace's entries in between."""
    monkeypatch.setattr(integrations_feed, "PAGE", page)
    monkeypatch.setattr(integrations_stream, "PAGE", page)
    for i in range(9):
        announce(pipeline, OTHERS if i % 3 == 1 else MINE)  # 2, 5 and 8 are others'

    async def story(tail: Tail, reader: Reader) -> None:
        stream = await reader.start(2)
        assert [event["id"] for event in await take(stream, 5)] == [3, 4, 6, 7, 9]
        announce(pipeline, times=2)
        assert [event["id"] for event in await take(stream, 2)] == [10, 11]

    tell(pipeline, story)


def test_what_happens_while_a_reader_resumes_is_not_sent_twice(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the store, which by then has more than the tail knew: right after a restart, that is usual."""
    announce(pipeline, times=3)
    older = integrations_stream.page_after

    def page_after(*asked: Any) -> Any:
        monkeypatch.undo()
        announce(pipeline, times=2)
        return older(*asked)

    async def story(tail: Tail, reader: Reader) -> None:
        monkeypatch.setattr(integrations_stream, "page_after", page_after)
        stream = await reader.start(0)
        assert [event["id"] for event in await take(stream, 5)] == [1, 2, 3, 4, 5]
        while tail.last < 5:
            await asyncio.sleep(0.01)
        announce(pipeline)
        assert [event["id"] for event in await take(stream, 1)] == [6]

    tell(pipeline, story)


def test_a_reader_that_falls_behind_misses_nothing(pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """More happens than memory holds while it is slow: it goes on from the store."""
    monkeypatch.setattr(integrations_feed, "HELD", 3)

    async def story(tail: Tail, reader: Reader) -> None:
        stream = await reader.start(None)
        announce(pipeline, times=20)
        while tail.last < 20:
            await asyncio.sleep(0.01)
        assert [event["id"] for event in await take(stream, 20)] == list(range(1, 21))

    tell(pipeline, story)


@pytest.mark.parametrize(
    ("resumed", "gap", "then"),
    [
        (3, {"from": 4, "to": 5}, [6, 7, 8]),
        (4, {"from": 5, "to": 5}, [6, 7, 8]),
        (5, None, [6, 7, 8]),
        (0, {"from": 1, "to": 5}, [6, 7, 8]),
        (8, None, []),
        (9, {"from": None, "to": 8}, []),
        (10**18, {"from": None, "to": 8}, []),
        (10**25, {"from": None, "to": 8}, []),
    ],
)
def test_what_is_lost_is_said(pipeline: FakePipeline, resumed: int, gap: Any, then: list[int]) -> None:
    """A client that was away too long must list again, rather than believe that nothing happened."""
    announce(pipeline, times=8)
    pipeline.execute("DELETE FROM feed WHERE seq <= 5")

    async def story(tail: Tail, reader: Reader) -> None:
        stream = await reader.start(resumed)
        if gap:
            (said,) = await take(stream, 1)
            assert (said["event"], said["data"], said["id"]) == ("gap", gap, gap["to"])
        announce(pipeline)
        assert [event["id"] for event in await take(stream, len(then) + 1)] == [*then, 9]

    tell(pipeline, story)


def test_silence_is_broken_by_heartbeats(pipeline: FakePipeline) -> None:
    """Proxies close what says nothing; other workspaces' traffic is silence, too."""

    async def story(tail: Tail, reader: Reader) -> None:
        stream = await reader.start(None, heartbeat=0.2)
        began = time.monotonic()
        announce(pipeline, OTHERS)
        assert await asyncio.wait_for(anext(stream), 5) == b": heartbeat\n\n"
        assert 0.15 < time.monotonic() - began < 2

    tell(pipeline, story)


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "٣", "1 2", "1" * 41])
def test_an_id_of_something_else_is_refused(api: Api, given: str) -> None:
    """Rather than a stream from a place nobody meant."""
    assert api.refused("GET", "/stream", params={"lastEventId": given})[0] == 400


class Server(uvicorn.Server):
    """One that ends its streams before it waits for its connections, as the service does."""

    pipeline: FakePipeline

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        close_streams(self.pipeline)
        await super().shutdown(sockets)


@contextmanager
def served(pipeline: FakePipeline) -> Iterator[tuple[Server, str]]:
    """The API on a real socket, in a thread."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(make_app(pipeline), host="127.0.0.1", port=port, log_level="warning")
    server = Server(config)
    server.pipeline = pipeline
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server, f"http://127.0.0.1:{port}/api/v1/stream"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def test_over_a_socket_the_header_resumes_and_counts_before_the_query(pipeline: FakePipeline) -> None:
    """A browser's reconnect sends the header, and the query as it was at first."""
    announce(pipeline, times=3)
    with served(pipeline) as (_, url), httpx.Client(timeout=5) as client:
        headers = {"X-Api-Key": "mine", "Last-Event-ID": "2"}
        with client.stream("GET", url, headers=headers, params={"lastEventId": "1"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith("id:")) == "id: 3"


def test_a_client_that_leaves_leaves_nothing_behind(pipeline: FakePipeline) -> None:
    """No task, no count: else a month of reloading a dashboard fills the memory."""
    with served(pipeline) as (_, url), httpx.Client(timeout=5) as client:
        for _ in range(3):
            with client.stream("GET", url, headers={"X-Api-Key": "mine"}) as answer:
                assert next(answer.iter_lines()) == "retry: 2000"
        until = time.monotonic() + 5
        while integrations_stream._OPEN and time.monotonic() < until:
            time.sleep(0.02)
        assert not integrations_stream._OPEN
        tail = integrations_feed._TAILS.get(pipeline)
        assert tail is None or tail.closed


def test_a_workspace_has_so_many_streams_and_no_more(pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reconnects in a loop without closing must not take all file descriptors."""
    monkeypatch.setattr(integrations_stream, "MOST_STREAMS", 1)
    with served(pipeline) as (_, url), httpx.Client(timeout=5) as client:
        with client.stream("GET", url, headers={"X-Api-Key": "mine"}) as first:
            lines = first.iter_lines()
            assert next(lines) == "retry: 2000"
            refused = client.get(url, headers={"X-Api-Key": "mine"})
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
            with client.stream("GET", url, headers={"X-Api-Key": "others"}) as second:
                assert second.status_code == 200


def test_a_server_that_stops_does_not_wait_for_its_streams(pipeline: FakePipeline) -> None:
    """An open dashboard must not keep a service from restarting."""
    with httpx.Client(timeout=10) as client:
        with served(pipeline) as (server, url):
            with client.stream("GET", url, headers={"X-Api-Key": "mine"}) as answer:
                lines = answer.iter_lines()
                assert next(lines) == "retry: 2000"
                began = time.monotonic()
                server.should_exit = True
                assert [line for line in lines if line] == []
                assert time.monotonic() - began < 5
