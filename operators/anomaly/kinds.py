"""The catalogue: what is measured a bucket, which direction is an anomaly, and what to show for it.

A new kind is a line here; conformance tests run over the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from operators.anomaly.detector import BOTH, HIGH, LOW

Measure = Literal["count", "sum", "mean", "p95"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of anomaly.

    measure: of a bucket's events: how many, or the sum, mean or 95th percentile of their values. direction: HIGH, LOW
    or BOTH. empty: the value of a bucket without events, None where there is nothing to measure then. resolution: a
    difference that says nothing by itself, None for a thousandth of the spread. evidence: what of the bucket to show.
    """

    name: str
    measure: Measure
    direction: int
    empty: float | None
    resolution: float | None
    evidence: str


SPEND_BURST = Kind("spend_burst", "sum", HIGH, 0.0, None, "the largest values, by source")
DENIED_ATTEMPTS = Kind("denied_attempts", "count", HIGH, 0.0, 1.0, "the sources and actors with the most attempts")
RATE = Kind("rate", "count", BOTH, 0.0, 1.0, "the types whose counts changed most")
LATENCY = Kind("latency", "p95", HIGH, None, None, "the slowest events")
SILENCE = Kind("silence", "count", LOW, 0.0, 1.0, "the last event before, and the sources that are missing")

KINDS = {kind.name: kind for kind in (SPEND_BURST, DENIED_ATTEMPTS, RATE, LATENCY, SILENCE)}
