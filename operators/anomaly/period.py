"""Which period has a series, if any? Its autocorrelation's first clear peak.

Values are first cut off at their 5th and 95th percentile, so that a spike does not speak for a series. A lag counts as
a period where the autocorrelation has a peak that stands out of what lies before it: a slow wave has large
autocorrelations at all short lags, and no peak. Of peaks about equally high the shortest lag is taken, since the
multiples of a period are periods as well. A lag needs three cycles of history.

M. Vlachos, P. Yu, V. Castelli (2005), On periodicity detection and structural periodic similarity, SDM
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from operators.anomaly.compiled import compiled

SHORTEST = 12  # buckets; shorter patterns are seen by the windows of lags (`novelty`)
CYCLES = 3
LEAST = 0.3  # autocorrelation at the peak,
RISE = 0.2  # above the deepest point before it,
BETTER = 0.1  # and above the last shorter peak
WIDTH = 1.25  # a peak's hill, in its lag


@compiled
def find_period(values: NDArray[np.float64]) -> int:
    """Return the period of `values` (float64[n], oldest first) in buckets; 0 where there is none."""
    n = len(values)
    longest = n // CYCLES
    if longest <= SHORTEST:
        return 0
    ordered = np.sort(values)
    low, high = ordered[int(0.05 * n)], ordered[min(n - 1, int(0.95 * n))]
    cut = np.minimum(np.maximum(values, low), high)
    cut -= cut.mean()
    power = float((cut * cut).mean())
    if power <= 1e-18 * max(high * high, low * low) or power == 0.0:
        return 0
    found, height, trough = 0, 0.0, 1.0
    before, here = 1.0, correlation(cut, 1, power)
    for lag in range(2, longest + 1):
        after = correlation(cut, lag, power)
        # `here` belongs to lag − 1.
        trough = min(trough, here)
        peak = here >= before and here >= after and lag - 1 >= SHORTEST
        same = found > 0 and lag - 1 <= WIDTH * found  # another peak of the same hill, where noise makes several
        if peak and here > LEAST and here - trough > RISE and here > (height if same else height + BETTER):
            found, height = lag - 1, here
        before, here = here, after
    return found


@compiled
def correlation(values: NDArray[np.float64], lag: int, power: float) -> float:
    """Return the autocorrelation at `lag` of centred values with this mean square."""
    n = len(values)
    total = 0.0
    for i in range(lag, n):
        total += values[i] * values[i - lag]
    return total / (n - lag) / power
