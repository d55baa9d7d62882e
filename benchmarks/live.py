"""What does the live service reach on this machine, whose cores it shares with the program that asks?

    python -m benchmarks.live                    # everything: some five minutes
    python -m benchmarks.live --only single,idle

single: one event a request, open loop: requests go out at a fixed rate whether or not the earlier ones are answered,
and each counts from when it was due. sustained: the same, closed loop, as many as it takes. batches: NDJSON, several
at a time, with lists and timelines asked for beside. idle: nobody asks. memory: hours of traffic in minutes, through
a pipeline whose clock is simulated; resident memory over those hours.

The service is `tocsin serve`, durable as always: every answer comes after an fsync and says what became of the event.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from benchmarks.generate import SEED, START_MS, blocks, events, write_lines
from benchmarks.http import Client, quantiles
from benchmarks.measure import machine
from flows.live import LiveOptions, LivePipeline
from flows.live_sink import Seen
from operators.events import SECOND

EVENTS, INCIDENTS, BATCH = "/api/v1/events", "/api/v1/incidents", "/api/v1/events/batch"
UNLIMITED = {"TOCSIN_REQUESTS_PER_MINUTE": "100000000", "TOCSIN_EVENTS_PER_MINUTE": "100000000000"}
PARTS = ("single", "sustained", "batches", "idle", "memory")
TICKS = os.sysconf("SC_CLK_TCK")
COPIES = 12  # of the stream, in the simulated hours


def main() -> None:
    """Start a service, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=PARTS, help="parts, with commas between")
    parser.add_argument("--seconds", type=float, default=30, help="of each part")
    parser.add_argument("--rate", type=float, default=200, help="requests/s of the open loop")
    parser.add_argument("--clients", type=int, default=32, help="of the closed loop")
    parser.add_argument("--batch", type=int, default=20_000, help="events in a batch")
    parser.add_argument("--hours", type=float, default=10, help="simulated")
    parser.add_argument("--simulate", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.simulate:
        simulate(given.simulate, given.hours)
        return
    if wrong := set(given.only) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(wrong))}: there are {', '.join(PARTS)}")
    print(orjson.dumps(machine()).decode())
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[Served], Coroutine[Any, Any, None]]] = {
            "single": partial(single, rate=given.rate, seconds=given.seconds),
            "sustained": partial(sustained, clients=given.clients, seconds=given.seconds),
            "batches": partial(batches, size=given.batch, seconds=given.seconds),
            "idle": partial(idle, seconds=given.seconds),
        }
        if set(parts) & set(given.only):
            with serving(Path(folder, "served")) as served:
                for name, part in parts.items():
                    if name in given.only:
                        asyncio.run(part(served))
        if "memory" in given.only:
            shown = [sys.executable, "-m", "benchmarks.live", "--hours", str(given.hours)]
            subprocess.run([*shown, "--simulate", str(Path(folder, "simulated"))], check=True)


# ------------------------------------------------------------ the service


@dataclass(frozen=True, slots=True)
class Served:
    """A running service. key: of a workspace of it."""

    pid: int
    port: int
    key: str

    def client(self) -> Client:
        """Somebody who may."""
        return Client(self.port, {"X-Api-Key": self.key})

    def cpu(self) -> float:
        """The CPU seconds it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> int:
        """Its resident memory, MiB."""
        return resident(self.pid)


def resident(pid: int | str) -> int:
    """The resident memory of a process, MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


@contextmanager
def serving(data: Path) -> Iterator[Served]:
    """`tocsin serve --demo` on a new directory and a free port."""
    command = [sys.executable, "-m", "tocsin", "serve", "--data", str(data), "--port", "0", "--demo"]
    env = {**os.environ, **UNLIMITED, "TOCSIN_LOG_LEVEL": "warning", "NO_COLOR": "1"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        text = ""
        while not (key := re.search(r"key (sg_[0-9a-f]{48})\b", text)):
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the service does not start: {text}")
            text += line
        port = re.search(r"listens on http://\S+?:(\d+)", text)
        assert port is not None, text
        yield Served(process.pid, int(port[1]), key[1])
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()


def told(name: str, took: list[float], more: str = "") -> None:
    """One line of figures."""
    p50, p90, p99, most = quantiles(took)
    print(f"{name:34}{len(took):8,}{p50:9.1f}{p90:9.1f}{p99:9.1f}{most:9.1f}  {more}", flush=True)


def heading(text: str) -> None:
    """What comes next."""
    print(f"\n{text}\n{'':34}{'n':>8}{'p50 ms':>9}{'p90':>9}{'p99':>9}{'max':>9}")


# ------------------------------------------------------------ parts


def lines(n: int) -> Iterator[bytes]:
    """Events of the benchmark's mix (30 % match a pattern) that happen now."""
    for frame in events(n):
        columns = ("integrationKey", "eventType", "errorCode", "tenantId", "rawPayload")
        for source, kind, code, tenant, payload in frame.select(columns).iter_rows():
            given = f'"errorCode":"{code}",' if code else ""
            yield (
                f'{{"time":"@","integrationKey":"{source}","eventType":"{kind}",{given}"tenantId":"{tenant}",'
                f'"rawPayload":{payload}}}'
            ).encode()


def now() -> bytes:
    """This instant, as events say it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()


async def single(served: Served, rate: float, seconds: float) -> None:
    """Latencies of single events at a fixed rate."""
    client, took = served.client(), list[float]()
    bodies = list(lines(int(rate * seconds) + 200))

    async def one(body: bytes, due: float) -> None:
        status, answer = await client.post(EVENTS, body.replace(b"@", now()))
        if status != 200:
            raise RuntimeError(f"{status} {answer!r}")
        took.append(time.perf_counter() - due)

    for body in bodies[:200]:
        await one(body, 0.0)
    # The tenants are known then: each is registered once in its life, with a transaction of its own.
    await client.post(BATCH, b"\n".join(bodies).replace(b"@", now()), "application/x-ndjson")
    took.clear()
    cpu, began, tasks = served.cpu(), time.perf_counter(), list[asyncio.Task[None]]()
    for number, body in enumerate(bodies[200:]):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(body, due)))
    await asyncio.gather(*tasks)
    cpu = (served.cpu() - cpu) / len(took) * 1e3
    heading(f"single events, {rate:g} requests/s, open loop")
    told("committed and answered", took, f"{cpu:.1f} ms of CPU a request")
    client.close()


async def sustained(served: Served, clients: int, seconds: float) -> None:
    """As many single events as it takes."""
    client, took = served.client(), list[float]()
    bodies = list(lines(20_000))
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        while (began := time.perf_counter()) < end:
            number += clients
            status, answer = await client.post(EVENTS, bodies[number % len(bodies)].replace(b"@", now()))
            if status not in (200, 202):
                raise RuntimeError(f"{status} {answer!r}")
            took.append(time.perf_counter() - began)

    cpu = served.cpu()
    await asyncio.gather(*(one(number) for number in range(clients)))
    cpu = (served.cpu() - cpu) / len(took) * 1e3
    heading(f"single events, {clients} clients, closed loop")
    told("committed and answered", took, f"{len(took) / seconds:,.0f} requests/s, {cpu:.2f} ms of CPU a request")
    client.close()


async def batches(served: Served, size: int, seconds: float) -> None:
    """NDJSON batches, three under way at a time, with questions beside them."""
    client, took = served.client(), dict[str, list[float]](batch=[], incidents=[], timeline=[])
    mixed = list(lines(10 * size))
    bodies = [b"\n".join(mixed[n : n + size]) + b"\n" for n in range(0, len(mixed), size)]
    await client.post(BATCH, bodies[0].replace(b"@", now()), "application/x-ndjson")
    end = time.perf_counter() + seconds
    undone = 0

    async def send(number: int) -> None:
        nonlocal undone
        while (began := time.perf_counter()) < end:
            number += 3
            body = bodies[number % len(bodies)].replace(b"@", now())
            status, answer = await client.post(BATCH, body, "application/x-ndjson")
            if status not in (200, 202):
                raise RuntimeError(f"{status} {answer!r}")
            undone += status == 202
            took["batch"].append(time.perf_counter() - began)

    async def ask() -> None:
        chance = random.Random(1)
        while (began := time.perf_counter()) < end:
            status, answer = await client.get(f"{INCIDENTS}?status=all&page={chance.randrange(1, 9)}")
            took["incidents"].append(time.perf_counter() - began)
            found = orjson.loads(answer)["data"]
            items = found["items"] if isinstance(found, dict) else found
            if status == 200 and items:
                began = time.perf_counter()
                await client.get(f"{INCIDENTS}/{chance.choice(items)['id']}/timeline")
                took["timeline"].append(time.perf_counter() - began)
            await asyncio.sleep(0.1)

    cpu, began = served.cpu(), time.perf_counter()
    await asyncio.gather(*(send(number) for number in range(3)), ask())
    while orjson.loads((await client.get("/-/ready"))[1])["lag_records"]:
        await asyncio.sleep(0.01)
    took_all, sent = time.perf_counter() - began, len(took["batch"]) * size
    cpu = (served.cpu() - cpu) / sent * 1e6
    heading(f"NDJSON batches of {size:,}, three at a time, until the last event is processed")
    rate = f"{sent / took_all:,.0f} events/s, {cpu:.2f} µs of CPU an event, {undone} answered 202"
    told("batch", took["batch"], rate)
    told("list of incidents, beside", took["incidents"])
    told("timeline, beside", took["timeline"], f"{served.rss():,} MiB resident")
    client.close()


async def idle(served: Served, seconds: float) -> None:
    """What it costs when nobody asks, after what it went through has settled."""
    await asyncio.sleep(60)
    cpu, began = served.cpu(), time.perf_counter()
    await asyncio.sleep(seconds)
    print(
        f"\nidle: {(served.cpu() - cpu) / (time.perf_counter() - began):.1%} of a core, {served.rss():,} MiB resident"
    )


# ------------------------------------------------------------ simulated hours


def simulate(data: Path, hours: float) -> None:
    """The benchmark's stream (some 16 events/s) in each of COPIES workspaces, by a clock that stands at its time."""
    start, clock, live = START_MS * 1_000, START_MS * 1_000, 0

    def watch(seen: Seen) -> None:
        nonlocal live
        live = seen.live

    pipeline = LivePipeline.start(data, LiveOptions(clock=lambda: clock, epoch=timedelta(seconds=2)), [watch])

    async def run() -> None:
        nonlocal clock
        began, sent, due = time.monotonic(), 0, start
        print(f"\n{hours:g} simulated hours in {COPIES} workspaces")
        print(f"{'hour':>6}{'events':>12}{'events/s':>10}{'live keys':>11}{'incidents':>11}{'MiB':>7}", flush=True)
        for frame in blocks(SEED, 0):
            for (instant,), part in frame.group_by(pl.col("time").dt.truncate("10s"), maintain_order=True):
                clock = round(instant.timestamp()) * SECOND
                if clock >= due:
                    with pipeline.reading() as con:
                        [(incidents,)] = con.execute("SELECT count(*) FROM incidents").fetchall()
                    hour, rate = (clock - start) / (3600 * SECOND), sent / (time.monotonic() - began)
                    row = f"{hour:6.1f}{sent:12,}{rate:10,.0f}{live:11,}{incidents:11,}{resident('self'):7,}"
                    print(row, flush=True)
                    due += round(hours * 3600 / 20) * SECOND
                if clock >= start + round(hours * 3600) * SECOND:
                    return
                clock += 10 * SECOND
                text = BytesIO()
                source = pl.concat_str("workspace", pl.lit("."), "integrationKey")
                write_lines(part.with_columns(source.alias("integrationKey")), text)
                bodies = text.getvalue().splitlines()
                wait = (pipeline.submit(bodies, f"workspace {n}", detail=False, timeout=600) for n in range(COPIES))
                await asyncio.gather(*wait)
                sent += COPIES * len(bodies)

    try:
        asyncio.run(run())
    finally:
        pipeline.stop()
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
