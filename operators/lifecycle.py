"""`advance`: one pure step of the engine for all keys at once (DESIGN S6 to S10).

    advance(state, matches sorted by S6, until) -> output

It is used for the settled run and, on a copy of the state, for the provisional one. Events are handled as columns:
the gap before each event gives its transitions, `episodes` finds the openings, and what a whole incident needs
(counts, tenants, alerts) are sums over its stretch of rows. Commands cut the batch into rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from operators import episodes
from operators.alerts import Cycles, alert
from operators.episodes import RECOVERED, REOPENED, Episodes, Events
from operators.keys import CLOSED, KEY, NONE, OPEN, RECOVERING, Keys, Slots, Table
from operators.matches import MATCH, RESOLVE
from operators.output import (
    MATCHED,
    NO_COUNT,
    NO_STATUS,
    QUIET,
    RELAPSED,
    RESOLVED,
    RESOLVED_ALERT,
    RETURNED,
    STABLE,
    Emission,
)
from operators.policies import Policies
from operators.tenants import Tenants
from operators.thresholds import evaluator
from operators.windows import Mask, Positions, Span, lefts, running, starts

# The rows of `advance`, sorted by slot and S6. Times in µs; `policy` is a number of the state's policies.
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

# Names a new incident: (workspace, rule id, group key, opened at, last event known) -> id.
Namer = Callable[[str, str, str, int, int], str]


@dataclass
class State:
    """What a shard knows of its live keys. Picklable. `retained`: ROWS that a later window may still count."""

    keys: Keys = field(default_factory=Keys)
    tenants: Tenants = field(default_factory=Tenants)
    retained: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ROWS))
    policies: Policies = field(default_factory=Policies)


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
            _resolve(state, rows.filter(here & resolves), emission, touched)
    else:
        _apply(state, rows, emission, name)
    live = state.keys.live()
    _fire(state, live, np.full(len(live), until), emission, touched)
    emit(state, np.unique(np.concatenate(touched)), emission)
    _prune(state, until)


def emit(state: State, slots: Slots, emission: Emission) -> None:
    """Write the incidents that stand in these slots."""
    keys = state.keys
    slots = slots[keys.rows["active"][slots]]
    chosen = slots.tolist()
    emission.incidents(
        keys.rows[slots],
        [keys.incidents[s] for s in chosen],
        [keys.name(s) for s in chosen],
        [keys.sources[s] for s in chosen],
    )


def _refer(state: State, slots: Slots, emission: Emission) -> Positions:
    chosen = slots.tolist()
    return emission.refer([state.keys.incidents[s] for s in chosen], [state.keys.name(s) for s in chosen])


# Time and commands


def _fire(state: State, slots: Slots, until: Positions, emission: Emission, touched: list[Slots]) -> None:
    """Let the deadlines of these keys pass, each up to its own `until`."""
    keys = state.keys
    row = keys.rows[slots]
    status = row["status"]
    deadline = np.where(status == OPEN, row["recover"], np.where(status == RECOVERING, row["close"], row["forget"]))
    due = row["active"] & (until >= deadline)
    slots, until, row = slots[due], until[due], row[due]
    if not len(slots):
        return
    ref = _refer(state, slots, emission)
    recovers = (row["status"] == OPEN) & (until >= row["recover"])
    closes = (row["status"] <= RECOVERING) & (until >= row["close"])
    _quiet(row, recovers, closes, row["policy"].astype(np.int64), ref, emission)
    said = closes & row["announced"]
    emission.alerts(ref[said], RESOLVED_ALERT, row["reopens"][said].astype(np.int64), row["close"][said])
    row["transitions"] += recovers.astype(np.int32) + closes
    row["status"] = np.where(closes, CLOSED, np.where(recovers, RECOVERING, row["status"]))
    keys.rows[slots] = row
    moved = slots[recovers | closes]
    touched.append(moved)
    gone = until >= row["forget"]
    if gone.any():
        emit(state, np.intersect1d(slots[gone], np.concatenate(touched)), emission)
        _forget(state, slots[gone], row["forget"][gone])


def _quiet(row: Table, recovers: Mask, closes: Mask, policy: Positions, ref: Positions, emission: Emission) -> None:
    """The two timers' transitions; each row of KEY as it was before them."""
    n, events = row["transitions"].astype(np.int64), row["events"]
    r, c = recovers, closes
    emission.transitions(
        ref[r], n[r], OPEN, RECOVERING, QUIET, row["recover"][r], events[r], NO_COUNT, policy[r]
    )  # fmt: skip
    emission.transitions(
        ref[c], n[c] + r[c], RECOVERING, CLOSED, STABLE, row["close"][c], events[c], NO_COUNT, policy[c]
    )  # fmt: skip


def _forget(state: State, slots: Slots, instant: Positions) -> None:
    """Keys whose cooldown is over: only witnesses seen since then still count."""
    state.keys.clear(slots)
    state.tenants.take(slots)
    if state.retained.height:
        floor = np.full(len(state.keys.rows), NONE)
        floor[slots] = instant
        kept = state.retained["at"].to_numpy() >= floor[state.retained["slot"].to_numpy()]
        state.retained = state.retained.filter(pl.Series(kept))


def _resolve(state: State, commands: pl.DataFrame, emission: Emission, touched: list[Slots]) -> None:
    """Close by hand what is open at the command's `at`; at most one command a key."""
    keys = state.keys
    slots, at = commands["slot"].to_numpy(), commands["at"].to_numpy()
    if not len(slots):
        return
    _fire(state, slots, at, emission, touched)
    row = keys.rows[slots]
    held = row["active"] & (row["status"] <= RECOVERING)
    slots, at, row = slots[held], at[held], row[held]
    ref = _refer(state, slots, emission)
    policy = row["policy"].astype(np.int64)
    n = row["transitions"].astype(np.int64)
    emission.transitions(ref, n, row["status"], CLOSED, RESOLVED, at, row["events"], NO_COUNT, policy)
    said = row["announced"]
    emission.alerts(ref[said], RESOLVED_ALERT, row["reopens"][said].astype(np.int64), at[said])
    row["transitions"] += 1
    row["status"] = CLOSED
    row["recover"] = row["close"] = at
    row["forget"] = at + state.policies.cooldown[policy]
    keys.rows[slots] = row


def _prune(state: State, until: int) -> None:
    """Drop what no later window can reach, and the keys of which nothing is left."""
    kept = state.retained
    if kept.height:
        slot = kept["slot"].to_numpy()
        last = np.append(slot[1:] != slot[:-1], True)
        retention = np.zeros(len(state.keys.rows), np.int64)
        retention[slot[last]] = state.policies.retention[kept["policy"].to_numpy()[last]]
        recent = kept["at"].to_numpy() > until - retention[slot]
        if not recent.all():
            state.retained = kept = kept.filter(pl.Series(recent))
    rows = state.keys.rows
    idle = np.flatnonzero(rows["used"] & ~rows["active"])
    if len(idle):
        state.keys.release(np.setdiff1d(idle, kept["slot"].to_numpy()))


# Events


def _apply(state: State, rows: pl.DataFrame, emission: Emission, name: Namer) -> None:
    """Apply matches and witnesses."""
    if not rows.height:
        return
    keys, policies = state.keys, state.policies
    rows, is_new = _with_retained(state, rows)
    span = Span(
        rows["slot"].to_numpy(),
        rows["at"].to_numpy(),
        rows["policy"].to_numpy(),
        rows["kind"].to_numpy(),
        rows["measure"].fill_null(float("nan")).to_numpy(),
        rows["item"],
        starts(rows["slot"].to_numpy()),
    )
    left = _windows(span, policies.window)
    alert_left = _windows(span, policies.alert_window)
    first = np.flatnonzero(span.start == np.arange(len(span)))
    slots = span.slot[first]
    was_active = keys.rows["active"][slots]
    rank = np.cumsum(span.start == np.arange(len(span))) - 1
    eligible = (span.kind == MATCH) & (is_new | ~was_active[rank])
    idle_floor = np.where(was_active, -1, first)
    lowest = np.where(was_active, first, -1)  # of the incident that stands at the end, in the span
    if eligible.any():
        run = _Run(state, span, rows, left, alert_left, np.flatnonzero(eligible), is_new, emission)
        found = run.apply(name)
        with_events = np.searchsorted(slots, run.slot[run.first])
        idle_floor[with_events] = found.idle_floor
        standing = ~found.ended
        lowest[with_events[found.key[standing]]] = found.floor[standing]
    last = np.append(first[1:], len(span)) - 1
    floor = np.maximum(np.maximum(idle_floor, lowest), np.minimum(left, alert_left)[last])
    held = policies.retention[span.policy[last]] > 0
    keep = (np.arange(len(span)) >= floor[rank]) & held[rank]
    if keep.any():
        state.retained = pl.concat([state.retained, rows.filter(pl.Series(keep))])


def _with_retained(state: State, rows: pl.DataFrame) -> tuple[pl.DataFrame, Mask]:
    """The rows with what the windows of their keys retain before them, and which of them are new."""
    if state.retained.height:
        mine = pl.Series(np.isin(state.retained["slot"].to_numpy(), rows["slot"].unique().to_numpy()))
        old = state.retained.filter(mine)
        if old.height:
            state.retained = state.retained.filter(~mine)
            both = pl.concat([old, rows])
            order = np.argsort(both["slot"].to_numpy(), kind="stable")
            return both[order], order >= old.height
    return rows, np.ones(rows.height, np.bool_)


def _windows(span: Span, window: Positions) -> Positions:
    """The first row each row's window counts. window: µs by policy, 0 for none: then the row counts alone.

    What a window has let go is gone, so that state can be let go, too: a window that grows by configuration counts
    on from what the one before it still held.
    """
    n = np.arange(len(span))
    own = window[span.policy]
    if not own.any():
        return n
    before = np.where(span.start == n, own, np.roll(own, 1))
    both = np.minimum(own, before)
    first = np.where(both > 0, lefts(span.slot, span.at, span.start, np.maximum(both, 1)), n)
    return np.maximum.accumulate(np.minimum(first, n))


class _Run:
    """One batch of events on its way through the lifecycle. All arrays are per event unless said otherwise."""

    def __init__(
        self, state: State, span: Span, rows: pl.DataFrame, left: Positions, alert_left: Positions, position: Positions,
        is_new: Mask, emission: Emission,
    ) -> None:  # fmt: skip
        self.state, self.span, self.emission = state, span, emission
        self.left, self.alert_left = left, alert_left  # per row of the span
        self.position = position
        self.is_new = is_new[position]
        self.rows = rows
        self.slot = span.slot[position]
        self.at = span.at[position]
        self.policy = span.policy[position]
        policies, known = state.policies, state.keys.rows
        recover = self.at + policies.recovery[self.policy]
        close = recover + policies.close[self.policy]
        forget = close + policies.cooldown[self.policy]
        self.deadlines = (recover, close, forget)
        # What was before each event: the event before it, or what the state remembers of the key.
        self.first = np.flatnonzero(np.append(True, self.slot[1:] != self.slot[:-1]))
        before = known[self.slot[self.first]]
        self.active = before["active"]
        self.recover_by, self.close_by, self.forget_by = (
            _before(own, self.first, before[part])
            for own, part in zip(self.deadlines, ("recover", "close", "forget"), strict=True)
        )
        self.policy_before = _before(self.policy, self.first, before["policy"])
        gap = (self.at >= self.recover_by).astype(np.int8) + (self.at >= self.close_by) + (self.at >= self.forget_by)
        gap[self.first[~self.active]] = episodes.FIRST
        self.gap = gap

    def apply(self, name: Namer) -> Episodes:
        """Find the episodes, write what happened in them, and leave the keys as they are after their last event."""
        events = Events(
            self.position, self.left[self.position], self.forget_by, self.gap,
            self._met(np.arange(len(self.at)), self.left[self.position]) & self.is_new, self.first, self.active,
        )  # fmt: skip
        found = episodes.find(
            events, self.span.start[self.position[self.first]], self.span.at,
            lambda which, floor: self._met(which, np.maximum(events.left[which], floor)),
        )  # fmt: skip
        if len(found.key):
            self._write(found, name)
        # Keys that ended their batch without an incident.
        idle = self.slot[self.first[(found.idle_floor >= 0) & self.active]]
        self.state.keys.clear(idle)
        return found

    def _met(self, which: Positions, left: Positions) -> Mask:
        """Is its rule's threshold met at each of these events, by the rows from `left` on?"""
        met = np.ones(len(which), np.bool_)
        policies = self.state.policies
        policy = self.policy[which]
        specs: dict[Any, list[int]] = {}
        for number in np.unique(policy).tolist():
            spec = policies.items[number].threshold
            if spec is not None:
                specs.setdefault(spec, []).append(number)
        for spec, numbers in specs.items():
            mine = np.isin(policy, numbers)
            met[mine] = self._evaluator(spec).met(self.position[which[mine]], left[mine])
        return met

    def _evaluator(self, spec: Any) -> Any:
        cache: dict[Any, Any] = self.__dict__.setdefault("_evaluators", {})
        if spec not in cache:
            cache[spec] = evaluator(spec, self.span)
        return cache[spec]

    def _write(self, found: Episodes, name: Namer) -> None:
        state, emission = self.state, self.emission
        slot = self.slot[self.first[found.key]]
        opened = found.opening >= 0
        base = np.where(opened, np.zeros(len(slot), KEY), state.keys.rows[slot])
        ids, sources = self._identify(found, slot, opened, name)
        ref = emission.refer(ids, [state.keys.name(s) for s in slot.tolist()])

        length = found.end - found.begin
        offset = running(length)
        episode = np.repeat(np.arange(len(length)), length)  # per event in an episode, as all that follows
        event = np.arange(offset[-1]) - offset[episode] + found.begin[episode]
        count = base["events"][episode] + (event - found.begin[episode]) + 1
        gap = np.where(event > found.opening[episode], self.gap[event], 0)
        leads = event == found.begin[episode]
        status = np.where(leads, base["status"][episode], OPEN)
        matches = running(self.span.is_match)
        position = self.position[event]
        floor = found.floor[episode]
        in_window = matches[position + 1] - matches[np.maximum(self.left[position], floor)]

        # Transitions: the timers that fired in the gap before an event, then the event itself.
        recovers = (gap >= RECOVERED) & (status == OPEN)
        closes = (gap >= REOPENED) & (status <= RECOVERING)
        returns = gap >= RECOVERED
        opens = event == found.opening[episode]
        # An episode that ended had its timers fire before the event that found it forgotten.
        over = np.flatnonzero(found.ended)
        final = np.where(length > 0, OPEN, base["status"])[over]
        last_recovers, last_closes = final == OPEN, final <= RECOVERING

        steps = recovers.astype(np.int64) + closes + returns + opens
        before = running(steps)
        n = before[:-1] - before[offset[episode]] + base["transitions"][episode]
        total = base["transitions"] + before[offset[1:]] - before[offset[:-1]]
        r = ref[episode]
        quiet = np.zeros(len(event), KEY)
        quiet["transitions"], quiet["events"] = n, count - 1
        quiet["recover"], quiet["close"] = self.recover_by[event], self.close_by[event]
        _quiet(quiet, recovers, closes, self.policy_before[event], r, emission)
        acts = returns | opens
        emission.transitions(
            r[acts],
            (n + recovers + closes)[acts],
            np.where(opens, NO_STATUS, np.where(gap == RECOVERED, RECOVERING, CLOSED))[acts],
            OPEN,
            np.where(opens, MATCHED, np.where(gap == RECOVERED, RELAPSED, RETURNED))[acts],
            self.at[event][acts],
            count[acts],
            in_window[acts],
            self.policy[event][acts],
        )

        # The incidents as their last event leaves them.
        row = base.copy()
        row["used"] = row["active"] = True
        row["opened"] = np.where(opened, self.at[found.opening], base["opened"])
        row["first"] = np.where(opened, self.at[np.minimum(found.begin, len(self.at) - 1)], base["first"])
        row["opening_policy"] = np.where(opened, self.policy[found.opening], base["opening_policy"])
        row["reopened"] = np.where(opened, NONE, base["reopened"])
        row["alerted"] = np.where(opened, NONE, base["alerted"])
        row["severity"] = np.where(opened, -1, base["severity"])
        row["transitions"] = total
        row["events"] += length
        some = np.flatnonzero(length)
        tail = found.end[some] - 1
        row["status"][some] = OPEN
        row["last"][some], row["policy"][some] = self.at[tail], self.policy[tail]
        for part, own in zip(("recover", "close", "forget"), self.deadlines, strict=True):
            row[part][some] = own[tail]
        self._worst(row, some, offset, event)

        reopens = gap == REOPENED
        since = running(reopens)
        cycle = base["reopens"][episode] + since[1:] - since[offset[episode]]
        row["reopens"] += (since[offset[1:]] - since[offset[:-1]]).astype(np.int32)
        row["reopened"][episode[reopens]] = self.at[event[reopens]]  # ascending: the last one stays

        needed = state.policies.alert_count[self.policy[event]]
        in_alert_window = matches[position + 1] - matches[np.maximum(self.alert_left[position], floor)]
        cycles = Cycles(
            slot=slot, ref=ref, base=base, row=row, length=length, offset=offset, episode=episode, cycle=cycle,
            at=self.at[event], tenant=self.rows["tenant"].gather(position),
            loud=(event >= found.opening[episode]) & (in_alert_window >= needed),
            relapses=(gap == RECOVERED), closes=closes, closed_at=self.close_by[event],
            ended=found.ended,
            final_close=np.where(found.ended, self.close_by[np.minimum(found.end, len(self.at) - 1)], NONE),
            final_closes=_scatter(last_closes, over, len(slot)),
        )  # fmt: skip
        kept_tenants = alert(cycles, state.tenants, emission)

        # Whatever ended is told once more and leaves; whatever stands is kept.
        if len(over):
            follow = found.end[over]
            ended = row[over]
            ended["recover"] = np.where(last_recovers, self.recover_by[follow], ended["recover"])
            ended["close"] = np.where(last_closes, self.close_by[follow], ended["close"])
            _quiet(ended, last_recovers, last_closes, self.policy_before[follow], ref[over], emission)
            ended["transitions"] += last_recovers.astype(np.int32) + last_closes
            ended["status"] = CLOSED
            chosen = over.tolist()
            names = [state.keys.name(s) for s in slot[over].tolist()]
            emission.incidents(ended, [ids[k] for k in chosen], names, [sources[k] for k in chosen])
        stands = np.flatnonzero(~found.ended)
        state.keys.rows[slot[stands]] = row[stands]
        for k in stands.tolist():
            state.keys.incidents[slot[k]] = ids[k]
            state.keys.sources[slot[k]] = sources[k]
        state.tenants.put(kept_tenants)

    def _identify(
        self, found: Episodes, slot: Positions, opened: Mask, name: Namer
    ) -> tuple[list[str], list[str | None]]:
        """The id and the source of each episode's incident."""
        keys = self.state.keys
        source_of = self.rows["source"].gather(self.position[np.maximum(found.opening, 0)]).to_list()
        at = self.at[np.maximum(found.opening, 0)].tolist()
        last = self.at[found.end - 1].tolist()
        ids: list[str] = []
        sources: list[str | None] = []
        for k, (s, new) in enumerate(zip(slot.tolist(), opened.tolist(), strict=True)):
            ids.append(name(*keys.name(s), at[k], last[k]) if new else keys.incidents[s])
            sources.append(source_of[k] if new else keys.sources[s])
        return ids, sources

    def _worst(self, row: Table, some: Positions, offset: Positions, event: Positions) -> None:
        """Confidence and severity: the highest of the incident's events; a rule's own severity goes first."""
        if not len(some):
            return
        at = offset[:-1][some]
        position = self.position[event]
        confidence = self.rows["confidence"].to_numpy()[position]
        severity = self.rows["severity"].to_numpy()[position]
        row["confidence"][some] = np.maximum(row["confidence"][some], np.maximum.reduceat(confidence, at))
        row["severity"][some] = np.maximum(row["severity"][some], np.maximum.reduceat(severity, at))
        given = self.state.policies.severity[row["opening_policy"]]
        row["severity"] = np.where(given >= 0, given, row["severity"])


def _before(own: Positions, first: Positions, remembered: Positions) -> Positions:
    """Each event's predecessor's value; for a key's first event what is remembered."""
    value = np.empty_like(own)
    value[1:] = own[:-1]
    value[first] = remembered
    return value


def _scatter(values: Mask, where: Positions, size: int) -> Mask:
    mask = np.zeros(size, np.bool_)
    mask[where] = values
    return mask
