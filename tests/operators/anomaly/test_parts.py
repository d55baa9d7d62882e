"""The parts of the detector against their definitions, in the obvious way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.anomaly.alarms import WORSE, raised
from operators.anomaly.novelty import FEWEST, NEAREST, novelties
from operators.anomaly.period import find_period
from operators.anomaly.tail import exceeded, p_value

RNG = np.random.default_rng(20_15)
NUMBERS = st.lists(st.floats(-100, 100), min_size=20, max_size=60)

# ---------------------------------------------------------------- tail


@given(NUMBERS, st.floats(-100, 100))
def test_a_p_value_in_the_body_is_a_rank(earlier: list[float], value: float) -> None:
    """Counting is all that is done where there are enough values to count."""
    larger = sum(one >= value for one in earlier)
    p = p_value(value, np.array(earlier), 1e-9)
    rank = (larger + 1) / (len(earlier) + 1)
    assert p == pytest.approx(rank) if larger >= 10 else p <= rank + 1e-12


@given(NUMBERS, st.floats(-100, 100), st.floats(0, 100))
def test_a_larger_value_is_not_more_likely(earlier: list[float], value: float, more: float) -> None:
    seen = np.array(earlier)
    assert p_value(value + more, seen, 1e-6) <= p_value(value, seen, 1e-6)


def test_missing_values_are_no_values() -> None:
    seen = RNG.exponential(size=300)
    gaps = np.full(600, np.nan)
    gaps[::2] = seen
    assert p_value(9.0, gaps, 1e-9) == p_value(9.0, seen, 1e-9)


@pytest.mark.parametrize("level", [0.3, 0.02, 0.003, 1e-4])
def test_a_band_ends_where_the_p_value_is_its_level(level: float) -> None:
    """An alarm shows a band; a value inside of it must not have been one."""
    seen = RNG.lognormal(size=2000)
    assert p_value(exceeded(level, seen, 1e-9), seen, 1e-9) == pytest.approx(level, rel=0.1)


def test_the_tail_of_a_power_law_is_met_far_beyond_what_was_seen() -> None:
    """Of 2,000 values none says what happens once in a million; the tail's form does, within its own uncertainty."""
    seen = RNG.pareto(2.0, 2000) + 1.0
    assert 1e-7 < p_value(1000.0, seen, 1e-9) < 1e-5


def test_nothing_is_said_without_values() -> None:
    assert p_value(5.0, np.empty(0), 1e-9) == 1.0
    assert exceeded(0.01, np.zeros(5), 1e-9) == np.inf


# ---------------------------------------------------------------- period


@pytest.mark.parametrize("period", [24, 96, 288])
@pytest.mark.parametrize("shape", ["sine", "square", "spikes"])
def test_a_period_is_found_in_noise(period: int, shape: str) -> None:
    phase = np.arange(4 * period + 7) % period
    wave = {
        "sine": np.sin(2 * np.pi * phase / period),
        "square": np.where(phase < period // 3, 1.0, -1.0),
        "spikes": np.where(phase % period < period // 8, 3.0, 0.0),
    }[shape]
    found = find_period(wave + 0.3 * RNG.standard_normal(len(wave)))
    assert abs(found - period) <= max(2, period // 40)


def test_there_is_no_period_where_there_is_none() -> None:
    """A baseline with an invented season would follow noise."""
    noise, walk = RNG.standard_normal((20, 800)), np.cumsum(RNG.standard_normal((20, 800)), axis=1)
    assert sum(find_period(one) > 0 for one in noise) == 0
    assert sum(find_period(one) > 0 for one in walk) <= 10  # a walk wanders back by chance
    assert find_period(np.full(500, 45.0)) == 0
    assert find_period(np.full(500, 0.1) + 1e-12 * RNG.standard_normal(500)) == 0
    assert find_period(np.arange(10.0)) == 0


def test_an_enormous_spike_does_not_hide_a_period() -> None:
    wave = np.sin(2 * np.pi * np.arange(240) / 24)
    wave[100] = 1e9
    assert find_period(wave) == 24


# ---------------------------------------------------------------- novelty


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=60), st.integers(0, 5))
def test_novelty_is_the_mean_distance_of_the_nearest_windows(values: list[float], first: int) -> None:
    series, at, lags = np.array(values), len(values) - 1, np.array([1, 2, 4, 19])
    first = min(first, at)
    out, room = np.zeros(len(lags)), np.full(80, 7.0)
    novelties(series, at, first, lags, room, out)
    for length, found in zip(lags.tolist(), out.tolist(), strict=True):
        ends = range(first + length - 1, at - length + 1)
        window = series[at - length + 1 : at + 1]
        distances = sorted(float(np.linalg.norm(series[end - length + 1 : end + 1] - window)) for end in ends)
        if len(distances) < FEWEST:
            assert np.isnan(found)
        else:
            assert found == pytest.approx(np.mean(distances[:NEAREST]))


# ---------------------------------------------------------------- alarms


def test_an_alarm_is_raised_once_and_again_after_its_rest() -> None:
    p = np.full(20, 0.005)
    assert raised(p, 0.01, rest=8).tolist() == [0, 8, 16]
    assert raised(p, 0.001, rest=8).tolist() == []


def test_what_gets_much_worse_is_raised_within_the_rest() -> None:
    """A false alarm must not hide an outage."""
    p = np.array([1.0, 0.01, 0.99 * 0.01, 0.01 / WORSE, 0.01 / WORSE**1.9, 1e-9, 1.0])
    assert raised(p, 0.01, rest=50).tolist() == [1, 3, 5]
