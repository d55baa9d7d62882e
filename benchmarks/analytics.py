"""What do rollups cost, and what do they save?

    python -m benchmarks.analytics --events 100_000_000 --keep bench-data/analytics

Makes a month of verdicts, tool calls and identities (seeded), stores it as the service does, and asks the running
service what dashboards ask, over HTTP, one question at a time. Beside each the same is computed from the events
themselves, by DuckDB on the same machine. Then a part of the month is replayed with and without rollups, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from benchmarks.http import Client, quantiles
from benchmarks.measure import machine, measure
from connectors import rolled
from connectors.control import Control
from connectors.live_store import LiveStore
from connectors.store import Position, Store
from operators.events import DAY, EVENTS, TIMESTAMP
from query_api.welcome import demo_key

SEED = 20260501
START = 1_777_593_600_000_000  # 2026-05-01T00:00:00Z, µs
DAYS = 30
BLOCK = 245_760  # events of one flush
GUARDIANS, TOOLS, IDENTITIES, CALLS = 50, 40, 200, 25  # calls of one session
VIOLATIONS = ("pii_exposure", "credential_leak", "toxicity", "prompt_injection", "off_topic", "hallucination")
ENVIRONMENTS = ("live", "live", "live", "test", "dev")
SCHEMA = {name: EVENTS[name] for name in ("time", "stream", "source", "type", "code", "tenant", "value", "attributes")}

TARGET = "30 days by 1h, by source, p95"
_MONTH = "from=2026-05-01T00:00:00Z&to=2026-05-31T00:00:00Z"
_DAY = "from=2026-05-20T00:00:00Z&to=2026-05-21T00:00:00Z"
_QUERY = "/v1/analytics/query"
_P95 = "SELECT time_bucket(INTERVAL '1 hour', time) AS h, source, quantile_disc(value, 0.95) FROM events"
_COUNTS = "SELECT time_bucket(INTERVAL '1 hour', time) AS h, source, count(*) FROM events"
_OF_MONTH = "time >= '2026-05-01T00:00:00Z' AND time < '2026-05-31T00:00:00Z'"
_OF_DAY = "time >= '2026-05-20T00:00:00Z' AND time < '2026-05-21T00:00:00Z'"
# What is asked, and the same of the events.
QUESTIONS: dict[str, tuple[str, str]] = {
    TARGET: (
        f"{_QUERY}?stream=verdict&measure=p95&group_by=source&bucket=1h&limit={GUARDIANS}&{_MONTH}",
        f"{_P95} WHERE stream = 'verdict' AND {_OF_MONTH} GROUP BY ALL",
    ),
    "30 days by 1h, by source, count": (
        f"{_QUERY}?measure=count&group_by=source&bucket=1h&{_MONTH}",
        f"{_COUNTS} WHERE {_OF_MONTH} GROUP BY ALL",
    ),
    "30 days by 1d, by verdict, count and p99": (
        f"{_QUERY}?measure=count&measure=p99&group_by=verdict&bucket=1d&{_MONTH}",
        "SELECT time_bucket(INTERVAL '1 day', time) AS d, type, count(*), quantile_disc(value, 0.99) FROM events "
        f"WHERE stream = 'verdict' AND {_OF_MONTH} GROUP BY ALL",
    ),
    "30 days by 1h, one guardian, p50 to p99.9": (
        f"{_QUERY}?guardian=gov_07&measure=p50&measure=p95&measure=p99&measure=p99.9&bucket=1h&{_MONTH}",
        "SELECT time_bucket(INTERVAL '1 hour', time) AS h, quantile_disc(value, [0.5, 0.95, 0.99, 0.999]) FROM events "
        f"WHERE source = 'gov_07' AND stream = 'verdict' AND {_OF_MONTH} GROUP BY ALL",
    ),
    "a day by 5m, by verdict, count": (
        f"{_QUERY}?measure=count&group_by=verdict&bucket=5m&{_DAY}",
        "SELECT time_bucket(INTERVAL '5 minutes', time) AS m, type, count(*) FROM events "
        f"WHERE stream = 'verdict' AND {_OF_DAY} GROUP BY ALL",
    ),
    "governance summary, 30 days": (
        f"/v1/analytics/governance/summary?{_MONTH}",
        "SELECT type, count(*), quantile_disc(value, [0.5, 0.95, 0.99]) FROM events "
        f"WHERE stream = 'verdict' AND {_OF_MONTH} GROUP BY ALL",
    ),
    "governance by guardian, 30 days": (
        f"/v1/analytics/governance/by-guardian?{_MONTH}",
        f"SELECT source, type, code, count(*), avg(value) FROM events WHERE stream = 'verdict' AND {_OF_MONTH} "
        "GROUP BY ALL",
    ),
    "MCP tools, 30 days": (
        f"/v1/mcp/analytics/tools?{_MONTH}",
        f"SELECT source, type, count(*), quantile_disc(value, 0.95) FROM events WHERE stream = 'tool_call' AND "
        f"{_OF_MONTH} GROUP BY ALL",
    ),
}

Numbers = npt.NDArray[np.int64]


def block(number: int, blocks: int) -> pl.DataFrame:
    """The `number`-th of so many blocks that make the month: SCHEMA, in the order of time, give or take a second."""
    rng = np.random.default_rng([SEED, number])
    length = DAYS * DAY / blocks
    time_ = START + ((number + np.sort(rng.random(BLOCK))) * length).astype(np.int64)
    time_ -= rng.integers(0, 1_000_000, BLOCK)
    np.clip(time_, START, None, out=time_)
    kind = np.searchsorted([0.6, 0.9], rng.random(BLOCK), side="right")  # verdict, tool_call, identity
    which = (rng.random(BLOCK) ** 1.5 * np.array([GUARDIANS, TOOLS, IDENTITIES])[kind]).astype(np.int64)
    guardian = np.where(kind == 0, which, which % GUARDIANS)
    outcome = np.searchsorted([0.86, 0.95, 0.985], rng.random(BLOCK), side="right")
    violation = np.array(VIOLATIONS)[(rng.random(BLOCK) ** 2 * len(VIOLATIONS)).astype(np.int64)]
    sort = np.where(kind == 2, np.searchsorted([0.5, 0.7, 0.99, 0.995], rng.random(BLOCK), side="right"), 0)
    latency = np.exp(rng.normal(4.6 + 0.02 * guardian, 0.5))
    session = number * BLOCK // CALLS + np.arange(BLOCK) // CALLS
    names = np.array(
        [f"gov_{n:02d}" for n in range(GUARDIANS)]
        + [f"tool.{n:02d}" for n in range(TOOLS)]
        + [f"nhi_{n:03d}" for n in range(IDENTITIES)]
    )
    source = names[which + np.array([0, GUARDIANS, GUARDIANS + TOOLS])[kind]]
    verdicts = np.array(["passed", "corrected", "blocked", "error"])
    types = np.where(
        kind == 2,
        np.array(["activity", "tool_attempt", "spend", "federation", "tier"])[sort],
        verdicts[np.where(kind == 1, np.minimum(outcome, 2), outcome)],
    )
    codes = np.where((kind < 2) & (outcome > 0), violation, np.where(sort == 1, "allowed", ""))
    value = np.where(sort == 2, np.round(np.exp(rng.normal(-3, 1, BLOCK)), 6), np.where(sort == 4, 2.0, latency))
    # As producers send them: who, where, and an id of the request.
    said = pl.DataFrame(
        {
            "kind": kind,
            "g": guardian,
            "e": np.array(ENVIRONMENTS)[guardian % len(ENVIRONMENTS)],
            "r": rng.integers(0, 1 << 62, BLOCK),
        }
    )
    who = (
        pl.when(pl.col("kind") == 0)
        .then(pl.lit('{"guardian_name":"Guardian '))
        .otherwise(pl.lit('{"guardian_id":"gov_'))
    )
    of = (
        pl.when(pl.col("kind") == 0)
        .then(pl.concat_str(pl.lit('","tag":"team-'), pl.col("g") % 7))
        .otherwise(pl.lit(""))
    )
    said = said.select(
        attributes=pl.concat_str(
            who, pl.col("g").cast(pl.String).str.zfill(2), of, pl.lit('","environment":"'), "e",
            pl.lit('","request_id":"req_'), "r", pl.lit('"}'),
        )
    )  # fmt: skip
    return pl.DataFrame(
        {
            "time": pl.Series(time_).cast(TIMESTAMP),
            "stream": np.array(["verdict", "tool_call", "identity"])[kind],
            "source": source,
            "type": types,
            "code": pl.Series(codes).replace("", None),
            "tenant": pl.Series(np.char.add("ses_", session.astype(str))).set(pl.Series(kind != 1), None),
            "value": pl.Series(value).set(pl.Series((kind == 2) & (sort < 2)), None),
            "attributes": said["attributes"],
        },
        schema=SCHEMA,
    )


def make(data: Path, events: int) -> None:
    """Store the month in `data`, as the service stores it."""
    data.mkdir(parents=True)
    with contextlib.closing(Control.open(f"sqlite:///{data / 'control.sqlite'}", data / "secret.key")) as control:
        key = demo_key(control)
        owner = control.keys.owner(key)
        assert owner is not None
    (data / "key").write_text(key)
    blocks = max(1, round(events / BLOCK))
    began = time.perf_counter()
    with LiveStore.create(data / "store.duckdb", 1) as store:
        for number in range(blocks):
            rows = block(number, blocks).with_columns(
                workspace=pl.lit(owner.workspace),
                partition=pl.lit("history"),
                offset=pl.int_range(number * BLOCK, (number + 1) * BLOCK),
                ingested_at="time",
                at="time",
                late=False,
            )
            whole = rows.with_columns(
                pl.lit(None, kind).alias(name) for name, kind in EVENTS.items() if name not in rows.columns
            ).select(EVENTS.keys())
            last = int(whole["time"].to_physical().max())  # type: ignore[arg-type]
            store.flush({"events": whole}, {"history": Position((number + 1) * BLOCK, last)})
            store.fold(None)
            if number % 20 == 19 and sys.stderr.isatty():
                print(f"\r{(number + 1) * BLOCK:,} of {blocks * BLOCK:,} events", end="", file=sys.stderr)
        store.roll()
        store.fold(None, least=1)
        sizes = {
            name: store.cursor().execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            for name in (rolled.MINUTES, *(level.name for level in rolled.LEVELS))
        }
    took = time.perf_counter() - began
    print(f"{blocks * BLOCK:,} events stored in {took:.0f} s, {took / blocks / BLOCK * 1e6:.2f} µs an event")
    print(", ".join(f"{rows:,} rows of {name}" for name, rows in sizes.items()))
    print(f"store.duckdb {(data / 'store.duckdb').stat().st_size / 2**20:,.0f} MiB")


def ask(data: Path, repeat: int) -> dict[str, list[float]]:
    """Ask the running service each question so often; seconds."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "import tocsin; tocsin.main()", "serve", "--data", str(data), "--port", str(port)]
    environ = {**os.environ, "TOCSIN_LOG_LEVEL": "error"}
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environ)
    try:
        return asyncio.run(_ask(port, (data / "key").read_text(), repeat))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


async def _ask(port: int, key: str, repeat: int) -> dict[str, list[float]]:
    client = Client(port, {"X-Api-Key": key})
    await client.until_served()
    took: dict[str, list[float]] = {}
    for round_ in range(repeat + 1):  # the first one warms pages and statements
        for name, (path, _) in QUESTIONS.items():
            began = time.perf_counter()
            status, body = await client.get(path)
            if status != 200:
                raise RuntimeError(f"{path}: {status} {body[:300]!r}")
            if round_:
                took.setdefault(name, []).append(time.perf_counter() - began)
    client.close()
    return took


def of_events(data: Path) -> dict[str, float]:
    """The seconds that DuckDB takes for the same, of the events; the better of two. Once for a store that is kept."""
    kept = data / "of_events.json"
    if kept.exists():
        found: dict[str, float] = json.loads(kept.read_text())
        return found
    found = {}
    with Store.open(data / "store.duckdb", read_only=True) as store:
        con = store.cursor()
        for name, (_, sql) in QUESTIONS.items():
            times = []
            for _ in range(2):
                began = time.perf_counter()
                con.sql(sql).to_arrow_table()
                times.append(time.perf_counter() - began)
            found[name] = min(times)
    kept.write_text(json.dumps(found))
    return found


_WITHOUT = "import connectors.rolled as r; r.write_file = lambda con, data, events, number: number; "


def replay_cost(folder: Path, events: int, repeat: int) -> tuple[float, float]:
    """CPU seconds of replaying a part of the month with rollups and without: medians."""
    blocks = max(1, round(events / BLOCK))
    source = folder / "month.parquet"
    with pq.ParquetWriter(source, block(0, blocks * 100).to_arrow().schema) as writer:
        for number in range(blocks):
            writer.write_table(block(number, max(1, round(100_000_000 / BLOCK))).to_arrow())
    took: dict[bool, list[float]] = {True: [], False: []}
    for round_ in range(repeat):
        for counts in (True, False) if round_ % 2 else (False, True):
            out = folder / f"out-{counts}"
            code = f"{'' if counts else _WITHOUT}import tocsin; tocsin.main()"
            command = [sys.executable, "-c", code, "replay", str(source), "--data", str(out), "--overwrite"]
            took[counts].append(measure(command, Path.cwd()).cpu)
    return median(took[True]), median(took[False])


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=20, help="how often each question is asked")
    parser.add_argument("--replay", type=int, default=5_000_000, help="events to replay with and without rollups")
    parser.add_argument("--keep", type=Path, help="a directory for the store; used again where it has one")
    given = parser.parse_args()
    print(json.dumps(machine()))
    with _directory(given.keep) as folder:
        if not (folder / "store.duckdb").exists():
            make(folder, given.events)
        raw = of_events(folder)
        took = ask(folder, given.repeat)
        print(f"\n{'ms':44}{'p50':>9}{'p95':>9}{'of events':>12}{'times':>8}")
        for name, times in took.items():
            p50, p95 = quantiles(times, (0.5, 0.95))
            print(f"{name:44}{p50:9.1f}{p95:9.1f}{raw[name] * 1e3:12.0f}{raw[name] * 1e3 / p50:8.0f}")
    if given.replay:
        with tempfile.TemporaryDirectory(dir=given.keep.parent if given.keep else None) as scratch:
            with_, without = replay_cost(Path(scratch), given.replay, 3)
        share = (with_ - without) / with_
        print(
            f"\nreplay of {given.replay:,} events: {with_:.1f} s of CPU, {without:.1f} s without rollups: {share:.1%}"
        )


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep:
        yield keep
    else:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made) / "data"


if __name__ == "__main__":
    main()
