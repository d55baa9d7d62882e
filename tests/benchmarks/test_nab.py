"""The benchmark's arithmetic, on cases small enough for a hand; and its result on the data, where that is present."""

from __future__ import annotations

import os
from math import e
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import nab
from benchmarks.nab_data import load
from benchmarks.nab_score import (
    ABOVE_ALL,
    PROFILES,
    STANDARD,
    Labels,
    best_threshold,
    probation,
    row_values,
    score,
    sigmoid,
)
from operators.anomaly import Detector

Floats = np.ndarray[Any, np.dtype[np.float64]]

ROOT = Path(__file__).resolve().parents[2]
PLACES = [ROOT.parent / "shared" / "data" / "nab", ROOT.parents[1] / "shared" / "data" / "nab"]
DATA = Path(os.environ["NAB_DATA"]) if "NAB_DATA" in os.environ else next((p for p in PLACES if p.is_dir()), PLACES[0])

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the benchmark's data is not in this checkout: {DATA}")


def detections(rows: int, *at: int, value: float = 1.0) -> Floats:
    scores = np.zeros(rows)
    scores[list(at)] = value
    return scores


SOME = [Labels(1000, ((300, 399), (700, 799))), Labels(400), Labels(200, ((100, 109),))]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_a_detector_that_finds_nothing_has_0_and_a_perfect_one_100(profile: Any) -> None:
    """The two ends of NAB's scale, in every profile."""
    nothing = [np.full(each.rows, 0.5) for each in SOME]
    assert score(nothing, SOME, profile, threshold=ABOVE_ALL).score == 0.0
    perfect = [detections(each.rows, *(first for first, _ in each.windows)) for each in SOME]
    result = score(perfect, SOME, profile)
    assert (result.score, result.threshold) == (pytest.approx(100.0), 1.0)
    assert result.found == (2, 0, 1)
    assert result.false_alarms == (0, 0, 0)


def test_a_constant_score_is_best_at_no_detection() -> None:
    """Calling everything an anomaly costs more than it brings, so the optimiser calls nothing one."""
    long = [Labels(1000, ((600, 649),))]
    assert best_threshold([np.full(1000, 0.5)], long, STANDARD) == ABOVE_ALL
    assert score([np.full(1000, 0.5)], long).score == 0.0


@pytest.mark.parametrize(
    ("position", "value"),
    [(-1.0, 2 / (1 + e**-5) - 1), (-0.5, 2 / (1 + e**-2.5) - 1), (0.0, 0.0), (1.0, 2 / (1 + e**5) - 1), (3.0, -1.0)],
)
def test_the_sigmoid_has_the_published_values(position: float, value: float) -> None:
    assert sigmoid(position) == pytest.approx(value)


def test_the_published_values_in_figures() -> None:
    assert [round(sigmoid(y), 5) for y in (-1.0, -0.5, 1.0)] == [0.98661, 0.84828, -0.98661]


def test_what_a_detection_is_worth_by_its_place() -> None:
    """A window of ten rows: 1 at its first row, less at each later one; behind it false alarms cost ever more."""
    value, window = row_values(Labels(100, ((40, 49),)), STANDARD)
    assert value[40] == pytest.approx(1.0)
    assert value[45] == pytest.approx(sigmoid(-0.5) / sigmoid(-1.0))
    assert value[49] == pytest.approx(sigmoid(-0.1) / sigmoid(-1.0))
    assert value[50] == pytest.approx(0.11 * sigmoid(1 / 9))
    assert value[58] == pytest.approx(0.11 * sigmoid(1.0))
    assert set(value[77:]) == {-0.11}
    assert set(value[:40]) == {-0.11}
    assert window.tolist() == [-1] * 40 + [0] * 10 + [-1] * 50


def test_a_false_alarm_is_measured_from_the_window_before_it() -> None:
    value, _ = row_values(Labels(100, ((20, 24), (30, 39))), STANDARD)
    assert value[26] == pytest.approx(0.11 * sigmoid(2 / 4))
    assert value[44] == pytest.approx(0.11 * sigmoid(5 / 9))


@pytest.mark.parametrize(("rows", "first"), [(100, 15), (4032, 604), (5000, 750), (22_695, 750)])
def test_the_probationary_period_does_not_count(rows: int, first: int) -> None:
    assert probation(rows) == first
    labels = [Labels(rows, ((rows - 10, rows - 1),))]
    early = detections(rows, *range(first))
    assert score([early], labels, threshold=1.0).false_alarms == (0,)
    assert score([detections(rows, first)], labels, threshold=1.0).false_alarms == (1,)


def test_only_the_earliest_detection_of_a_window_counts_and_every_false_alarm() -> None:
    labels = [Labels(100, ((40, 49),))]
    result = score([detections(100, 20, 30, 45, 46, 47)], labels, threshold=1.0)
    assert result.raw[0] == pytest.approx(sigmoid(-0.5) / sigmoid(-1.0) - 2 * 0.11)
    assert result.score == pytest.approx(100 * (result.raw[0] + 1) / 2)


def test_profiles_weigh_false_alarms_and_misses() -> None:
    labels = [Labels(200, ((40, 49), (150, 159)))]
    scores = [detections(200, 35, 40)]
    raw = [score(scores, labels, profile, threshold=1.0).raw[0] for profile in PROFILES]
    assert raw == pytest.approx([1 - 1 - 0.11, 1 - 1 - 0.22, 1 - 2 - 0.11])
    scaled = [score(scores, labels, profile, threshold=1.0).score for profile in PROFILES]
    assert scaled == pytest.approx([100 * 1.89 / 4, 100 * 1.78 / 4, 100 * 2.89 / 6])


def test_the_threshold_is_the_best_of_all_and_one_for_all_series() -> None:
    """Tried out one by one, no other score of any row gives a better total."""
    random = np.random.default_rng(2)
    for _ in range(20):
        scores = [np.round(random.random(each.rows) ** 9, 3) for each in SOME]
        for one, label in zip(scores, SOME, strict=True):
            for first, last in label.windows:
                one[random.integers(first, last)] = 0.9 + 0.1 * random.random()
        for profile in PROFILES:
            tried = {t: score(scores, SOME, profile, t).score for t in [ABOVE_ALL, *np.unique(np.concatenate(scores))]}
            chosen = score(scores, SOME, profile)
            assert chosen.score == pytest.approx(max(tried.values()))
            assert tried[chosen.threshold] == pytest.approx(chosen.score)


def test_files_are_read_as_the_benchmark_has_them(tmp_path: Path) -> None:
    """Windows name timestamps; a clock that goes back makes two rows of a time, and the first is meant."""
    folder = tmp_path / "data" / "kind"
    folder.mkdir(parents=True)
    times = ["2014-11-02 00:55:00", "2014-11-02 01:00:00", "2014-11-02 01:00:00", "2014-11-02 01:05:00"]
    (folder / "a.csv").write_text("timestamp,value\n" + "".join(f"{t},{n}.5\n" for n, t in enumerate(times)))
    windows = '{"kind/a.csv": [["2014-11-02 01:00:00.000000", "2014-11-02 01:05:00.000000"]]}'
    (tmp_path / "combined_windows.json").write_text(windows)
    (one,) = load(tmp_path)
    assert (one.name, one.category) == ("kind/a.csv", "kind")
    assert one.values.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert one.labels == Labels(4, ((1, 3),))


def test_a_missing_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        nab.main(["--data", str(tmp_path)])
    assert "github.com/numenta/NAB" in capsys.readouterr().err


@needs_data
@pytest.mark.slow
def test_the_detector_is_at_its_place_among_the_published_ones() -> None:
    """At least 65 on the standard profile with one set of parameters, at NAB's threshold and at the default level."""
    series = load(DATA)
    labels = [each.labels for each in series]
    alarms = [nab.alarm_scores(Detector().extend(each.values).p_value) for each in series]
    assert score(alarms, labels).score >= 65
    assert score(alarms, labels, threshold=1.0 - nab.LEVEL).score >= 65
