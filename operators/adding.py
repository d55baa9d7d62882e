"""Adding up rows of equal keys, and histograms bin by bin. Many at a time in one pass over each, without sorting."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bins = NDArray[np.int16]
WORTH = 20_000  # rows for which it is worth loading what is compiled
Array = TypeVar("Array", bound=NDArray[Any])
MOST = 9_000_000_000_000_000_000  # a sum that would be larger stays here


def held(column: Array) -> Array:
    """A column that nobody writes to: what is compiled is so for one kind of array."""
    view = column.view()
    view.flags.writeable = False
    return view


def numbered(keys: Ints) -> tuple[Ints, Ints]:
    """The number of each row's key, and for each key a row that has it."""
    if len(keys) < WORTH:
        _, shown, cell = np.unique(keys, return_index=True, return_inverse=True)
        return cell, shown
    from operators import compiled

    cell, shown, cells = compiled.numbered(held(keys))
    return cell, shown[:cells]


def sums(cell: Ints, cells: int, count: Ints, errors: Ints, total: Ints) -> tuple[Ints, Ints, Ints]:
    """The sums of three columns by cell; of the last one held within ±MOST.

    What is added first shows only where a sum of values of both signs leaves ±MOST on its way.
    """
    if len(cell) >= WORTH:
        from operators import compiled

        added: tuple[Ints, Ints, Ints] = compiled.sums(held(cell), cells, held(count), held(errors), held(total))
        return added
    counts, failed, totals = (np.zeros(cells, np.int64) for _ in range(3))
    for column, found in ((count, counts), (errors, failed), (total, totals)):
        np.add.at(found, cell, column)
    about = np.bincount(cell, total, cells)
    totals[about > MOST], totals[about < -MOST] = MOST, -MOST
    return counts, failed, totals


def histograms(cell: Ints, cells: int, bins: Bins, counts: Ints) -> tuple[Ints, Bins, Ints]:
    """The bins of each cell, ascending, and how often each is there. cell: of each entry.

    Returns where the cells begin in the other two, and where the last one ends.
    """
    if not len(bins):
        return np.zeros(cells + 1, np.int64), bins, counts
    low = int(bins.min())
    width = int(bins.max()) - low + 1
    if len(bins) >= WORTH:
        from operators import compiled

        offsets, found, number = compiled.histograms(held(cell), cells, held(bins), held(counts), low, width)
        end = int(offsets[-1])
        return offsets, found[:end], number[:end]
    both, place = np.unique(cell * width + (bins - low), return_inverse=True)
    number = np.zeros(len(both), np.int64)
    np.add.at(number, place, counts)
    return np.searchsorted(both, np.arange(cells + 1) * width), (both % width + low).astype(np.int16), number
