"""Texts under a few keys of JSON objects, as numbers: what is plain is found by one look at the bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import NDArray

from operators.texts import NO_TEXT, Numbers

_UNSURE = -2
Ints = NDArray[np.int64]


def coded_under(
    objects: pl.Series, keys: Sequence[Sequence[str | None]], which: NDArray[np.integer]
) -> list[tuple[Numbers, list[str | None]]]:
    """For each of some fields each object's text as a number, and the texts by number, as `operators.texts.coded`.

    objects: JSON text, or null. keys: for each kind of object the key behind each field (ASCII), None where it has no
    such field; which: the kind of each object. A text is what `operators.fields.text_of` says it is; members that are
    no plain strings (numbers, escapes, keys that are there twice) are left to that definition.
    """
    names = sorted({key for kind in keys for key in kind if key is not None})
    wanted = np.array([[-1 if key is None else names.index(key) for key in kind] for kind in keys], np.int64)
    fields = wanted.shape[1]
    held = objects.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(held.buffers()[1], np.int64)[held.offset : held.offset + len(held) + 1]
    data = held.buffers()[2]
    body = np.zeros(1, np.uint8) if data is None or not len(data) else np.frombuffer(data, np.uint8)
    if objects.null_count():
        which = np.where(objects.is_null().to_numpy(), -1, which)
    spelled = [name.encode() for name in names]
    letters, ends = np.frombuffer(b"".join(spelled), np.uint8), np.cumsum([len(name) for name in spelled])
    codes, begin, length, count = _find(body, offsets, letters, ends, wanted, which.astype(np.int64))
    found = []
    for field in range(fields):
        texts: list[str | None] = [None]
        for n in range(1, count[field]):
            texts.append(body[begin[field, n] : begin[field, n] + length[field, n]].tobytes().decode())
        numbers = codes[:, field].copy()
        unsure = np.flatnonzero(numbers == _UNSURE)
        if len(unsure):
            _define(objects, numbers, texts, unsure, [kind[field] for kind in keys], which)
        found.append((numbers, texts))
    return found


def _define(
    objects: pl.Series,
    numbers: Numbers,
    texts: list[str | None],
    unsure: Ints,
    keys: Sequence[str | None],
    which: NDArray[np.integer],
) -> None:
    """Fill in the numbers of the unsure rows by the definition."""
    numbers[unsure] = NO_TEXT  # also of fields that an object of its kind does not have
    index = {text: n for n, text in enumerate(texts)}
    for kind, key in enumerate(keys):
        rows = unsure[which[unsure] == kind]
        if key is None or not len(rows):
            continue
        for row, text in zip(rows.tolist(), objects[rows].str.json_path_match(f"$['{key}']").to_list(), strict=True):
            numbers[row] = index.setdefault(text, len(texts))
            if len(index) > len(texts):
                texts.append(text)


@njit(cache=True, nogil=True)
def _find(body, offsets, letters, ends, wanted, which):  # type: ignore[no-untyped-def]
    """The numbers of plain strings by field, and for each number where its text is and how long."""
    rows, fields = len(offsets) - 1, wanted.shape[1]
    bits = 6
    while (1 << bits) < 2 * rows:
        bits += 1
    last = (1 << bits) - 1
    table = np.zeros((fields, 1 << bits), np.int32)
    begin, length = np.empty((fields, rows + 1), np.int64), np.empty((fields, rows + 1), np.int64)
    count = np.ones(fields, np.int64)
    one = np.uint64(1)
    codes = np.full((rows, fields), NO_TEXT, np.int32)
    for row in range(rows):
        kind = which[row]
        if kind < 0:
            continue
        at, end = np.uint64(offsets[row]), np.uint64(offsets[row + 1])  # unsigned: indexing looks for no sign
        depth = 0
        is_key = False  # is the next string at depth 1 a key?
        key = -1  # the key whose value comes next
        while at < end:
            byte = body[at]
            if byte == 34:  # a string
                at += one
                first = at
                plain = True
                while at < end and body[at] != 34:
                    if body[at] == 92:
                        plain = False
                        at += one
                    at += one
                size = np.int64(at - first)
                if depth == 1 and is_key:
                    is_key, key = False, -1
                    if not plain:  # an escape may spell any key
                        codes[row, :] = _UNSURE
                        break
                    for n in range(len(ends)):
                        low = ends[n - 1] if n else 0
                        if ends[n] - low == size:
                            same = True
                            for place in range(size):
                                if letters[low + place] != body[first + np.uint64(place)]:
                                    same = False
                                    break
                            if same:
                                key = n
                elif depth == 1 and key >= 0:
                    for field in range(fields):
                        if wanted[kind, field] != key:
                            continue
                        if not plain or codes[row, field] != NO_TEXT:
                            codes[row, field] = _UNSURE
                            continue
                        mixed = np.uint64(14695981039346656037)
                        for place in range(size):
                            mixed = (mixed ^ np.uint64(body[first + np.uint64(place)])) * np.uint64(1099511628211)
                        slot = np.int64(mixed >> np.uint64(64 - bits))
                        while True:
                            number = table[field, slot]
                            if number == 0:
                                number = count[field]
                                table[field, slot] = number
                                begin[field, number], length[field, number] = np.int64(first), size
                                count[field] += 1
                                break
                            same = length[field, number] == size
                            if same:
                                other = np.uint64(begin[field, number])
                                for place in range(size):
                                    if body[other + np.uint64(place)] != body[first + np.uint64(place)]:
                                        same = False
                                        break
                            if same:
                                break
                            slot = (slot + 1) & last
                        codes[row, field] = number
                    key = -1
            elif byte == 123 or byte == 91:
                if depth == 1 and key >= 0:
                    for field in range(fields):
                        if wanted[kind, field] == key:
                            codes[row, field] = _UNSURE
                    key = -1
                depth += 1
                is_key = depth == 1 and byte == 123
                if depth == 1 and byte == 91:  # not an object
                    codes[row, :] = _UNSURE
                    break
            elif byte == 125 or byte == 93:
                depth -= 1
            elif byte == 44:
                if depth == 1:
                    is_key, key = True, -1
            elif depth == 1 and key >= 0 and byte > 32 and byte != 58:  # a number, true, false or null
                for field in range(fields):
                    if wanted[kind, field] == key:
                        codes[row, field] = _UNSURE
                key = -1
            at += one
    return codes, begin, length, count
