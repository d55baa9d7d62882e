"""Why did it open, and why not?"""

from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from duckdb import DuckDBPyConnection

from operators.events import TIMESTAMP
from operators.rules import Anomaly, EventCount, Ratio, ThresholdSpec, ValueAvg, ValueCount, ValuePercentile, ValueSum
from query_api.explain import explain_incident
from query_api.fetch import QueryError
from query_api.incidents import get_incident
from query_api.reach import best_reached
from query_api.why_not import why_not
from tests.stores import AUTH, TIMEOUT, VIP, t


def test_an_incident_is_explained_by_its_rule_and_the_events_counted(con: DuckDBPyConnection) -> None:
    """The claim "5 timeouts within 3 minutes" must be checkable, event by event."""
    why = explain_incident(con, get_incident(con, TIMEOUT))
    assert (why.threshold, why.window_count) == ("5 events within 3m", 5)
    assert [event.position for event in why.counted] == ["p:3", "p:4", "p:5", "p:6", "p:7"]
    assert why.definition is not None
    assert why.definition["id"] == "timeout_spike"


def test_every_step_names_its_cause(con: DuckDBPyConnection) -> None:
    """An event, the timer after one, or a person."""
    why = explain_incident(con, get_incident(con, AUTH))
    assert [(cause.kind, cause.position) for cause in why.causes] == [
        ("event", "p:0"),
        ("timer", "p:1"),
        ("event", "p:12"),
        ("timer", "p:12"),
        ("command", "p:12"),
    ]


def test_an_incident_of_a_rule_the_store_does_not_know_is_still_explained(con: DuckDBPyConnection) -> None:
    """Old incidents outlive their rules."""
    assert explain_incident(con, get_incident(con, VIP)).definition is None


@pytest.mark.parametrize(
    ("source", "rule", "minute", "verdict", "says"),
    [
        ("search", "timeout_spike", 6, "below_threshold", "3 events at best, 5 events within 3m needed"),
        ("cart", "service_unavailable", 7, "shadowed", "server_error_spike (1)"),
        ("idle", "timeout_spike", 9, "no_match", "None of the source's 1 events"),
        ("search", "timeout_spike", 50, "no_events", "no events around"),
        ("orders", "timeout_spike", 6, "opened", "inc_time"),
    ],
)
def test_why_not(con: DuckDBPyConnection, source: str, rule: str, minute: float, verdict: str, says: str) -> None:
    """Each reason for silence, told apart."""
    answer = why_not(con, source, rule, t(minute))
    assert answer.verdict == verdict
    assert says in answer.sentence


def test_why_not_names_the_best_window(con: DuckDBPyConnection) -> None:
    """How near it came, and with which events."""
    best = why_not(con, "search", "timeout_spike", t(6), "default").best
    assert best is not None
    assert (best.value, best.needed, best.met, best.at) == (3, 5, False, t(6.2))
    assert best.events == ["p:8", "p:9", "p:10"]


@pytest.mark.parametrize(
    ("source", "rule", "says"), [("nobody", "timeout_spike", "source"), ("search", "nope", "nope")]
)
def test_why_not_says_what_it_does_not_know(con: DuckDBPyConnection, source: str, rule: str, says: str) -> None:
    """A typing mistake must not look like "no events"."""
    with pytest.raises(QueryError, match=says):
        why_not(con, source, rule, t(6))


def test_an_anomaly_is_measured_by_its_probability() -> None:
    """One event a minute for half an hour, then eight at once: how improbable that is, and what the window holds."""
    minutes = [*range(30), *[30 + n / 100 for n in range(8)]]
    frame = pl.DataFrame({"at": [t(minute) for minute in minutes]}).select(
        pl.col("at").cast(TIMESTAMP),
        pl.lit("k").alias("group_key"), pl.lit(0, pl.Int8).alias("kind"), pl.lit(None, pl.Float64).alias("measure"),
        pl.lit("p").alias("partition"), pl.int_range(pl.len()).alias("position"),
    )  # fmt: skip
    spec = Anomaly(bucket="1m", window="1h", level=0.01)  # type: ignore[arg-type]
    best = best_reached(frame, spec, t(0), t(40))
    assert best is not None
    assert best.met
    assert 0.99 < best.value < 1.0
    assert (best.needed, best.volume, best.least_volume, len(best.events)) == (0.99, 8, 5, 38)
    assert best_reached(frame.head(30), spec, t(0), t(40)) is None


MINUTE = 60_000_000


@pytest.mark.parametrize(
    ("spec", "value", "met"),
    [
        (None, 1, True),
        (EventCount(gte=3, window="2m"), 2, False),  # the window is (at - 2 min, at]
        (ValueCount(field="tenant", gte=2, window="5m"), 2, True),
        (ValueSum(gte=60, window="2m"), 50, False),
        (ValueAvg(gte=30, window="2m", min_events=2), 25, False),
        (ValuePercentile(percentile=50, gte=20, window="5m", min_events=3), 20, True),
        (Ratio(gte=0.9, min_volume=4, window="10m"), 0.75, False),
    ],
)
def test_every_threshold_type_is_measured(spec: ThresholdSpec | None, value: float, met: bool) -> None:
    """Three matches a minute apart (10, 20, 30; tenants a, a, b) and a witness before the last one."""
    rows: list[dict[str, Any]] = [
        {"minute": 0, "kind": 0, "measure": 10.0, "item": "a"},
        {"minute": 1, "kind": 0, "measure": 20.0, "item": "a"},
        {"minute": 1.5, "kind": 1, "measure": None, "item": None},
        {"minute": 2, "kind": 0, "measure": 30.0, "item": "b"},
    ]
    frame = pl.DataFrame(rows).select(
        pl.Series("at", [t(row["minute"]) for row in rows]).cast(TIMESTAMP),
        pl.lit("k").alias("group_key"), pl.col("kind").cast(pl.Int8), "measure", "item",
        pl.lit("p").alias("partition"), pl.int_range(pl.len()).alias("position"),
    )  # fmt: skip
    best = best_reached(frame, spec, t(0) - timedelta(minutes=1), t(10))
    assert best is not None
    assert (best.value, best.met) == (value, met)
