"""Has the series looked like this before? The distance of its last few values to their nearest neighbours in the past.

A window of the last `lags` values is compared with all earlier windows that do not overlap it. A periodic series finds
itself in earlier cycles whatever its shape, so this asks for no model. The distance is Euclid's, its mean over the
nearest few the nonconformity of Burnaev and Ishimtsev (2016), whose detector this follows; they use one window of 19
values, a matrix of weights and no tail beyond the ranks.

E. Burnaev, V. Ishimtsev (2016), Conformalized density- and distance-based anomaly detection in time-series data,
arXiv:1608.04585
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from operators.anomaly.compiled import compiled

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

NEAREST = 5
FEWEST = 20  # earlier windows; below, what is near means nothing


@compiled
def novelties(values: Floats, at: int, first: int, lags: Counts, totals: Floats, out: Floats) -> None:
    """Put into `out`, for each length in `lags`, how far the window that ends at `at` is from those before it.

    values: float64[n], no NaN. first: no window begins before it. lags: int64[k], ascending. totals: room to work in,
    at − first numbers. out: float64[k], the mean distance of the nearest; NaN where there are not enough windows.
    """
    room = totals[: at - first]  # by where the other window ends, from `first` on
    room[:] = 0.0
    done = 0
    for n in range(len(lags)):
        begin, end = lags[n] - 1, at - first - lags[n] + 1
        if end - begin < FEWEST:
            out[n:] = np.nan
            return
        # A longer window adds to the squares of the shorter one. All windows at once: that is a loop for vectors.
        for back in range(done, lags[n]):
            value, others, sums = values[at - back], values[first : first + end - back], room[back:end]
            for i in range(len(sums)):
                apart = value - others[i]
                sums[i] += apart * apart
        done = lags[n]
        out[n] = _nearest(room[begin:end])


@compiled
def _nearest(squares: Floats) -> float:
    """Return the mean of the smallest distances."""
    near = np.full(NEAREST, np.inf)
    for square in squares:
        if square < near[NEAREST - 1]:
            place = NEAREST - 1
            while place > 0 and near[place - 1] > square:
                near[place] = near[place - 1]
                place -= 1
            near[place] = square
    return float(np.sqrt(near).mean())
