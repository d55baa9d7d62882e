"""`advance`: one step of the engine for all keys at once (DESIGN S6 to S10).

    advance(state, matches sorted by S6, until) -> output

It is used for the settled run and, on a copy of the state, for the provisional one. Events are handled as columns:
the gap before each event gives its transitions, `episodes` finds the openings, and what a whole incident needs
(counts, tenants, alerts) are sums over its stretch of rows. Commands cut the batch into rounds.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from operators import course, timers
from operators.course import Course, Gaps, Namer
from operators.keys import Slots
from operators.matches import MATCH, RESOLVE
from operators.output import Emission
from operators.state import State
from operators.windows import Mask, Span, running, starts, windows


def advance(state: State, rows: pl.DataFrame, until: int, emission: Emission, name: Namer) -> None:
    """Apply sorted rows (ROWS) to the state, then let every deadline up to `until` (µs) pass; write to `emission`."""
    touched: list[Slots] = [rows["slot"].unique().to_numpy()]
    resolves = rows["kind"] == RESOLVE
    if resolves.any():
        slot = rows["slot"].to_numpy()
        so_far = running(resolves.to_numpy())[:-1]
        rounds = so_far - so_far[starts(slot)]
        for number in range(int(rounds.max()) + 1):
            here = pl.Series(rounds == number)
            _apply(state, rows.filter(here & ~resolves), emission, name)
            commands = rows.filter(here & resolves)
            touched.append(timers.resolve(state, commands, emission))
            state.emit(np.unique(np.concatenate(touched)), emission)  # before some of them are forgotten
            timers.expire(state, commands["slot"].to_numpy(), commands["at"].to_numpy())
    else:
        _apply(state, rows, emission, name)
    live = state.keys.live()
    instant = np.full(len(live), until)
    touched.append(timers.fire(state, live, instant, emission))
    state.emit(np.unique(np.concatenate(touched)), emission)
    timers.expire(state, live, instant)
    state.prune(until)


def _apply(state: State, rows: pl.DataFrame, emission: Emission, name: Namer) -> None:
    """Apply matches and witnesses."""
    if not rows.height:
        return
    rows, is_new = _with_retained(state, rows)
    span = Span.of(rows)
    left, alert_left = windows(span, state.policies.window), windows(span, state.policies.alert_window)
    begins = span.start == np.arange(len(span))
    first = np.flatnonzero(begins)  # of each key, in the span
    was_active = state.keys.rows["active"][span.slot[first]]
    key = np.cumsum(begins) - 1
    # Where what may count later begins: with the incident that stands, or after the last forgetting.
    floor = first.copy()
    # What is retained of an active key is in its incident already.
    eligible = np.flatnonzero((span.kind == MATCH) & (is_new | ~was_active[key]))
    if len(eligible):
        gaps = Gaps(state, span, eligible)
        found = course.find(state, span, gaps, left, is_new[eligible])
        if len(found.key):
            Course(state, span, rows, gaps, found, name).write(left, alert_left, emission)
        whose = key[eligible[gaps.first]]
        floor[whose] = np.maximum(floor[whose], found.idle_floor)
        stands = ~found.ended
        floor[whose[found.key[stands]]] = found.floor[stands]
    last = np.append(first[1:], len(span)) - 1
    floor = np.maximum(floor, np.minimum(left, alert_left)[last])
    held = state.policies.retention[span.policy[last]] > 0
    state.retain(rows.filter(pl.Series((np.arange(len(span)) >= floor[key]) & held[key])))


def _with_retained(state: State, rows: pl.DataFrame) -> tuple[pl.DataFrame, Mask]:
    """The rows with what the windows of their keys retain before them, and which of them are new."""
    old = state.take_retained(rows["slot"].unique().to_numpy()) if state.retained.height else state.retained
    if not old.height:
        return rows, np.ones(rows.height, np.bool_)
    both = pl.concat([old, rows])
    order = np.argsort(both["slot"].to_numpy(), kind="stable")
    return both[order], order >= old.height
