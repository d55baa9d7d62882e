"""What a shard knows of its live keys between two steps of the engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from operators.keys import NONE, Keys, Slots
from operators.matches import ROW, Name
from operators.output import Emission
from operators.policies import Policies
from operators.tables import Table, joined, of_slots, put, take
from operators.tenants import Tenants
from operators.texts import Texts
from operators.windows import Positions


@dataclass
class State:
    """Live keys, the tenants of their incidents, and the rows that a later window may still count. Picklable.

    retained: ROW, sorted by slot and S6. texts: what rows and tenants point into.
    """

    keys: Keys = field(default_factory=Keys)
    tenants: Tenants = field(default_factory=Tenants)
    retained: Table = field(default_factory=lambda: np.zeros(0, ROW))
    policies: Policies = field(default_factory=Policies)
    texts: Texts = field(default_factory=Texts)

    def emit(self, slots: Slots, emission: Emission) -> None:
        """Write the incidents that stand in these slots."""
        slots = slots[self.keys.rows["active"][slots]]
        chosen = slots.tolist()
        if not chosen:
            return
        emission.incidents(
            take(self.keys.rows, slots),
            [self.keys.incidents[s] for s in chosen],
            [self.keys.name(s) for s in chosen],
            [self.keys.sources[s] for s in chosen],
        )

    def refer(self, slots: Slots, emission: Emission) -> Positions:
        """Numbers for the incidents in these slots, to write rows about them."""
        chosen = slots.tolist()
        return emission.refer([self.keys.incidents[s] for s in chosen], [self.keys.name(s) for s in chosen])

    def retained_of(self, slots: Slots) -> Table:
        """A copy of what is retained of these slots, in their order."""
        return take(self.retained, of_slots(self.retained, slots)) if len(self.retained) else self.retained.copy()

    def take_retained(self, slots: Slots) -> Table:
        """Remove and return what is retained of these slots, in their order."""
        if not len(self.retained):
            return self.retained
        mine = of_slots(self.retained, slots)
        taken = take(self.retained, mine)
        if len(mine):
            others = np.ones(len(self.retained), np.bool_)
            others[mine] = False
            self.retained = take(self.retained, others)
        return taken

    def retain(self, rows: Table) -> None:
        """Keep rows of slots of which nothing is retained."""
        if len(rows):
            both = joined(self.retained, rows)
            self.retained = take(both, both["slot"].argsort(kind="stable"))

    def forget(self, slots: Slots, instant: Positions) -> None:
        """Return keys to `none`: of what is retained only witnesses seen since `instant` (µs) still count."""
        self.keys.clear(slots)
        self.tenants.take(slots)
        if len(self.retained):
            floor = np.full(len(self.keys.rows), NONE)
            floor[slots] = instant
            self.retained = take(self.retained, self.retained["at"] >= floor[self.retained["slot"]])

    def copy(self, names: Iterable[Name], into: State) -> None:
        """Copy keys into a state with the same policies and texts, where they are not.

        Rows that are retained lose their offsets (−1): who belongs to which incident is told of them already.
        """
        old: list[int] = []
        new: list[int] = []
        for name in names:
            slot = self.keys.find(name)
            if slot is not None:
                old.append(slot)
                new.append(into.keys.slot(name))
                into.keys.incidents[new[-1]] = self.keys.incidents[slot]
                into.keys.sources[new[-1]] = self.keys.sources[slot]
        if not old:
            return
        order = np.argsort(old)
        slots, moved = np.array(old)[order], np.zeros(len(self.keys.rows), np.int64)
        moved[old] = new
        put(into.keys.rows, np.array(new), take(self.keys.rows, np.array(old)))
        tenants, retained = self.tenants.of(slots), self.retained_of(slots)
        for rows in (tenants, retained):
            rows["slot"] = moved[rows["slot"]]
        retained["offset"] = -1
        into.tenants.put(tenants)
        into.retain(retained)

    def drop(self, names: Iterable[Name]) -> None:
        """Forget keys as if they had never been."""
        slots = np.array([slot for name in names if (slot := self.keys.find(name)) is not None], np.int64)
        if len(slots):
            slots.sort()
            self.tenants.take(slots)
            self.take_retained(slots)
            self.keys.release(slots)

    def prune(self, until: int) -> None:
        """Drop what no window after `until` (µs) can reach, and the keys of which nothing is left."""
        kept = self.retained
        rows = self.keys.rows
        if len(kept):
            slot = kept["slot"]
            last = np.append(slot[1:] != slot[:-1], True)
            retention = np.zeros(len(rows), np.int64)
            retention[slot[last]] = self.policies.retention[kept["policy"][last]]
            recent = kept["at"] > until - retention[slot]
            if not recent.all():
                self.retained = kept = take(kept, recent)
        idle = rows["used"] & ~rows["active"]
        idle[kept["slot"]] = False
        if idle.any():
            self.keys.release(idle.nonzero()[0])
