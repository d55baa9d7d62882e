"""Frames made of arrays: what a call of Polars costs is paid where rows are, and no more often than needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.tables import Ints, Mask

FEW = 64  # rows that are handled quicker one by one than by an expression

Schema = Mapping[str, pl.DataType]


def empty(schema: Schema) -> pl.DataFrame:
    """No rows, with these columns."""
    return _empty(tuple(schema.items()))


@cache
def _empty(schema: tuple[tuple[str, pl.DataType], ...]) -> pl.DataFrame:
    return pl.DataFrame(schema=dict(schema))


def framed(schema: Schema, *columns: Any) -> pl.DataFrame:
    """A frame of arrays, lists and series in the order of a schema; times as µs."""
    return pl.DataFrame(
        [_column(name, kind, values) for (name, kind), values in zip(schema.items(), columns, strict=True)]
    )


def _column(name: str, kind: pl.DataType, values: Any) -> pl.Series:
    if isinstance(values, pl.Series):
        column = values.alias(name)
    elif isinstance(values, np.ndarray):
        column = pl.Series(name, values)
    else:
        column = pl.Series(name, values, dtype=kind)
    return column if column.dtype == kind else column.cast(kind)


def pick(values: Sequence[str | None], index: NDArray[Any]) -> pl.Series:
    """values[index] as a column; −1 picks the last."""
    if len(index) <= FEW:
        return pl.Series(values=[values[n] for n in index.tolist()], dtype=pl.String)
    texts = pl.Series(values=values, dtype=pl.String)
    return texts[np.where(index < 0, len(values) - 1, index)]


def nullable(numbers: Ints, holds: Mask) -> pl.Series:
    """A column of numbers, null where they do not hold."""
    if len(numbers) <= FEW:
        some = [number if held else None for number, held in zip(numbers.tolist(), holds.tolist(), strict=True)]
        return pl.Series(values=some, dtype=pl.Int64)
    column = pl.Series(values=np.ascontiguousarray(numbers))
    return column if holds.all() else column.set(pl.Series(~holds), None)


def order_of(*keys: NDArray[Any] | pl.Series) -> Ints:
    """The rows in the order of some columns."""
    if len(keys[0]) > FEW:
        table = pl.DataFrame([pl.Series(str(n), key) for n, key in enumerate(keys)])
        return table.select(pl.arg_sort_by(table.columns).cast(pl.Int64)).to_series().to_numpy()
    rows = list(zip(*(key.to_list() if isinstance(key, pl.Series) else key.tolist() for key in keys), strict=True))
    return np.array(sorted(range(len(rows)), key=rows.__getitem__), np.int64)


def ranks(texts: Sequence[str | None]) -> Ints:
    """The place of each text among them all, in order; equal ones have places of their own."""
    if len(texts) <= FEW:
        order = np.array(sorted(range(len(texts)), key=lambda n: texts[n] or ""), np.int64)
    else:
        order = pl.Series(values=texts, dtype=pl.String).arg_sort().cast(pl.Int64).to_numpy()
    place = np.empty(len(texts), np.int64)
    place[order] = np.arange(len(texts))
    return place


def last_of(*keys: NDArray[Any]) -> Ints:
    """Of the rows with the same numbers the last one of each."""
    if len(keys[0]) < 2:
        return np.arange(len(keys[0]))
    order = np.lexsort(keys)
    same = np.ones(len(order), np.bool_)
    for key in keys:
        same[:-1] &= key[order[1:]] == key[order[:-1]]
    same[-1:] = False
    last: Ints = order[~same]
    return last
