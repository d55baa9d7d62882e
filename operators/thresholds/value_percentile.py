"""`value_percentile`: a percentile of a number over the window, by nearest rank."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from operators.rules import ValuePercentile
from operators.tables import Mask
from operators.windows import Positions, Span, running


class Percentile:
    """Met when the p-th percentile of at least `min_events` values is at least `gte`.

    The nearest rank is ceil(p/100 · n), so the percentile reaches `gte` exactly when fewer than that many values are
    below it: two running counts instead of a sort.
    """

    def __init__(self, spec: ValuePercentile, span: Span) -> None:
        self._share = Fraction(str(spec.percentile)) / 100
        self._least = spec.min_events
        counted = span.is_match & np.isfinite(span.measure)
        self._count = running(counted)
        self._below = running(counted & (np.nan_to_num(span.measure) < spec.gte))

    def met(self, at: Positions, left: Positions) -> Mask:
        """See `Evaluator.met`."""
        count = self._count[at + 1] - self._count[left]
        below = self._below[at + 1] - self._below[left]
        rank = -(-self._share.numerator * count // self._share.denominator)
        mask: Mask = (count >= max(1, self._least)) & (below < np.maximum(rank, 1))
        return mask
