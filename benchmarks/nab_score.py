"""The scoring of the Numenta Anomaly Benchmark: early detections in labelled windows, less what false alarms cost.

Written from the published rules; names and figures are NAB's:

- Rows of the probationary period, the first 15 % of a series but at most 750, count neither way.
- A window is worth `tp` · σ(y) / σ(−1) of its earliest detection, where y runs from −1 at its first row to just below 0
  at its last one, and σ(y) = 2 / (1 + e^(5y)) − 1; without a detection it costs `fn`.
- Every detection outside of windows costs: `fp` · σ(y), y being its distance from the end of the window before it in
  lengths of that window; −`fp` from three lengths on and before the first window.
- A threshold is chosen for all series together, per profile: the one with the best total among all distinct scores.
- The total is put on a scale on which a detector that finds nothing has 0 and a perfect one 100.

A. Lavin, S. Ahmad (2015), Evaluating real-time anomaly detection algorithms: the Numenta Anomaly Benchmark, ICMLA 14;
https://github.com/numenta/NAB, `config/profiles.json` and `nab/sweeper.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray

PROBATION = 0.15
LONGEST_PROBATION = 750  # 15 % of 5,000 rows
ABOVE_ALL = 1.1  # a threshold that no score reaches

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a detected window, a false alarm and a missed window count."""

    name: str
    tp: float
    fp: float
    fn: float


STANDARD = Profile("standard", 1.0, 0.11, 1.0)
PROFILES = (STANDARD, Profile("reward_low_FP_rate", 1.0, 0.22, 1.0), Profile("reward_low_FN_rate", 1.0, 0.11, 2.0))


@dataclass(frozen=True, slots=True)
class Labels:
    """A series of `rows` rows and its anomaly windows: (first row, last row), in order, apart from each other."""

    rows: int
    windows: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """Scores on NAB's scale, of all series together and of each alone (None where it has no windows).

    threshold: a row with this score or a higher one is a detection. raw: each series' part of the total, unscaled;
    found: windows with a detection; false_alarms: detections outside of windows.
    """

    profile: Profile
    threshold: float
    score: float
    each: tuple[float | None, ...]
    raw: tuple[float, ...]
    found: tuple[int, ...]
    false_alarms: tuple[int, ...]


def sigmoid(position: float) -> float:
    """Return σ, from 1 far before 0 to −1 far behind it; −1 exactly from 3 on."""
    return -1.0 if position >= 3.0 else 2.0 / (1.0 + exp(5.0 * position)) - 1.0


def probation(rows: int) -> int:
    """Return how many rows at the beginning count neither way."""
    return int(min(PROBATION * rows, LONGEST_PROBATION))


def row_values(labels: Labels, profile: Profile) -> tuple[Floats, NDArray[np.int64]]:
    """Return what a detection at each row is worth, and the number of its window (−1 outside)."""
    value = np.full(labels.rows, -profile.fp)
    window = np.full(labels.rows, -1, np.int64)
    for n, (first, last) in enumerate(labels.windows):
        length = last - first + 1
        for row in range(first, last + 1):
            value[row] = profile.tp * sigmoid(-(last - row + 1) / length) / sigmoid(-1.0)
        window[first : last + 1] = n
        following = labels.windows[n + 1][0] if n + 1 < len(labels.windows) else labels.rows
        for row in range(last + 1, following):
            value[row] = profile.fp * sigmoid((row - last) / max(length - 1, 1))
    return value, window


def series_value(scores: Floats, labels: Labels, profile: Profile, threshold: float) -> tuple[float, int, int]:
    """Return a series' raw part of the total, windows found and false alarms at `threshold`."""
    value, window = row_values(labels, profile)
    detected = scores >= threshold
    detected[: probation(labels.rows)] = False
    outside = detected & (window < 0)
    total, found = float(value[outside].sum()), 0
    for n in range(len(labels.windows)):
        hits = value[detected & (window == n)]
        found += len(hits) > 0
        total += max(-profile.fn, float(hits.max())) if len(hits) else -profile.fn
    return total, found, int(outside.sum())


def best_threshold(scores: Sequence[Floats], labels: Sequence[Labels], profile: Profile) -> float:
    """Return the threshold, one for all series, with the highest total; the highest of several."""
    windows, step, level = 0, [], []
    for each, label in zip(scores, labels, strict=True):
        value, window = row_values(label, profile)
        start = probation(label.rows)
        gain = np.where(window < 0, value, 0.0)
        for n in range(len(label.windows)):
            rows = np.flatnonzero(window == n)
            rows = rows[rows >= start]
            best = -profile.fn
            # As the threshold falls: what each row adds to the best detection of its window so far.
            for row in rows[np.argsort(-each[rows], kind="stable")]:
                gain[row] = max(0.0, value[row] - best)
                best = max(best, value[row])
        windows += len(label.windows)
        step.append(gain[start:])
        level.append(each[start:])
    gains, levels = np.concatenate(step), np.concatenate(level)
    order = np.argsort(-levels, kind="stable")
    total, levels = -profile.fn * windows + np.cumsum(gains[order]), levels[order]
    last = np.append(levels[1:] != levels[:-1], True)  # a threshold takes in all rows with its score
    totals, levels = total[last], levels[last]
    best_at = int(np.argmax(totals))
    return float(levels[best_at]) if totals[best_at] > -profile.fn * windows else ABOVE_ALL


def score(
    scores: Sequence[Floats], labels: Sequence[Labels], profile: Profile = STANDARD, threshold: float | None = None
) -> Result:
    """Return the benchmark's scores of a detector.

    scores: float64[rows] in [0, 1] of each series, in the order of `labels`; threshold: NAB's best where None.
    """
    if threshold is None:
        threshold = best_threshold(scores, labels, profile)
    parts = [series_value(each, label, profile, threshold) for each, label in zip(scores, labels, strict=True)]
    windows = [len(label.windows) for label in labels]
    raw = tuple(part[0] for part in parts)
    return Result(
        profile,
        threshold,
        scaled(sum(raw), sum(windows), profile),
        tuple(scaled(one, count, profile) if count else None for one, count in zip(raw, windows, strict=True)),
        raw,
        tuple(part[1] for part in parts),
        tuple(part[2] for part in parts),
    )


def scaled(raw: float, windows: int, profile: Profile) -> float:
    """Return a raw total on NAB's scale: nothing found is 0, all found at once and nothing else 100."""
    null, perfect = -profile.fn * windows, profile.tp * windows
    return 100.0 * (raw - null) / (perfect - null) if windows else 0.0
