"""Pieces of a chunk of bytes as text columns, without copying the bytes.

Such a column keeps the whole chunk alive: who holds on to a few rows of it for long must copy them, for instance by
writing them down or through `to_list`.

A span is a pair of int arrays (starts, ends): positions in the chunk, ascending, one pair a row. The chunk must be
valid UTF-8 and spans must not cut a character.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Span = tuple[Ints, Ints]


def text(data: Bytes, span: Span) -> pl.Series:
    """The spans of `data` as a String column."""
    starts, ends = span
    if not len(starts):
        return pl.Series(dtype=pl.String)
    # An Arrow text array needs adjoining pieces: what lies between the spans makes pieces, too, to be left out after.
    edges = np.empty((len(starts), 2), np.int32)
    edges[:, 0], edges[:, 1] = starts, ends
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(data)]
    pieces = pl.Series(pa.Array.from_buffers(pa.utf8(), edges.size - 1, buffers))
    return pieces.gather_every(2)


def lines(data: Bytes) -> Span:
    """Starts and ends of the lines of `data`, line ends not included."""
    ends = np.flatnonzero(data == 0x0A)
    if len(data) and (not len(ends) or ends[-1] != len(data) - 1):
        ends = np.append(ends, len(data))
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1
    return starts, ends


def is_utf8(data: Bytes) -> bool:
    """Whether `data` is valid UTF-8."""
    if not (data > 0x7F).any():
        return True
    whole = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_binary(), 1, [None, whole, pa.py_buffer(data)]).cast(pa.large_utf8())
    except pa.ArrowInvalid:
        return False
    return True
