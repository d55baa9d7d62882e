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

NEAREST = 5
FEWEST = 20  # earlier windows; below, what is near means nothing


@compiled
def novelty(values: NDArray[np.float64], at: int, first: int, lags: int) -> float:
    """Return the mean distance of values[at − lags + 1 : at + 1] to its nearest earlier windows; NaN without enough.

    values: float64[n], no NaN. first: no window begins before it.
    """
    begin, end = first + lags - 1, at - lags + 1
    if end - begin < FEWEST:
        return np.nan
    near = np.full(NEAREST, np.inf)
    for other in range(begin, end):
        total = 0.0
        for back in range(lags):
            apart = values[at - back] - values[other - back]
            total += apart * apart
            if total >= near[NEAREST - 1]:
                break
        if total < near[NEAREST - 1]:
            place = NEAREST - 1
            while place > 0 and near[place - 1] > total:
                near[place] = near[place - 1]
                place -= 1
            near[place] = total
    return float(np.sqrt(near).mean())
