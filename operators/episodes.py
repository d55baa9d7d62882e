"""Where incidents begin and end in the sorted events of many keys.

Between two events of a key nothing but time decides: the gap says whether the incident went on, recovered, closed or
was forgotten. What is left to search for is the opening, and that is one jump per incident, not a step per event.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.tables import Mask
from operators.windows import Positions

# What the gap before an event amounts to.
CONTINUED, RECOVERED, REOPENED, FORGOTTEN, FIRST = 0, 1, 2, 3, 4

Gaps = NDArray[np.int8]
Restricted = Callable[[Positions, int], Mask]


@dataclass(frozen=True)
class Events:
    """The events of a batch that can belong to an incident, sorted by slot and S6; n of them.

    position: in the span. left: the first position of the event's window. floor_at: the instant at which the key would
    be forgotten before the event (µs). gap: one of the constants above; within a key whose incident is not active
    FORGOTTEN means nothing. met: the threshold is met here by the window alone. first: where a key's events begin.
    active: (per key) an incident was there before the batch.
    """

    position: Positions
    left: Positions
    forget: Positions
    gap: Gaps
    met: Mask
    first: Positions
    active: Mask


@dataclass(frozen=True)
class Episodes:
    """m stretches of events, each in one incident, in the order of the events.

    begin, end: the events [begin, end); opening: the event that opened it, −1 where it was open before the batch;
    floor: the first position of the span that may count for it; ended: it was forgotten before the batch was over.
    key: index into `Events.first`. idle_floor (per key): the first position that counts for a key left without an
    incident, −1 for one that has one.
    """

    key: Positions
    begin: Positions
    opening: Positions
    end: Positions
    floor: Positions
    ended: Mask
    idle_floor: Positions


def find(events: Events, span_start: Positions, span_at: Positions, restricted: Restricted) -> Episodes:
    """Cut the events into episodes.

    span_start: per key, its first position in the span. restricted(events, floor): is the threshold met at these
    events when nothing before position `floor` counts?
    """
    total = len(events.position)
    last = np.append(events.first[1:], total)
    forgotten = events.gap == FORGOTTEN
    any_forgotten = np.add.reduceat(forgotten, events.first) > 0
    any_met = np.add.reduceat(events.met, events.first) > 0
    steady = events.active & ~any_forgotten
    idle = ~events.active & ~any_met

    out: list[tuple[int, int, int, int, int, bool]] = []
    idle_floor = np.where(idle, span_start, -1)
    next_met = _next(events.met)
    forgets: list[int] = np.flatnonzero(forgotten).tolist()
    for k in np.flatnonzero(~steady & ~idle).tolist():
        a, b, floor = int(events.first[k]), int(last[k]), int(span_start[k])
        cursor = a
        if events.active[k]:
            cursor = _next_forget(forgets, a - 1, b)
            out.append((k, a, -1, cursor, floor, cursor < b))
        while cursor < b:
            if cursor > a or events.active[k]:
                here = int(events.position[cursor])
                floor += int(span_at[floor : here + 1].searchsorted(events.forget[cursor]))
            opening = _opening(events, cursor, b, floor, next_met, restricted)
            if opening == b:
                idle_floor[k] = floor
                break
            since = max(floor, int(events.left[opening]))
            begin = cursor + int(events.position[cursor : opening + 1].searchsorted(since))
            cursor = _next_forget(forgets, opening, b)
            out.append((k, begin, opening, cursor, since, cursor < b))

    rest = np.flatnonzero(steady)
    columns = np.array(out, np.int64).reshape(-1, 6)
    calm = np.stack(
        [rest, events.first[rest], np.full(len(rest), -1), last[rest], span_start[rest], np.zeros_like(rest)], axis=1
    )
    both = np.concatenate([columns, calm])
    both = both[np.argsort(both[:, 0], kind="stable")]
    key, begin, opening, end, floor, ended = both.T
    return Episodes(key, begin, opening, end, floor, ended.astype(np.bool_), idle_floor)


def _opening(events: Events, cursor: int, end: int, floor: int, next_met: Positions, restricted: Restricted) -> int:
    """The first event in [cursor, end) at which the threshold is met by what lies at or after `floor`."""
    free = cursor
    if events.left[cursor] < floor:
        # Windows that reach back beyond the floor; `left` never falls within a key.
        free += int(events.left[cursor:end].searchsorted(floor))
        early = np.arange(cursor, free)
        hits = np.flatnonzero(restricted(early, floor))
        if len(hits):
            return int(early[hits[0]])
    return min(int(next_met[free]), end) if free < end else end


def _next(mask: Mask) -> Positions:
    """For each index the first true one at or after it; len(mask) where there is none."""
    n = len(mask)
    return np.minimum.accumulate(np.where(mask, np.arange(n), n)[::-1])[::-1]


def _next_forget(forgets: list[int], after: int, end: int) -> int:
    """The first forgetting gap behind an event, `end` where the key has none."""
    n = bisect_right(forgets, after)
    return min(forgets[n], end) if n < len(forgets) else end
