"""Texts under a few keys of JSON objects, by the column: what is plain is found by one look at the bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

_NONE, _UNSURE = -1, -2


def texts_of(objects: pl.Series, keys: Sequence[str]) -> dict[str, pl.Series]:
    """What each object has under each key, as `operators.fields.text_of` says it, null where it has nothing.

    objects: JSON text, or null. keys: ASCII. Members that are not plain strings (numbers, escapes, keys that are there
    twice) are left to the definition.
    """
    held = objects.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(held.buffers()[1], np.int64)[held.offset : held.offset + len(held) + 1]
    data = held.buffers()[2]
    body = np.zeros(1, np.uint8) if data is None or not len(data) else np.frombuffer(data, np.uint8)
    names = [key.encode() for key in keys]
    ends = np.cumsum([len(name) for name in names])
    begin, length = _find(body, offsets, np.frombuffer(b"".join(names), np.uint8), ends, len(names))
    if objects.null_count():
        length[objects.is_null().to_numpy()] = _NONE
    found = {}
    for n, key in enumerate(keys):
        column = _texts(body, begin[:, n], length[:, n])
        unsure = np.flatnonzero(length[:, n] == _UNSURE)
        if len(unsure):
            column = column.scatter(unsure, objects[unsure].str.json_path_match(f"$['{key}']"))
        found[key] = column
    return found


def _texts(body: NDArray[np.uint8], begin: NDArray[np.int64], length: NDArray[np.int64]) -> pl.Series:
    ends = np.concatenate([[0], np.cumsum(np.maximum(length, 0))])
    copied = np.empty(int(ends[-1]), np.uint8)
    _copy(body, begin, length, ends, copied)
    there = np.packbits(length >= 0, bitorder="little")
    buffers = [pa.py_buffer(there), pa.py_buffer(ends), pa.py_buffer(copied)]
    return pl.Series(pa.Array.from_buffers(pa.large_string(), len(length), buffers))


@njit(cache=True, nogil=True)
def _copy(body, begin, length, ends, copied):  # type: ignore[no-untyped-def]
    for row in range(len(length)):
        for n in range(length[row]):
            copied[ends[row] + n] = body[begin[row] + n]


@njit(cache=True, nogil=True)
def _find(body, offsets, names, ends, count):  # type: ignore[no-untyped-def]
    """Where the plain strings under the keys begin and how long they are; −1: not there, −2: look more closely."""
    rows = len(offsets) - 1
    begin = np.zeros((rows, count), np.int64)
    length = np.full((rows, count), _NONE, np.int64)
    for row in range(rows):
        at, end = offsets[row], offsets[row + 1]
        depth = 0
        is_key = False  # is the next string at depth 1 a key?
        key = -1  # the key whose value comes next
        while at < end:
            byte = body[at]
            if byte == 34:  # a string
                at += 1
                first = at
                plain = True
                while at < end and body[at] != 34:
                    if body[at] == 92:
                        plain = False
                        at += 1
                    at += 1
                if depth == 1 and is_key:
                    key = -1
                    if not plain:  # an escape may spell any key
                        length[row, :] = _UNSURE
                        break
                    for n in range(count):
                        low = ends[n - 1] if n else 0
                        if ends[n] - low == at - first:
                            same = True
                            for place in range(at - first):
                                if names[low + place] != body[first + place]:
                                    same = False
                                    break
                            if same:
                                key = n
                    is_key = False
                elif depth == 1 and key >= 0:
                    if plain and length[row, key] == _NONE:
                        begin[row, key], length[row, key] = first, at - first
                    else:
                        length[row, key] = _UNSURE
                    key = -1
            elif byte == 123 or byte == 91:
                if depth == 1 and key >= 0:
                    length[row, key] = _UNSURE
                    key = -1
                depth += 1
                is_key = depth == 1 and byte == 123
                if depth == 1 and byte == 91:  # not an object
                    length[row, :] = _UNSURE
                    break
            elif byte == 125 or byte == 93:
                depth -= 1
            elif byte == 44:
                if depth == 1:
                    is_key, key = True, -1
            elif depth == 1 and key >= 0 and byte > 32 and byte != 58:  # a number, true, false or null
                length[row, key] = _UNSURE
                key = -1
            at += 1
    return begin, length
