"""Texts as numbers: a text is hashed once, where it comes in; from there on it is compared, grouped and moved as an
integer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.frames import FEW, pick
from operators.tables import distinct

NO_TEXT = 0  # the number of "there is none"
_FEW = 256  # rows below which a dictionary is quicker than a call of Polars
_NO_CATEGORY = (1 << 32) - 1  # as a signed number −1
_SPARE = 1_024  # texts that may be kept in vain

Numbers = NDArray[np.int32]
Ints = NDArray[np.int64]


def coded(column: pl.Series, rows: Ints | None = None) -> tuple[Numbers, list[str | None]]:
    """Each text's number, and the texts by number; number 0 stands for null. rows: of these only."""
    if len(column) <= _FEW:
        index: dict[str | None, int] = {None: NO_TEXT}
        few = np.array([index.setdefault(text, len(index)) for text in column.to_list()], np.int32)
        return few if rows is None else few[rows], list(index)
    if rows is not None:
        column = column[rows]
    nulls = column.null_count()
    if nulls == len(column):
        return np.zeros(len(column), np.int32), [None]
    if not nulls and column[0] == column[-1] and bool((column == column[0]).all()):  # as of streams, mostly
        return np.ones(len(column), np.int32), [None, column[0]]
    # Categories of its own, so that they number from 0 and go with the batch.
    numbers = column.cast(pl.Categorical(pl.Categories.random())).to_physical()
    full = numbers.fill_null(_NO_CATEGORY) if nulls else numbers
    codes: Numbers = full.to_numpy().view(np.int32) + np.int32(1)
    some = np.zeros(int(codes.max()) + 1, np.int32)  # a row that shows each
    some[codes] = np.arange(len(codes), dtype=np.int32)
    texts: list[str | None] = [None]
    return codes, texts + column[some[1:]].to_list()


class Texts:
    """The texts that a state refers to, by number. Picklable; `keep` lets go of the others."""

    def __init__(self, items: Sequence[str | None] = (None,)) -> None:
        self.items = list(items)
        self._index = {text: n for n, text in enumerate(self.items)}
        self._kept = len(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> str | None:
        return self.items[number]

    def numbers(self, texts: Sequence[str | None], codes: Sequence[Numbers]) -> list[Numbers]:
        """Columns of numbers into `texts`, as numbers into these; texts that are met for the first time join."""
        used = np.zeros(len(texts), np.bool_)
        for column in codes:
            used[column] = True
        chosen = used.nonzero()[0]
        wanted = [texts[n] for n in chosen.tolist()]
        index, items = self._index, self.items
        found = [index.get(text, -1) for text in wanted]
        if -1 in found:
            for n, text in enumerate(wanted):
                if found[n] < 0:  # or was: a text may be there twice, as a tenant and as what a rule counts
                    found[n] = index.setdefault(text, len(items))
                    if found[n] == len(items):
                        items.append(text)
        mine = np.zeros(len(texts), np.int32)
        mine[chosen] = found
        return [mine[column] for column in codes]

    def named(self, numbers: NDArray[Any]) -> list[str | None]:
        """The texts of a column."""
        items = self.items
        return [items[n] for n in numbers.tolist()]

    def column(self, numbers: NDArray[Any]) -> pl.Series:
        """The texts of a column, as a column."""
        if len(numbers) <= FEW:
            return pl.Series(values=self.named(numbers), dtype=pl.String)
        used, index = distinct(numbers, len(self.items))
        return pick(self.named(used), index)

    def is_grown(self) -> bool:
        """Are there so many more than were last kept that it is worth looking which are still used?"""
        return len(self.items) > 2 * self._kept + _SPARE

    def keep(self, codes: Sequence[Numbers]) -> list[Numbers]:
        """Forget the texts that none of these columns shows; the columns with the new numbers."""
        texts, self.items = self.items, [None]
        self._index = {None: NO_TEXT}
        fresh = self.numbers(texts, codes)
        self._kept = len(self.items)
        return fresh

    def __getstate__(self) -> list[str | None]:
        return self.items

    def __setstate__(self, items: list[str | None]) -> None:
        self.__init__(items)  # type: ignore[misc]
