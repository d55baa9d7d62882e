"""How long does the Integrations API take to answer, over a large store, while something else writes to it?

    python -m benchmarks.query_latency --events 10_000_000 --incidents 100_000

One process serves (uvicorn, the routers, DuckDB) and, in a second run, also writes flushes as a busy service would:
events, and incidents with their parts that replace earlier ones. This process asks, open loop: requests go out at a
fixed rate whether or not the earlier ones are answered, so a stall counts for everybody who would have waited in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import orjson
import polars as pl
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import ORJSONResponse

from benchmarks.live_store import WORKSPACE, make
from benchmarks.measure import machine
from connectors.store import Store
from query_api import integrations
from query_api.caller import Caller, caller
from query_api.envelope import ApiError
from query_api.pipeline import Health, Receipt
from query_api.services import Services

PORT = 8417
FLUSHES = 10  # a second
BASE = "/api/v1"


def main() -> None:
    """Make the store, measure without and with writes, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--incidents", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--ingest", type=int, default=20_000, help="events a second written meanwhile")
    parser.add_argument("--no-indexes", action="store_true")
    parser.add_argument("--keep", type=Path, help="a directory for the store; used again where it has one")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.ingest)
        return
    with _directory(given.keep) as directory:
        path = directory / "store.duckdb"
        if not path.exists():
            began = time.perf_counter()
            make(path, given.events, given.incidents, indexes=not given.no_indexes)
            print(f"store: {path.stat().st_size / 2**20:.0f} MiB, made in {time.perf_counter() - began:.0f} s")
        print(orjson.dumps(machine()).decode())
        questions = _questions(path)
        for ingest in (0, given.ingest):
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
    command = [sys.executable, "-m", "benchmarks.query_latency", "--serve", str(directory), "--ingest", str(ingest)]
    server = subprocess.Popen(command)
    try:
        took = asyncio.run(_ask(questions, rate, seconds))
    finally:
        server.terminate()
        server.wait(30)
    print(f"{'':32}{'n':>6}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}")
    for name, times in took.items():
        times.sort()
        figures = [times[min(len(times) - 1, int(len(times) * q))] * 1e3 for q in (0.5, 0.9, 0.99, 1)]
        print(f"{name:32}{len(times):6}" + "".join(f"{ms:9.1f}" for ms in figures))


async def _ask(questions: dict[str, list[str]], rate: float, seconds: float) -> dict[str, list[float]]:
    """Send requests at `rate` over a pool of connections; the seconds each took, from when it was due."""
    await _until_it_serves()
    chance = random.Random(1)
    names = list(questions)
    weights = [_WEIGHTS.get(name, 1) for name in names]
    took: dict[str, list[float]] = {name: [] for name in names}
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(name: str, path: str, due: float) -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", PORT)
        status = await _get(reader, writer, path)
        idle.append((reader, writer))
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
    for _, writer in idle:
        writer.close()
    return took


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(" ", 2)[1])


async def _until_it_serves() -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise RuntimeError("the server does not come up")


def serve(directory: Path, ingest: int) -> None:
    """Serve the store, and write to it."""
    store = Store.open(directory / "store.duckdb")
    app = FastAPI()
    app.state.services = Services(control=_NoTenants(), pipeline=_Stored(store), settings=None)
    app.include_router(integrations.router)
    app.dependency_overrides[caller] = _caller

    @app.exception_handler(ApiError)
    async def refused(request: Request, wrong: ApiError) -> ORJSONResponse:
        return ORJSONResponse({"message": wrong.message}, 500)

    if ingest:
        threading.Thread(target=_write, args=(store, ingest), daemon=True).start()
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False, timeout_keep_alive=600)


def _write(store: Store, ingest: int) -> None:
    """Flush FLUSHES times a second: events, and twenty incidents with their parts that replace their earlier rows."""
    cursor = store.cursor()
    events = cursor.sql("SELECT * FROM events LIMIT 200_000").pl()
    active = cursor.sql(f"SELECT * FROM incidents WHERE status = 'Open' AND workspace = '{WORKSPACE}' LIMIT 100").pl()
    sql = "SELECT * FROM incident_tenants WHERE incident_id IN (SELECT id FROM incidents WHERE status = 'Open')"
    tenants = cursor.sql(sql).pl()
    steps = cursor.sql("SELECT * FROM transitions LIMIT 60").pl()
    number, due, slowest = 0, time.perf_counter(), 0.0
    while True:
        size = ingest // FLUSHES
        some = active.sample(min(20, active.height), seed=number)
        tables = {
            "events": events.slice((number * size) % (events.height - size), size),
            "incidents": some.with_columns(pl.col("event_count") + number),
            "incident_tenants": tenants.filter(pl.col("incident_id").is_in(some["id"].implode())),
            "transitions": steps.with_columns(pl.lit(f"inc_new_{number}").alias("incident_id")),
        }
        began = time.perf_counter()
        store.flush(tables, {})
        slowest = max(slowest, time.perf_counter() - began)
        number += 1
        if number % 100 == 0:
            print(f"  flush {number}: slowest {slowest * 1e3:.0f} ms", file=sys.stderr)
            slowest = 0.0
        due += 1 / FLUSHES
        time.sleep(max(0.0, due - time.perf_counter()))


class _Stored:
    """A pipeline that is only a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def submit(self, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float) -> Receipt:
        """Nothing is taken."""
        raise NotImplementedError

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own."""
        return self._store.cursor()

    def health(self) -> Health:
        """Well."""
        return Health(None, None, None, 0, 0.0)

    async def changed(self, after: int, timeout: float) -> int:
        """Never."""
        await asyncio.sleep(timeout)
        return after


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
