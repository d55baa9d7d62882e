"""The verdicts of guardians: in total, over time, and one guardian beside the other.

A request is a verdict: passed, corrected, blocked, or an error. A violation is a correction or a block that names what
was violated.
"""

from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Depends, Query, Response

from operators.buckets import Grid
from operators.events import HOUR
from operators.histogram import Ints
from operators.rollup import added
from query_api.analytics_answer import answer, answers, listed
from query_api.analytics_asked import Asked, AskedDep
from query_api.analytics_numbers import RANKS, kinds, mean, percentiles, places, rate, shares
from query_api.analytics_schema import GovernanceSummary, GovernanceTimeseries, Guardians
from query_api.analytics_window import BucketSize, grid_of, timestamps
from query_api.caller import Caller, caller_with
from query_api.integrations_wire import READ_SECONDS
from query_api.reading import read
from query_api.services import ServicesDep

router = APIRouter(prefix="/v1/analytics/governance", tags=["Governance"])

Reader = Annotated[Caller, Depends(caller_with("logs:read"))]
STREAM = "verdict"
TYPES = ("passed", "corrected", "blocked", "error")
NAMES = ("passed", "corrected", "blocked", "errors")  # as answers call the types
VIOLATING = ("corrected", "blocked")
TOP_VIOLATIONS = 5

Metric = Literal["verdicts", "latency", "corrections", "violations"]


@router.get(
    "/summary",
    summary="Verdict counts, rates and latencies",
    response_model=None,
    responses=answers(GovernanceSummary, 422),
)
async def summary(caller: Reader, services: ServicesDep, asked: AskedDep) -> Response:
    """All verdicts of the window. Rates are parts of `requests`; with the errors' they add up to 1.

    Rates and latencies are null where there is nothing to divide by. Percentiles are within 1 %.
    """

    def question(con: DuckDBPyConnection) -> dict[str, Any]:
        rows = asked.rows(con, caller.workspace, STREAM, TYPES, ("type",), values=True)
        counts = mix(rows, TYPES)
        passed, corrected, blocked, _ = shares(counts, 4)
        whole = added(rows, np.zeros(rows.height, np.int64), 1, RANKS)
        return {
            **asked.window.wire(),
            "totals": {"requests": sum(counts)} | dict(zip(NAMES, counts, strict=True)),
            "rates": {"pass_rate": passed, "correction_rate": corrected, "block_rate": blocked},
            **percentiles(whole.quantiles[0]),
        }

    return answer(await read(services.pipeline, question, seconds=READ_SECONDS))


@router.get(
    "/timeseries",
    summary="Verdicts, latencies, corrections or violations over time",
    response_model=None,
    responses=answers(GovernanceTimeseries, 422),
)
async def timeseries(
    caller: Reader,
    services: ServicesDep,
    asked: AskedDep,
    metric: Annotated[Metric, Query(description="What to count; each has members of its own.")] = "verdicts",
    bucket: BucketSize = "1h",
) -> Response:
    """Every bucket of the window is there, with zeros where nothing happened. `timestamp` is when it begins; the first
    and the last one count only what lies within the window.
    """
    grid = grid_of(asked.window, bucket)

    def question(con: DuckDBPyConnection) -> list[dict[str, Any]]:
        return SERIES[metric](con, caller.workspace, asked, grid)

    buckets = await read(services.pipeline, question, seconds=READ_SECONDS)
    series = [{"timestamp": begin} | one for begin, one in zip(timestamps(grid), buckets, strict=True)]
    return answer({"metric": metric, "bucket": bucket, **asked.window.wire(), "series": series})


@router.get(
    "/by-guardian",
    summary="One guardian beside the other",
    response_model=None,
    responses=answers(Guardians, 422),
)
async def by_guardian(caller: Reader, services: ServicesDep, asked: AskedDep) -> Response:
    """The busiest guardian first; 1,000 at most, then `truncated` is there. A guardian's name is that of the last hour
    in which it had one.
    """

    def question(con: DuckDBPyConnection) -> list[dict[str, Any]]:
        rows = asked.rows(con, caller.workspace, STREAM, TYPES, ("guardian", "type", "code"))
        return guardians(rows, asked.rows(con, caller.workspace, STREAM, TYPES, ("guardian", "label"), grain=HOUR))

    found = await read(services.pipeline, question, seconds=READ_SECONDS)
    return answer(listed(found, asked.window))


def mix(rows: pl.DataFrame, types: tuple[str, ...]) -> list[int]:
    """Return how many there are of each type."""
    counts: list[int] = added(rows, kinds(rows, types), len(types)).count.tolist()
    return counts


def guardians(rows: pl.DataFrame, named: pl.DataFrame) -> list[dict[str, Any]]:
    """Return what each guardian did, the busiest first. rows: by guardian, type and code; named: by hour and label."""
    names, at = places(rows["guardian"])
    counts = added(rows, at * len(TYPES) + kinds(rows, TYPES), len(names) * len(TYPES)).count.reshape(-1, len(TYPES))
    whole = added(rows, at, len(names))
    labels = _labels(named)
    violations = _violations(rows, at, len(names))
    found = [
        {
            "guardian_id": guardian,
            "guardian_name": labels.get(guardian),
            "requests": int(whole.count[n]),
            **dict(zip(NAMES[:3], counts[n, :3].tolist(), strict=True)),
            "avg_latency_ms": mean(float(whole.sum[n]), int(whole.values[n])),
            "top_violation_types": violations[n][:TOP_VIOLATIONS],
        }
        for n, guardian in enumerate(names)
    ]
    return sorted(found, key=lambda one: (-one["requests"], one["guardian_id"] or ""))


def _labels(rows: pl.DataFrame) -> dict[str | None, str]:
    """The name of each guardian: of its last bucket the most frequent one."""
    named = rows.filter(pl.col("label").is_not_null()).group_by("guardian", "label", "start").agg(pl.sum("count"))
    named = named.sort("start", "count", "label")  # a later one replaces what was there
    return dict(named.select("guardian", "label").iter_rows())


def _violations(rows: pl.DataFrame, group: Ints, size: int) -> list[list[dict[str, Any]]]:
    """The types of violations in each group, the most frequent first. rows: with type and code."""
    counted = (
        rows.select("type", "code", "count", pl.Series("group", group, pl.Int64))
        .filter(pl.col("type").is_in(VIOLATING) & pl.col("code").is_not_null())
        .group_by("group", "code")
        .agg(pl.sum("count"))
        .sort("count", "code", descending=[True, False])
    )
    found: list[list[dict[str, Any]]] = [[] for _ in range(size)]
    for number, code, count in counted.select("group", "code", "count").iter_rows():
        found[number].append({"type": code, "count": count})
    return found


# ------------------------------------------------------------ series: an entry a bucket

Series = list[dict[str, Any]]


def _verdicts(con: DuckDBPyConnection, workspace: str, asked: Asked, grid: Grid) -> Series:
    counts = _mixes(con, workspace, asked, grid)
    return [dict(zip(NAMES, one, strict=True)) for one in counts]


def _latency(con: DuckDBPyConnection, workspace: str, asked: Asked, grid: Grid) -> Series:
    rows = asked.rows(con, workspace, STREAM, TYPES, (), grain=grid.grain, values=True)
    found = added(rows, grid.of(rows["start"].to_numpy()), grid.count, RANKS)
    each = zip(found.count.tolist(), found.sum.tolist(), found.values.tolist(), found.quantiles, strict=True)
    return [
        {"requests": count, "avg_latency_ms": mean(total, values), **percentiles(ranked)}
        for count, total, values, ranked in each
    ]


def _corrections(con: DuckDBPyConnection, workspace: str, asked: Asked, grid: Grid) -> Series:
    return [
        {"requests": sum(one), "corrected": one[1], "correction_rate": rate(one[1], sum(one), 4)}
        for one in _mixes(con, workspace, asked, grid)
    ]


def _violated(con: DuckDBPyConnection, workspace: str, asked: Asked, grid: Grid) -> Series:
    rows = asked.rows(con, workspace, STREAM, VIOLATING, ("type", "code"), grain=grid.grain)
    found = _violations(rows, grid.of(rows["start"].to_numpy()), grid.count)
    return [{"violations": sum(each["count"] for each in one), "by_type": one} for one in found]


def _mixes(con: DuckDBPyConnection, workspace: str, asked: Asked, grid: Grid) -> list[list[int]]:
    rows = asked.rows(con, workspace, STREAM, TYPES, ("type",), grain=grid.grain)
    group = grid.of(rows["start"].to_numpy()) * len(TYPES) + kinds(rows, TYPES)
    counts: list[list[int]] = added(rows, group, grid.count * len(TYPES)).count.reshape(-1, len(TYPES)).tolist()
    return counts


SERIES = {"verdicts": _verdicts, "latency": _latency, "corrections": _corrections, "violations": _violated}
