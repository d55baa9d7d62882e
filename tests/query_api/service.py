"""The HTTP service with a control database of its own and a pipeline that only remembers what it was given."""

import asyncio
import io
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import httpx
from starlette.types import Message

from connectors.control import Control
from query_api.app import create_app
from query_api.logs import make_log
from query_api.pipeline import Health, Pipeline, Receipt, RolledUp, Unavailable
from query_api.settings import ServiceSettings

PASSWORD = "correct horse battery"
NOTHING_NEW = RolledUp(minutes=0, rows=0, changed=0, before=0, after=0)
WELL = Health(flow=None, log=None, store=None, lag_records=0, lag_seconds=0.0)


@dataclass
class Submitted:
    """A pipeline that takes everything at once. refusal: what it raises instead."""

    records: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusal: Unavailable | None = None
    condition: Health = WELL
    rolled: list[tuple[str, int, int]] = field(default_factory=list)
    rolled_up: RolledUp | Unavailable = NOTHING_NEW

    async def submit(self, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float) -> Receipt:
        if self.refusal is not None:
            raise self.refusal
        first = len(self.records)
        self.records += [(workspace, json.loads(body)) for body in bodies]
        return Receipt(first, len(bodies), done=True)

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with duckdb.connect() as connection:
            yield connection

    def health(self) -> Health:
        return self.condition

    def roll_up(self, workspace: str, start: int, end: int) -> RolledUp:
        """Remember; what it found is `rolled_up`."""
        self.rolled.append((workspace, start, end))
        if isinstance(self.rolled_up, Unavailable):
            raise self.rolled_up
        return self.rolled_up

    async def changed(self, after: int, timeout: float) -> int:
        return after


@dataclass(frozen=True)
class Team:
    """A workspace and who may use it."""

    id: str
    key: str
    token: str
    email: str

    @property
    def by_key(self) -> dict[str, str]:
        return {"X-Api-Key": self.key}

    @property
    def by_token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


class Service:
    """The running application. With a pipeline that only remembers time stands where `now` says, else it goes on."""

    def __init__(self, directory: Path, settings: ServiceSettings, live: Pipeline | None = None) -> None:
        self.now = 1_769_848_200.0
        self.directory = directory
        self.pipeline = Submitted()
        self.logged = io.StringIO()
        clock = (lambda: self.now) if live is None else time.time
        self.control = Control.open(f"sqlite:///{directory}/control.sqlite", directory / "secret.key", clock)
        log = make_log(self.logged, "json", "debug")
        self.app = create_app(self.control, live or self.pipeline, settings, log=log, clock=clock)
        transport = httpx.ASGITransport(self.app, client=("192.0.2.1", 4711))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://service")
        self.runner = asyncio.Runner()

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()
        self.app.state.services.places.close()
        self.control.close()

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self.runner.run(self.client.request(method, path, **request))

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.ask("GET", path, **request)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self.ask("POST", path, **request)

    def team(self, name: str = "My Team") -> Team:
        """Make a user and a workspace, as people do: over HTTP."""
        email = f"{name.lower().replace(' ', '.')}@example.com"
        session = self.post("/api/v1/auth/register", json={"email": email, "password": PASSWORD}).json()["data"]
        bearer = {"Authorization": f"Bearer {session['token']}"}
        made = self.post("/api/v1/workspaces", headers=bearer, json={"name": name}).json()["data"]
        scoped = self.post("/api/v1/auth/login", json={"email": email, "password": PASSWORD}).json()["data"]
        return Team(made["workspace"]["id"], made["apiKey"], scoped["token"], email)

    def run_jobs(self) -> int:
        """Do what is queued, and return how much that was; nothing is done in the background."""
        done: int = self.runner.run(self.app.state.jobs.run_queued())
        return done

    def listen(self, path: str, headers: dict[str, str], seconds: float) -> str:
        """Return what an endless answer says in its first seconds; then the client goes away."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("192.0.2.1", 4711),
            "server": ("service", 80),
        }
        asked = False
        parts: list[bytes] = []

        async def receive() -> Message:
            nonlocal asked
            if asked:
                await asyncio.sleep(seconds)
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            parts.append(message.get("body", b""))

        async def ask() -> None:
            await asyncio.wait_for(self.app(scope, receive, send), seconds + 5)

        self.runner.run(ask())
        return b"".join(parts).decode()

    def lines(self) -> list[dict[str, Any]]:
        """Return what was logged."""
        return [json.loads(line) for line in self.logged.getvalue().splitlines()]


@contextmanager
def serving(directory: Path, **settings: Any) -> Iterator[Service]:
    """A service with these settings."""
    service = Service(directory, ServiceSettings(**settings))
    try:
        yield service
    finally:
        service.close()
