"""Adding up rows of equal keys, and histograms bin by bin: one pass over each, nothing is sorted."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bins = NDArray[np.int16]
_MIX = np.uint64(0x9E3779B97F4A7C15)
_FEW = 32  # bins that are put in order one by one; more are counted in a table
MOST = 9_000_000_000_000_000_000  # a sum that would be larger stays here


def numbered(keys: Ints) -> tuple[Ints, Ints]:
    """The number of each row's key, in the order in which they come first, and for each key the row that is it."""
    cell, shown, cells = _numbered(keys)
    return cell, shown[:cells]


def sums(cell: Ints, cells: int, count: Ints, errors: Ints, total: Ints) -> tuple[Ints, Ints, Ints]:
    """The sums of three columns by cell; of the last one held within ±MOST."""
    added: tuple[Ints, Ints, Ints] = _sums(cell, cells, count, errors, total)
    return added


def histograms(cell: Ints, cells: int, bins: Bins, counts: Ints) -> tuple[Ints, Bins, Ints]:
    """The bins of each cell, ascending, and how often each is there. cell: of each entry.

    Returns where the cells begin in the other two, and where the last one ends.
    """
    if not len(bins):
        return np.zeros(cells + 1, np.int64), bins, counts
    low = int(bins.min())
    offsets, found, number = _histograms(cell, cells, bins, counts, low, int(bins.max()) - low + 1)
    end = int(offsets[-1])
    return offsets, found[:end], number[:end]


@njit(cache=True, nogil=True)
def _numbered(keys):  # type: ignore[no-untyped-def]
    bits = 4
    while (1 << bits) < 2 * len(keys):
        bits += 1
    table = np.full(1 << bits, -1, np.int64)
    cell, shown = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    cells = 0
    last = (1 << bits) - 1
    for row in range(len(keys)):
        key = keys[row]
        place = np.int64((np.uint64(key) * _MIX) >> np.uint64(64 - bits))
        while True:
            number = table[place]
            if number < 0:
                table[place] = number = cells
                shown[cells] = row
                cells += 1
                break
            if keys[shown[number]] == key:
                break
            place = (place + 1) & last
        cell[row] = number
    return cell, shown, cells


@njit(cache=True, nogil=True)
def _sums(cell, cells, count, errors, total):  # type: ignore[no-untyped-def]
    counts, failed = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
    totals, about = np.zeros(cells, np.int64), np.zeros(cells, np.float64)
    for row in range(len(cell)):
        at = cell[row]
        counts[at] += count[row]
        failed[at] += errors[row]
        totals[at] += total[row]
        about[at] += total[row]
    for at in range(cells):
        if about[at] > MOST:
            totals[at] = MOST
        elif about[at] < -MOST:
            totals[at] = -MOST
    return counts, failed, totals


@njit(cache=True, nogil=True)
def _histograms(cell, cells, bins, counts, low, width):  # type: ignore[no-untyped-def]
    begin = np.zeros(cells + 1, np.int64)
    for entry in range(len(cell)):
        begin[cell[entry] + 1] += 1
    for at in range(cells):
        begin[at + 1] += begin[at]
    free = begin.copy()
    its, many = np.empty(len(cell), np.int16), np.empty(len(cell), np.int64)
    for entry in range(len(cell)):
        place = free[cell[entry]]
        free[cell[entry]] += 1
        its[place], many[place] = bins[entry], counts[entry]
    offsets = np.zeros(cells + 1, np.int64)
    table = np.zeros(width, np.int64)
    end = 0  # what is found overwrites what was read
    for at in range(cells):
        first, last = begin[at], begin[at + 1]
        start = end
        if last - first <= _FEW:
            for entry in range(first, last):
                this, n = its[entry], many[entry]
                place = end
                while place > start and its[place - 1] > this:
                    place -= 1
                if place > start and its[place - 1] == this:
                    many[place - 1] += n
                    continue
                for moved in range(end, place, -1):
                    its[moved], many[moved] = its[moved - 1], many[moved - 1]
                its[place], many[place] = this, n
                end += 1
        else:
            least, most = width, 0
            for entry in range(first, last):
                place = its[entry] - low
                table[place] += many[entry]
                least, most = min(least, place), max(most, place)
            for place in range(least, most + 1):
                if table[place]:
                    its[end], many[end] = place + low, table[place]
                    table[place] = 0
                    end += 1
        offsets[at + 1] = end
    return offsets, its, many
