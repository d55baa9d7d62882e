"""`value_count`: so many distinct values of a field in the window."""

from __future__ import annotations

import numpy as np

from operators.rules import ValueCount
from operators.tables import Mask
from operators.texts import NO_TEXT
from operators.windows import Positions, Span, changes, count_below, running


class Distinct:
    """Met when the window's matches show at least `gte` different values; null is no value."""

    def __init__(self, spec: ValueCount, span: Span) -> None:
        self._gte = spec.gte
        counted = span.is_match & (span.item != NO_TEXT)
        self._rank = running(counted)
        slot, item = span.slot[counted], span.item[counted]
        order = np.lexsort((item, slot))
        again = ~changes(slot[order], item[order])
        # For each counted row, 1 + the (counted) position of the same value before it, 0 for a first sighting.
        self._before = np.zeros(len(order), np.int64)
        self._before[order[again]] = order[np.flatnonzero(again) - 1] + 1

    def met(self, at: Positions, left: Positions) -> Mask:
        """See `Evaluator.met`. A value is new to the window when its last sighting lies before the window."""
        a, b = self._rank[left], self._rank[at + 1]
        enough = np.flatnonzero(b - a >= self._gte)
        met = np.zeros(len(at), np.bool_)
        distinct = count_below(self._before, a[enough], b[enough], a[enough] + 1)
        met[enough] = distinct >= self._gte
        return met
