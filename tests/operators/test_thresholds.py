"""When a rule opens (S8): every threshold type at its edge of count and at its edge of time."""

from __future__ import annotations

from fractions import Fraction
from math import comb
from typing import Any

import numpy as np
import pytest

from operators.thresholds.anomaly import History, tail
from tests.harness import (
    H,
    M,
    anomaly,
    event_count,
    instant,
    play,
    policy,
    ratio,
    value_avg,
    value_count,
    value_percentile,
    value_sum,
)


def opened(script: str, threshold: Any) -> list[str]:
    """The lines of the script at which an incident opened, by their time as written."""
    times = {instant(line.split()[0]): line.split()[0] for line in script.strip().splitlines()}
    return [times[at] for at in play(script, policy(threshold)).opened]


# ---------------------------------------------------------------- event_count and the window


def test_without_a_threshold_the_first_match_opens() -> None:
    story = play("0s", policy())
    assert story.opened == [instant("0s")]
    assert story.window_counts == [1]


def test_it_opens_at_the_event_that_reaches_the_count() -> None:
    story = play("0s\n1s\n2s\n3s", policy(event_count(3, M)))
    assert story.opened == [instant("2s")]
    assert story.incident["first_event_at"] == instant("0s")
    assert story.incident["event_count"] == 4
    assert story.window_counts == [3]


@pytest.mark.parametrize(("edge", "opens"), [("-1us", True), ("", False), ("+1us", False)])
def test_the_window_is_open_on_the_left(edge: str, opens: bool) -> None:
    """(at - window, at]: an event exactly a window ago no longer counts."""
    assert bool(opened(f"0s\n5m{edge}", event_count(2, 5 * M))) is opens


def test_the_window_is_closed_on_the_right() -> None:
    """Events at the same instant count up to the one at hand, in the order of the log."""
    story = play("0s x3", policy(event_count(2, 1)))
    assert story.window_counts == [2]
    assert story.incident["event_count"] == 3


def test_the_window_slides() -> None:
    """A burst across a bucket's border is a burst."""
    assert opened("0s\n4m+59s x2\n5m+1s x2", event_count(4, M)) == ["5m+1s"]


def test_what_fell_out_of_the_window_is_not_part_of_the_incident() -> None:
    story = play("0s\n5m\n5m+1s", policy(event_count(2, 5 * M)))
    assert (story.incident["event_count"], story.incident["first_event_at"]) == (2, instant("5m"))


def test_a_steady_trickle_below_the_threshold_never_opens() -> None:
    assert opened("\n".join(f"{n}m" for n in range(20)), event_count(6, 5 * M)) == []


def test_a_window_longer_than_the_whole_lifecycle_does_not_count_an_incidents_events_twice() -> None:
    script = "0s x3\n30m x2\n31m"
    assert opened(script, event_count(3, 10 * H)) == ["0s", "31m"]


def test_a_threshold_of_one_opens_like_none() -> None:
    story = play("0s", policy(event_count(1, M)))
    assert story.window_counts == [1]


# ---------------------------------------------------------------- value_count


def test_value_count_counts_distinct_values() -> None:
    assert opened("0s item=a x5\n1s item=b\n2s item=b\n3s item=c", value_count(3, M)) == ["3s"]


def test_value_count_ignores_events_without_the_field_but_they_belong_to_the_incident() -> None:
    story = play("0s item=a\n1s\n2s item=b", policy(value_count(2, M)))
    assert story.opened == [instant("2s")]
    assert story.incident["event_count"] == 3
    assert story.window_counts == [3]


@pytest.mark.parametrize(("edge", "opens"), [("-1us", True), ("", False), ("+1us", False)])
def test_a_value_leaves_with_its_last_event_in_the_window(edge: str, opens: bool) -> None:
    assert bool(opened(f"0s item=a\n1m{edge} item=b", value_count(2, M))) is opens


def test_value_count_opens_where_a_repetition_keeps_a_value_in_the_window() -> None:
    assert opened("0s item=a\n50s item=a\n70s item=b", value_count(2, M)) == ["70s"]


# ---------------------------------------------------------------- value_sum


def test_value_sum_opens_at_exactly_the_sum() -> None:
    assert opened("0s value=1.5\n1s value=1.499999\n2s value=0.000001", value_sum(3, M)) == ["2s"]


def test_value_sum_is_exact_where_floats_are_not() -> None:
    """Ten times 0.1 is 1, not 0.9999999999999999; and the order of arrival does not matter."""
    assert opened("0s value=0.1 x10", value_sum(1, M)) == ["0s"]
    assert play("0s value=0.1 x10", policy(value_sum(1, M))).window_counts == [10]


def test_value_sum_ignores_events_without_a_number() -> None:
    assert opened("0s value=2\n1s\n2s value=nan\n3s value=inf\n4s value=1", value_sum(3, M)) == ["4s"]


def test_value_sum_goes_down_with_negative_values() -> None:
    """A refund counts against the spend."""
    assert opened("0s value=2\n1s value=-1.5\n2s value=2\n3s value=0.5", value_sum(3, M)) == ["3s"]


def test_value_sum_of_enormous_values_does_not_overflow() -> None:
    """Values beyond 9e12 count as 9e12, and a window of them is still a large positive number."""
    assert opened("0s value=-9e12\n1s value=1e300\n2s value=1e300 x3", value_sum(9e12, M)) == ["2s"]
    assert opened("0s value=-9e12\n1s value=-9e12\n2s value=-1e300\n3s value=1", value_sum(1, M)) == []


def test_value_sum_loses_what_leaves_the_window() -> None:
    assert opened("0s value=2\n1m value=2\n1m+59s value=1", value_sum(3, M)) == ["1m+59s"]


# ---------------------------------------------------------------- value_avg


def test_value_avg_opens_at_exactly_the_mean() -> None:
    assert opened("0s value=1\n1s value=2.999999\n2s value=2.000001", value_avg(2, M)) == ["2s"]


def test_value_avg_waits_for_enough_numbers() -> None:
    assert opened("0s value=9\n1s\n2s value=9\n3s value=9", value_avg(2, M, min_events=3)) == ["3s"]


def test_value_avg_needs_at_least_one_number() -> None:
    """No measurement is no measurement of zero."""
    assert opened("0s\n1s value=nan", value_avg(-5, M)) == []
    assert opened("0s\n1s value=-5", value_avg(-5, M)) == ["1s"]


def test_value_avg_counts_an_event_without_a_number_as_nothing() -> None:
    """It neither dilutes the mean nor keeps it from being met once the outlier has left the window."""
    assert opened("0s value=0\n1s value=4\n1m", value_avg(3, M)) == ["1m"]


def test_value_avg_of_enormous_values_does_not_overflow() -> None:
    assert opened("0s value=-9e12\n1s value=9e12 x5", value_avg(5e12, M)) == ["1s"]


# ---------------------------------------------------------------- value_percentile


@pytest.mark.parametrize(
    ("percentile", "slow", "opens"),
    [(90, 1, False), (90, 2, True), (95, 1, True), (50, 5, False), (50, 6, True), (100, 1, True), (0.5, 10, True)],
)
def test_value_percentile_is_the_nearest_rank(percentile: float, slow: int, opens: bool) -> None:
    """Of ten values the 90th percentile is the ninth: with one slow request it is fast, with two it is slow."""
    script = f"0s value=1 x{10 - slow}\n" * (slow < 10) + f"1s value=100 x{slow}"
    assert bool(opened(script, value_percentile(percentile, 100, M, min_events=10))) is opens


def test_value_percentile_ignores_events_without_a_number() -> None:
    assert opened("0s x5\n1s value=nan\n2s value=7", value_percentile(50, 7, M)) == ["2s"]


def test_value_percentile_waits_for_enough_numbers() -> None:
    assert opened("0s value=9\n1s\n2s value=9", value_percentile(99, 1, M, min_events=2)) == ["2s"]


def test_value_percentile_of_negative_and_fractional_values() -> None:
    assert opened("0s value=-3.5\n1s value=-2.5", value_percentile(100, -2.5, M)) == ["1s"]


def test_value_percentile_loses_what_leaves_the_window() -> None:
    assert opened("0s value=1 x9\n1s value=9\n61s value=9", value_percentile(50, 9, M)) == ["61s"]


# ---------------------------------------------------------------- ratio


def test_ratio_opens_at_exactly_the_share() -> None:
    assert opened("0s witness x8\n1s\n2s", ratio(0.2, 1, M)) == ["2s"]
    assert opened("0s witness x9\n1s\n2s", ratio(0.2, 1, M)) == []


def test_ratio_waits_for_its_volume() -> None:
    """One failure of one request is 100 %, and no incident."""
    assert opened("0s\n1s\n2s witness\n3s", ratio(0.5, 4, M)) == ["3s"]


def test_a_witness_never_opens() -> None:
    """The volume is reached by a success; the incident opens at the next failure."""
    assert opened("0s x2\n1s witness\n2s", ratio(0.5, 3, M)) == ["2s"]


def test_a_witness_neither_keeps_an_incident_alive_nor_belongs_to_it() -> None:
    story = play("0s\n4m witness\n6m witness\n20m witness", policy(ratio(0.5, 1, M)))
    assert [status for _, status, _ in story.timeline] == ["Open", "Recovering", "Closed"]
    assert story.incident["event_count"] == 1
    assert story.incident["reopen_count"] == 0


@pytest.mark.parametrize(("edge", "opens"), [("-1us", False), ("", True), ("+1us", True)])
def test_a_witness_leaves_the_window_like_a_match(edge: str, opens: bool) -> None:
    assert bool(opened(f"0s witness\n1m{edge}", ratio(0.9, 1, M))) is opens


def test_window_count_of_a_ratio_is_its_matches() -> None:
    assert play("0s witness x3\n1s\n2s\n3s", policy(ratio(0.5, 6, M))).window_counts == [3]


@pytest.mark.parametrize(("edge", "opens_again"), [("-1us", True), ("", False), ("+1us", False)])
def test_a_forgotten_key_forgets_its_witnesses(edge: str, opens_again: bool) -> None:
    """Successes before the forgetting are gone, those from its instant on count."""
    script = f"0s\n30m{edge} witness\n31m"
    assert len(play(script, policy(ratio(0.9, 1, 2 * H))).opened) == (2 if opens_again else 1)


def test_a_ratio_exact_in_decimals_is_met() -> None:
    """3 of 10 is 0.3, although 0.3 has no exact double."""
    assert opened("0s witness x7\n1s x3", ratio(0.3, 10, M)) == ["1s"]
    assert opened("0s witness x9\n1s", ratio(0.1, 10, M)) == ["1s"]


# ---------------------------------------------------------------- anomaly


def steady(buckets: int, step: str = "1m") -> str:
    """One event at the beginning of every minute."""
    return "\n".join(f"{n}m" for n in range(buckets))


def test_anomaly_opens_at_the_event_that_is_too_many() -> None:
    """One a minute for half an hour; at a thousandth, the fifth other one within a minute is too many."""
    burst = "\n".join(f"30m+{n}s" for n in range(1, 10))
    assert opened(f"{steady(31)}\n{burst}", anomaly(M, H, 0.001, 24)) == ["30m+6s"]


def test_anomaly_is_judged_by_the_keys_own_history() -> None:
    """What is a burst for a quiet key is nothing to a busy one."""
    burst = "\n".join(f"30m+{n}s" for n in range(1, 10))
    busy = "\n".join(f"{n}m+{s}s" for n in range(30) for s in range(0, 60, 6))
    assert opened(f"{busy}\n30m\n{burst}", anomaly(M, H, 0.001, 24)) == []


def test_anomaly_takes_clumps_for_what_they_are() -> None:
    """The same mean in bursts: another burst is no news."""
    clumps = "\n".join(f"{n}m+30s x8" for n in range(0, 40, 4))
    assert opened(f"{clumps}\n40m+30s x8", anomaly(M, H, 0.001, 24, 6)) == []


def test_anomaly_counts_empty_buckets() -> None:
    """A key that had one event an hour ago had a quiet hour."""
    assert opened("0s\n59m x3", anomaly(M, H, 0.001, 24)) == ["59m"]


@pytest.mark.parametrize(("edge", "opens"), [("-1us", False), ("", True), ("+1us", True)])
def test_anomaly_waits_for_its_history(edge: str, opens: bool) -> None:
    """A key seen for the first time cannot be unusual: buckets begin behind its first event and end before the last."""
    last = 26 * M - 1  # the first instant at which 24 minutes after the first event's own are over for a minute
    script = f"0s\n{last}us{edge} x4"
    assert bool(opened(script, anomaly(M, H, 0.01, 24))) is opens


def test_anomaly_waits_for_enough_events() -> None:
    assert opened("0s\n59m\n59m+1s\n59m+2s\n59m+3s", anomaly(M, H, 0.1, 24, 4)) == ["59m+3s"]


@pytest.mark.parametrize(("edge", "opens"), [("-1us", True), ("", False), ("+1us", False)])
def test_the_last_bucket_of_an_anomaly_is_open_on_the_left(edge: str, opens: bool) -> None:
    """(at - bucket, at], as all windows are."""
    assert bool(opened(f"0s\n50m+30s\n51m+30s{edge}", anomaly(M, H, 0.05, 24, 2))) is opens


def test_an_incident_of_an_anomaly_is_no_history_of_the_next() -> None:
    """A burst does not make the next one usual; but a history must be there again."""
    script = "\n".join(["0s", "59m x5", *(f"{n}m" for n in range(95, 130)), "130m x8"])
    assert opened(script, anomaly(M, H, 0.001, 24)) == ["59m", "130m"]


def test_an_anomaly_in_a_steady_key_is_as_rare_as_its_level_says() -> None:
    """Of the events of a random key with a constant rate, a share of `level` may find too many before them."""
    random = np.random.default_rng(1)
    at = np.sort(random.integers(0, 2000 * M, 20_000))
    history = History(anomaly(M, 60 * M, 0.01, 24), np.zeros(len(at), np.int64), at)
    begin = np.searchsorted(at, at - 60 * M, side="right")
    p = history.p_values(begin, np.arange(len(at)) + 1)
    judged = p <= 1.0
    assert judged.mean() > 0.95
    for level in (0.1, 0.01, 0.001):
        assert 0.3 * level <= (p[judged] <= level).mean() <= 1.6 * level


@pytest.mark.parametrize(("count", "mean", "size"), [(0, 2.0, 3.0), (1, 2.0, 3.0), (7, 2.0, 3.0), (40, 60.0, 900.0)])
def test_the_tail_is_that_of_the_negative_binomial(count: int, mean: float, size: float) -> None:
    """Against the definition, in exact binomial coefficients."""
    odds = Fraction(mean) / (Fraction(mean) + Fraction(size))
    fewer = sum(comb(k + int(size) - 1, k) * odds**k * (1 - odds) ** int(size) for k in range(count))
    exact = float(1 - fewer)
    assert tail(count, mean, size, 1.0) == pytest.approx(exact, rel=1e-9)
    assert tail(count, mean, size, 2 * exact) == pytest.approx(exact, rel=1e-9)
    assert tail(count, mean, size, exact / 2) > exact / 2
