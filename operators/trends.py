"""Is there a trend in a series of counts? A statement of statistics, not a comparison of two numbers.

The test is Mann and Kendall's: S adds up the signs of all differences between a later and an earlier count. It asks
for no distribution, which matters here: incidents come in clumps, so that counts vary more than Poisson's, and a
Poisson trend test (which is stronger where its assumption holds) would call clumps trends. Ties, most of all zeros,
are taken out of its variance (Kendall 1975). S is approximately normal from ten counts on.

A count that depends on the one before it makes S vary more than independent ones would. Hamed and Rao (1998) widen its
variance by what the significant autocorrelations of the ranks, after removing Sen's slope, say about it; that also
covers a daily rhythm in hourly counts. Two things are done more cautiously than in their paper. Chance makes some
autocorrelations significant and negative, which would narrow the variance: here it is never narrowed. And in a few
dozen buckets those beyond the first are too small to be significant, though they add up: where the first one is, the
widening is at least that of a first-order autoregression with it, its bias removed (Marriott and Pope 1954). On
independent counts the test calls about 4 % a trend at level 5 %; on 60 counts of an autoregression of 0.5 about 8 %,
where Hamed and Rao's has 16 %, and the uncorrected one 25 %.

Several series are one family: p-values are adjusted after Benjamini and Hochberg (1995), so that of the trends
announced an expected share of at most `level` is none.

- H. B. Mann (1945), Nonparametric tests against trend, Econometrica 13
- M. G. Kendall (1975), Rank Correlation Methods, 4th edition
- P. K. Sen (1968), Estimates of the regression coefficient based on Kendall's tau, JASA 63
- F. H. C. Marriott, J. A. Pope (1954), Bias in the estimation of autocorrelations, Biometrika 41
- K. H. Hamed, A. R. Rao (1998), A modified Mann-Kendall trend test for autocorrelated data, Journal of Hydrology 204
- Y. Benjamini, Y. Hochberg (1995), Controlling the false discovery rate, JRSS B 57
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TEST = "mann-kendall-hamed-rao"
LEVEL = 0.05
FEWEST_BUCKETS = 10  # below, S is not near enough to a normal distribution
FEWEST_EVENTS = 10  # below, ties leave it too few values
_SIGNIFICANT = 1.959963984540054  # of a standard normal, two-sided at 5 %: which autocorrelations count
_SIGNIFICANT_FIRST = 1.6448536269514722  # one-sided: only a positive one widens
_STRONGEST = 0.95

Direction = Literal["rising", "falling", "stable"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trend:
    """What can be said of one series.

    p_value: two-sided, of the series alone; adjusted: after the correction for the number of series; both None where it
    was not tested. slope: Sen's, events per bucket per bucket. reason: why there is no direction, None where there is.
    """

    direction: Direction
    p_value: float | None
    adjusted: float | None
    slope: float | None
    reason: str | None


def trends(series: Mapping[str, Sequence[int]], level: float = LEVEL) -> dict[str, Trend]:
    """Return the trend of each series, one family of tests at `level`.

    series: counts of complete buckets of equal length, oldest first, at most a few thousand. Those with too few
    buckets or events are `stable`, untested, and no part of the family.
    """
    lacking = {name: _lacking(counts) for name, counts in series.items()}
    p_values = {name: mann_kendall(series[name])[1] for name, lack in lacking.items() if lack is None}
    adjusted = dict(zip(p_values, benjamini_hochberg(list(p_values.values())), strict=True))
    return {
        name: _tested(counts, p_values[name], adjusted[name], level)
        if name in p_values
        else Trend("stable", None, None, None, lacking[name])
        for name, counts in series.items()
    }


def mann_kendall(counts: Sequence[int]) -> tuple[int, float]:
    """Return S and its two-sided p-value, corrected for ties and autocorrelation; counts: three or more.

    S: pairs in which the later count is larger, less those in which it is smaller.
    """
    score = kendall_score(counts)
    variance = tied_variance(counts) * autocorrelation_factor(counts)
    if score == 0 or variance <= 0:
        return score, 1.0
    # S moves in steps of two (of one with ties); the correction for continuity takes half of the larger.
    z = (abs(score) - 1) / sqrt(variance)
    return score, erfc(z / sqrt(2))


def kendall_score(counts: Sequence[int]) -> int:
    """Return S in n log n comparisons."""
    score = 0
    earlier: list[int] = []
    for seen, count in enumerate(counts):
        smaller, not_larger = bisect_left(earlier, count), bisect_right(earlier, count)
        score += smaller - (seen - not_larger)
        earlier.insert(not_larger, count)
    return score


def tied_variance(counts: Sequence[int]) -> float:
    """Return the variance of S for independent counts with these ties."""
    n = len(counts)
    ties = np.unique(np.asarray(counts), return_counts=True)[1].tolist()
    return float(n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18


def sen_slope(counts: Sequence[int]) -> float:
    """Return the median of the slopes between all pairs: events per bucket, per bucket."""
    values = np.asarray(counts, dtype=np.float64)
    earlier, later = np.triu_indices(len(values), k=1)
    return float(np.median((values[later] - values[earlier]) / (later - earlier)))


def autocorrelation_factor(counts: Sequence[int]) -> float:
    """Return what autocorrelation widens the variance of S by, 1 or more (as Hamed and Rao 1998; see above)."""
    n = len(counts)
    # From the middle, so that time backwards gives the same numbers; rounded, so that equal ones are.
    trend = sen_slope(counts) * (np.arange(n) - (n - 1) / 2)
    ranks = _mid_ranks(np.asarray(np.round(np.asarray(counts) - trend, 9), dtype=np.float64))
    ranks -= ranks.mean()
    power = float(ranks @ ranks)
    if power == 0:
        return 1.0
    rho = np.correlate(ranks, ranks, "full")[n:] / power  # of lags 1 to n - 1
    first = float(rho[0])
    found = [np.where(np.abs(rho) > _SIGNIFICANT / sqrt(n), rho, 0.0)]
    if first > _SIGNIFICANT_FIRST / sqrt(n):
        unbiased = min(first + (1 + 4 * first) / (n - 1), _STRONGEST)
        found.append(unbiased ** np.arange(1, n))
    left = n - np.arange(1.0, n)
    weight = left * (left - 1) * (left - 2)
    return max(1.0, *(1 + 2 / (n * (n - 1) * (n - 2)) * float(weight @ each) for each in found))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return each p-value adjusted for the number of tests: the smallest level at which it would be announced."""
    adjusted = [1.0] * len(p_values)
    least = 1.0
    ascending = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank in range(len(p_values), 0, -1):
        where = ascending[rank - 1]
        least = min(least, p_values[where] * len(p_values) / rank)
        adjusted[where] = least
    return adjusted


def _lacking(counts: Sequence[int]) -> str | None:
    if len(counts) < FEWEST_BUCKETS:
        return f"not enough data: {len(counts)} complete buckets, {FEWEST_BUCKETS} needed"
    if sum(counts) < FEWEST_EVENTS:
        return f"not enough data: {sum(counts)} incidents, {FEWEST_EVENTS} needed"
    return None


def _tested(counts: Sequence[int], p_value: float, adjusted: float, level: float) -> Trend:
    slope = sen_slope(counts)
    if adjusted > level:
        return Trend("stable", p_value, adjusted, slope, f"no significant trend at level {level:g}")
    return Trend("rising" if kendall_score(counts) > 0 else "falling", p_value, adjusted, slope, None)


def _mid_ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, ties = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(ties) - (ties - 1) / 2)[place]
