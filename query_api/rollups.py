"""How many, how long, how much: rows of the rollups for a question, exact to the microsecond at both ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl
from duckdb import DuckDBPyConnection

from operators.events import MINUTE
from operators.rollup import DIMENSIONS, READS, merged, rollup
from query_api.fetch import fetch

BY = tuple(name for name in DIMENSIONS if name != "workspace")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at. start, end: µs since 1970, UTC; `end` is exclusive. streams: of these.

    where: by dimension the values that count, None among them for events that have none. by: the dimensions to tell
    apart. grain: µs, a divisor of all buckets that the rows are to be put into: MINUTE, or HOUR (cheaper). values: with
    histograms, for percentiles.
    """

    workspace: str
    streams: tuple[str, ...]
    start: int
    end: int
    where: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    by: tuple[str, ...] = ()
    grain: int = MINUTE
    values: bool = False


def select(con: DuckDBPyConnection, wanted: Wanted) -> pl.DataFrame:
    """Return `start` (Int64, µs: where the row's bucket of `grain` begins), the dimensions `by`, and what adds up:
    `count`, `errors`, `values` (events with a value), `sum` (of these, in their unit); with `values` also `bins` and
    `bin_counts`, see `operators.histogram`.

    Rows of equal start and dimensions may come several times; `operators.rollup.added` adds them up. In no order. A
    bucket that the window cuts holds only what lies within the window.
    """
    columns = ", ".join(f'"{name}"' for name in READS)
    events = fetch(
        con,
        f"SELECT {columns} FROM events WHERE workspace = $workspace AND list_contains($streams, stream) "
        "AND time >= make_timestamptz($start::BIGINT) AND time < make_timestamptz($end::BIGINT)",
        workspace=wanted.workspace,
        streams=list(wanted.streams),
        start=wanted.start,
        end=wanted.end,
    )
    rows = rollup(events)
    for name, accepted in wanted.where.items():
        rows = rows.filter(
            pl.col(name).is_in([text for text in accepted if text is not None])
            | (pl.col(name).is_null() if None in accepted else pl.lit(False))
        )
    rows = merged(rows, wanted.grain, wanted.by)
    return rows.select(
        pl.col("start").to_physical(),
        *wanted.by,
        "count",
        "errors",
        pl.col("bin_counts").list.sum().cast(pl.Int64).alias("values"),
        (pl.col("total") / 1_000_000).alias("sum"),
        *(("bins", "bin_counts") if wanted.values else ()),
    )
