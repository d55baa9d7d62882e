"""Series of rollups against plain Python over the same events: nothing is lost in groups, buckets and other groups."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.buckets import previous
from operators.events import EVENTS
from operators.measures import PERCENTILES
from operators.rollup import merged, rollup
from query_api.analytics_formats import CSV, JSON, table, written
from query_api.analytics_question import Asked, Question, question
from query_api.analytics_series import Answer, composed

START = datetime(2026, 3, 28, 12, tzinfo=UTC)
ALL = ["count", "errors", "rate", "error_rate", "sum", "avg", "p50", "p90", "p99.9", "distinct:type", "distinct:code"]

Event = dict[str, Any]
events = st.lists(
    st.fixed_dictionaries(
        {
            "time": st.integers(0, 4 * 86_400 - 1).map(lambda s: START - timedelta(days=2) + timedelta(seconds=s)),
            "source": st.sampled_from(["a", "b", "c", "d"]),
            "type": st.sampled_from(["ok", "error", "x"]),
            "code": st.sampled_from([None, "503", "404"]),
            "value": st.none() | st.floats(-1e6, 1e6).map(lambda v: round(v, 3)),
        }
    ),
    max_size=60,
)


def ask(**asked: Any) -> Question:
    window = {"from": START.isoformat(), "to": (START + timedelta(days=2)).isoformat()}
    return question(Asked.model_validate({**window, **asked}), [], None, 0.0)


def answered(given: Sequence[Event], asked: Question) -> Answer:
    """The answer from what `select` says of these events."""
    filled = {"workspace": "w", "stream": "log"}
    frame = pl.DataFrame([filled | one for one in given], schema={**EVENTS}, orient="row")
    grids = [asked.grid, *([previous(asked.grid, asked.bucket, asked.zone)] if asked.compare else [])]
    rows = []
    for grid in grids:
        within = pl.col("time").to_physical().is_between(grid.start, grid.end, closed="left")
        found = merged(rollup(frame.filter(within)), grid.grain, asked.by)
        rows.append(
            found.select(
                pl.col("start").to_physical(), *asked.by, "count", "errors",
                pl.col("bin_counts").list.sum().cast(pl.Int64).alias("values"),
                (pl.col("total") / 1_000_000).alias("sum"), "bins", "bin_counts",
            )
        )  # fmt: skip
    return composed(asked, rows, grids, None)


def plainly(measure: str, given: Sequence[Event], seconds: float) -> float | None:
    """A measure of events, one event at a time."""
    values = sorted(one["value"] for one in given if one["value"] is not None)
    errors = sum(one["type"] == "error" or one["code"] == "503" for one in given)
    if measure in PERCENTILES:
        return values[max(1, math.ceil(PERCENTILES[measure] * len(values) - 1e-9)) - 1] if values else None
    if measure.startswith("distinct:"):
        return len({one[measure[9:]] for one in given} - {None})
    return {
        "count": len(given),
        "errors": errors,
        "rate": len(given) / seconds,
        "error_rate": errors / len(given) if given else None,
        "sum": math.fsum(values),
        "avg": math.fsum(values) / len(values) if values else None,
    }[measure]


def same(measure: str, found: float | None, expected: float | None) -> bool:
    """Percentiles within 1 %, all else but for rounding."""
    if found is None or expected is None:
        return found is expected
    exact = measure not in PERCENTILES
    return found == pytest.approx(expected, rel=1e-9 if exact else 0.01001, abs=1e-6)


def within(given: Sequence[Event], start: int, end: int) -> list[Event]:
    return [one for one in given if start <= round(one["time"].timestamp() * 1e6) < end]


@settings(max_examples=60, deadline=None)
@given(
    events,
    st.sampled_from(["5m", "1h", "1d", "none"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
    st.integers(1, 4),
    st.permutations(ALL),
)
def test_series_say_what_plain_python_says(
    given: list[Event], bucket: str, zone: str, limit: int, measures: list[str]
) -> None:
    """Each shown group, all others together, and both windows: in total and bucket by bucket."""
    asked = ask(measure=measures, bucket=bucket, timezone=zone, limit=limit, group_by=["source"], compare="previous")
    found = orjson.loads(written(answered(given, asked), JSON))
    sides = [asked.grid, previous(asked.grid, asked.bucket, asked.zone)]
    mine = [within(given, side.start, side.end) for side in sides]
    names = sorted({one["source"] for one in mine[0]})

    def rank(name: str) -> float:
        chosen = [one for one in mine[0] if one["source"] == name]
        value = plainly(measures[0], chosen, 1.0)
        return -math.inf if value is None else value

    shown = [one["key"]["source"] for one in found["series"] if not one["other"]]
    assert len(shown) == min(limit, len(names))
    if measures[0] not in PERCENTILES:  # which are compared as they are shown, within 1 %
        by_size = sorted(names, key=lambda name: (-rank(name), name))
        assert [round(rank(name), 9) for name in shown] == [round(rank(name), 9) for name in by_size[:limit]]
    assert found["groups"] == len(names)
    for series in found["series"]:
        for side, grid, all_of_them in zip((series, series["previous"]), sides, mine, strict=True):
            of = [
                one
                for one in all_of_them
                if (one["source"] not in shown if series["other"] else one["source"] == series["key"]["source"])
            ]
            seconds = (grid.end - grid.start) / 1e6
            for name in measures:
                assert same(name, side["total"][name], plainly(name, of, seconds)), (name, series["key"])
                if bucket == "none":
                    continue
                for at, value in enumerate(side["values"][name]):
                    part = within(of, int(grid.edges[at]), int(grid.edges[at + 1]))
                    assert same(name, value, plainly(name, part, float(grid.seconds()[at]))), (name, at)


@settings(max_examples=40, deadline=None)
@given(events, st.integers(1, 3))
def test_other_and_the_shown_are_all(given: list[Event], limit: int) -> None:
    """Counts and sums of the series add up to those without groups; `other=false` only leaves the last one out."""
    asked = {"measure": ["count", "errors", "sum"], "bucket": "1h"}
    whole = answered(given, ask(**asked)).now
    some = answered(given, ask(**asked, group_by=["source", "code"], limit=limit))
    for name in asked["measure"]:
        assert some.now.values(name).sum(axis=0) == pytest.approx(whole.values(name)[0], abs=1e-6)
        assert some.now.total.values[name].sum() == pytest.approx(whole.total.values[name][0], abs=1e-6)
    without = answered(given, ask(**asked, group_by=["source", "code"], limit=limit, other=False))
    assert without.keys == [key for key in some.keys if key is not None]
    assert without.truncated is (None in some.keys)
    assert not some.truncated


@settings(max_examples=40, deadline=None)
@given(events, st.sampled_from(["1h", "1d"]))
def test_a_comparison_is_two_questions(given: list[Event], bucket: str) -> None:
    """The window before, asked by itself, answers the same."""
    measures = ["count", "p90", "distinct:source"]
    both = answered(given, ask(measure=measures, bucket=bucket, compare="previous")).before
    assert both is not None
    window = {"from": (START - timedelta(days=2)).isoformat(), "to": START.isoformat()}
    alone = answered(given, ask(measure=measures, bucket=bucket, **window)).now
    assert both.grid.edges.tolist() == alone.grid.edges.tolist()
    for name in measures:
        assert both.values(name)[0] == pytest.approx(alone.values(name)[0], nan_ok=True)
        assert both.total.values[name] == pytest.approx(alone.total.values[name], nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(events, st.sampled_from(["zero", "null", "none"]))
def test_gaps(given: list[Event], fill: str) -> None:
    """Where nothing happened a count is 0 or null, a percentile always null; or the bucket is not there."""
    asked = ask(measure=["count", "sum", "p50"], bucket="1h", fill=fill, group_by=["source"])
    found = orjson.loads(written(answered(given, asked), JSON))
    inside = [one for one in given if START <= one["time"] < START + timedelta(days=2)]
    cells = {(one["source"], one["time"].replace(minute=0, second=0)) for one in inside}
    busy = {hour for _, hour in cells}
    shown = {datetime.fromisoformat(text) for text in found["buckets"]}
    assert shown == busy if fill == "none" else len(shown) == 48
    for series in found["series"]:
        for count, total, median in zip(*series["values"].values(), strict=True):
            assert count is None if fill != "zero" and not count else count is not None
            assert (total is None) is (count is None)
            assert median is None or count
    rows = table(answered(given, asked)).height
    assert rows == (len(cells) if fill == "none" else 48 * len(found["series"]))


def event(source: str, minute: float, **more: Any) -> Event:
    base = {"time": START + timedelta(minutes=minute), "source": source, "type": "ok", "code": None, "value": None}
    return base | more


def test_ties_are_shown_by_name_and_nothing_last() -> None:
    """The same question has the same answer; events that have none of it are a group, too."""
    given = [event(name, n) for n, name in enumerate("dbca")] + [event("a", 9, code="x"), event("b", 9, code="x")]
    found = answered(given, ask(group_by=["source", "code"], bucket="none"))
    names = [("a", "x"), ("a", None), ("b", "x"), ("b", None), ("c", None), ("d", None)]
    assert found.keys == names
    assert answered(given, ask(group_by=["source"], limit=2, bucket="none")).keys == [("a",), ("b",), None]


def test_a_group_that_was_there_before_only_is_other() -> None:
    """It would be missing in the comparison."""
    given = [event("a", 0), event("gone", -60), event("gone", -61)]
    found = orjson.loads(written(answered(given, ask(group_by=["source"], compare="previous", bucket="none")), JSON))
    assert [one["total"]["count"] for one in found["series"]] == [1, 0]
    assert [one["previous"]["total"]["count"] for one in found["series"]] == [0, 2]
    assert [one["previous"]["change"]["count"] for one in found["series"]] == [None, -1.0]
    assert found["groups"] == 1


def test_nothing_at_all() -> None:
    """A workspace that has no events yet: one series of zeros, or no groups; and tables with columns."""
    found = orjson.loads(written(answered([], ask(measure=["count", "avg"], bucket="1d")), JSON))
    assert found["series"][0]["total"] == {"count": 0, "avg": None}
    assert found["series"][0]["values"] == {"count": [0, 0, 0], "avg": [None, None, None]}
    grouped = answered([], ask(group_by=["source"], bucket="1d", compare="previous"))
    assert orjson.loads(written(grouped, JSON))["series"] == []
    assert written(grouped, CSV) == b"bucket,source,other,count,previous_count\n"


def test_guardians_and_identities_have_labels() -> None:
    """What most events call them, where only their stream is asked."""

    def verdicts(name: str, count: int) -> list[Event]:
        attributes = f'{{"guardian_name":"{name}"}}'
        return [event("gov_1", n, stream="verdict", attributes=attributes) for n in range(count)]

    given = [*verdicts("Old", 2), *verdicts("New", 3), event("gov_2", 1, stream="verdict")]
    found = answered(given, ask(stream=["verdict"], group_by=["guardian"], bucket="none"))
    assert (found.keys, found.labels) == ([("gov_1",), ("gov_2",)], ["New", None])
    assert table(found).columns == ["guardian", "label", "other", "count"]
    assert answered(given, ask(group_by=["guardian"], bucket="none")).labels == [None, None]


def test_too_many_numbers_are_fewer_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is still there, in other; and the answer says so."""
    monkeypatch.setattr("query_api.analytics_series.MOST_NUMBERS", 3 * 48)
    given = [event(name, n) for name in "abcd" for n in range(ord("e") - ord(name))]
    found = answered(given, ask(group_by=["source"]))
    assert (found.keys, found.truncated, found.groups) == ([("a",), ("b",), None], True, 4)
    assert found.now.total.count.tolist() == [4, 3, 3]


def test_the_table_is_the_same_as_the_document() -> None:
    """In the order of time; the window before beside."""
    given = [event(name, 30 * n, value=n + 1.5) for n in range(90) for name in "abc"[: 1 + n % 3]]
    answer = answered(given, ask(measure=["count", "p50"], group_by=["source"], limit=2, compare="previous"))
    found = orjson.loads(written(answer, JSON))
    rows = table(answer)
    assert rows["bucket"].is_sorted()
    for at, (bucket, group) in enumerate(groupby(rows.iter_rows(named=True), lambda row: row["bucket"])):
        assert bucket == datetime.fromisoformat(found["buckets"][at])
        for row, series in zip(group, found["series"], strict=True):
            assert (row["source"], row["other"]) == (series["key"].get("source"), series["other"])
            assert (row["count"], row["p50"]) == (series["values"]["count"][at], series["values"]["p50"][at])
            assert row["previous_count"] == series["previous"]["values"]["count"][at]
