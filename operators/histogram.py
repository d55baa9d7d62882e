"""Histograms of log-spaced bins: percentiles within 1 %, from counts that can be added in any order.

A value v > 0 falls into bin ⌈log v / log γ⌉ with γ = (1 + ε) / (1 − ε), and each bin stands for the one value that is
within ε of all of it: DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", PVLDB 12, 2019). Bins are numbered so that they sort as the values do: negative values have
negative bins, 0 is bin 0. Between −10⁻⁶ and 10⁻⁶ counts as 0; beyond ±10¹² counts as that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from operators.adding import WORTH, held

ERROR = 0.01
GAMMA = (1 + ERROR) / (1 - ERROR)
SMALLEST, LARGEST = 1e-6, 1e12
_LOG = math.log(GAMMA)
# The bin of SMALLEST becomes 1: bins of positive numbers are positive.
_SHIFT = 1 - math.ceil(math.log(SMALLEST) / _LOG)

# `value_of` in SQL, of a column `bin`.
SQL_VALUE = f"CASE WHEN bin = 0 THEN 0.0 ELSE sign(bin) * {2 / (GAMMA + 1)!r} * {GAMMA!r} ** (abs(bin) - {_SHIFT}) END"

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def bins_of(values: Floats) -> NDArray[np.int16]:
    """The bin of each value. values: no NaN."""
    size = np.abs(values)
    held = np.clip(size, SMALLEST, LARGEST)
    number = np.ceil(np.log(held) / _LOG) + _SHIFT
    number[size < SMALLEST] = 0
    signed: NDArray[np.int16] = np.copysign(number, values).astype(np.int16)
    return signed


def value_of(bins: NDArray[np.integer]) -> Floats:
    """The value that each bin stands for."""
    number = np.abs(bins).astype(np.float64)
    size = 2 * GAMMA ** (number - _SHIFT) / (GAMMA + 1)
    values: Floats = np.where(bins == 0, 0.0, np.copysign(size, bins))
    return values


def quantiles(
    groups: Ints, starts: Ints, bins: NDArray[np.int16], counts: Ints, size: int, ranks: Sequence[float]
) -> Floats:
    """Percentiles of groups of histograms: [group, rank], NaN where a group has no value.

    groups: of each histogram, from 0 to size − 1. starts: where each begins in `bins` and `counts`, and where the last
    ends. ranks: in (0, 1]. A percentile is that of the nearest rank: the ⌈rank · n⌉-th smallest of n values.
    """
    wanted = np.array(ranks, np.float64)
    found = np.full((size, len(wanted)), np.nan)
    if not len(bins) or not size:
        return found
    lowest, width = int(bins.min()), int(bins.max()) - int(bins.min()) + 1
    if len(bins) < WORTH and size * width < _CELLS:
        table = np.zeros((size, width), np.int64)
        np.add.at(table, (groups.repeat(np.diff(starts)), bins.astype(np.int64) - lowest), counts)
        return _few(table.cumsum(axis=1), wanted, lowest)
    from operators import compiled

    step = max(1, _CELLS // width)  # groups at once, so that memory stays bounded
    for first in range(0, size, step):
        part = found[first : first + step]
        table = np.zeros((len(part), width), np.int64)
        compiled.quantiles(groups - first, starts, held(bins), held(counts), lowest, table, wanted, part)
    chosen = ~np.isnan(found)
    found[chosen] = value_of(found[chosen].astype(np.int64))
    return found


def _few(seen: Ints, ranks: Floats, lowest: int) -> Floats:
    """The percentiles of groups. seen: [group, bin], how many values lie in this bin or below."""
    total = seen[:, -1:]
    wanted = np.maximum(1, np.ceil(ranks * total - 1e-9))
    place = (seen[:, :, None] < wanted[:, None, :]).sum(axis=1)
    return np.where(total > 0, value_of(np.minimum(place, seen.shape[1] - 1) + lowest), np.nan)


_CELLS = 16 << 20
