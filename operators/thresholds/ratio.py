"""`ratio`: the share of a rule's matches among a wider set of events, from a minimum volume on."""

from __future__ import annotations

from fractions import Fraction

from operators.rules import Ratio
from operators.tables import Mask
from operators.windows import Positions, Span, running


class Share:
    """Met when matches / (matches + witnesses) ≥ `gte` and there are at least `min_volume` of both together."""

    def __init__(self, spec: Ratio, span: Span) -> None:
        self._gte = Fraction(str(spec.gte))
        self._least = spec.min_volume
        self._matches = running(span.is_match)

    def met(self, at: Positions, left: Positions) -> Mask:
        """See `Evaluator.met`."""
        volume = at + 1 - left  # a span holds nothing but matches and witnesses
        matches = self._matches[at + 1] - self._matches[left]
        enough = matches * self._gte.denominator >= volume * self._gte.numerator
        mask: Mask = (volume >= self._least) & enough
        return mask
