"""The state a shard keeps for each live key: one row of numbers a key, reused once the key is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from operators.matches import Name
from operators.tables import Table

NONE = np.iinfo(np.int64).min  # a time that does not hold
OPEN, RECOVERING, CLOSED = 0, 1, 2
STATUS = ("Open", "Recovering", "Closed")

# Times in µs since 1970, UTC. `recover`, `close` and `forget` are the deadlines that follow from the last event, or
# from a manual resolve; `status` says which of them have fired.
KEY = np.dtype(
    [
        ("used", np.bool_),  # the slot holds a key
        ("active", np.bool_),  # an incident is there: Open, Recovering or Closed within its cooldown
        ("status", np.int8),
        ("recover", np.int64),
        ("close", np.int64),
        ("forget", np.int64),
        ("opened", np.int64),
        ("reopened", np.int64),
        ("first", np.int64),
        ("last", np.int64),
        ("alerted", np.int64),
        ("events", np.int64),
        ("tenants", np.int64),
        ("reopens", np.int32),  # Closed->Open so far, which is also the number of the cycle
        ("transitions", np.int32),
        ("confidence", np.int8),
        ("severity", np.int8),
        ("announced", np.bool_),  # this cycle has alerted
        ("repeated", np.bool_),  # this cycle has alerted `reopened`
        ("policy", np.int32),  # of the last event
        ("opening_policy", np.int32),
    ],
    align=True,
)

Slots = NDArray[np.int64]


@dataclass
class Keys:
    """Live keys in slots. `rows[slot]` is the key's KEY row; names, incident ids and sources stand beside it."""

    rows: Table = field(default_factory=lambda: np.zeros(0, KEY))
    names: list[Name | None] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)
    sources: list[str | None] = field(default_factory=list)
    _slots: dict[Name, int] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._slots)

    def slot(self, name: Name) -> int:
        """The slot of a key, a fresh one if it is not live."""
        found = self._slots.get(name)
        if found is not None:
            return found
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self._slots[name] = slot
        self.names[slot] = name
        self.rows["used"][slot] = True
        return slot

    def find(self, name: Name) -> int | None:
        """The slot of a live key, else None."""
        return self._slots.get(name)

    def name(self, slot: int) -> Name:
        """The key a slot holds. Raises KeyError for a free slot."""
        name = self.names[slot]
        if name is None:
            raise KeyError(slot)
        return name

    def clear(self, slots: Slots) -> None:
        """Return keys to `none`: they stay live until released."""
        if not len(slots):
            return
        self.rows[slots] = np.zeros(1, KEY)[0]
        self.rows["used"][slots] = True
        for slot in slots.tolist():
            self.incidents[slot] = ""
            self.sources[slot] = None

    def release(self, slots: Slots) -> None:
        """Forget keys altogether."""
        self.clear(slots)
        self.rows["used"][slots] = False
        for slot in slots.tolist():
            del self._slots[self.name(slot)]
            self.names[slot] = None
            self._free.append(slot)

    def live(self) -> Slots:
        """The slots in use, ascending."""
        return np.flatnonzero(self.rows["used"])

    def _grow(self) -> None:
        size = len(self.rows)
        more = max(64, size)
        self.rows = np.concatenate([self.rows, np.zeros(more, KEY)])
        self.names += [None] * more
        self.incidents += [""] * more
        self.sources += [None] * more
        self._free += range(size + more - 1, size - 1, -1)
