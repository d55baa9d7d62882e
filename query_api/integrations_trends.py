"""GET /workspaces/trends: does a pattern open more incidents than it used to?

Only complete buckets are tested: the running one would make every series fall. And only those after the bucket in which
the workspace's first incident opened: before it there was nothing to count, which would make every series rise.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Query, Response

from operators import trends as testing
from operators.events import DAY, HOUR
from query_api.caller import CallerDep
from query_api.envelope import ok
from query_api.integrations_rules import pattern_name, rules_of
from query_api.integrations_schema import Trends, answers
from query_api.integrations_wire import EARLIEST, LATEST, READ_SECONDS, as_time, invalid, now, parse_instant, rfc3339
from query_api.reading import read, rows
from query_api.services import ServicesDep

router = APIRouter()

Bucket = Literal["1h", "1d"]
SIZES: dict[str, int] = {"1h": HOUR, "1d": DAY}
LONGEST = {"1h": 31, "1d": 366}  # days; the slope looks at all pairs of buckets
MOST_ROWS = 100_000

_COUNTS = """
    SELECT rule_id, (epoch_us(opened_at) - $origin) // $size AS bucket, count(*) FROM incidents
    WHERE workspace = $workspace AND opened_at >= $start AND opened_at < $end GROUP BY ALL ORDER BY ALL
"""
_FIRST = "SELECT epoch_us(min(opened_at)) FROM incidents WHERE workspace = $workspace"

_EXAMPLE = {
    "bucket": "1d",
    "level": 0.05,
    "window": {"from": "2025-02-24T00:00:00Z", "to": "2025-03-26T08:00:00Z"},
    "patterns": [
        {
            "patternId": "auth_failure",
            "patternName": "Auth Failure",
            "incidentCount": 137,
            "direction": "rising",
            "pValue": 0.0004,
            "adjustedPValue": 0.0048,
            "test": testing.TEST,
            "slopePerBucket": 0.25,
            "reason": None,
            "buckets": [{"start": "2025-02-24T00:00:00Z", "incidentCount": 3, "isComplete": True}],
        }
    ],
    "truncated": False,
}


@dataclass(frozen=True, slots=True)
class Grid:
    """Buckets of `size` µs from `start` on; those before `complete` have ended at `end`."""

    start: int
    end: int
    size: int

    @property
    def count(self) -> int:
        """How many, the running one included."""
        return -(-(self.end - self.start) // self.size)

    @property
    def complete(self) -> int:
        """How many have ended."""
        return (self.end - self.start) // self.size


@router.get(
    "/workspaces/trends",
    summary="Incidents by pattern and time, with the direction of the trend",
    response_model=None,
    responses=answers(Trends, _EXAMPLE),
)
async def trends(
    caller: CallerDep,
    services: ServicesDep,
    bucket: Annotated[Bucket, Query(description="Buckets are aligned to UTC.")] = "1d",
    days: Annotated[int, Query(ge=1, le=366, description="Up to 31 for hourly buckets.")] = 30,
    end: Annotated[str | None, Query(alias="to", description="RFC 3339, exclusive; now by default.")] = None,
) -> Response:
    """`rising` and `falling` are significant at the level given, corrected for the number of patterns tested.

    The test is Mann-Kendall's, with ties and autocorrelation; the correction Benjamini and Hochberg's. `stable` says
    why: no significant trend, or not enough data.
    """
    grid = _grid(bucket, days, parse_instant(end, "to"))
    values = {"workspace": caller.workspace, "start": as_time(grid.start), "end": as_time(grid.end)}

    def question(con: DuckDBPyConnection) -> tuple[list[tuple[str, int, int]], bool, int | None]:
        counted, cut = rows(con, _COUNTS, values | {"origin": grid.start, "size": grid.size}, MOST_ROWS)
        first = con.execute(_FIRST, {"workspace": caller.workspace}).fetchone()
        return [(rule, place, n) for rule, place, n in counted], cut, first[0] if first else None

    counted, truncated, first = await read(services.pipeline, question, seconds=READ_SECONDS)
    rules = rules_of(services)
    # Pairs of buckets by the hundred thousand: beside the event loop, too.
    found = await read(services.pipeline, lambda _: assess(counted, grid, first), seconds=READ_SECONDS)
    return ok(
        {
            "bucket": bucket,
            "level": testing.LEVEL,
            "window": {"from": rfc3339(grid.start), "to": rfc3339(grid.end)},
            "patterns": [
                {"patternId": rule, "patternName": pattern_name(rules, rule)} | _wire(counts, trend, grid)
                for rule, counts, trend in found
            ],
            "truncated": truncated,
        }
    )


def assess(
    counted: list[tuple[str, int, int]], grid: Grid, first: int | None
) -> list[tuple[str, list[int], testing.Trend]]:
    """Return of each rule its counts by bucket and its trend, the most frequent rule first.

    counted: (rule id, number of the bucket, incidents). first: when the workspace's first incident ever opened, µs.
    """
    series: dict[str, list[int]] = defaultdict(lambda: [0] * grid.count)
    for rule, place, n in counted:
        series[rule][place] += n
    known = 0 if first is None or first < grid.start else (first - grid.start) // grid.size + 1
    tested = testing.trends({rule: counts[known : grid.complete] for rule, counts in series.items()})
    ranked = sorted(series, key=lambda rule: (-sum(series[rule]), rule))
    return [(rule, series[rule], tested[rule]) for rule in ranked]


def _grid(bucket: Bucket, days: int, end: int | None) -> Grid:
    size, until = SIZES[bucket], now() if end is None else end
    if days > LONGEST[bucket]:
        raise invalid(f"days must be at most {LONGEST[bucket]} with buckets of {bucket}.")
    start = until // size * size - days * DAY
    if start < EARLIEST or until >= LATEST:
        raise invalid("to: must leave room for the window between the years 1 and 9999.")
    return Grid(start, until, size)


def _wire(counts: list[int], trend: testing.Trend, grid: Grid) -> dict[str, Any]:
    return {
        "incidentCount": sum(counts),
        "direction": trend.direction,
        "pValue": trend.p_value,
        "adjustedPValue": trend.adjusted,
        "test": testing.TEST,
        "slopePerBucket": trend.slope,
        "reason": trend.reason,
        "buckets": [
            {"start": rfc3339(grid.start + i * grid.size), "incidentCount": n, "isComplete": i < grid.complete}
            for i, n in enumerate(counts)
        ],
    }
