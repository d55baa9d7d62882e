"""CPU per request and per event of the ingest endpoints, with a pipeline that does nothing: what HTTP alone costs.

python -m benchmarks.ingest: the application is called directly, without sockets or a client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any

import orjson
from fastapi import FastAPI

from query_api.ingest import router
from query_api.pipeline import Outcome, Receipt

EVENT = {
    "integrationKey": "payments-service",
    "eventType": "token_refresh_failed",
    "errorCode": "401",
    "tenantId": "acme-corp",
    "rawPayload": {"endpoint": "/v2/webhooks/deliver", "durationMs": 12043, "attemptNumber": 3},
}


class Nothing:
    """A pipeline and a control that know everything at once."""

    async def submit(self, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float) -> Receipt:
        """Say that all is done."""
        return Receipt(0, len(bodies), True, (Outcome(0, "log:0"),) if detail else ())

    def known_tenant_states(self, workspace: str, tenants: Collection[str]) -> dict[str, bool]:
        """All are active."""
        return dict.fromkeys(tenants, True)

    async def request(self, workspace: str) -> None:
        """No limit."""

    async def events(self, workspace: str, count: int) -> None:
        """No limit."""

    def cached(self, key: str) -> SimpleNamespace:
        """Every key is known."""
        return SimpleNamespace(workspace="w", name="w", is_active=True, scopes=None)

    @property
    def keys(self) -> Nothing:
        """Itself."""
        return self


def application() -> FastAPI:
    """The ingest endpoints alone."""
    nothing = Nothing()
    app = FastAPI()
    app.include_router(router)
    app.state.services = SimpleNamespace(control=nothing, pipeline=nothing, rates=nothing, clock=time.time)
    return app


async def post(app: FastAPI, path: str, body: bytes, kind: str) -> int:
    """One request; its status."""
    headers = [(b"x-api-key", b"sg_0"), (b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    status = 0

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)  # type: ignore[arg-type]
    return status


async def measure(app: FastAPI, path: str, body: bytes, kind: str, times: int) -> float:
    """CPU seconds of a request."""
    for _ in range(max(1, times // 10)):
        assert await post(app, path, body, kind) == 200
    began = time.process_time()
    for _ in range(times):
        await post(app, path, body, kind)
    return (time.process_time() - began) / times


async def main() -> None:
    """Measure and print."""
    app = application()
    one = orjson.dumps(EVENT)
    timed = orjson.dumps(EVENT | {"time": "2026-01-31T08:29:59.123Z"})
    for name, body in (("without time", one), ("with time", timed)):
        seconds = await measure(app, "/api/v1/events", body, "application/json", 5000)
        print(f"one event, {name}: {seconds * 1e6:.0f} µs")
    for name, event in (("without time", EVENT), ("with time", EVENT | {"time": "2026-01-31T08:29:59.123Z"})):
        lines = [orjson.dumps(event | {"errorCode": str(n % 600), "tenantId": f"t{n % 997}"}) for n in range(50_000)]
        for kind, body in (
            ("application/x-ndjson", b"\n".join(lines) + b"\n"),
            ("application/json", b"[" + b",".join(lines) + b"]"),
        ):
            seconds = await measure(app, "/api/v1/events/batch", body, kind, 5)
            print(f"batch of 50,000, {name}, {kind}: {seconds / 50_000 * 1e6:.2f} µs an event")


if __name__ == "__main__":
    asyncio.run(main())
