"""`value_count`: so many distinct values of a field in the window."""

from __future__ import annotations

import numpy as np
import polars as pl

from operators.rules import ValueCount
from operators.windows import Mask, Positions, Span, count_below, running


class Distinct:
    """Met when the window's matches show at least `gte` different values; null is no value."""

    def __init__(self, spec: ValueCount, span: Span) -> None:
        self._gte = spec.gte
        counted = span.is_match & span.item.is_not_null().to_numpy()
        self._rank = running(counted)
        rows = pl.DataFrame({"slot": span.slot[counted], "item": span.item.filter(pl.Series(counted))})
        # For each counted row, 1 + the (counted) position of the same value before it, 0 for a first sighting.
        before = rows.with_row_index("n").select(pl.col("n").shift(1).over("slot", "item"))["n"]
        self._before = before.cast(pl.Int64).fill_null(-1).to_numpy() + 1

    def met(self, at: Positions, left: Positions) -> Mask:
        """See `Evaluator.met`. A value is new to the window when its last sighting lies before the window."""
        a, b = self._rank[left], self._rank[at + 1]
        enough = np.flatnonzero(b - a >= self._gte)
        met = np.zeros(len(at), np.bool_)
        distinct = count_below(self._before, a[enough], b[enough], a[enough] + 1)
        met[enough] = distinct >= self._gte
        return met
