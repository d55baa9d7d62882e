"""The streaming detector: what it says depends on the values before, and on nothing else."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from operators.anomaly import BOTH, HIGH, LEVEL, LOW, Detector
from operators.anomaly import detector as module

Floats = np.ndarray[Any, np.dtype[np.float64]]

DIRECTIONS = [BOTH, HIGH, LOW]


def random(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def daily(days: int, length: int = 96, seed: int = 5) -> Floats:
    """A day's wave of `length` buckets, with noise."""
    t = np.arange(days * length)
    return 50 + 30 * np.sin(2 * np.pi * t / length) + 2 * random(seed).standard_normal(len(t))


def gappy(values: Floats) -> Floats:
    values = values.copy()
    values[random(9).random(len(values)) < 0.1] = np.nan
    return values


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_by_one_in_pieces_and_at_once_are_the_same(direction: int) -> None:
    """Live equals replay: how values are batched must not show, nor that state was kept in between."""
    values = gappy(daily(5))
    whole = Detector(direction).extend(values)
    pieces, at = Detector(direction), 0
    for size in (1, 63, 2, 0, 100, 7, 200, 107):
        said = pieces.extend(values[at : at + size])
        for name in ("p_value", "baseline", "low", "high", "period"):
            np.testing.assert_array_equal(getattr(said, name), getattr(whole, name)[at : at + size])
        at += size
        pieces = pickle.loads(pickle.dumps(pieces))
    assert at == len(values)
    single = Detector(direction)
    assert [single.update(value) for value in values[:200]] == (1.0 - whole.p_value[:200]).tolist()


def test_the_future_changes_nothing() -> None:
    values = daily(5)
    before = Detector().extend(values[:300]).p_value
    after = Detector().extend(np.append(values[:300], 1e9 * np.ones(50))).p_value
    np.testing.assert_array_equal(before, after[:300])


def test_state_is_bounded_and_what_is_forgotten_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """A series may run for years: its state has the size of MEMORY, wherever its arrays are cut."""
    values = random().standard_normal(3 * module.MEMORY // 2)
    short, long = Detector(), Detector()
    for part in np.array_split(values, 37):
        short.extend(part)
    long.extend(values)
    size = len(pickle.dumps(short))
    assert short.update(3.0) == long.update(3.0)
    for part in np.array_split(random(2).standard_normal(module.MEMORY), 3):
        short.extend(part)
    assert len(pickle.dumps(short)) <= max(size, 2 * module.MEMORY * 8 * (module._ROWS + 1) + 2000)


def test_the_scale_of_a_series_does_not_matter() -> None:
    """Bytes or gigabytes: a p-value has no unit."""
    values = daily(4)
    one, other = Detector().extend(values), Detector().extend(values * 1024.0)
    np.testing.assert_allclose(one.p_value, other.p_value, rtol=1e-6)
    np.testing.assert_allclose(one.baseline * 1024.0, other.baseline)


def test_a_mirrored_series_is_low_where_the_other_is_high() -> None:
    values = random().lognormal(size=600)
    np.testing.assert_allclose(Detector(HIGH).extend(values).p_value, Detector(LOW).extend(-values).p_value)


@pytest.mark.parametrize("value", [0.0, 45.0, -1e9, 1e-9])
def test_a_flat_line_is_no_anomaly_and_leaving_it_is(value: float) -> None:
    flat = np.full(700, value)
    assert Detector().extend(flat).p_value.min() == 1.0
    left = np.append(flat, value + 1.0)
    assert Detector().extend(left).p_value[-1] <= LEVEL


def test_a_season_is_found_and_its_baseline_follows_it() -> None:
    values = daily(6)
    detector = Detector()
    said = detector.extend(values)
    assert abs(detector.period - 96) <= 1
    assert np.abs(said.baseline - values)[4 * 96 :].mean() < 4  # the wave itself goes up and down by 30
    assert said.period[10] == 0


def test_a_usual_value_at_an_unusual_hour_is_an_anomaly() -> None:
    """What a fixed threshold can never see: the morning's peak did not come."""
    values = daily(8)
    at = 7 * 96 + 10
    values[at : at + 24] = 50 - 25  # usual at night
    p = Detector().extend(values).p_value
    assert p[at : at + 24].min() <= LEVEL


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_missing_values_raise_nothing(direction: int) -> None:
    nothing = np.full(300, np.nan)
    assert Detector(direction).extend(nothing).p_value.min() == 1.0
    values = daily(5)
    values[300:340] = np.nan
    assert Detector(direction).extend(values).p_value[300:340].min() == 1.0


def test_a_band_is_given_where_there_may_be_an_alarm() -> None:
    values = random().standard_normal(900)
    values[800] = 40.0
    said = Detector().extend(values)
    assert said.p_value[800] < 1e-3
    assert said.low[800] < said.baseline[800] < said.high[800] < 40.0
    assert abs(said.baseline[800]) < 0.5
    assert 1.5 < said.high[800] < 5
    assert np.isnan(said.high[said.p_value > LEVEL]).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_absurd_values_break_nothing(direction: int) -> None:
    """A producer's mistake of 300 digits is an anomaly, and not the end of the series."""
    values = random().standard_normal(600)
    values[300], values[400] = 1e250, -1e300
    said = Detector(direction).extend(values)
    assert not np.isnan(said.p_value).any()
    assert said.p_value.min() >= 0
    assert said.p_value[300 if direction != LOW else 400] <= 1e-6
    assert said.p_value[500:].max() > 0.1
    if direction != LOW:
        assert said.high[300] < 10
