"""Matches that wait until every partition's watermark has passed them."""

from __future__ import annotations

import numpy as np

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

    def of(self, names: list[Name]) -> Table:
        """The rows of some keys."""
        wanted = [self.numbers[name] for name in names if name in self.numbers]
        if len(wanted) == len(self.names):
            return self.rows
        mine = np.zeros(len(self.names), np.bool_)
        mine[wanted] = True
        return take(self.rows, mine[self.rows["slot"]])

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
