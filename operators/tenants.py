"""Which tenants an incident has touched, how often and when: the blast radius."""

from __future__ import annotations

import numpy as np

from operators.keys import Slots
from operators.tables import Table, joined, of_slots, take

# `tenant` is a number of the state's texts, `cycle` the cycle in which it was last seen; times in µs.
TENANT = np.dtype(
    [
        ("slot", np.int64),
        ("tenant", np.int64),
        ("count", np.int64),
        ("first", np.int64),
        ("last", np.int64),
        ("cycle", np.int64),
    ]
)


class Tenants:
    """The tenants of the incidents that are live, one row a (slot, tenant), sorted by slot."""

    def __init__(self, rows: Table | None = None) -> None:
        self.rows: Table = np.zeros(0, TENANT) if rows is None else rows

    def of(self, slots: Slots) -> Table:
        """A copy of the rows of some slots, in their order."""
        return take(self.rows, of_slots(self.rows, slots)) if len(self.rows) else self.rows.copy()

    def take(self, slots: Slots) -> Table:
        """Remove and return the rows of some slots, in their order."""
        if not len(self.rows):
            return self.rows
        mine = of_slots(self.rows, slots)
        taken = take(self.rows, mine)
        if len(mine):
            others = np.ones(len(self.rows), np.bool_)
            others[mine] = False
            self.rows = take(self.rows, others)
        return taken

    def put(self, rows: Table) -> None:
        """Add rows of slots that have none."""
        if len(rows):
            both = joined(self.rows, rows)
            self.rows = take(both, both["slot"].argsort(kind="stable"))
