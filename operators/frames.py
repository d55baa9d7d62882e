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
        [
            _column(name, kind, values)
            for (name, kind), values in zip(schema.items(), columns, strict=True)
        ]
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


def in_order(frame: pl.DataFrame, *by: str) -> pl.DataFrame:
    """The rows sorted by some columns."""
    if frame.height < 2:
        return frame
    if frame.height > FEW:
        return frame.sort(*by)
    columns = (frame.get_column(name) for name in by)
    plain = (column if column.dtype == pl.String else column.cast(pl.Int64) for column in columns)
    keys = list(zip(*(column.to_list() for column in plain), strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return frame if order == list(range(len(keys))) else frame[order]


def last_of(frame: pl.DataFrame, width: int) -> pl.DataFrame:
    """Of the rows with the same text in the first `width` columns the last one, in the order of the rows that stay."""
    if frame.height < 2:
        return frame
    if frame.height > FEW:
        return frame.unique(frame.columns[:width], keep="last", maintain_order=True)
    keys = zip(*(column.to_list() for column in frame.get_columns()[:width]), strict=True)
    last = sorted({key: n for n, key in enumerate(keys)}.values())
    return frame if len(last) == frame.height else frame[last]
