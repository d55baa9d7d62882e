"""The events that rules claim, a row a claim, as the numbers that shards count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from operators.claim_columns import group_keys, items, measures
from operators.claim_plan import Claims, Ints
from operators.events import SEVERITIES
from operators.fields import TEXT_COLUMNS
from operators.matches import HIGH, MATCH, MEDIUM, NO_MEASURE, ROW, Name
from operators.rulebook import Rulebook
from operators.rules import Rule
from operators.tables import Table, distinct
from operators.texts import NO_TEXT, Numbers, coded

_SEVERITY = {name: n for n, name in enumerate(SEVERITIES)}
_NO_ITEM: tuple[Numbers, list[str | None]] = np.zeros(1, np.int32), [None]


class Claimed:
    """Claims and their events. events: n rows of event columns; policy: per claim, its index in the book's policies.

    rows: ROW; names: of their keys; texts: what they point into; group, groups: per claim, its group key's number, and
    the keys.
    """

    def __init__(self, events: pl.DataFrame, claims: Claims, policy: Ints, book: Rulebook) -> None:
        self._coded: dict[str, tuple[Numbers, list[str | None]]] = {}
        self._events, self._row = events, claims.row
        self.rows: Table = np.zeros(len(claims.row), ROW)
        self.names: list[Name] = []
        self.texts: list[str | None] = [None]
        self.group: Numbers = np.zeros(0, np.int32)
        self.groups: list[str] = []
        if len(claims.row):
            self._fill(claims, policy, book)

    def _fill(self, claims: Claims, policy: Ints, book: Rulebook) -> None:
        rows = self.rows
        rows["at"], rows["offset"] = self.integers("at"), self.integers("offset")
        rows["policy"], rows["kind"] = policy, claims.kind
        rows["confidence"] = np.where((claims.kind == MATCH) & (claims.both | book.spike[policy]), HIGH, MEDIUM)
        severity, severities = self.coded("severity")
        rows["severity"] = np.array([_SEVERITY.get(text or "", -1) for text in severities])[severity]
        rows["measure"] = self._measures(book, policy)
        for name, (numbers, texts) in (
            ("source", self.coded("source")),
            ("tenant", self.coded("tenant")),
            ("item", self._items(book, policy)),
        ):
            # Behind the texts of the columns before it; number 0 stays "there is none".
            rows[name] = np.where(numbers == NO_TEXT, NO_TEXT, numbers + (len(self.texts) - 1))
            self.texts += texts[1:]
        self.group, self.groups = self._group(book, claims.rule)
        self._name(claims.rule, book.rules)

    def _name(self, rule: Ints, rules: Sequence[Rule]) -> None:
        """Number the keys: combinations of few workspaces, rules and groups."""
        workspace, workspaces = self.coded("workspace")
        places, size = len(self.groups), len(rules)
        key = (workspace.astype(np.int64) * size + rule) * places + self.group
        keys, self.rows["slot"] = distinct(key, len(workspaces) * size * places)
        self.names = [
            (workspaces[n // places // size], rules[n // places % size].id, self.groups[n % places])
            for n in keys.tolist()
        ]

    def integers(self, name: str) -> Ints:
        """A column of numbers or times."""
        column = self._events.get_column(name)
        return (column if column.dtype == pl.Int64 else column.cast(pl.Int64)).to_numpy()[self._row]

    def coded(self, name: str) -> tuple[Numbers, list[str | None]]:
        """A column of texts, see `texts.coded`."""
        if name not in self._coded:
            self._coded[name] = coded(self._events.get_column(name), self._row)
        return self._coded[name]

    def _frame(self, book: Rulebook) -> pl.DataFrame:
        return pl.DataFrame([self._events.get_column(name) for name in book.columns])[self._row]

    def _group(self, book: Rulebook, rule: Ints) -> tuple[Numbers, list[str]]:
        group_by = [one.group_by for one in book.rules]
        used = {group_by[n] for n in np.bincount(rule).nonzero()[0].tolist()}
        fields = next(iter(used))
        if len(used) == 1 and len(fields) == 1 and fields[0] in TEXT_COLUMNS:
            numbers, texts = self.coded(fields[0])
        else:
            numbers, texts = coded(group_keys(self._frame(book), group_by, rule))
        return numbers, ["", *texts[1:]]  # type: ignore[list-item]  # only the first is null

    def _measures(self, book: Rulebook, policy: Ints) -> Any:
        if not book.measures[policy].any():
            return NO_MEASURE
        return measures(self._frame(book), book.thresholds, policy).fill_null(NO_MEASURE).to_numpy()

    def _items(self, book: Rulebook, policy: Ints) -> tuple[Numbers, list[str | None]]:
        if not book.items[policy].any():
            return _NO_ITEM
        return coded(items(self._frame(book), book.thresholds, policy))
