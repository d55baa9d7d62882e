"""What a shard knows of its live keys between two steps of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from operators.keys import NONE, Keys, Slots
from operators.output import Emission
from operators.policies import Policies
from operators.tenants import Tenants
from operators.windows import Positions

# The rows a step works on, sorted by slot and S6. Times in µs; `policy` is a number of the state's policies.
ROWS: dict[str, pl.DataType] = {
    "slot": pl.Int64(),
    "at": pl.Int64(),
    "policy": pl.Int64(),
    "kind": pl.Int8(),
    "source": pl.String(),
    "tenant": pl.String(),
    "confidence": pl.Int8(),
    "severity": pl.Int8(),
    "measure": pl.Float64(),
    "item": pl.String(),
}


@dataclass
class State:
    """Live keys, the tenants of their incidents, and the ROWS that a later window may still count. Picklable."""

    keys: Keys = field(default_factory=Keys)
    tenants: Tenants = field(default_factory=Tenants)
    retained: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ROWS))
    policies: Policies = field(default_factory=Policies)

    def emit(self, slots: Slots, emission: Emission) -> None:
        """Write the incidents that stand in these slots."""
        slots = slots[self.keys.rows["active"][slots]]
        chosen = slots.tolist()
        emission.incidents(
            self.keys.rows[slots],
            [self.keys.incidents[s] for s in chosen],
            [self.keys.name(s) for s in chosen],
            [self.keys.sources[s] for s in chosen],
        )

    def refer(self, slots: Slots, emission: Emission) -> Positions:
        """Numbers for the incidents in these slots, to write rows about them."""
        chosen = slots.tolist()
        return emission.refer([self.keys.incidents[s] for s in chosen], [self.keys.name(s) for s in chosen])

    def take_retained(self, slots: Slots) -> pl.DataFrame:
        """Remove and return what is retained of these slots."""
        mine = pl.Series(np.isin(self.retained["slot"].to_numpy(), slots))
        taken = self.retained.filter(mine)
        if taken.height:
            self.retained = self.retained.filter(~mine)
        return taken

    def retain(self, rows: pl.DataFrame) -> None:
        """Keep rows of slots of which nothing is retained."""
        if rows.height:
            self.retained = pl.concat([self.retained, rows])

    def forget(self, slots: Slots, instant: Positions) -> None:
        """Return keys to `none`: of what is retained only witnesses seen since `instant` (µs) still count."""
        self.keys.clear(slots)
        self.tenants.take(slots)
        if self.retained.height:
            floor = np.full(len(self.keys.rows), NONE)
            floor[slots] = instant
            since = self.retained["at"].to_numpy() >= floor[self.retained["slot"].to_numpy()]
            self.retained = self.retained.filter(pl.Series(since))

    def prune(self, until: int) -> None:
        """Drop what no window after `until` (µs) can reach, and the keys of which nothing is left."""
        kept = self.retained
        if kept.height:
            slot = kept["slot"].to_numpy()
            last = np.append(slot[1:] != slot[:-1], True)
            retention = np.zeros(len(self.keys.rows), np.int64)
            retention[slot[last]] = self.policies.retention[kept["policy"].to_numpy()[last]]
            recent = kept["at"].to_numpy() > until - retention[slot]
            if not recent.all():
                self.retained = kept = kept.filter(pl.Series(recent))
        rows = self.keys.rows
        idle = np.flatnonzero(rows["used"] & ~rows["active"])
        if len(idle):
            self.keys.release(np.setdiff1d(idle, kept["slot"].to_numpy()))
