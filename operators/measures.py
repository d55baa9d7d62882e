"""What can be said of events in numbers: how many, how often, how long, how many different ones.

Nothing happened is 0 of what is counted, and no value at all of what is measured: a mean of nothing is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.histogram import Floats, Ints
from operators.rollup import added
from operators.texts import coded

PERCENTILES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
DISTINCT = "distinct:"  # before the name of a dimension
PLAIN = ("count", "errors", "rate", "error_rate", "sum", "avg", *PERCENTILES)

Numbers = NDArray[np.int64] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """Measures of groups, an entry a group; NaN where there is no value. count: events, whatever was measured."""

    count: Ints
    values: Mapping[str, Numbers]


def is_count(measure: str) -> bool:
    """Whether it is 0 where nothing happened; else there is no value."""
    return measure in ("count", "errors", "rate", "sum") or measure.startswith(DISTINCT)


def dimension_of(measure: str) -> str | None:
    """The dimension of which different values are counted."""
    return measure.removeprefix(DISTINCT) if measure.startswith(DISTINCT) else None


def needs_values(measures: Sequence[str]) -> bool:
    """Whether rows must have histograms."""
    return not PERCENTILES.keys().isdisjoint(measures)


def measured(rows: pl.DataFrame, group: Ints, size: int, seconds: Floats | float, measures: Sequence[str]) -> Measured:
    """Measures of groups of rows of `query_api.rollups.select`.

    group: of each row, from 0 to size − 1. seconds: how long each group lasts. measures: of PLAIN, or DISTINCT and a
    column of the rows, whose nulls do not count.
    """
    ranks = [name for name in measures if name in PERCENTILES]
    sums = added(rows, group, size, [PERCENTILES[name] for name in ranks])
    found: dict[str, Numbers] = {}
    for name in measures:
        dimension = dimension_of(name)
        if dimension is not None:
            found[name] = _distinct(rows[dimension], group, size)
        elif name in PERCENTILES:
            found[name] = np.ascontiguousarray(sums.quantiles[:, ranks.index(name)])
        elif name == "rate":
            found[name] = sums.count / seconds
        elif name == "error_rate":
            found[name] = _ratio(sums.errors, sums.count)
        elif name == "avg":
            found[name] = _ratio(sums.sum, sums.values)
        else:
            plain: dict[str, Numbers] = {"count": sums.count, "errors": sums.errors, "sum": sums.sum}
            found[name] = plain[name]
    return Measured(sums.count, found)


def change(now: float | None, before: float | None) -> float | None:
    """By which part of what was before it has changed; None where that was nothing."""
    return None if now is None or not before else (now - before) / abs(before)


def _ratio(part: Numbers, whole: Ints) -> Floats:
    found: Floats = np.full(len(whole), np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def _distinct(column: pl.Series, group: Ints, size: int) -> Ints:
    numbers, texts = coded(column)
    pairs = np.asarray(group, np.int64) * len(texts) + numbers
    pairs = np.unique(pairs[numbers > 0])
    return np.bincount(pairs // len(texts), minlength=size)
