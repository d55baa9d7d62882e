"""`advance`: one step of the engine for all keys at once (DESIGN S6 to S10).

    advance(state, matches sorted by S6, until) -> output

It is used for the settled run and, on a copy of the state, for the provisional one. Events are handled as columns:
the gap before each event gives its transitions, `episodes` finds the openings, and what a whole incident needs
(counts, tenants, alerts) are sums over its stretch of rows. Commands cut the batch into rounds.
"""

from __future__ import annotations

import numpy as np

from operators import course, timers
from operators.course import Course, Gaps, Namer
from operators.keys import Slots
from operators.matches import MATCH, RESOLVE
from operators.output import Emission
from operators.state import State
from operators.tables import Mask, Table, joined, take
from operators.windows import Span, changes, running, starts, windows


def advance(state: State, rows: Table, until: int, emission: Emission, name: Namer) -> None:
    """Apply sorted rows (ROW) to the state, then let every deadline up to `until` (µs) pass; write to `emission`."""
    touched: list[Slots] = [rows["slot"][changes(rows["slot"])]]
    resolves: Mask = rows["kind"] == RESOLVE
    if resolves.any():
        so_far = running(resolves)[:-1]
        rounds = so_far - so_far[starts(rows["slot"])]
        for number in range(int(rounds.max()) + 1):
            here = rounds == number
            _apply(state, take(rows, here & ~resolves), emission, name)
            commands = take(rows, here & resolves)
            touched.append(timers.resolve(state, commands, emission))
            state.emit(distinct(touched), emission)  # before some of them are forgotten
            timers.expire(state, commands["slot"], commands["at"])
    else:
        _apply(state, rows, emission, name)
    live = state.keys.live()
    instant = np.full(len(live), until)
    touched.append(timers.fire(state, live, instant, emission))
    state.emit(distinct(touched), emission)
    timers.expire(state, live, instant)
    state.prune(until)


def distinct(slots: list[Slots]) -> Slots:
    """Each of the slots once, ascending."""
    some = [part for part in slots if len(part)]
    if len(some) < 2:
        return some[0] if some else slots[0]
    return np.unique(np.concatenate(some))


def _apply(state: State, rows: Table, emission: Emission, name: Namer) -> None:
    """Apply matches and witnesses."""
    if not len(rows):
        return
    rows, is_new = _with_retained(state, rows)
    span = Span.of(rows)
    left, alert_left = windows(span, state.policies.window), windows(span, state.policies.alert_window)
    first = span.begins.nonzero()[0]  # of each key, in the span
    was_active = state.keys.rows["active"][span.slot[first]]
    key = span.begins.cumsum() - 1
    # Where what may count later begins: with the incident that stands, or after the last forgetting.
    floor = first.copy()
    # What is retained of an active key is in its incident already.
    eligible = ((span.kind == MATCH) & (is_new | ~was_active[key])).nonzero()[0]
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
    held = state.policies.retention[span.policy[last]] > 0
    if held.any():
        floor = np.maximum(floor, np.minimum(left, alert_left)[last])
        state.retain(take(rows, (np.arange(len(span)) >= floor[key]) & held[key]))


def _with_retained(state: State, rows: Table) -> tuple[Table, Mask]:
    """The rows with what the windows of their keys retain before them, and which of them are new."""
    old = state.take_retained(rows["slot"][changes(rows["slot"])])
    if not len(old):
        return rows, np.ones(len(rows), np.bool_)
    both = joined(old, rows)
    order = both["slot"].argsort(kind="stable")
    return take(both, order), order >= len(old)
