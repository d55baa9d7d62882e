"""Sliding windows over the sorted matches of many keys at once.

A `Span` lays the rows of all keys end to end, sorted by (slot, S6). A window is a pair of positions in it, so that
counting is a difference of running totals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.matches import MATCH
from operators.tables import Mask, Table

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """n rows of matches and witnesses, sorted by slot and then by S6.

    slot, at (µs), policy: int64[n]; kind: int8[n]; measure: float64[n], NaN for none; item: int32[n], 0 for none.
    start: position of the first row of each row's key. begins: is it that row?
    """

    slot: Positions
    at: Positions
    policy: Positions
    kind: NDArray[np.int8]
    measure: NDArray[np.float64]
    item: NDArray[np.int32]
    start: Positions
    begins: Mask

    def __len__(self) -> int:
        return len(self.at)

    @staticmethod
    def of(rows: Table) -> Span:
        """The span of sorted rows (ROW)."""
        # Copied out of the records: what is read often lies side by side.
        slot, at, policy, kind = (np.ascontiguousarray(rows[name]) for name in ("slot", "at", "policy", "kind"))
        begins = changes(slot)
        return Span(slot, at, policy, kind, rows["measure"], rows["item"], _starts(begins), begins)

    @property
    def is_match(self) -> Mask:
        """Where a row is a match, not a mere witness."""
        mask: Mask = self.kind == MATCH
        return mask


def changes(*columns: NDArray[Any]) -> Mask:
    """Where a row differs from the one before it; the first one does."""
    first, *rest = columns
    change = np.ones(len(first), np.bool_)
    np.not_equal(first[1:], first[:-1], out=change[1:])
    for column in rest:
        change[1:] |= column[1:] != column[:-1]
    return change


def starts(slot: Positions) -> Positions:
    """The position of the first row of each row's run of equal values."""
    return _starts(changes(slot))


def _starts(begins: Mask) -> Positions:
    first = begins.nonzero()[0]
    return first.repeat(np.append(first[1:], len(begins)) - first)


def lefts(slot: Positions, at: Positions, start: Positions, window: Positions) -> Positions:
    """The first position whose `at` is in (at − window, at] of each row, in the row's own key.

    slot, at and start as in Span; window: µs per row, positive.
    """
    n = len(at)
    if not n:
        return np.zeros(0, np.int64)
    low = int(at.min())
    reach = int(at.max()) - low + 1
    rank = np.cumsum(start == np.arange(n)) - 1  # dense numbers for the slots at hand
    # One ascending number for (key, time), so that one binary search serves all keys; in blocks where the span of
    # the batch times its keys would not fit into 63 bits.
    block = max(1, (2**62) // reach)
    left = np.empty(n, np.int64)
    for first in range(0, int(rank[-1]) + 1, block):
        a, b = np.searchsorted(rank, (first, first + block))
        line = (rank[a:b] - first) * reach + (at[a:b] - low)
        left[a:b] = a + np.searchsorted(line, line - np.minimum(window[a:b], reach), side="right")
    return np.maximum(left, start)


def windows(span: Span, window: Positions) -> Positions:
    """The first row each row's window counts. window: µs by policy, 0 for none: then the row counts alone.

    What a window has let go is gone, so that state can be let go, too: a window that grows by configuration counts
    on from what the one before it still held.
    """
    n = np.arange(len(span))
    own = window[span.policy]
    if not own.any():
        return n
    before = np.where(span.start == n, own, np.roll(own, 1))
    both = np.minimum(own, before)
    first = np.where(both > 0, lefts(span.slot, span.at, span.start, np.maximum(both, 1)), n)
    return np.maximum.accumulate(np.minimum(first, n))


def running(values: NDArray[np.int64] | Mask) -> Positions:
    """Totals before each position, and the grand total: total[b] − total[a] sums [a, b)."""
    total = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=total[1:])
    return total


def count_below(values: Positions, left: Positions, right: Positions, bound: Positions) -> Positions:
    """For each query, how many of values[left:right] are below bound. All values and bounds are ≥ 0.

    A wavelet matrix (Claude, Navarro, Ordóñez, 2015): one stable partition a bit, queries follow by rank.
    """
    found = np.zeros(len(left), np.int64)
    top = int(max(values.max(initial=0), bound.max(initial=0)))
    for bit in range(top.bit_length() - 1, -1, -1):
        one = (values >> bit & 1).astype(np.bool_)
        zeros = running((~one).astype(np.int64))
        l0, r0 = zeros[left], zeros[right]
        high = (bound >> bit & 1).astype(np.bool_)
        found += np.where(high, r0 - l0, 0)
        left = np.where(high, zeros[-1] + left - l0, l0)
        right = np.where(high, zeros[-1] + right - r0, r0)
        values = np.concatenate([values[~one], values[one]])
    return found
