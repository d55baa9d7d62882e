"""What was seen of identities: sums over rollups are what one counts event by event."""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.events import DAY, EVENTS, HOUR, MINUTE
from operators.nhi import BY, Past, before, placed
from operators.rollup import READS, merged, rollup
from operators.scores import LOOKBACK

BEGIN = 20_000 * DAY

events = st.fixed_dictionaries(
    {
        "time": st.integers(-32 * 24 * 60, 2 * 24 * 60).map(lambda minute: BEGIN + minute * MINUTE + 7),
        "source": st.sampled_from(["a", "b"]),
        "type": st.sampled_from(["tool_attempt", "tool_attempt", "spend", "spend", "activity", "tier", "federation"]),
        "code": st.sampled_from([None, "allowed", "denied", "error"]),
        "value": st.none() | st.floats(0.01, 100).map(lambda value: round(value, 2)),
        "guardian": st.sampled_from([None, "g"]),
    }
)


def rows(some: Sequence[dict[str, Any]], start: int, end: int, grain: int = HOUR) -> pl.DataFrame:
    """As `query_api.rollups.select` returns them."""
    listed = [
        {
            **{name: one[name] for name in ("source", "type", "code", "value")},
            "time": one["time"],
            "stream": "identity",
            "workspace": "w",
            "attributes": json.dumps({"guardian_id": one["guardian"]} if one["guardian"] else {}),
        }
        for one in some
        if start <= one["time"] < end
    ]
    schema = {name: EVENTS[name] for name in READS}
    frame = pl.DataFrame(listed, schema=schema | {"time": pl.Int64()}).cast({"time": schema["time"]})
    return merged(rollup(frame), grain, BY).select(
        pl.col("start").to_physical(),
        *BY,
        "count",
        "errors",
        pl.col("bin_counts").list.sum().cast(pl.Int64).alias("values"),
        (pl.col("total") / 1_000_000).alias("sum"),
        "bins",
        "bin_counts",
    )


@settings(max_examples=150)
@given(st.lists(events, max_size=60), st.integers(0, 24 * 60), st.integers(1, 24 * 60))
def test_sums_are_what_one_counts(some: list[dict[str, Any]], late: int, minutes: int) -> None:
    """Whatever the window cuts; and what came before it is no part of it."""
    start, end = BEGIN + late * MINUTE, BEGIN + (late + minutes) * MINUTE
    known_from, known_to = before(start)
    past = Past(pl.concat([rows(some, known_from, known_to), placed(rows(some, start, end), start)]))
    for nhi in ("a", "b", "nobody"):
        mine = sorted((one for one in some if one["source"] == nhi), key=lambda one: one["time"])
        within = [one for one in mine if start <= one["time"] < end]
        earlier = [one for one in mine if known_from <= one["time"] < known_to]
        tries = [one for one in within if one["type"] == "tool_attempt"]
        did = [one for one in within if one["type"] not in ("tier", "federation")]
        found = past.seen(nhi, start, end)
        assert (found.events, found.activity, found.attempts) == (len(within), len(did), len(tries))
        assert found.covered == sum(one["guardian"] is not None for one in did)
        assert found.denied == sum(one["code"] == "denied" for one in tries)
        assert found.allowed == sum(one["code"] == "allowed" for one in tries)
        assert found.known is bool(earlier)
        p99, hour, amount, _ = spends(within)
        assert found.spent == pytest.approx(amount)
        assert (found.spend.p99, found.spend.hour) == (near(p99), near(hour))
        p99, hour, _, known = spends(earlier)
        assert (found.spend.baseline_p99, found.spend.baseline_hour, found.spend.known) == (
            near(p99),
            near(hour),
            known,
        )
        instants = [earlier[-1]["time"] if earlier else known_from, *(one["time"] for one in within)]
        hours = [*(one // HOUR * HOUR for one in instants), end]
        assert found.silence == min(max(b - a for a, b in pairwise(hours)), LOOKBACK)


@settings(max_examples=100)
@given(st.lists(events, min_size=1, max_size=60), st.integers(-40, 40), st.integers(1, 200))
def test_hours_are_what_one_counts(some: list[dict[str, Any]], first: int, count: int) -> None:
    """From the first event of a span on, in which an identity was not silent but absent."""
    start, end = BEGIN + first * HOUR, BEGIN + (first + count) * HOUR
    past = Past(rows(some, start - DAY, end + DAY))
    active = sorted({one["source"] for one in some if start <= one["time"] < end})
    assert past.active(start, end) == active
    for nhi in active:
        mine = [one for one in some if one["source"] == nhi and start <= one["time"] < end]
        begin = min(one["time"] for one in mine) // HOUR * HOUR
        found = past.hours(nhi, start, end)
        for n in range((end - begin) // HOUR):
            those = [one for one in mine if begin + n * HOUR <= one["time"] < begin + (n + 1) * HOUR]
            assert found["activity"][n] == sum(one["type"] not in ("tier", "federation") for one in those)
            assert found["denied"][n] == sum((one["type"], one["code"]) == ("tool_attempt", "denied") for one in those)
            assert found["spent"][n] == pytest.approx(sum(one["value"] or 0 for one in those if one["type"] == "spend"))
        assert {len(series) for series in found.values()} == {(end - begin) // HOUR}


def spends(some: Sequence[dict[str, Any]]) -> tuple[float | None, float | None, float, int]:
    """The 99th percentile, the dearest hour, the sum and the number of spends."""
    values = [(one["time"], one["value"]) for one in some if one["type"] == "spend" and one["value"] is not None]
    if not values:
        return None, None, 0.0, 0
    sums: dict[int, float] = defaultdict(float)
    for time, value in values:
        sums[time // HOUR] += value
    ordered = sorted(value for _, value in values)
    total = sum(ordered)
    return ordered[math.ceil(0.99 * len(ordered)) - 1], max(sums.values()), total, len(values)


def near(value: float | None) -> Any:
    """The same, but for the width of a bin."""
    return None if value is None else pytest.approx(value, rel=0.0101)


def test_nothing_was_seen_of_nobody() -> None:
    """An empty workspace has no identities, and a strange one was always silent."""
    past = Past(rows([], BEGIN, BEGIN + DAY))
    assert past.identities == ()
    assert (past.seen("a", BEGIN, BEGIN + DAY).silence, past.active(BEGIN, BEGIN + DAY)) == (LOOKBACK, [])
