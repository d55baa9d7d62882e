"""Matches that wait until every partition's watermark has passed them."""

from __future__ import annotations

from collections.abc import Container, Iterable

import numpy as np

from operators.clock import NEVER
from operators.matches import ROW, Name
from operators.tables import Mask, Table, put, take

FOREVER = 2**62  # an instant by which every timer has run out


class Pending:
    """Rows (ROW) whose `slot` is a number into `names`. Picklable.

    numbers: of the names. oldest: the earliest `at`, µs; FOREVER where there is none.
    """

    def __init__(self) -> None:
        self.names: list[Name] = []
        self.numbers: dict[Name, int] = {}
        self.oldest = FOREVER
        self._buffer, self._size = np.zeros(0, ROW), 0

    def __len__(self) -> int:
        return self._size

    @property
    def rows(self) -> Table:
        """All of them, in the order in which they came."""
        return self._buffer[: self._size]

    def add(self, rows: Table, names: list[Name]) -> Table:
        """Add rows whose `slot` is a number into `names`, at least one; returns them where they are kept."""
        size = self._size + len(rows)
        if size > len(self._buffer):
            grown = np.empty(max(size, 2 * self._size), ROW)
            put(grown, slice(self._size), self.rows)
            self._buffer = grown
        put(self._buffer, slice(self._size, size), rows)
        kept, self._size = self._buffer[self._size : size], size
        used = np.zeros(len(names), np.bool_)
        used[rows["slot"]] = True
        numbers = np.zeros(len(names), np.int64)
        for n in used.nonzero()[0].tolist():
            numbers[n] = self._number(names[n])
        kept["slot"] = numbers[rows["slot"]]
        self.oldest = min(self.oldest, int(rows["at"].min()))
        return kept

    def take(self, last: int) -> tuple[Table, list[Name]]:
        """Remove and return the rows with `at` up to `last`, and the names of their keys."""
        rows, names = self.rows, self.names
        if self.oldest > last:
            return rows[:0], names
        due: Mask = rows["at"] <= last
        taken, rest = take(rows, due), take(rows, ~due)
        self.names, self.numbers, self._buffer, self._size = [], {}, rows[:0], 0
        self.oldest = FOREVER
        if len(rest):  # names of keys that no longer wait must not pile up
            self.add(rest, names)
        return taken, names

    def since(self, instant: int, done: Container[Name], names: Iterable[Name]) -> Table:
        """The rows of some keys; of those that are done up to an instant, µs, the ones that follow."""
        return take(self.rows, self._after(instant, done, names).nonzero()[0])

    def until(self, last: int, instant: int, done: Container[Name]) -> Table:
        """The rows of all keys with `at` up to `last`, µs; of those that are done up to an instant, what follows it."""
        rows = self.rows
        return take(rows, (self._after(instant, done, self.names) & (rows["at"] <= last)).nonzero()[0])

    def _after(self, instant: int, done: Container[Name], names: Iterable[Name]) -> Mask:
        floor = np.full(len(self.names), FOREVER)
        for name in names:
            number = self.numbers.get(name)
            if number is not None:
                floor[number] = instant if name in done else NEVER
        rows = self.rows
        return rows["at"] >= floor[rows["slot"]]  # type: ignore[no-any-return]

    def __getstate__(self) -> tuple[list[Name], Table]:
        return self.names, self.rows

    def __setstate__(self, state: tuple[list[Name], Table]) -> None:
        self.__init__()  # type: ignore[misc]
        names, rows = state
        if len(rows):
            self.add(rows, names)

    def _number(self, name: Name) -> int:
        number = self.numbers.get(name)
        if number is None:
            number = self.numbers[name] = len(self.names)
            self.names.append(name)
        return number
