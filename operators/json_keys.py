"""Texts under a few keys of JSON objects, as numbers: what is plain is found by one look at the bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.adding import WORTH, held
from operators.texts import NO_TEXT, Numbers

Ints = NDArray[np.int64]


def coded_under(
    objects: pl.Series, keys: Sequence[Sequence[str | None]], which: NDArray[np.integer]
) -> list[tuple[Numbers, list[str | None]]]:
    """For each of some fields each object's text as a number, and the texts by number, as `operators.texts.coded`.

    objects: JSON text, or null. keys: for each kind of object the key behind each field (ASCII), None where it has no
    such field; which: the kind of each object. A text is what `operators.fields.text_of` says it is; members that are
    no plain strings (numbers, escapes, keys that are there twice) are left to that definition.
    """
    if len(objects) < WORTH:
        return _few(objects, keys, which)
    from operators import compiled

    names = sorted({key for kind in keys for key in kind if key is not None})
    wanted = np.array([[-1 if key is None else names.index(key) for key in kind] for kind in keys], np.int64)
    fields = wanted.shape[1]
    arrow = objects.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(arrow.buffers()[1], np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    data = arrow.buffers()[2]
    body = np.zeros(1, np.uint8) if data is None or not len(data) else np.frombuffer(data, np.uint8)
    if objects.null_count():
        which = np.where(objects.is_null().to_numpy(), -1, which)
    spelled = [name.encode() for name in names]
    letters, ends = np.frombuffer(b"".join(spelled), np.uint8), np.cumsum([len(name) for name in spelled])
    codes, begin, length, count = compiled.find(
        held(body), held(offsets), letters, ends, wanted, which.astype(np.int64)
    )
    found = []
    for field in range(fields):
        texts: list[str | None] = [None]
        for n in range(1, count[field]):
            texts.append(body[begin[field, n] : begin[field, n] + length[field, n]].tobytes().decode())
        numbers = codes[:, field].copy()
        unsure = np.flatnonzero(numbers == compiled.UNSURE)
        if len(unsure):
            _define(objects, numbers, texts, unsure, [kind[field] for kind in keys], which)
        found.append((numbers, texts))
    return found


def _few(
    objects: pl.Series, keys: Sequence[Sequence[str | None]], which: NDArray[np.integer]
) -> list[tuple[Numbers, list[str | None]]]:
    found = []
    for field in range(len(keys[0])):
        numbers, texts = np.full(len(objects), NO_TEXT, np.int32), list[str | None]([None])
        _define(objects, numbers, texts, np.flatnonzero(which >= 0), [kind[field] for kind in keys], which)
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
