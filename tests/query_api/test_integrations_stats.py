"""Figures and trends of a workspace."""

from typing import Any

import pytest

from operators.events import DAY, HOUR
from query_api.integrations_trends import Grid, assess
from query_api.integrations_wire import parse_instant
from tests.query_api.fakes import MINE, OTHERS, Api, FakePipeline, many

DAY_OF_IT = {"from": "2025-03-26T00:00:00Z", "to": "2025-03-27T00:00:00Z"}


def test_the_figures_of_a_day(filled: FakePipeline, api: Api) -> None:
    """MTTR from opening to closing; of the two that had an end, one came back."""
    assert api.get("/workspaces/stats", **DAY_OF_IT) == {
        "openIncidents": 1,
        "recoveringIncidents": 1,
        "closedIncidents": 1,
        "mttrSeconds": 23 * 60,
        "reopenRate": 0.5,
        "chronicIncidents": 1,
        "topPatterns": [
            {"patternId": "auth_failure", "patternName": "Auth Failure", "incidentCount": 1},
            {"patternId": "timeout_spike", "patternName": "Timeout Spike", "incidentCount": 1},
            {"patternId": "vip", "patternName": "vip", "incidentCount": 1},
        ],
        "window": DAY_OF_IT,
    }


def test_each_workspace_has_its_own_figures(filled: FakePipeline, others: Api) -> None:
    """One open incident, nothing closed: no mean of nothing."""
    found = others.get("/workspaces/stats", **DAY_OF_IT)
    assert (found["openIncidents"], found["closedIncidents"]) == (1, 0)
    assert (found["mttrSeconds"], found["reopenRate"]) == (None, None)
    assert [top["patternId"] for top in found["topPatterns"]] == ["auth_failure"]


@pytest.mark.parametrize(
    ("window", "closed", "opened"),
    [
        ({"from": "2025-03-26T08:23:00Z", "to": "2025-03-26T08:23:01Z"}, 1, 0),  # from is inclusive
        ({"from": "2025-03-26T08:00:00Z", "to": "2025-03-26T08:23:00Z"}, 0, 3),  # to is exclusive
        ({"to": "2025-03-26T09:00:00Z", "days": 1}, 1, 3),
        ({"to": "0001-01-01T00:00:00Z", "days": 3_650}, 0, 0),
        ({"from": "2025-03-26T08:00:00Z"}, 1, 3),
        ({}, 0, 0),
    ],
)
def test_the_window(filled: FakePipeline, api: Api, window: dict[str, Any], closed: int, opened: int) -> None:
    """What closed counts by closing, what opened by opening; what is open now is open in any window."""
    found = api.get("/workspaces/stats", **window)
    assert found["closedIncidents"] == closed
    assert sum(top["incidentCount"] for top in found["topPatterns"]) == opened
    assert (found["openIncidents"], found["recoveringIncidents"]) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [{"days": 0}, {"days": 10**9}, {"from": "x"}, {"from": "2025-03-27T00:00:00Z", "to": "2025-03-26T00:00:00Z"}],
)
def test_an_impossible_window_is_refused(filled: FakePipeline, api: Api, wrong: dict[str, Any]) -> None:
    """Backwards or empty."""
    assert api.refused("GET", "/workspaces/stats", params=wrong)[0] == 400


def test_a_rising_pattern_is_called_rising(pipeline: FakePipeline, api: Api) -> None:
    """From none to nine a day within four weeks, beside a steady one; the running day tests nothing."""
    day = 24 * 60
    opened = [d * day + k for d in range(28) for k in range(d // 3)]
    pipeline.store.flush({"incidents": many(len(opened), MINE, lambda i: opened[i] + day)}, {})
    steady = [d * day + k for d in range(-1, 29) for k in range(3 + d % 2)]
    frame = many(len(steady), MINE, lambda i: steady[i] + 1, name="steady", rule_id="timeout_spike")
    pipeline.store.flush({"incidents": frame}, {})
    found = api.get("/workspaces/trends", to="2025-04-24T12:00:00Z", days=29)
    auth, timeout = sorted(found["patterns"], key=lambda pattern: str(pattern["patternId"]))
    assert (auth["direction"], auth["reason"], auth["incidentCount"]) == ("rising", None, len(opened))
    assert auth["pValue"] <= auth["adjustedPValue"] < 0.001
    assert auth["slopePerBucket"] == pytest.approx(1 / 3, abs=0.05)
    assert (timeout["direction"], timeout["slopePerBucket"]) == ("stable", 0)
    assert "no significant trend" in timeout["reason"]
    buckets = auth["buckets"]
    assert (len(buckets), buckets[0]["start"]) == (30, "2025-03-26T00:00:00Z")
    assert [bucket["isComplete"] for bucket in buckets] == [True] * 29 + [False]
    assert sum(bucket["incidentCount"] for bucket in buckets) == len(opened)


def test_trends_are_ones_own(pipeline: FakePipeline, api: Api) -> None:
    """Another workspace's storm must not show."""
    pipeline.store.flush({"incidents": many(50, OTHERS, lambda i: i)}, {})
    assert api.get("/workspaces/trends", to="2025-03-27T00:00:00Z")["patterns"] == []


def test_a_young_workspace_is_not_rising(pipeline: FakePipeline, api: Api) -> None:
    """Before its first incident nobody listened: those days are no zeros."""
    opened = [day * 1440 + k for day in range(12) for k in range(4)]
    pipeline.store.flush({"incidents": many(len(opened), MINE, opened.__getitem__)}, {})
    (found,) = api.get("/workspaces/trends", to="2025-04-07T00:00:00Z", days=90)["patterns"]
    assert found["direction"] == "stable"
    assert found["pValue"] == 1.0


def test_hours_are_aligned(filled: FakePipeline, api: Api) -> None:
    """A bucket begins on the hour in UTC, wherever the window ends."""
    found = api.get("/workspaces/trends", bucket="1h", days=1, to="2025-03-26T08:30:00Z")
    assert found["window"] == {"from": "2025-03-25T08:00:00Z", "to": "2025-03-26T08:30:00Z"}
    assert [b["incidentCount"] for b in found["patterns"][0]["buckets"]] == [0] * 24 + [1]


@pytest.mark.parametrize(
    "wrong",
    [{"bucket": "1m"}, {"days": 0}, {"days": 367}, {"bucket": "1h", "days": 32}, {"to": "0001-01-02T00:00:00Z"},
     {"to": "9999-12-31T23:59:59.999999Z"}, {"to": "x"}],
)  # fmt: skip
def test_an_impossible_grid_is_refused(filled: FakePipeline, api: Api, wrong: dict[str, Any]) -> None:
    """Too many buckets, or outside the calendar."""
    assert api.refused("GET", "/workspaces/trends", params=wrong)[0] == 400


def test_the_running_bucket_and_the_first_are_not_tested() -> None:
    """Eleven whole days after the one that began it all, and a half one that would make everything fall."""
    start = parse_instant("2025-03-01", "")
    assert start is not None
    grid = Grid(start, start + 12 * DAY + 6 * HOUR, DAY)
    counted = [("r", day, 5) for day in range(12)] + [("r", 12, 1)]
    ((rule, counts, trend),) = assess(counted, grid, start + 3 * HOUR)
    assert (rule, counts[-1], grid.count, grid.complete) == ("r", 1, 13, 12)
    assert (trend.direction, trend.p_value) == ("stable", 1.0)
