"""The threshold types. A new one is a spec in `operators/rules.py`, a file here and a line in the catalogue."""

from __future__ import annotations

from operators.rules import Anomaly, EventCount, Ratio, ThresholdSpec, ValueAvg, ValueCount, ValuePercentile, ValueSum
from operators.thresholds.anomaly import Unusual
from operators.thresholds.base import Evaluator
from operators.thresholds.event_count import Counted
from operators.thresholds.ratio import Share
from operators.thresholds.value_count import Distinct
from operators.thresholds.value_percentile import Percentile
from operators.thresholds.value_sum import Averaged, Summed
from operators.windows import Span

CATALOGUE: dict[type[ThresholdSpec], type[Evaluator]] = {
    EventCount: Counted,
    ValueCount: Distinct,
    ValueSum: Summed,
    ValueAvg: Averaged,
    ValuePercentile: Percentile,
    Ratio: Share,
    Anomaly: Unusual,
}


def evaluator(spec: ThresholdSpec, span: Span) -> Evaluator:
    """The evaluator of a rule's threshold over the rows of a span."""
    return CATALOGUE[type(spec)](spec, span)
