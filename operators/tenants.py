"""Which tenants an incident has touched, how often and when: the blast radius."""

from __future__ import annotations

import numpy as np
import polars as pl

from operators.keys import Slots

# `cycle` is the cycle in which the tenant was last seen; times in µs.
COLUMNS: dict[str, pl.DataType] = {
    "slot": pl.Int64(),
    "tenant": pl.String(),
    "count": pl.Int64(),
    "first": pl.Int64(),
    "last": pl.Int64(),
    "cycle": pl.Int64(),
}


class Tenants:
    """The tenants of the incidents that are live, one row a (slot, tenant)."""

    def __init__(self, rows: pl.DataFrame | None = None) -> None:
        self.rows = pl.DataFrame(schema=COLUMNS) if rows is None else rows

    def take(self, slots: Slots) -> pl.DataFrame:
        """Remove and return the rows of some slots."""
        chosen = pl.Series(np.isin(self.rows["slot"].to_numpy(), slots))
        taken = self.rows.filter(chosen)
        if taken.height:
            self.rows = self.rows.filter(~chosen)
        return taken

    def put(self, rows: pl.DataFrame) -> None:
        """Add rows of slots that have none."""
        if rows.height:
            self.rows = pl.concat([self.rows, rows.select(COLUMNS.keys())], rechunk=True)
