"""Anomalies of the catalogue's kinds: found where they are, and seldom where there are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from operators.anomaly import BOTH, HIGH, KINDS, LEVEL, LOW, Detector, Kind, detect, raised, severity
from operators.anomaly.kinds import DENIED_ATTEMPTS, LATENCY, RATE, SILENCE, SPEND_BURST

Floats = np.ndarray[Any, np.dtype[np.float64]]
Random = np.random.Generator

ALL = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)

# ---------------------------------------------------------------- false alarms


def autoregressive(random: Random, n: int, phi: float) -> Floats:
    noise, out = random.standard_normal(n), np.zeros(n)
    for i in range(1, n):
        out[i] = phi * out[i - 1] + noise[i]
    return out


def wave(n: int, length: int = 96) -> Floats:
    return np.sin(2 * np.pi * np.arange(n) / length)


NULLS: dict[str, Callable[[Random, int], Floats]] = {
    "normal": lambda random, n: random.standard_normal(n),
    "heavy tails, Student's t with 2 degrees": lambda random, n: random.standard_t(2, n),
    "lognormal": lambda random, n: random.lognormal(0, 1, n),
    "autoregressive, 0.5": lambda random, n: autoregressive(random, n, 0.5),
    "autoregressive, 0.9": lambda random, n: autoregressive(random, n, 0.9),
    "daily": lambda random, n: 5 * wave(n) + random.standard_normal(n),
    "rare counts": lambda random, n: random.poisson(0.1, n).astype(float),
    "counts": lambda random, n: random.poisson(6, n).astype(float),
    "daily counts": lambda random, n: random.poisson(30 * (1 + 0.9 * wave(n))).astype(float),
    "clumped counts": lambda random, n: random.negative_binomial(2, 0.2, n).astype(float),
}
SERIES, BUCKETS, START = 12, 900, 100


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("direction", [BOTH, HIGH, LOW])
def test_false_alarms_are_as_rare_as_the_level_says(null: str, direction: int) -> None:
    """What one threshold for all series rests on: where nothing changes, p ≤ α comes up about α of the time at most.

    Twice the level is allowed: for the season that is learned meanwhile, and for chance (9,600 buckets a case).
    """
    random = np.random.default_rng(7)
    fine = 1.0 if "count" in null else None
    made = [NULLS[null](random, BUCKETS) for _ in range(SERIES)]
    p = np.array([Detector(direction, fine).extend(one).p_value[START:] for one in made])
    assert (p <= 0.1).mean() <= 0.2
    assert (p <= LEVEL).mean() <= 2 * LEVEL
    assert (p <= 0.001).mean() <= 0.004
    assert sum(len(raised(one, LEVEL)) for one in p) <= 4e-3 * p.size


# ---------------------------------------------------------------- what is found


def usual(kind: Kind, random: Random, n: int) -> Floats:
    """An ordinary series of a kind."""
    if kind.measure == "count":
        return random.poisson(12, n).astype(float)
    return random.lognormal(3, 0.3, n)


def found(kind: Kind, change: Callable[[Floats], Floats], width: int, n: int = 700, times: int = 20) -> float:
    """In which share of series is an anomaly announced, in the 24 buckets from the one at which it begins."""
    random, hits, at = np.random.default_rng(11), 0, n - 60
    for _ in range(times):
        values = usual(kind, random, n)
        values[at : at + width] = change(values[at : at + width])
        hits += any(at <= one.bucket < at + 24 for one in detect(values, kind))
    return hits / times


@ALL
def test_each_kind_finds_what_it_is_for_and_not_the_opposite(kind: Kind) -> None:
    if kind.direction != LOW:
        assert found(kind, lambda values: 8 * values, 3) >= 0.85
    if kind.direction != HIGH:
        assert found(kind, lambda values: 0 * values, 12) >= 0.85
    if kind.direction == HIGH:
        assert found(kind, lambda values: 0.05 * values, 1) <= 0.15
    if kind.direction == LOW:
        assert found(kind, lambda values: 8 * values, 12) <= 0.15


def test_a_level_shift_is_found() -> None:
    assert found(RATE, lambda values: values + 12, 60) >= 0.85
    assert found(LATENCY, lambda values: 1.8 * values, 60) >= 0.85


def test_a_silent_night_is_no_silence_and_a_silent_noon_is() -> None:
    """A series that sleeps every night must not wake anybody for it."""
    random = np.random.default_rng(3)
    day = np.maximum(0, 40 * np.sin(np.pi * np.arange(48) / 24))
    usual = random.poisson(np.tile(day, 20)).astype(float)
    silent = usual.copy()
    noon = 19 * 48 + 12
    silent[noon : noon + 6] = 0
    assert not [one for one in detect(usual, SILENCE, since=10 * 48) if one.p_value < 1e-4]
    assert any(noon <= one.bucket < noon + 6 for one in detect(silent, SILENCE))


def test_an_empty_bucket_is_a_zero_of_a_count_and_no_latency() -> None:
    random = np.random.default_rng(4)
    values = random.poisson(20, 500).astype(float)
    values[450:470] = np.nan
    assert any(450 <= one.bucket < 470 for one in detect(values, SILENCE))
    assert not [one for one in detect(values, LATENCY) if 450 <= one.bucket < 470]


# ---------------------------------------------------------------- what is said of it


def test_an_anomaly_says_what_was_expected() -> None:
    random = np.random.default_rng(6)
    values = random.lognormal(3, 0.3, 600)
    values[500] = 900.0
    (spike,) = [one for one in detect(values, SPEND_BURST) if one.bucket == 500]
    assert (spike.kind, spike.value, spike.direction) == ("spend_burst", 900.0, "high")
    assert spike.severity in ("medium", "high", "critical")
    assert spike.score == 1.0 - spike.p_value
    assert 15 < spike.baseline < 27
    assert spike.low == -np.inf
    assert spike.baseline < spike.high < 900
    assert spike.period == 0


def test_silence_is_low() -> None:
    values = np.random.default_rng(6).poisson(30, 400).astype(float)
    values[300:310] = 0
    low = [one for one in detect(values, RATE) if 300 <= one.bucket < 310]
    assert [one.direction for one in low][:1] == ["low"]
    assert all(one.high == np.inf for one in detect(values, SILENCE))


@ALL
def test_history_is_not_judged(kind: Kind) -> None:
    """What came before `since` is told only where it is asked for; it changes no answer about what follows."""
    values = usual(kind, np.random.default_rng(8), 400)
    values[[200, 300]] = 1e6
    everything = detect(values, kind)
    assert detect(values, kind, since=250) == [one for one in everything if one.bucket >= 250]
    assert detect(values[:320], kind) == [one for one in everything if one.bucket < 320]


def test_nothing_is_said_with_too_little_history() -> None:
    values = np.append(np.ones(30), 1e6)
    assert detect(values, SPEND_BURST) == []
    assert detect(np.append(np.full(300, np.nan), values), LATENCY) == []
    assert detect(np.empty(0), SPEND_BURST) == []


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        detect(np.array([1.0, np.inf]), RATE)
    with pytest.raises(ValueError, match="finite"):
        detect(np.ones((2, 2)), RATE)


def test_a_first_denied_attempt_after_a_quiet_month_is_told_once_a_burst_is() -> None:
    """One event where there was never one may be chance; ten in a bucket are not."""
    quiet = np.zeros(600)
    one, ten = quiet.copy(), quiet.copy()
    one[550], ten[550] = 1, 10
    assert [a.bucket for a in detect(ten, DENIED_ATTEMPTS)] == [550]
    assert detect(one, DENIED_ATTEMPTS, level=1e-3) == []


def test_severity_grows_as_the_p_value_falls() -> None:
    assert [severity(p) for p in (0.01, 1e-3, 1e-4, 1e-6, 1e-12)] == ["low", "medium", "high", "critical", "critical"]
