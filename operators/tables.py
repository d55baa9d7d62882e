"""Tables of numbers: NumPy arrays of records, taken apart and put together whole.

NumPy copies a record field by field; seen as so many bytes it is copied at once, which is ten times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[Any]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_FEW = 1_000
_TABLE = 1 << 20  # numbers that are looked up in an array; beyond, by sorting


def take(table: Table, rows: Ints | Mask) -> Table:
    """The records at these indices, or where the mask is true."""
    whole = table.view(f"V{table.dtype.itemsize}")
    index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    return whole.take(index).view(table.dtype)


def put(table: Table, index: Ints | slice, rows: Table) -> None:
    """Replace the records at these places."""
    whole = f"V{table.dtype.itemsize}"
    table.view(whole)[index] = rows.view(whole)


def joined(first: Table, *rest: Table) -> Table:
    """Tables of one kind, one behind the other."""
    parts = [part for part in (first, *rest) if len(part)]
    if len(parts) < 2:
        return parts[0] if parts else first
    whole = np.concatenate([part.view(f"V{part.dtype.itemsize}") for part in parts])
    return whole.view(first.dtype)


def distinct(numbers: Ints, size: int) -> tuple[Ints, Ints]:
    """The different numbers, ascending, and the place of each row's among them. numbers: 0 to size − 1."""
    if size > _TABLE:
        found, place = np.unique(numbers, return_inverse=True)
        return found, place
    there = np.zeros(size, np.bool_)
    there[numbers] = True
    return there.nonzero()[0], (there.cumsum() - 1)[numbers]


def order_by(*keys: NDArray[Any]) -> Ints:
    """The rows sorted by the last key, within it by the one before, and so on; stable, as NumPy's `lexsort`.

    Keys that fit into 16 bits are sorted by radix, and those that are in order already by a look at them.
    """
    if len(keys[0]) <= _FEW:
        return np.lexsort(keys)
    order: Ints | None = None
    for key in keys:
        own = key if order is None else key[order]
        if own.min() >= 0 and own.max() < 1 << 16:
            own = own.astype(np.uint16)
        following = own.argsort(kind="stable")
        order = following if order is None else order[following]
    return np.arange(0) if order is None else order


def ranges(begin: Ints, length: Ints) -> Ints:
    """The numbers of many ranges, one behind the other: begin[i], begin[i] + 1, ..., `length[i]` of them."""
    end = length.cumsum()
    found: Ints = np.arange(end[-1] if len(end) else 0) + (begin - end + length).repeat(length)
    return found


def of_slots(table: Table, slots: Sequence[int] | Ints) -> Ints:
    """The rows of some slots in a table sorted by its column `slot`, slot by slot."""
    column = np.ascontiguousarray(table["slot"])
    begin = column.searchsorted(slots)
    return ranges(begin, column.searchsorted(slots, side="right") - begin)
