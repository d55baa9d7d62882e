"""A service around the ingest endpoints: a pipeline that keeps what it is given, a control with a few tenants."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import polars as pl
from fastapi import FastAPI, Request, Response

from connectors.formats import jsonl
from connectors.formats.types import DecodeOptions
from connectors.log_lines import lines
from query_api.envelope import ApiError, failure
from query_api.ingest import router
from query_api.pipeline import Outcome, Receipt, Unavailable

NOW = 1_769_848_200_000_000  # 2026-01-31T08:30:00Z
NOW_TEXT = "2026-01-31T08:30:00.000000Z"
KEY = {"X-Api-Key": "ws"}
EVENT = {"integrationKey": "payments", "eventType": "auth_failed", "tenantId": "acme"}


class FakePipeline:
    """Keeps records in a list. `unavailable`, `done`, `delay` say how it behaves; `outcome` what it answers."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.calls: list[tuple[int, str, bool]] = []
        self.ids: dict[str, int] = {}
        self.unavailable: Unavailable | None = None
        self.done = True
        self.delay = 0.0
        self.outcome: dict[str, Any] = {}

    async def submit(self, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float) -> Receipt:
        await asyncio.sleep(self.delay)
        if self.unavailable is not None:
            raise self.unavailable
        first = len(self.records)
        self.calls.append((len(bodies), workspace, detail))
        self.records += [piece.text for piece in lines(bodies, workspace, NOW)]
        if not detail:
            return Receipt(first, len(bodies), self.done)
        return Receipt(first, len(bodies), self.done, self._outcomes(first, bodies) if self.done else ())

    def _outcomes(self, first: int, bodies: Sequence[bytes]) -> tuple[Outcome, ...]:
        found = []
        for n, body in enumerate(bodies, first):
            id_ = orjson.loads(body).get("id") or f"log:{n}"
            seen = id_ in self.ids
            self.ids.setdefault(id_, n)
            found.append(Outcome(n, id_, duplicate=seen, **self.outcome))
        return tuple(found)

    def frame(self) -> pl.DataFrame:
        """What the dataflow will read. Nothing may be unusable."""
        decoded = jsonl.decode(b"".join(self.records), DecodeOptions())
        assert decoded.rejects.is_empty(), decoded.rejects["error"].to_list()
        return decoded.frame


class FakeKeys:
    """Every key is that of the workspace of its name, unless it is no key at all."""

    def cached(self, key: str | None) -> SimpleNamespace | None:
        return SimpleNamespace(workspace=key, name=key, is_active=True, scopes=None) if key and "." not in key else None

    def owner(self, key: str) -> None:
        return None


class FakeControl:
    """Tenants in memory."""

    def __init__(self) -> None:
        self.states: dict[str, bool] = {"inactive": False}
        self.waits = 0
        self.keys = FakeKeys()

    def known_tenant_states(self, workspace: str, tenants: Collection[str]) -> dict[str, bool] | None:
        try:
            return {tenant: self.states[tenant] for tenant in tenants}
        except KeyError:
            return None

    def tenant_states(self, workspace: str, tenants: Collection[str]) -> dict[str, bool]:
        self.waits += 1
        return {tenant: self.states.setdefault(tenant, True) for tenant in tenants}


class FakeRates:
    """Counts events."""

    def __init__(self) -> None:
        self.counted = 0

    async def request(self, workspace: str) -> None:
        pass

    async def events(self, workspace: str, count: int) -> None:
        self.counted += count


class Service:
    """The application and its parts."""

    def __init__(self) -> None:
        self.pipeline, self.control, self.rates = FakePipeline(), FakeControl(), FakeRates()
        self.app = FastAPI()
        self.app.include_router(router)
        self.app.add_exception_handler(ApiError, _failed)
        self.app.state.services = SimpleNamespace(
            control=self.control, pipeline=self.pipeline, rates=self.rates, clock=lambda: NOW / 1e6
        )

    def post(self, path: str, body: object = None, **more: Any) -> httpx.Response:
        """One request. body: bytes as they are, anything else as JSON."""
        return asyncio.run(self._post(path, body, **more))

    async def _post(self, path: str, body: object, **more: Any) -> httpx.Response:
        async with self.client() as client:
            return await send(client, path, body, **more)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def send(client: httpx.AsyncClient, path: str, body: object = None, **headers: str) -> httpx.Response:
    """One request; underscores of header names become dashes."""
    named = KEY | {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return await client.post(path, content=content, headers=named)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return failure(request.url.path, error)
