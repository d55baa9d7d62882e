"""The tail of the store's `feed`, read once for all streams of this process.

A stream that keeps up takes what is new from memory; one that has fallen behind, or resumes, reads the table by pages.
So nothing is buffered per connection but the page it is being sent, and a slow reader costs itself time, nobody
memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from duckdb import DuckDBPyConnection

from query_api.integrations_wire import READ_SECONDS, rfc3339
from query_api.pipeline import Pipeline
from query_api.reading import read

PAGE = 500
HELD = 5_000
PATIENCE = 15.0  # seconds in one wait for the pipeline
_CALM = 0.05  # seconds, should the pipeline announce what is not to be seen yet

_BOUNDS = "SELECT min(seq), max(seq) FROM feed"
_NEWER = """
    SELECT seq, workspace, kind, incident_id, name, epoch_us("at"), body FROM feed
    WHERE seq > $after {only} ORDER BY seq LIMIT $limit
"""
_ALL = _NEWER.format(only="")
_OF_WORKSPACE = _NEWER.format(only="AND workspace = $workspace")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the feed, as the stream sends it."""

    seq: int
    workspace: str
    frame: bytes


def bounds(con: DuckDBPyConnection) -> tuple[int, int] | None:
    """Return the first and the last number that the feed holds; None while it is empty."""
    first, last = con.execute(_BOUNDS).fetchone() or (None, None)
    return None if first is None or last is None else (first, last)


def page_after(con: DuckDBPyConnection, after: int, workspace: str) -> list[Entry]:
    """Return the next PAGE entries of a workspace."""
    values = {"after": after, "limit": PAGE, "workspace": workspace}
    return [_entry(row) for row in con.execute(_OF_WORKSPACE, values).fetchall()]


class Tail:
    """The newest entries of all workspaces. `last`: the number up to which it has read."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.last = 0
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self._pipeline = pipeline
        self._entries: deque[Entry] = deque()
        self._floor = 0  # everything beyond it, up to `last`, is in memory
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._users = 0
        self._task = self.loop.create_task(self._run())

    async def ready(self) -> None:
        """Wait until it knows where the feed ends."""
        await self._ready.wait()

    def held(self, after: int, workspace: str) -> list[Entry] | None:
        """Return the entries of a workspace beyond `after`; None where that is further back than it remembers."""
        if after < self._floor:
            return None
        found: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.seq <= after:
                break
            if entry.workspace == workspace:
                found.append(entry)
        return found[::-1]

    async def wait(self, after: int, timeout: float) -> None:
        """Wait until there is something beyond `after`, it is closed, or `timeout` seconds have passed."""
        if self.last > after or self.closed:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout)

    def join(self) -> None:
        """Count one more stream."""
        self._users += 1

    def leave(self) -> None:
        """Count one less; the last one stops the reading."""
        self._users -= 1
        if self._users <= 0:
            self.close()

    def close(self) -> None:
        """End all streams."""
        self._task.cancel()
        self._end()

    async def _run(self) -> None:
        try:
            ends = await read(self._pipeline, bounds, seconds=READ_SECONDS)
            self.last = self._floor = ends[1] if ends else 0
            self._ready.set()
            while True:
                await self._pipeline.changed(self.last, PATIENCE)
                rows = await read(self._pipeline, self._newer, seconds=READ_SECONDS)
                if rows:
                    self._take([_entry(row) for row in rows])
                else:
                    await asyncio.sleep(_CALM)
        finally:
            self._end()

    def _newer(self, con: DuckDBPyConnection) -> list[tuple[Any, ...]]:
        return con.execute(_ALL, {"after": self.last, "limit": PAGE}).fetchall()

    def _take(self, entries: Sequence[Entry]) -> None:
        self._entries.extend(entries)
        while len(self._entries) > HELD:
            self._floor = self._entries.popleft().seq
        self.last = entries[-1].seq
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _end(self) -> None:
        self.closed = True
        self._ready.set()
        self._wake()


_TAILS: WeakKeyDictionary[Pipeline, Tail] = WeakKeyDictionary()


def tail_of(pipeline: Pipeline) -> Tail:
    """Return the pipeline's tail; a new one where there is none that runs."""
    tail = _TAILS.get(pipeline)
    if tail is None or tail.closed or tail.loop is not asyncio.get_running_loop():
        tail = _TAILS[pipeline] = Tail(pipeline)
    return tail


def close_streams(pipeline: Pipeline) -> None:
    """End all event streams of a pipeline, when the server begins to stop; call it in the event loop."""
    tail = _TAILS.pop(pipeline, None)
    if tail is not None:
        tail.close()


def frame(seq: int, event: str, data: dict[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, event.encode(), orjson.dumps(data))


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, workspace, kind, incident_id, name, at, body = row
    said = orjson.loads(body)
    occurred = rfc3339(at)
    if kind == "transition":
        data = {
            "incidentId": incident_id,
            "fromStatus": said.get("from_status"),
            "toStatus": said.get("to_status"),
            "reason": said.get("reason"),
            "occurredAt": occurred,
            "windowCount": said.get("window_count"),
            "ruleVersion": said.get("rule_version"),
        }
    else:
        data = {
            "id": name,
            "incidentId": incident_id,
            "kind": said.get("kind"),
            "cycle": said.get("cycle"),
            "tenantId": said.get("tenant"),
            "occurredAt": occurred,
        }
    return Entry(seq, workspace, frame(seq, kind, data))
