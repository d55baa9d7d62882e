"""Alerts and the blast radius (DESIGN S10), for many incidents at once.

A cycle runs from an opening, or a reopening from Closed, to the next close. It is announced once; only after that do
its relapses, its close and its newly affected tenants alert.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from operators.keys import NONE, Table
from operators.output import EXPANDED_ALERT, OPENED_ALERT, REOPENED_ALERT, RESOLVED_ALERT, Emission
from operators.tenants import Tenants
from operators.windows import Mask, Positions


@dataclass(frozen=True)
class Cycles:
    """m episodes of incidents with their L events, sorted by episode and S6.

    Per episode: slot; ref (of the emission); base, row: KEY rows before and after the events; length; offset[m+1] of
    its events; ended; final_closes, final_close: it closed, and when, after its last event and before it ended.
    Per event: episode; cycle; at; tenant; loud: enough in the alert window, or none asked for; relapses: it turned
    Recovering into Open; closes, closed_at: the incident closed in the gap before it.
    """

    slot: Positions
    ref: Positions
    base: Table
    row: Table
    length: Positions
    offset: Positions
    ended: Mask
    final_closes: Mask
    final_close: Positions
    episode: Positions
    cycle: Positions
    at: Positions
    tenant: pl.Series
    loud: Mask
    relapses: Mask
    closes: Mask
    closed_at: Positions

    @cached_property
    def start(self) -> Positions:
        """The first event of each (episode, cycle)."""
        change = np.ones(len(self.at), np.bool_)
        change[1:] = (self.episode[1:] != self.episode[:-1]) | (self.cycle[1:] != self.cycle[:-1])
        return np.flatnonzero(change)

    @cached_property
    def group(self) -> Positions:
        """The number of each event's (episode, cycle)."""
        return np.repeat(np.arange(len(self.start)), np.diff(np.append(self.start, len(self.at))))


def alert(cycles: Cycles, tenants: Tenants, emission: Emission) -> pl.DataFrame:
    """Write the alerts of these episodes; bring `row` and the tenants of what still stands up to date (returned)."""
    announcement = _announce(cycles, emission)
    _resolve(cycles, announcement, emission)
    return _expand(cycles, announcement, tenants, emission)


def _announce(c: Cycles, emission: Emission) -> Positions:
    """Announce cycles and their first relapse; per cycle the event that announced it, −1 before, L never."""
    size = len(c.at)
    if not size:
        return np.zeros(0, np.int64)
    event = np.arange(size)
    episode, cycle = c.episode[c.start], c.cycle[c.start]
    carried = (c.start == c.offset[episode]) & c.base["active"][episode] & (cycle == c.base["reopens"][episode])
    already = carried & c.base["announced"][episode]
    loud = np.minimum.reduceat(np.where(c.loud, event, size), c.start)
    announcement = np.where(already, -1, loud)

    new = np.flatnonzero(~already & (loud < size))
    whose = episode[new]
    first = np.append(True, whose[1:] != whose[:-1])[: len(new)] & (c.row["alerted"][whose] == NONE)
    kind = np.where(first, OPENED_ALERT, REOPENED_ALERT)
    emission.alerts(c.ref[whose], kind, cycle[new], c.at[loud[new]])
    c.row["alerted"][whose[first]] = c.at[loud[new[first]]]

    repeated = carried & c.base["repeated"][episode]
    repeated[new[~first]] = True
    again = np.flatnonzero(c.relapses & (event > announcement[c.group]) & ~repeated[c.group])
    groups, which = np.unique(c.group[again], return_index=True)
    emission.alerts(c.ref[episode[groups]], REOPENED_ALERT, cycle[groups], c.at[again[which]])
    repeated[groups] = True

    last = np.append(episode[1:] != episode[:-1], True)
    c.row["announced"][episode[last]] = announcement[last] < size
    c.row["repeated"][episode[last]] = repeated[last]
    return announcement


def _resolve(c: Cycles, announcement: Positions, emission: Emission) -> None:
    """Say that announced cycles closed: in the gap before an event, or after the last one."""
    said = np.append(announcement < len(c.at), False)  # a last entry to point at where there is no cycle
    closed = np.flatnonzero(c.closes)
    if len(closed):
        episode = c.episode[closed]
        leads = closed == c.offset[episode]
        announced = np.where(leads, c.base["announced"][episode], said[c.group[closed - 1]])
        cycle = np.where(leads, c.base["reopens"][episode], c.cycle[closed - 1]).astype(np.int64)
        emission.alerts(c.ref[episode][announced], RESOLVED_ALERT, cycle[announced], c.closed_at[closed][announced])
    over = np.flatnonzero(c.final_closes & c.row["announced"])
    emission.alerts(c.ref[over], RESOLVED_ALERT, c.row["reopens"][over].astype(np.int64), c.final_close[over])


def _expand(c: Cycles, announcement: Positions, tenants: Tenants, emission: Emission) -> pl.DataFrame:
    """Count tenants, and alert those that join an announced cycle."""
    held = np.flatnonzero(c.base["active"])
    where = pl.DataFrame({"slot": c.slot[held], "episode": held})
    known = tenants.take(c.slot[held]).join(where, on="slot", maintain_order="left")
    events = pl.DataFrame({"group": c.group, "event": np.arange(len(c.at)), "tenant": c.tenant})
    seen = (
        events.lazy()
        .filter(pl.col("tenant").is_not_null())
        .group_by("group", "tenant")
        .agg(pl.col("event").first(), pl.col("event").last().alias("end"), pl.len().cast(pl.Int64).alias("count"))
        .collect()
    )
    begin = c.start[seen["group"].to_numpy()]
    seen = seen.with_columns(
        pl.Series("episode", c.episode[begin]),
        pl.Series("cycle", c.cycle[begin]),
        pl.Series("first", c.at[seen["event"].to_numpy()]),
        pl.Series("last", c.at[seen["end"].to_numpy()]),
    )
    if seen.height:
        joined = seen.join(
            known.select("episode", "tenant", pl.col("cycle").alias("known")), on=["episode", "tenant"], how="left"
        ).filter(pl.col("known").is_null() | (pl.col("known") < pl.col("cycle")))
        event = joined["event"].to_numpy()
        late = event > announcement[c.group[event]]
        joins = joined.filter(pl.Series(late)).sort("event", "tenant")
        emission.alerts(
            c.ref[joins["episode"].to_numpy()],
            EXPANDED_ALERT,
            joins["cycle"].to_numpy(),
            joins["first"].to_numpy(),
            joins["tenant"],
        )
    parts = ["episode", "tenant", "count", "first", "last", "cycle"]
    total = (
        pl.concat([known.select(parts), seen.select(parts)])
        .group_by("episode", "tenant")
        .agg(pl.col("count").sum(), pl.col("first").min(), pl.col("last").max(), pl.col("cycle").max())
    )
    episode = total["episode"].to_numpy()
    c.row["tenants"] = np.bincount(episode, minlength=len(c.slot))
    total = total.with_columns(pl.Series("slot", c.slot[episode]), pl.Series("ref", c.ref[episode]))
    touched = total.join(seen.select("episode", "tenant").unique(), on=["episode", "tenant"], how="semi")
    emission.tenants(touched.select("ref", "tenant", "count", "first", "last"))
    return total.filter(pl.Series(~c.ended[episode]))
