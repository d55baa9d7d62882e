"""How unlikely is a value, judged by values like it? p-values beyond what counting can say.

Among m earlier values, g of them at least as large, the conformal p-value of a new one is (g + 1) / (m + 1): exact
where they are exchangeable, whatever their distribution (Vovk, Gammerman, Shafer 2005). It can never be below
1 / (m + 1). Beyond the largest k values, the tail is taken to fall like a power, as Hill (1975) does: logarithms of
ratios to the k-th largest are exponential. Their rate is unknown, so a new one exceeds y with the predictive
probability (1 + y / s)^−k, where s is the sum of the k seen: what Bayes makes of it without prior knowledge, and never
surer than k values allow. A distribution with a lighter tail gets p-values too large, which errs to the quiet side.

- V. Vovk, A. Gammerman, G. Shafer (2005), Algorithmic Learning in a Random World
- B. M. Hill (1975), A simple general approach to inference about the tail of a distribution, Annals of Statistics 3
- A. Siffer, P.-A. Fouque, A. Termier, C. Largouët (2017), Anomaly detection in streams with extreme value theory, KDD
"""

from __future__ import annotations

from math import exp, log

import numpy as np
from numpy.typing import NDArray

from operators.anomaly.compiled import compiled

Floats = NDArray[np.float64]

SHARE = 0.02  # of the values are the tail,
FEWEST = 10  # but so many at least
SMOOTH = 0.02  # logarithms of ratios are no finer than this, nor than the resolution: ties do not make a tail end


@compiled
def p_value(value: float, earlier: Floats, resolution: float) -> float:
    """Return the probability of a value as large as `value`.

    earlier: float64[m], NaN for none; resolution: a difference below it says nothing (same unit). 1 without values.
    """
    m, larger = 0, 0
    for one in earlier:
        if not np.isnan(one):
            m += 1
            larger += one >= value
    k = max(FEWEST, int(m * SHARE))
    p = (larger + 1.0) / (m + 1.0)
    if larger >= k or m < 2 * FEWEST:
        return p
    start, total = tail(earlier, m, k, resolution)
    if value <= start:
        return p
    return min(p, k / m * (1.0 + log(value / start) / total) ** -k)


@compiled
def exceeded(level: float, earlier: Floats, resolution: float) -> float:
    """Return the value that `p_value` gives `level`; infinite where `earlier` cannot say."""
    m = 0
    for one in earlier:
        m += not np.isnan(one)
    if m < 2 * FEWEST:
        return np.inf
    k = max(FEWEST, int(m * SHARE))
    if level >= k / m:
        present = np.sort(earlier[~np.isnan(earlier)])
        return float(present[max(0, m - 1 - int(level * m))])
    start, total = tail(earlier, m, k, resolution)
    return start * exp(total * ((level * m / k) ** (-1.0 / k) - 1.0))


@compiled
def tail(earlier: Floats, m: int, k: int, resolution: float) -> tuple[float, float]:
    """Return where the tail begins, and the sum of the logarithms of the k largest values over that."""
    largest = np.sort(earlier[~np.isnan(earlier)])[m - k - 1 :]
    start = max(largest[0], resolution)
    total = max(SMOOTH, log(1.0 + resolution / start)) * k
    for one in largest[1:]:
        if one > start:
            total += log(one / start)
    return start, total
