"""The groups that matter most, one by one, and all others as one: rows of rollups as series over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from operators.histogram import Floats, Ints
from operators.measures import Measured
from operators.tables import distinct
from operators.texts import coded

Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows by the values of some columns. number: each row's group, in the order of names, none last.

    shown: of each group a row that has its values.
    """

    number: Ints
    shown: Ints

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.shown)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Which groups are shown, and where. chosen: the groups, the most important first. slot: of each group its place
    among them; len(chosen) for all others together."""

    chosen: Ints
    slot: Ints


def groups_of(rows: pl.DataFrame, by: Sequence[str]) -> Groups:
    """The groups of rows; without columns all rows are one group, even of none."""
    number = np.zeros(rows.height, np.int64)
    size = 1
    for name in by:
        codes, texts = coded(rows[name])
        # Numbers in the order of names, so that the groups are in theirs.
        order = sorted(range(len(texts)), key=lambda n: (texts[n] is None, texts[n] or ""))
        place = np.empty(len(texts), np.int64)
        place[order] = np.arange(len(texts))
        used, number = distinct(number * len(texts) + place[codes], size * len(texts))
        size = len(used)
    shown = np.zeros(size, np.int64)
    shown[number] = np.arange(rows.height)
    return Groups(number, shown)


def keys(rows: pl.DataFrame, by: Sequence[str], shown: Ints) -> list[Key]:
    """The values of the columns in these rows."""
    return rows.select(by)[shown].rows() if by else [()] * len(shown)


def ranked(value: Floats, there: Ints, most: int) -> Ranked:
    """The groups with the largest values; of equal ones the first, and those without a value (NaN) last.

    there: what a group must have some of, to be one. most: how many are shown.
    """
    order = np.lexsort((np.where(np.isnan(value), np.inf, -value), there == 0))
    chosen = order[: min(most, int(np.count_nonzero(there)))]
    slot = np.full(len(value), len(chosen), np.int64)
    slot[chosen] = np.arange(len(chosen))
    return Ranked(chosen, slot)


def labels(rows: pl.DataFrame, slot: Ints, size: int) -> list[str | None]:
    """The label that most events of each slot have; of equal ones the first. rows: with `label` and `count`."""
    found: list[str | None] = [None] * size
    counted = (
        rows.select("label", "count", slot=pl.Series(slot))
        .filter(pl.col("label").is_not_null() & (pl.col("slot") < size))
        .group_by("slot", "label")
        .agg(pl.col("count").sum())
        .sort("count", "label", descending=[False, True])
    )
    for label, _, place in counted.select("label", "count", "slot").iter_rows():
        found[place] = label
    return found


def taken(found: Measured, groups: Ints) -> Measured:
    """The measures of some of the groups, in their order."""
    return Measured(found.count[groups], {name: values[groups] for name, values in found.values.items()})
