"""Texts as numbers: a text is hashed once, where it comes in; from there on it is compared, grouped and moved as an
integer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.frames import FEW, pick

NO_TEXT = 0  # the number of "there is none"
_FEW = 256  # rows below which a dictionary is quicker than a call of Polars
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
    # Categories of its own, so that they number from 0 and go with the batch.
    numbers = column.cast(pl.Categorical(pl.Categories.random())).to_physical().cast(pl.Int32)
    codes = numbers.fill_null(-1).to_numpy() if numbers.null_count() else numbers.to_numpy()
    some = np.zeros(int(codes.max(initial=-1)) + 2, np.int64)  # a row that shows each
    some[codes + 1] = np.arange(len(codes))
    texts: list[str | None] = [None]
    return codes + np.int32(1), texts + column[some[1:]].to_list()


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
        index, items = self._index, self.items
        mine = np.zeros(len(texts), np.int32)
        for n in used.nonzero()[0].tolist():
            text = texts[n]
            number = index.get(text)
            if number is None:
                number = index[text] = len(items)
                items.append(text)
            mine[n] = number
        return [mine[column] for column in codes]

    def named(self, numbers: NDArray[Any]) -> list[str | None]:
        """The texts of a column."""
        items = self.items
        return [items[n] for n in numbers.tolist()]

    def column(self, numbers: NDArray[Any]) -> pl.Series:
        """The texts of a column, as a column."""
        if len(numbers) <= FEW:
            return pl.Series(values=self.named(numbers), dtype=pl.String)
        used, index = np.unique(numbers, return_inverse=True)
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
