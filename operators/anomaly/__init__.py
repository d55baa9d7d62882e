"""Anomalies in a series of buckets, with a controlled rate of false alarms; `docs/anomalies.md` describes the method.

    detect(values, kind, *, since=0, level=0.01, rest=72, min_history=48) -> list[Anomaly]

    values: float64[n], one number a bucket, oldest first, NaN where a bucket has none
    kind: one of KINDS, by name: spend_burst, denied_attempts, rate, latency, silence
    since: the first bucket to judge; those before it are history
    Anomaly: kind, bucket, value, score, p_value, baseline, low, high, period, direction, severity

`Detector` is the same for a stream: `update(value) -> score`, or many values at once with `extend`.
"""

from operators.anomaly.alarms import REST, raised
from operators.anomaly.detect import Anomaly, Severity, detect, severity
from operators.anomaly.detector import BOTH, HIGH, LEVEL, LOW, Detector, Scores
from operators.anomaly.kinds import KINDS, Kind, Measure

__all__ = [
    "BOTH",
    "HIGH",
    "KINDS",
    "LEVEL",
    "LOW",
    "REST",
    "Anomaly",
    "Detector",
    "Kind",
    "Measure",
    "Scores",
    "Severity",
    "detect",
    "raised",
    "severity",
]
