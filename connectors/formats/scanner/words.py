"""Texts compared eight bytes at a time. `data`, `words`: see grammar.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from connectors.formats.scanner.compiled import inlined, part
from connectors.formats.scanner.tables import Bytes, Words, signed

_NONE, _SEVEN, _SHIFT = np.uint64(0), np.uint64(7), np.uint64(54)
_MIX = np.uint64(0x9E3779B97F4A7C15)


@inlined
def tail_of(data: Bytes, words: Words, start: int, end: int) -> Any:
    """The last eight bytes of a text, or as many as it has."""
    length = min(end - start, 8)
    if length == 0:
        return _NONE
    if end >= 8:
        return words[end - 8] >> np.uint64(64 - 8 * length)
    word = _NONE
    for k in range(length):
        word |= np.uint64(data[end - length + k]) << np.uint64(8 * k)
    return word


@inlined
def head_of(data: Bytes, words: Words, start: int, end: int) -> Any:
    """The first eight bytes of a text, or as many as it has."""
    return words[start] if end - start > 8 else tail_of(data, words, start, end)


def name_hash(head: Any, tail: Any) -> int:
    """A hash of a name by its first and last bytes, below HASHES."""
    return signed(((head ^ (tail >> _SEVEN)) * _MIX) >> _SHIFT)


hashed = inlined(name_hash)


@part
def same(data: Bytes, start: int, other: Bytes, other_start: int, length: int) -> bool:
    for k in range(length):  # noqa: SIM110 (compiled as it stands)
        if data[start + k] != other[other_start + k]:
            return False
    return True
