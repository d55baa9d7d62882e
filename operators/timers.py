"""What happens to incidents between events: deadlines pass, people resolve (DESIGN S9)."""

from __future__ import annotations

import numpy as np

from operators.keys import CLOSED, OPEN, RECOVERING, Slots
from operators.output import NO_COUNT, QUIET, RESOLVED, RESOLVED_ALERT, STABLE, Emission
from operators.state import State
from operators.tables import Mask, Table, put, take
from operators.windows import Positions

_TIMERS = ((OPEN, RECOVERING, QUIET), (RECOVERING, CLOSED, STABLE))


def fire(state: State, slots: Slots, until: Positions, emission: Emission) -> Slots:
    """Let the deadlines of these keys pass, each up to its own `until` (µs); the slots whose incident moved."""
    row = take(state.keys.rows, slots)
    status = row["status"]
    deadline = np.where(status == OPEN, row["recover"], np.where(status == RECOVERING, row["close"], row["forget"]))
    due = row["active"] & (until >= deadline)
    if not due.any():
        return slots[:0]
    slots, until, row = slots[due], until[due], take(row, due)
    recovers = (row["status"] == OPEN) & (until >= row["recover"])
    closes = (row["status"] <= RECOVERING) & (until >= row["close"])
    ref = state.refer(slots, emission)
    n, policy = row["transitions"].astype(np.int64), row["policy"].astype(np.int64)
    quiet(emission, ref, n, row["events"], policy, (recovers, row["recover"]), (closes, row["close"]))
    said = closes & row["announced"]
    emission.alerts(ref[said], RESOLVED_ALERT, row["reopens"][said].astype(np.int64), row["close"][said])
    row["transitions"] += recovers.astype(np.int32) + closes
    row["status"] = np.where(closes, CLOSED, np.where(recovers, RECOVERING, row["status"]))
    put(state.keys.rows, slots, row)
    moved: Slots = slots[recovers | closes]
    return moved


def expire(state: State, slots: Slots, until: Positions) -> None:
    """Forget the keys among these whose cooldown is over."""
    row = take(state.keys.rows, slots)
    gone = row["active"] & (row["status"] == CLOSED) & (until >= row["forget"])
    if gone.any():
        state.forget(slots[gone], row["forget"][gone])


def resolve(state: State, commands: Table, emission: Emission) -> Slots:
    """Close by hand what is open at the command's `at`, at most one command a key; the slots whose incident moved."""
    slots, at = commands["slot"], commands["at"]
    moved = fire(state, slots, at, emission)
    row = take(state.keys.rows, slots)
    held = row["active"] & (row["status"] <= RECOVERING)
    slots, at, row = slots[held], at[held], take(row, held)
    ref = state.refer(slots, emission)
    policy, n = row["policy"].astype(np.int64), row["transitions"].astype(np.int64)
    emission.transitions(ref, n, row["status"], CLOSED, RESOLVED, at, row["events"], NO_COUNT, policy)
    said = row["announced"]
    emission.alerts(ref[said], RESOLVED_ALERT, row["reopens"][said].astype(np.int64), at[said])
    row["transitions"] += 1
    row["status"] = CLOSED
    row["recover"] = row["close"] = at
    row["forget"] = at + state.policies.cooldown[policy]
    put(state.keys.rows, slots, row)
    return np.union1d(moved, slots)


def quiet(
    emission: Emission,
    ref: Positions,
    n: Positions,
    events: Positions,
    policy: Positions,
    recovers: tuple[Mask, Positions],
    closes: tuple[Mask, Positions],
) -> None:
    """Write the two timers' transitions: where each fires, and when. n: the number of an incident's next transition."""
    after = n
    for (fires, at), (before, now, why) in zip((recovers, closes), _TIMERS, strict=True):
        if fires.any():
            emission.transitions(
                ref[fires], after[fires], before, now, why, at[fires], events[fires], NO_COUNT, policy[fires]
            )
            after = n + fires
