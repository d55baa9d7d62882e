"""Pieces of a chunk of bytes as text columns, without copying the bytes.

Such a column keeps the whole chunk alive: who holds on to a few rows of it for long must copy them, for instance by
writing them down or through `to_list`.

A span is a pair of int arrays (starts, ends): positions in the chunk, ascending, one pair a row. The chunk must be
valid UTF-8 and spans must not cut a character.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Span = tuple[Ints, Ints]


def text(data: Bytes, span: Span) -> pl.Series:
    """The spans of `data` as a String column."""
    return texts(data, [span])[0]


def texts(data: Bytes, columns: Sequence[Span]) -> list[pl.Series]:
    """Several columns at once. Within a row, spans must be ascending too, and not overlap."""
    height, width = len(columns[0][0]), 2 * len(columns)
    if not height:
        return [pl.Series(dtype=pl.String) for _ in columns]
    # An Arrow text array needs adjoining pieces: what lies between the spans makes pieces, too, to be left out after.
    edges = np.empty((height, width), np.int32)
    for place, (starts, ends) in enumerate(columns):
        edges[:, 2 * place] = starts
        edges[:, 2 * place + 1] = ends
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(data)]
    pieces = pl.Series(pa.Array.from_buffers(pa.utf8(), height * width - 1, buffers))
    return [pieces.gather_every(width, 2 * place) for place in range(len(columns))]


def lines(data: Bytes) -> Span:
    """Starts and ends of the lines of `data`, line ends not included."""
    ends = np.flatnonzero(data == 0x0A)
    if len(data) and (not len(ends) or ends[-1] != len(data) - 1):
        ends = np.append(ends, len(data))
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1
    return starts, ends


def is_utf8(data: bytes | Bytes) -> bool:
    """Whether `data` is valid UTF-8."""
    if data.isascii() if isinstance(data, bytes) else not (data > 0x7F).any():
        return True
    whole = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_binary(), 1, [None, whole, pa.py_buffer(data)]).cast(pa.large_utf8())
    except pa.ArrowInvalid:
        return False
    return True
