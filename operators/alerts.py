"""Alerts and the blast radius (DESIGN S10), for many incidents at once.

A cycle runs from an opening, or a reopening from Closed, to the next close. It is announced once; only after that do
its relapses, its close and its newly affected tenants alert.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from operators.keys import NONE
from operators.output import EXPANDED_ALERT, OPENED_ALERT, REOPENED_ALERT, RESOLVED_ALERT, Emission
from operators.tables import Mask, Table, order_by, take
from operators.tenants import TENANT, Tenants
from operators.windows import Positions, changes


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
    tenant: NDArray[np.int32]
    loud: Mask
    relapses: Mask
    closes: Mask
    closed_at: Positions

    @cached_property
    def start(self) -> Positions:
        """The first event of each (episode, cycle)."""
        return changes(self.episode, self.cycle).nonzero()[0]

    @cached_property
    def group(self) -> Positions:
        """The number of each event's (episode, cycle)."""
        return np.arange(len(self.start)).repeat(np.append(self.start[1:], len(self.at)) - self.start)


def alert(cycles: Cycles, tenants: Tenants, emission: Emission) -> Table:
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
    if len(new):
        kind = np.where(first, OPENED_ALERT, REOPENED_ALERT)
        emission.alerts(c.ref[whose], kind, cycle[new], c.at[loud[new]])
        c.row["alerted"][whose[first]] = c.at[loud[new[first]]]

    repeated = carried & c.base["repeated"][episode]
    repeated[new[~first]] = True
    if c.relapses.any():
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
    if len(over):
        emission.alerts(c.ref[over], RESOLVED_ALERT, c.row["reopens"][over].astype(np.int64), c.final_close[over])


def _expand(c: Cycles, announcement: Positions, tenants: Tenants, emission: Emission) -> Table:
    """Count tenants, and alert those that join an announced cycle."""
    held = c.base["active"].nonzero()[0]
    known = tenants.take(c.slot[held])
    event, end, count = _sightings(c)
    if not len(known) and not len(event):
        return known
    group = c.group[event]
    whose, tenant, cycle = c.episode[event], c.tenant[event].astype(np.int64), c.cycle[event]
    # Known and seen side by side, those of an episode's tenant next to each other by cycle: what is known first.
    order = c.slot[held].argsort()
    of_known = held[order[c.slot[held][order].searchsorted(known["slot"])]] if len(known) else held[:0]
    episode = np.concatenate([of_known, whose])
    who = np.concatenate([known["tenant"], tenant])
    cycles = np.concatenate([known["cycle"], cycle])
    order = order_by(who, episode)  # stable: what is known stays first
    lead = changes(episode[order], who[order])
    first = lead.nonzero()[0]
    joins = lead.copy()
    joins[1:] |= cycles[order[1:]] > cycles[order[:-1]]
    fresh = order[joins] - len(known)
    fresh = fresh[fresh >= 0]
    late = fresh[event[fresh] > announcement[group[fresh]]]
    late = late[event[late].argsort()]
    emission.alerts(c.ref[whose[late]], EXPANDED_ALERT, cycle[late], c.at[event[late]], tenant[late])

    total = np.zeros(len(first), TENANT)
    episode = episode[order[first]]
    total["slot"], total["tenant"] = c.slot[episode], who[order[first]]
    if len(first):
        for name, own, add in (
            ("count", count, np.add),
            ("first", c.at[event], np.minimum),
            ("last", c.at[end], np.maximum),
            ("cycle", cycle, np.maximum),
        ):
            total[name] = add.reduceat(np.concatenate([known[name], own])[order], first)
    c.row["tenants"] = np.bincount(episode, minlength=len(c.slot))
    touched = np.logical_or.reduceat(order >= len(known), first) if len(first) else lead
    emission.tenants(c.ref[episode[touched]], take(total, touched))
    return take(total, ~c.ended[episode])


def _sightings(c: Cycles) -> tuple[Positions, Positions, Positions]:
    """Of each tenant in each (episode, cycle): its first event, its last, and how many."""
    some = c.tenant.nonzero()[0]
    if not len(some):
        return some, some, some
    order = some[order_by(c.tenant[some], c.group[some])]
    first = changes(c.group[order], c.tenant[order]).nonzero()[0]
    end = np.append(first[1:], len(order))
    return order[first], order[end - 1], end - first
