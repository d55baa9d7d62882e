"""Which buckets of a series are anomalies of a kind? A detector, run over the history and over what follows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from operators.anomaly.alarms import REST, raised
from operators.anomaly.detector import BOTH, HIGH, LEVEL, LOW, Detector
from operators.anomaly.kinds import Kind

Severity = Literal["low", "medium", "high", "critical"]

MIN_HISTORY = 48  # buckets with a value
SEVERITIES: tuple[tuple[float, Severity], ...] = ((1e-6, "critical"), (1e-4, "high"), (1e-3, "medium"))


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One alarm.

    bucket: its position in the series. value: what was measured there. score: 1 − p_value. p_value: how often a value
    as unusual comes up while nothing changes. baseline: what was expected; low, high: the band of usual values about
    it, open (infinite) on a side that is no anomaly. period: in buckets, 0 where the series has none. direction: where
    the value is, seen from the baseline. severity: by the p-value, see SEVERITIES.
    """

    kind: str
    bucket: int
    value: float
    score: float
    p_value: float
    baseline: float
    low: float
    high: float
    period: int
    direction: Literal["high", "low"]
    severity: Severity


def detect(
    values: NDArray[np.float64],
    kind: Kind,
    *,
    since: int = 0,
    level: float = LEVEL,
    rest: int = REST,
    min_history: int = MIN_HISTORY,
) -> list[Anomaly]:
    """Return the alarms of one series, by bucket.

    values: float64[n], the kind's measure of consecutive complete buckets of equal length, oldest first; NaN where a
    bucket has no events. since: the first bucket whose alarms are returned. level: largest p-value of an alarm. rest:
    buckets from an alarm in which no other is raised. min_history: values before the first one that is judged. A
    bucket is judged by those before it alone, so a longer series changes no earlier answer. Raises ValueError where a
    value is infinite, or `values` no vector.
    """
    series = np.array(values, np.float64)
    if series.ndim != 1 or np.isinf(series).any():
        raise ValueError("values: expected one finite number (or NaN) a bucket")
    if kind.empty is not None:
        series[np.isnan(series)] = kind.empty
    detector = Detector(kind.direction, kind.resolution, level)
    said = detector.extend(series)
    enough = np.cumsum(~np.isnan(series)) > min_history
    p_values = np.where(enough, said.p_value, 1.0)
    found: list[Anomaly] = []
    for at in raised(p_values, level, rest).tolist():
        if at < since:
            continue
        p, value, baseline = float(p_values[at]), float(series[at]), float(said.baseline[at])
        found.append(
            Anomaly(
                kind=kind.name,
                bucket=at,
                value=value,
                score=1.0 - p,
                p_value=p,
                baseline=baseline,
                low=float(said.low[at]) if kind.direction != HIGH else -np.inf,
                high=float(said.high[at]) if kind.direction != LOW else np.inf,
                period=int(said.period[at]),
                direction="low" if kind.direction == LOW or (kind.direction == BOTH and value < baseline) else "high",
                severity=severity(p),
            )
        )
    return found


def severity(p_value: float) -> Severity:
    """Return how grave an alarm is: by how seldom it would come up by itself."""
    return next((name for most, name in SEVERITIES if p_value <= most), "low")
