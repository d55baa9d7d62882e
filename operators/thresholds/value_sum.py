"""`value_sum` and `value_avg`: the total or the mean of a number over the window.

Values count in millionths, rounded half to even, at most 9·10¹² of them away from zero. Sums of integers are exact,
so no grouping of additions, and hence no batch size, can change a result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from operators.rules import ValueAvg, ValueSum
from operators.tables import Mask
from operators.windows import Positions, Span, running

SCALE = 1_000_000
LIMIT = 9.0e12
_LIMB = 32
_LOW = (1 << _LIMB) - 1


class _Millionths:
    """Exact window sums in two limbs of 32 bits, since a sum of 64-bit numbers needs more than 64 bits."""

    def __init__(self, span: Span) -> None:
        counted = span.is_match & np.isfinite(span.measure)
        value = np.where(counted, np.clip(np.nan_to_num(span.measure), -LIMIT, LIMIT), 0.0)
        scaled = np.rint(value * SCALE).astype(np.int64)
        self._high, self._low = running(scaled >> _LIMB), running(scaled & _LOW)
        self._count = running(counted)

    def count(self, at: Positions, left: Positions) -> Positions:
        """How many numbers the window holds."""
        return self._count[at + 1] - self._count[left]

    def at_least(self, at: Positions, left: Positions, target: int, times: Positions) -> Mask:
        """Is the window's sum at least target · times (in millionths)?"""
        high, low = _normal(self._high[at + 1] - self._high[left], self._low[at + 1] - self._low[left])
        bound_high, bound_low = _normal((target >> _LIMB) * times, (target & _LOW) * times)
        mask: Mask = (high > bound_high) | ((high == bound_high) & (low >= bound_low))
        return mask


class Summed:
    """Met when the window's values add up to at least `gte`."""

    def __init__(self, spec: ValueSum, span: Span) -> None:
        self._target = millionths(spec.gte)
        self._sums = _Millionths(span)

    def met(self, at: Positions, left: Positions) -> Mask:
        """See `Evaluator.met`."""
        return self._sums.at_least(at, left, self._target, np.ones(len(at), np.int64))


class Averaged:
    """Met when the mean of at least `min_events` values is at least `gte`."""

    def __init__(self, spec: ValueAvg, span: Span) -> None:
        self._target = millionths(spec.gte)
        self._least = spec.min_events
        self._sums = _Millionths(span)

    def met(self, at: Positions, left: Positions) -> Mask:
        """See `Evaluator.met`."""
        count = self._sums.count(at, left)
        return (count >= max(1, self._least)) & self._sums.at_least(at, left, self._target, count)


def millionths(value: float) -> int:
    """A rule's number on the scale the sums are kept in."""
    return round(max(-LIMIT, min(LIMIT, value)) * SCALE)


def _normal(high: NDArray[np.int64], low: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return high + (low >> _LIMB), low & _LOW
