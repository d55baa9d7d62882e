"""A direction on a dashboard must mean something: seldom from noise alone, always where there is one."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.trends import (
    FEWEST_BUCKETS,
    FEWEST_EVENTS,
    autocorrelation_factor,
    benjamini_hochberg,
    kendall_score,
    mann_kendall,
    sen_slope,
    tied_variance,
    trends,
)

SERIES = st.lists(st.integers(0, 8), min_size=4, max_size=40)


def sign(number: float) -> int:
    return (number > 0) - (number < 0)


@given(SERIES)
def test_the_score_is_that_of_all_pairs(counts: list[int]) -> None:
    """The fast count and the obvious one agree; else p-values mean nothing."""
    assert kendall_score(counts) == sum(sign(later - earlier) for earlier, later in combinations(counts, 2))


@given(SERIES)
def test_the_slope_is_the_median_of_all_pairs(counts: list[int]) -> None:
    """Sen's definition, spelled out."""
    pairs = combinations(enumerate(counts), 2)
    slopes = sorted((b - a) / (j - i) for (i, a), (j, b) in pairs)
    middle = len(slopes) // 2
    median = slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2
    assert sen_slope(counts) == pytest.approx(median)


@given(SERIES)
def test_time_backwards_turns_the_direction_and_nothing_else(counts: list[int]) -> None:
    """A falling series is as significant as the same one rising."""
    (score, p), (back, p_back) = mann_kendall(counts), mann_kendall(counts[::-1])
    assert score == -back
    assert p == pytest.approx(p_back)
    assert 0 <= p <= 1


@given(SERIES, st.integers(1, 5), st.integers(0, 9))
def test_only_the_order_of_counts_matters(counts: list[int], times: int, more: int) -> None:
    """Twice the traffic is no other trend."""
    assert mann_kendall([count * times + more for count in counts]) == pytest.approx(mann_kendall(counts))


@given(st.lists(st.integers(0, 3), min_size=4, max_size=5))
def test_the_variance_is_that_of_all_orders(counts: list[int]) -> None:
    """The formula with ties, against every permutation of a short series."""
    scores = [kendall_score(order) for order in permutations(counts)]
    assert tied_variance(counts) == pytest.approx(sum(s * s for s in scores) / len(scores))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_adjusted_p_values_are_those_of_the_step_up_procedure(p_values: list[float]) -> None:
    """Announcing what is adjusted to the level or less is Benjamini and Hochberg's rule."""
    n = len(p_values)
    for level in (0.01, 0.05, 0.2):
        passing = [k for k, p in enumerate(sorted(p_values), start=1) if p * n / k <= level]
        cut = sorted(p_values)[max(passing) - 1] if passing else -1.0
        assert [p <= level for p in benjamini_hochberg(p_values)] == [p <= cut for p in p_values]


def false_alarms(series: np.ndarray) -> float:
    """The share of rows that are called a trend."""
    return float(np.mean([mann_kendall(row.tolist())[1] <= 0.05 for row in series]))


@pytest.mark.parametrize(("mean", "lowest"), [(0.4, 0.01), (3.0, 0.02), (50.0, 0.02)])
def test_noise_is_seldom_called_a_trend(mean: float, lowest: float) -> None:
    """At level 5 %, no more than that (and not so little that trends would be missed)."""
    assert lowest <= false_alarms(np.random.default_rng(7).poisson(mean, (2_000, 30))) <= 0.06


def test_clumps_are_no_trend() -> None:
    """Incidents come in bursts: variance ten times the mean. A Poisson test would fail here."""
    noise = np.random.default_rng(8).negative_binomial(0.5, 0.1, (2_000, 30))
    assert false_alarms(noise) <= 0.06


def test_a_lasting_disturbance_is_seldom_called_a_trend() -> None:
    """Each day resembles the one before. Without the widened variance a fifth of such series would be trends."""
    rng = np.random.default_rng(9)
    level = np.zeros((1_000, 60))
    for day in range(1, 60):
        level[:, day] = 0.5 * level[:, day - 1] + rng.normal(size=1_000)
    counts = np.maximum(0, np.round(20 + 4 * level)).astype(int)
    naive = [abs(kendall_score(row.tolist())) - 1 > 1.96 * tied_variance(row.tolist()) ** 0.5 for row in counts]
    assert np.mean(naive) > 0.2
    assert false_alarms(counts) < 0.11


def test_a_daily_rhythm_is_no_trend() -> None:
    """Nights are quiet: 31 days of hours must not come out as rising because they end at noon."""
    hours = np.arange(24 * 14 + 12)
    rate = 3 + 2.5 * np.sin(2 * np.pi * (hours - 6) / 24)
    assert false_alarms(np.random.default_rng(10).poisson(rate, (200, len(hours)))) <= 0.05


@pytest.mark.parametrize("sense", [1, -1])
def test_planted_trends_are_found(sense: int) -> None:
    """From 2 to 10 incidents a day over a month, either way: nearly always."""
    rng = np.random.default_rng(11)
    rate = np.linspace(2, 10, 30)[::sense]
    found = [trends({"p": rng.poisson(rate).tolist()})["p"] for _ in range(300)]
    wanted = "rising" if sense > 0 else "falling"
    assert np.mean([trend.direction == wanted for trend in found]) > 0.97
    assert np.mean([trend.slope for trend in found]) == pytest.approx(sense * 8 / 29, rel=0.15)


def test_twelve_patterns_of_noise_seldom_announce_anything() -> None:
    """Without the correction for their number, half of all quiet workspaces would show a trend."""
    rng = np.random.default_rng(12)
    families = [trends({str(i): row.tolist() for i, row in enumerate(rng.poisson(4, (12, 30)))}) for _ in range(400)]
    assert np.mean([any(t.direction != "stable" for t in one.values()) for one in families]) <= 0.06


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ([5] * (FEWEST_BUCKETS - 1), f"{FEWEST_BUCKETS - 1} complete buckets"),
        ([], "0 complete buckets"),
        ([0] * 30, "0 incidents"),
        ([0] * 29 + [FEWEST_EVENTS - 1], f"{FEWEST_EVENTS - 1} incidents"),
    ],
)
def test_too_little_is_stable_and_says_so(counts: list[int], says: str) -> None:
    """Three incidents in a row are no trend; and "stable" is not the same as "nothing known"."""
    trend = trends({"p": counts})["p"]
    assert (trend.direction, trend.p_value) == ("stable", None)
    assert says in (trend.reason or "")


def test_all_counts_equal_is_stable() -> None:
    """No variance at all is no division by zero."""
    assert autocorrelation_factor([4] * 20) == 1
    trend = trends({"p": [4] * 20})["p"]
    assert (trend.direction, trend.p_value, trend.slope) == ("stable", 1.0, 0.0)
