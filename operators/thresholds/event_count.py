"""`event_count`: so many matches in the window."""

from __future__ import annotations

from operators.rules import EventCount
from operators.tables import Mask
from operators.windows import Positions, Span, running


class Counted:
    """Met when the window holds at least `gte` matches."""

    def __init__(self, spec: EventCount, span: Span) -> None:
        self._gte = spec.gte
        self._total = running(span.is_match)

    def met(self, at: Positions, left: Positions) -> Mask:
        """See `Evaluator.met`."""
        mask: Mask = self._total[at + 1] - self._total[left] >= self._gte
        return mask
