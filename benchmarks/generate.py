"""The benchmark's events: a seeded stream of any length in constant memory, as JSON lines and as Parquet.

Eight workspaces, 200 sources of Zipf popularity, 2,000 tenants, a line of about 190 bytes with a nested payload. Of the
events 30 % match a built-in pattern. These come in episodes: a source fails in one way for some minutes, quietens, and
often fails again before or after its incident has closed, so that 10 M events (a week) make some 40,000 incidents that
open, recover, reopen and close. The rest is the ordinary traffic of a platform.

    python -m benchmarks.generate --events 10_000_000 --out bench-data/events.jsonl --parquet bench-data/events.parquet

The stream is built block by block, each from its own seed, and does not depend on `--events`: a shorter file is a
prefix of a longer one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from benchmarks.patterns import PATTERNS

Numbers = npt.NDArray[np.int64]
Columns = dict[str, Numbers]

SEED = 20250326
START_MS = 1_741_564_800_000  # 2025-03-10T00:00:00Z
BLOCK_MS = 4 * 3_600_000
EPISODES_A_BLOCK = 1_000  # on average; with the sizes below about 70,000 matches, 240,000 events a block
MATCHING = 0.3
WORKSPACES, SOURCES, TENANTS = 8, 200, 2_000

# Unmatched traffic: (type, code), the first ones the most frequent.
ORDINARY: tuple[tuple[str, str | None], ...] = (
    ("request_completed", "200"),
    ("webhook_delivered", "200"),
    ("heartbeat", None),
    ("record_synced", None),
    ("request_completed", "304"),
    ("token_refreshed", "200"),
    ("job_finished", None),
    ("request_completed", "201"),
    ("request_completed", "404"),
    ("cache_refreshed", None),
    ("deploy_finished", None),
)
# A type that no pattern lists, so that only the code makes the match.
PLAIN_FAILURE = "request_failed"
PATTERN_WEIGHTS = (14, 14, 9, 13, 6, 10, 14, 8, 4, 4, 2, 2)

SCHEMA: dict[str, pl.DataType] = {
    "time": pl.Datetime("ms", "UTC"),
    "workspace": pl.String(),
    "integrationKey": pl.String(),
    "eventType": pl.String(),
    "errorCode": pl.String(),
    "tenantId": pl.String(),
    "rawPayload": pl.String(),
}


def _variants() -> tuple[list[tuple[str, str | None]], Numbers, Numbers]:
    """Every (type, code) a match can have; then, by pattern, where its variants begin and how many there are."""
    variants: list[tuple[str, str | None]] = []
    first, size = [], []
    for pattern in PATTERNS:
        own: list[tuple[str, str | None]] = []
        own += [(kind, code) for kind in pattern.types for code in pattern.codes[:2]]
        own += [(kind, None) for kind in pattern.types]
        own += [(PLAIN_FAILURE, code) for code in pattern.codes]
        own += [(pattern.types[0], code.upper()) for code in pattern.codes[:1] if not code.isdigit()]
        first.append(len(variants))
        size.append(len(own))
        variants += own
    return variants, np.array(first), np.array(size)


VARIANTS, VARIANT_FIRST, VARIANT_SIZE = _variants()
KINDS = [*VARIANTS, *ORDINARY]  # an event's `kind` is an index in here


def _skewed(rng: np.random.Generator, n: int, size: int, exponent: float) -> Numbers:
    """n indices below size, index i with a probability proportional to 1 / (i + 1) ** exponent."""
    weights = 1.0 / np.arange(1, size + 1) ** exponent
    bounds = np.cumsum(weights / weights.sum())[:-1]  # what lies above the last bound is the last index
    return np.searchsorted(bounds, rng.random(n), side="right").astype(np.int64)


def _tenant(workspace: Numbers, within: Numbers) -> Numbers:
    """Every workspace has its own share of the tenants."""
    return within * WORKSPACES + workspace


def _episodes(rng: np.random.Generator, start_ms: int) -> Columns:
    """The matching events of the episodes that begin in this block; they may run on beyond its end."""
    n = rng.poisson(EPISODES_A_BLOCK)
    workspace = _skewed(rng, n, WORKSPACES, 0.6)
    source = _skewed(rng, n, SOURCES, 0.7)
    weights = np.cumsum(PATTERN_WEIGHTS) / sum(PATTERN_WEIGHTS)
    pattern = np.searchsorted(weights, rng.random(n), side="right").clip(0, len(PATTERNS) - 1)
    begin = start_ms + rng.random(n) * BLOCK_MS
    # Sizes are heavy-tailed: many episodes of a handful of events, a few of thousands.
    size = np.clip(np.exp(rng.normal(3.0, 1.6, n)), 1, 5_000).astype(np.int64)
    length = np.exp(rng.normal(np.log(240_000), 0.9, n))
    # One episode in three comes in waves, between which its incident recovers, or closes and reopens.
    waves = np.where(rng.random(n) < 0.33, rng.integers(2, 6, n), 1)
    pause = 60_000 * (4 + rng.random(n) * 28)
    main = VARIANT_FIRST[pattern] + (rng.random(n) * VARIANT_SIZE[pattern]).astype(np.int64)
    tenants = rng.integers(1, 13, n)
    tenant_base = rng.integers(0, TENANTS // WORKSPACES, n)

    of = np.repeat(np.arange(n), size)
    m = len(of)
    wave = (rng.random(m) * waves[of]).astype(np.int64)
    when = begin[of] + wave * (length + pause)[of] + rng.random(m) ** 1.5 * length[of]
    other = VARIANT_FIRST[pattern[of]] + (rng.random(m) * VARIANT_SIZE[pattern[of]]).astype(np.int64)
    within = (tenant_base[of] + (rng.random(m) * tenants[of]).astype(np.int64)) % (TENANTS // WORKSPACES)
    return {
        "time": when.astype(np.int64),
        "workspace": workspace[of],
        "source": source[of],
        "kind": np.where(rng.random(m) < 0.7, main[of], other),
        "tenant": _tenant(workspace[of], within),
    }


def _ordinary(rng: np.random.Generator, n: int, start_ms: int) -> Columns:
    """The n unmatched events of a block."""
    workspace = _skewed(rng, n, WORKSPACES, 0.6)
    return {
        "time": start_ms + (rng.random(n) * BLOCK_MS).astype(np.int64),
        "workspace": workspace,
        "source": _skewed(rng, n, SOURCES, 0.7),
        "kind": len(VARIANTS) + _skewed(rng, n, len(ORDINARY), 1.0),
        "tenant": _tenant(workspace, _skewed(rng, n, TENANTS // WORKSPACES, 0.5)),
    }


def _join(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def blocks(seed: int, disorder_ms: int) -> Iterator[pl.DataFrame]:
    """Endless frames of SCHEMA columns, in order of arrival: of `time`, or at most `disorder_ms` from it."""
    names = [f"svc-{i:03d}" for i in range(SOURCES)]
    lookup = {
        "workspace": pl.Series([f"ws-{i + 1}" for i in range(WORKSPACES)]),
        "source": pl.Series(names),
        "type": pl.Series([kind for kind, _ in KINDS]),
        "code": pl.Series([code for _, code in KINDS], dtype=pl.String),
        "tenant": pl.Series([f"t-{i:04d}" for i in range(TENANTS)]),
        "region": pl.Series(["eu-1", "eu-2", "us-1", "ap-1"]),
    }
    waiting: Columns | None = None
    number = 0
    while True:
        rng = np.random.default_rng([seed, number])
        start = START_MS + number * BLOCK_MS
        matching = _episodes(rng, start)
        ordinary = _ordinary(rng, round(len(matching["time"]) * (1 - MATCHING) / MATCHING), start)
        columns = _join([matching, ordinary])
        n = len(columns["time"])
        columns["arrival"] = columns["time"] + (rng.random(n) * disorder_ms).astype(np.int64)
        columns["duration"] = np.exp(rng.normal(5.5, 1.1, n)).astype(np.int64).clip(1, 60_000)
        columns["region"] = rng.integers(0, 4, n)
        if waiting is not None:
            columns = _join([waiting, columns])
        now = columns["arrival"] < start + BLOCK_MS
        waiting = {name: values[~now] for name, values in columns.items()}
        order = np.argsort(columns["arrival"][now], kind="stable")
        ready = {name: values[now][order] for name, values in columns.items()}
        yield pl.select(
            pl.Series("time", ready["time"]).cast(SCHEMA["time"]),
            lookup["workspace"].gather(ready["workspace"]).alias("workspace"),
            lookup["source"].gather(ready["source"]).alias("integrationKey"),
            lookup["type"].gather(ready["kind"]).alias("eventType"),
            lookup["code"].gather(ready["kind"]).alias("errorCode"),
            lookup["tenant"].gather(ready["tenant"]).alias("tenantId"),
            pl.concat_str(
                pl.lit('{"durationMs":'),
                pl.Series(ready["duration"]),
                pl.lit(',"region":"'),
                lookup["region"].gather(ready["region"]),
                pl.lit('"}'),
            ).alias("rawPayload"),
        )
        number += 1


def events(n: int, seed: int = SEED, disorder_ms: int = 0) -> Iterator[pl.DataFrame]:
    """The first n events in frames of SCHEMA columns, a block each."""
    left = n
    for block in blocks(seed, disorder_ms):
        frame = block.head(left)
        yield frame
        left -= frame.height
        if not left:
            return


def write_lines(frame: pl.DataFrame, out: BinaryIO, first_id: int | None = None) -> None:
    """Append the frame as JSON lines, numbered from `first_id` if events are to have an `id`."""
    number = pl.int_range(first_id or 0, (first_id or 0) + frame.height).cast(pl.String).str.zfill(9)
    identity = () if first_id is None else (pl.lit('"id":"e-'), number, pl.lit('",'))
    code = pl.col("errorCode")
    line = pl.concat_str(
        pl.lit("{"),
        *identity,
        pl.lit('"time":"'),
        pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
        pl.lit('","workspace":"'),
        "workspace",
        pl.lit('","integrationKey":"'),
        "integrationKey",
        pl.lit('","eventType":"'),
        "eventType",
        pl.when(code.is_null()).then(pl.lit("")).otherwise(pl.concat_str(pl.lit('","errorCode":"'), code)),
        pl.lit('","tenantId":"'),
        "tenantId",
        pl.lit('","rawPayload":'),
        "rawPayload",
        pl.lit("}"),
    )
    # No line holds a separator or needs quoting, so that the CSV writer writes it as it is.
    frame.select(line.alias("line")).write_csv(out, include_header=False, quote_style="never")


def generate(
    n: int,
    out: Path | None,
    parquet: Path | None,
    *,
    seed: int = SEED,
    disorder_ms: int = 0,
    ids: bool = False,
) -> int:
    """Write n events to either file or both; returns the size of `out` in bytes."""
    writer: Any = None
    lines = out.open("wb") if out else None
    done = 0
    try:
        for frame in events(n, seed, disorder_ms):
            if lines:
                write_lines(frame, lines, done if ids else None)
            if parquet:
                table = frame.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC"))).to_arrow(
                    compat_level=pl.CompatLevel.oldest()
                )
                writer = writer or pq.ParquetWriter(parquet, table.schema, compression="zstd")
                writer.write_table(table, row_group_size=122_880)
            done += frame.height
        return lines.tell() if lines else 0
    finally:
        if lines:
            lines.close()
        if writer:
            writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the benchmark's events.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, help="JSON lines")
    parser.add_argument("--parquet", type=Path, help="the same events as Parquet")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--disorder", type=float, default=0.0, help="seconds by which arrival may lag behind time")
    parser.add_argument("--ids", action="store_true", help="give every event an id")
    options = parser.parse_args()
    began = time.perf_counter()
    size = generate(
        options.events,
        options.out,
        options.parquet,
        seed=options.seed,
        disorder_ms=round(options.disorder * 1000),
        ids=options.ids,
    )
    rate = options.events / (time.perf_counter() - began)
    print(f"{options.events:,} events, {size / max(options.events, 1):.0f} bytes a line, {rate:,.0f} events/s")


if __name__ == "__main__":
    main()
