"""How long does the Integrations API take to answer, over a large store, while something else writes to it?

    python -m benchmarks.query_latency --events 10_000_000 --incidents 100_000

One process serves as `tocsin serve` does (uvicorn, the routers, the pipeline) and, in a second run, also takes events,
30 % of which match. This process asks, open loop: requests go out at a fixed rate whether or not the earlier ones are
answered, so a stall counts for everybody who would have waited in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.http import Client, quantiles
from benchmarks.live import lines, now
from benchmarks.live_store import WORKSPACE, make
from benchmarks.measure import machine
from flows.live import LivePipeline
from query_api import integrations, reading
from query_api.caller import Caller, caller
from query_api.envelope import ApiError
from query_api.service import SWITCH
from query_api.services import Services
from query_api.settings import ServiceSettings

BATCHES = 10  # a second
BASE = "/api/v1"


def main() -> None:
    """Make the store, measure without and with writes, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--incidents", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--ingest", type=int, nargs="*", default=[2_000, 20_000], help="events/s written meanwhile")
    parser.add_argument("--keep", type=Path, help="a directory for the store; used again where it has one")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.port, *given.ingest)
        return
    with _directory(given.keep) as directory:
        path = directory / "store.duckdb"
        if not path.exists():
            began = time.perf_counter()
            make(directory, given.events, given.incidents)
            print(f"store: {path.stat().st_size / 2**20:.0f} MiB, made in {time.perf_counter() - began:.0f} s")
        print(orjson.dumps(machine()).decode())
        questions = _questions(path)
        for ingest in (0, *given.ingest):
            print(f"\n{given.rate:g} requests/s, {ingest:,} events/s written meanwhile; ms")
            _measured(directory, ingest, questions, given.rate, given.seconds)


def _questions(path: Path) -> dict[str, list[str]]:
    """The paths to ask, by what they are called in the table."""
    con = duckdb.connect(str(path), read_only=True)
    sql = "SELECT id FROM incidents WHERE workspace = ? ORDER BY hash(id) LIMIT 400"
    ids = [str(row[0]) for row in con.execute(sql, [WORKSPACE]).fetchall()]
    con.close()
    return {
        "incidents, active": [f"{BASE}/incidents"],
        "incidents, closed": [f"{BASE}/incidents?status=closed"],
        "incidents, closed, page 1,000": [f"{BASE}/incidents?status=closed&page=1000"],
        "incidents, one service": [f"{BASE}/incidents?status=all&integrationKey=service-{n}" for n in range(500)],
        "incidents, one tenant": [f"{BASE}/incidents?status=all&tenantId=tenant-{n}" for n in range(500)],
        "incident": [f"{BASE}/incidents/{one}" for one in ids],
        "timeline": [f"{BASE}/incidents/{one}/timeline" for one in ids],
        "events": [f"{BASE}/events?incidentId={one}" for one in ids],
        "patterns": [f"{BASE}/patterns"],
        "stats": [f"{BASE}/workspaces/stats?from=2025-01-01&to=2025-01-31"],
        "trends": [f"{BASE}/workspaces/trends?to=2025-01-31&days=30"],
    }


# Lists and timelines are what dashboards ask for; the others are rare.
_WEIGHTS = {"incidents, active": 8, "incidents, closed": 4, "incident": 4, "timeline": 8}


def _measured(directory: Path, ingest: int, questions: dict[str, list[str]], rate: float, seconds: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.query_latency", "--serve", str(directory)]
    command += ["--port", str(port), "--ingest", str(ingest)]
    server = subprocess.Popen(command)
    try:
        took = asyncio.run(_ask(port, questions, rate, seconds))
    finally:
        server.terminate()
        server.wait(30)
    print(f"{'':32}{'n':>6}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}")
    for name, times in took.items():
        print(f"{name:32}{len(times):6}" + "".join(f"{ms:9.1f}" for ms in quantiles(times)))


async def _ask(port: int, questions: dict[str, list[str]], rate: float, seconds: float) -> dict[str, list[float]]:
    """Send requests at `rate` over a pool of connections; the seconds each took, from when it was due."""
    client = Client(port)
    await client.until_served()
    chance = random.Random(1)
    names = list(questions)
    weights = [_WEIGHTS.get(name, 1) for name in names]
    took: dict[str, list[float]] = {name: [] for name in names}

    async def one(name: str, path: str, due: float) -> None:
        status, _ = await client.get(path)
        if status != 200:
            raise RuntimeError(f"{path}: {status}")
        took[name].append(time.perf_counter() - due)

    for name in names:  # nobody's first request: statements and pages of the file are warm
        for path in questions[name][:3]:
            await one(name, path, time.perf_counter())
    for times in took.values():
        times.clear()
    began = time.perf_counter()
    tasks = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        (name,) = chance.choices(names, weights)
        tasks.append(asyncio.create_task(one(name, chance.choice(questions[name]), due)))
    await asyncio.gather(*tasks)
    client.close()
    return took


def serve(directory: Path, port: int, ingest: int) -> None:
    """Serve the store, and take events."""
    sys.setswitchinterval(SWITCH)
    pipeline = LivePipeline.start(directory)
    app = FastAPI()
    app.state.services = Services(_NoTenants(), pipeline, ServiceSettings(), pipeline.rules)  # type: ignore[arg-type]
    app.include_router(integrations.router)
    app.dependency_overrides[caller] = _caller

    @app.exception_handler(ApiError)
    async def refused(request: Request, wrong: ApiError) -> Response:
        return Response(orjson.dumps({"message": wrong.message}), 500)

    async def run() -> None:
        server = uvicorn.Server(
            uvicorn.Config(
                app, host="127.0.0.1", port=port, log_level="warning", access_log=False, timeout_keep_alive=600
            )
        )
        taking = asyncio.create_task(_take(pipeline, ingest)) if ingest else None
        await server.serve()
        if taking is not None:
            taking.cancel()

    asyncio.run(run())
    reading.close(pipeline)
    pipeline.stop()


async def _take(pipeline: LivePipeline, ingest: int) -> None:
    """Submit batches, BATCHES a second, as the batch endpoint does."""
    mixed, size, due = list(lines(50 * ingest // BATCHES)), ingest // BATCHES, time.perf_counter()
    while True:
        for first in range(0, len(mixed), size):
            at = now()
            bodies = [body.replace(b"@", at) for body in mixed[first : first + size]]
            await pipeline.submit(bodies, WORKSPACE, detail=False, timeout=30)
            due += 1 / BATCHES
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


class _NoTenants:
    def tenant_names(self, workspace: str, external_ids: Sequence[str]) -> dict[str, Any]:
        return {}


async def _caller() -> Caller:
    return Caller(WORKSPACE, "benchmark")


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
    else:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)


if __name__ == "__main__":
    main()
