"""`anomaly`: more matches in the last bucket than the key's own history lets expect.

The last bucket ends at the event. Its history are the buckets before it, in steps of `bucket` from the epoch on, that
lie wholly behind the window's first match; empty ones are counts of 0. Were the rate as before, the last bucket's
other matches would be distributed like one more count: a negative binomial with their mean, and their variance
(Poisson's at least) widened by that of the mean. Without clumps this is what Bayes predicts of a Poisson rate with
Jeffreys' prior; to take the variance from the data is how Farrington et al. (1996) detect outbreaks. The threshold is
met where so many or more have a probability of `level` at most. What an incident has counted is no history of the next.

All of it is a function of the window's matches, so batches and restarts change nothing.

C. P. Farrington, N. J. Andrews, A. D. Beale, M. A. Catchpole (1996), A statistical algorithm for the early detection
of outbreaks of infectious disease, JRSS A 159
"""

from __future__ import annotations

from math import exp, lgamma, log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.anomaly.compiled import compiled
from operators.rules import Anomaly
from operators.tables import Mask
from operators.windows import Positions, Span, changes, running

UNKNOWN = 2.0  # where there is too little history or too few events: no p-value


class Unusual:
    """Met where the last bucket's count has a probability of at most `level`."""

    def __init__(self, spec: Anomaly, span: Span) -> None:
        self._level = spec.level
        self._rank = running(span.is_match)
        self._history = History(spec, span.slot[span.is_match], span.at[span.is_match])

    def met(self, at: Positions, left: Positions) -> Mask:
        """See `Evaluator.met`."""
        mask: Mask = self._history.p_values(self._rank[left], self._rank[at + 1], self._level) <= self._level
        return mask


class History:
    """The matches of many keys, and what their buckets held.

    slot: int64[n], a number of each match's key. at: int64[n], µs. Sorted by both.
    """

    def __init__(self, spec: Anomaly, slot: Positions, at: Positions) -> None:
        self._spec = spec
        self._at = at
        begins = (
            np.append(np.flatnonzero(changes(slot, at // spec.bucket)), len(at)) if len(at) else np.zeros(1, np.int64)
        )
        size = np.diff(begins)
        # Of each match: where the next bucket with matches begins; the squared counts of all buckets before its own.
        self._next = begins[1:].repeat(size)
        self._squares = np.append(running(size * size)[:-1].repeat(size), int((size * size).sum()))

    def p_values(self, begin: Positions, end: Positions, up_to: float = 1.0) -> NDArray[np.float64]:
        """Return the p-value of each window, UNKNOWN where it has none.

        begin, end: int64[m]; a window holds the matches [begin, end) of a key, the last of which is the event judged.
        up_to: of larger p-values only that they are larger is worked out.
        """
        spec, found = self._spec, np.full(len(begin), UNKNOWN)
        # Few windows have so many in their last bucket that there is anything to work out.
        busy = np.flatnonzero(end - begin >= max(spec.min_events, 2))
        last = end[busy]
        busy = busy[self._at[last - spec.min_events] > self._at[last - 1] - spec.bucket]
        some = np.full(len(busy), UNKNOWN)
        _judge(self._at, self._next, self._squares, begin[busy], end[busy], spec.bucket, spec.min_history, up_to, some)
        found[busy] = some
        return found


@compiled
def _judge(
    at: Any, after: Any, squares: Any, begin: Any, end: Any, bucket: int, least: int, up_to: float, out: Any
) -> None:
    for i in range(len(begin)):
        first, last = begin[i], end[i] - 1
        now = at[last]
        until = (now - bucket + 1) // bucket  # the first bucket that is not over when the last one begins
        history = until - at[first] // bucket - 1
        if history < least:
            continue
        window = at[first : last + 1]
        low = after[first]
        high = first + np.searchsorted(window, until * bucket)
        others = last - first - np.searchsorted(window, now - bucket, side="right")
        total = high - low
        mean = (total + 0.5) / history
        clumped = 1.0
        if history > 1 and total > 0:
            variance = (squares[high] - squares[low] - total * (total / history)) / (history - 1)
            clumped = max(1.0, variance / (total / history))
        out[i] = tail(others, mean, mean / (clumped * (1.0 + 1.0 / history) - 1.0), up_to)


@compiled
def tail(count: int, mean: float, size: float, up_to: float) -> float:
    """Return the probability of `count` or more under a negative binomial of variance mean + mean² / size.

    up_to: where it is larger, something larger.
    """
    if count <= 0:
        return 1.0
    if count <= mean:
        return 1.0 - _summed(count - 1, mean, size, -1, 1.0)
    return _summed(count, mean, size, 1, up_to)


@compiled
def _summed(count: int, mean: float, size: float, step: int, up_to: float) -> float:
    """Add up the probabilities of `count` and the counts above it, or below: each follows from the one before."""
    share = mean / (mean + size)
    logarithm = lgamma(count + size) - lgamma(size) - lgamma(count + 1.0) + count * log(share)
    term = exp(logarithm - size * log(1.0 + mean / size))
    total = 0.0
    while term > 1e-16 * total and count >= 0 and total <= up_to:
        total += term
        if step > 0:
            term *= (count + size) / (count + 1.0) * share
        else:
            term *= count / ((count - 1.0 + size) * share) if count > 0 else 0.0
        count += step
    return min(1.0, total)
