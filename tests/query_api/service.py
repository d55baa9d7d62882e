"""The HTTP service with a control database of its own and a pipeline that only remembers what it was given."""

import asyncio
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import httpx

from connectors.control import Control
from query_api.app import create_app
from query_api.logs import make_log
from query_api.pipeline import Health, Receipt, Unavailable
from query_api.settings import ServiceSettings

PASSWORD = "correct horse battery"
WELL = Health(flow=None, log=None, store=None, lag_records=0, lag_seconds=0.0)


@dataclass
class Submitted:
    """A pipeline that takes everything at once. refusal: what it raises instead."""

    records: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusal: Unavailable | None = None
    condition: Health = WELL

    async def submit(self, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float) -> Receipt:
        if self.refusal is not None:
            raise self.refusal
        first = len(self.records)
        self.records += [(workspace, json.loads(body)) for body in bodies]
        return Receipt(first, len(bodies), done=True)

    def connect(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect()

    def health(self) -> Health:
        return self.condition

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
    """The running application; time stands where `now` says."""

    def __init__(self, directory: Path, settings: ServiceSettings, url: str | None = None) -> None:
        self.now = 1_769_848_200.0
        self.directory = directory
        self.pipeline = Submitted()
        self.logged = io.StringIO()
        self.control = Control.open(
            url or f"sqlite:///{directory}/control.sqlite", directory / "secret.key", lambda: self.now
        )
        log = make_log(self.logged, "json", "debug")
        self.app = create_app(self.control, self.pipeline, settings, log=log, clock=lambda: self.now)
        transport = httpx.ASGITransport(self.app, client=("192.0.2.1", 4711))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://service")
        self.runner = asyncio.Runner()

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()
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
