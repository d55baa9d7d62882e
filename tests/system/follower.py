"""A client of the live feed that behaves as a browser's `EventSource`: it reconnects behind the last id it has seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import Any

import httpx

from tests.system.runs import PATIENCE, until
from tests.system.service import Service, Team


@dataclass(frozen=True)
class News:
    """One event of the stream."""

    id: int
    kind: str
    data: dict[str, Any]


class Follower:
    """Follows a workspace from its first news on, through any number of restarts on the same port.

    news: what came, in its order. connections: how often it has been let in.
    """

    def __init__(self, service: Service, team: Team) -> None:
        self.news: list[News] = []
        self.connections = 0
        self._url, self._headers = f"{service.url}/api/v1/stream", team.by_key
        self._stop = Flag()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def wait_for(self, count: int) -> None:
        """Wait for so many news in all."""
        assert until(lambda: len(self.news) >= count), f"{len(self.news)} of {count} came: {self.news[-3:]}"

    def _run(self) -> None:
        timeout = httpx.Timeout(PATIENCE, read=0.5)  # silence is no error, but a moment to look whether to hang up
        with httpx.Client(timeout=timeout) as client:
            while not self._stop.is_set():
                try:
                    self._follow(client)
                except httpx.TransportError:
                    self._stop.wait(0.05)

    def _follow(self, client: httpx.Client) -> None:
        last = self.news[-1].id if self.news else 0
        with client.stream("GET", self._url, headers=self._headers | {"Last-Event-ID": str(last)}) as answer:
            if answer.status_code != 200:
                self._stop.wait(0.05)
                return
            self.connections += 1
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if self._stop.is_set():
                    return
                if not line and "data" in fields:  # half an event, cut off by the end of the connection, does not count
                    self.news.append(News(int(fields["id"]), fields["event"], json.loads(fields["data"])))
                if not line:
                    fields = {}
                    continue
                name, _, value = line.partition(": ")
                fields[name] = value


@contextmanager
def following(service: Service, team: Team) -> Iterator[Follower]:
    """A follower that has been let in."""
    follower = Follower(service, team)
    try:
        assert until(lambda: follower.connections > 0), "the stream does not open"
        yield follower
    finally:
        follower.close()
