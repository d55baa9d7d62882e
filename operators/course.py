"""A batch of events on its way through the lifecycle, all keys at once (DESIGN S8, S9).

Two steps. `Gaps`: what came before each event, and so what the silence before it did. `Course`: with the episodes
found, everything that follows from them: transitions, the incidents as they are now, alerts, tenants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators import episodes
from operators.alerts import Cycles, alert
from operators.episodes import RECOVERED, REOPENED, Episodes, Events
from operators.keys import CLOSED, KEY, NONE, OPEN, RECOVERING
from operators.output import MATCHED, NO_STATUS, RELAPSED, RETURNED, Emission
from operators.state import State
from operators.tables import Mask, Table, put, take
from operators.thresholds import evaluator
from operators.thresholds.base import Evaluator
from operators.timers import quiet
from operators.windows import Positions, Span, changes, running

# Names a new incident: (workspace, rule id, group key, opened at, last event known) -> id.
Namer = Callable[[str, str, str, int, int], str]

_DEADLINES = ("recover", "close", "forget")


class Gaps:
    """The events of a span that can belong to an incident, and the gap before each. Arrays per event.

    position: in the span. first: where each key's events begin. active: (per key) an incident was there before.
    deadlines: that follow from the event; recover_by, close_by, forget_by, policy_before: as it found them.
    """

    def __init__(self, state: State, span: Span, position: Positions) -> None:
        self.position = position
        self.slot, self.at, self.policy = span.slot[position], span.at[position], span.policy[position]
        self.first = changes(self.slot).nonzero()[0]
        before = take(state.keys.rows, self.slot[self.first])
        self.active: Mask = before["active"]
        recover = self.at + state.policies.recovery[self.policy]
        close = recover + state.policies.close[self.policy]
        self.deadlines = (recover, close, close + state.policies.cooldown[self.policy])
        self.recover_by, self.close_by, self.forget_by = (
            self._before(own, before[name]) for own, name in zip(self.deadlines, _DEADLINES, strict=True)
        )
        self.policy_before = self._before(self.policy, before["policy"])
        gap = (self.at >= self.recover_by).astype(np.int8) + (self.at >= self.close_by) + (self.at >= self.forget_by)
        gap[self.first[~self.active]] = episodes.FIRST
        self.gap: NDArray[np.int8] = gap

    def _before(self, own: Positions, remembered: Positions) -> Positions:
        """Each event's predecessor's value; for a key's first event what is remembered of the key."""
        value = np.empty_like(own)
        value[1:] = own[:-1]
        value[self.first] = remembered
        return value


class Thresholds:
    """The thresholds of the rules at hand, over one span."""

    def __init__(self, state: State, span: Span, gaps: Gaps) -> None:
        self._gaps = gaps
        policies = state.policies.items
        specs: dict[Any, list[int]] = {}
        for number in np.unique(gaps.policy).tolist():
            spec = policies[number].threshold
            if spec is not None:
                specs.setdefault(spec, []).append(number)
        self._evaluators: list[tuple[Evaluator, Mask]] = []
        for spec, numbers in specs.items():
            whose = np.zeros(len(policies), np.bool_)
            whose[numbers] = True
            self._evaluators.append((evaluator(spec, span), whose))

    def met(self, which: Positions, left: Positions) -> Mask:
        """Is its rule's threshold met at each of these events, by the rows of the span from `left` on?"""
        met = np.ones(len(which), np.bool_)
        policy, position = self._gaps.policy[which], self._gaps.position[which]
        for found, whose in self._evaluators:
            mine = whose[policy]
            met[mine] = found.met(position[mine], left[mine])
        return met


def find(state: State, span: Span, gaps: Gaps, left: Positions, is_new: Mask) -> Episodes:
    """The episodes of the events. left: per row of the span; is_new: per event, only these can open an incident."""
    thresholds = Thresholds(state, span, gaps)
    mine = left[gaps.position]
    met = thresholds.met(np.arange(len(gaps.at)), mine) & is_new
    events = Events(gaps.position, mine, gaps.forget_by, gaps.gap, met, gaps.first, gaps.active)
    return episodes.find(
        events,
        span.start[gaps.position[gaps.first]],
        span.at,
        lambda which, floor: thresholds.met(which, np.maximum(mine[which], floor)),
    )


class Course:
    """Episodes with their events, m and L of them. Arrays of L unless said otherwise.

    slot, opened, base, ref, ids, sources: per episode; base: KEY rows as they were. offset[m+1]: the events of each
    episode. episode, event: of each event, its episode and its place in `gaps`. count: of the incident's events.
    """

    def __init__(self, state: State, span: Span, rows: Table, gaps: Gaps, found: Episodes, name: Namer) -> None:
        self._state, self._rows, self._gaps, self._found = state, rows, gaps, found
        self.slot = gaps.slot[gaps.first[found.key]]
        self.opened = found.opening >= 0
        self.base: Table = take(state.keys.rows, self.slot)
        put(self.base, self.opened.nonzero()[0], np.zeros(int(self.opened.sum()), KEY))
        self.ids, self.sources = self._identify(name)
        self.length = found.end - found.begin
        self.offset = running(self.length)
        self.episode = np.repeat(np.arange(len(self.length)), self.length)
        into = np.arange(self.offset[-1]) - self.offset[self.episode]
        self.event = into + found.begin[self.episode]
        self.count = self.base["events"][self.episode] + into + 1
        self.gap = np.where(self.event > found.opening[self.episode], gaps.gap[self.event], episodes.CONTINUED)
        self._position = gaps.position[self.event]
        self._floor = found.floor[self.episode]
        self._matches = running(span.is_match)
        status = np.where(into == 0, self.base["status"][self.episode], OPEN)
        self.recovers = (self.gap >= RECOVERED) & (status == OPEN)
        self.closes = (self.gap >= REOPENED) & (status <= RECOVERING)
        self.opens = self.event == found.opening[self.episode]

    def write(self, left: Positions, alert_left: Positions, emission: Emission) -> None:
        """Write all that happened, and leave the state as it is after the last events."""
        ref = emission.refer(self.ids, [self._state.keys.name(s) for s in self.slot.tolist()])
        total = self._transitions(ref, self._in_window(left), emission)
        row = self._incidents(total)
        if emission.tracks is not None:
            emission.belong(self._rows, self._position, ref[self.episode], self.opens)
        last_recovers, last_closes = self._final()
        kept = self._alerts(ref, row, last_closes, alert_left, emission)
        self._end(ref, row, last_recovers, last_closes, emission)
        self._stay(row)
        self._state.tenants.put(kept)

    def _identify(self, name: Namer) -> tuple[list[str], list[str | None]]:
        """The id and the source of each episode's incident."""
        keys, found, gaps = self._state.keys, self._found, self._gaps
        opening = found.opening[self.opened]
        sources = iter(self._state.texts.named(self._rows["source"][gaps.position[opening]]))
        at, last = gaps.at[opening].tolist(), gaps.at[found.end[self.opened] - 1].tolist()
        times = iter(zip(at, last, strict=True))
        ids: list[str] = []
        whose: list[str | None] = []
        for slot, new in zip(self.slot.tolist(), self.opened.tolist(), strict=True):
            ids.append(name(*keys.name(slot), *next(times)) if new else keys.incidents[slot])
            whose.append(next(sources) if new else keys.sources[slot])
        return ids, whose

    def _in_window(self, left: Positions) -> Positions:
        """The incident's matches in the window that ends with each event. left: per row of the span."""
        begin = np.maximum(left[self._position], self._floor)
        count: Positions = self._matches[self._position + 1] - self._matches[begin]
        return count

    def _transitions(self, ref: Positions, in_window: Positions, emission: Emission) -> Positions:
        """The timers that fired in the gap before an event, then the event itself; per episode how many so far."""
        gaps, event, episode = self._gaps, self.event, self.episode
        acts = self.opens | (self.gap >= RECOVERED)
        before = running(self.recovers.astype(np.int64) + self.closes + acts)
        n = before[:-1] - before[self.offset[episode]] + self.base["transitions"][episode]
        quiet(
            emission,
            ref[episode],
            n,
            self.count - 1,
            gaps.policy_before[event],
            (self.recovers, gaps.recover_by[event]),
            (self.closes, gaps.close_by[event]),
        )
        opens, relapses = self.opens[acts], self.gap[acts] == RECOVERED
        emission.transitions(
            ref[episode][acts],
            (n + self.recovers + self.closes)[acts],
            np.where(opens, NO_STATUS, np.where(relapses, RECOVERING, CLOSED)),
            OPEN,
            np.where(opens, MATCHED, np.where(relapses, RELAPSED, RETURNED)),
            gaps.at[event][acts],
            self.count[acts],
            in_window[acts],
            gaps.policy[event][acts],
        )
        total: Positions = self.base["transitions"] + before[self.offset[1:]] - before[self.offset[:-1]]
        return total

    def _incidents(self, transitions: Positions) -> Table:
        """The KEY rows as the last event of each episode leaves them."""
        gaps, found, new, row = self._gaps, self._found, self.opened, self.base.copy()
        row["used"] = row["active"] = True
        row["opened"][new] = gaps.at[found.opening[new]]
        row["first"][new] = gaps.at[found.begin[new]]
        row["opening_policy"][new] = gaps.policy[found.opening[new]]
        row["reopened"][new] = row["alerted"][new] = NONE
        row["severity"][new] = -1
        row["transitions"] = transitions
        row["events"] += self.length
        some = np.flatnonzero(self.length)
        last = found.end[some] - 1
        row["status"][some] = OPEN
        row["last"][some], row["policy"][some] = gaps.at[last], gaps.policy[last]
        for part, own in zip(_DEADLINES, gaps.deadlines, strict=True):
            row[part][some] = own[last]
        self._worst(row, some)
        reopens = self.gap == REOPENED
        row["reopens"] += np.bincount(self.episode[reopens], minlength=len(row)).astype(np.int32)
        row["reopened"][self.episode[reopens]] = gaps.at[self.event[reopens]]  # ascending: the last one stays
        return row

    def _worst(self, row: Table, some: Positions) -> None:
        """Confidence and severity: the highest of the incident's events; a rule's own severity goes first."""
        if len(some):
            begin = self.offset[:-1][some]
            for part in ("confidence", "severity"):
                highest = np.maximum.reduceat(self._rows[part][self._position], begin)
                row[part][some] = np.maximum(row[part][some], highest)
        given = self._state.policies.severity[row["opening_policy"]]
        row["severity"] = np.where(given >= 0, given, row["severity"])

    def _final(self) -> tuple[Mask, Mask]:
        """Per episode: it ended, and recovered or closed after its last event."""
        status = np.where(self.length > 0, OPEN, self.base["status"])
        return self._found.ended & (status == OPEN), self._found.ended & (status <= RECOVERING)

    def _alerts(
        self, ref: Positions, row: Table, last_closes: Mask, alert_left: Positions, emission: Emission
    ) -> Table:
        gaps, found = self._gaps, self._found
        since = running(self.gap == REOPENED)
        needed = self._state.policies.alert_count[gaps.policy[self.event]]
        cycles = Cycles(
            slot=self.slot,
            ref=ref,
            base=self.base,
            row=row,
            length=self.length,
            offset=self.offset,
            ended=found.ended,
            final_closes=last_closes,
            final_close=gaps.close_by[np.minimum(found.end, len(gaps.at) - 1)],
            episode=self.episode,
            cycle=self.base["reopens"][self.episode] + since[1:] - since[self.offset[self.episode]],
            at=gaps.at[self.event],
            tenant=self._rows["tenant"][self._position],
            loud=(self.event >= found.opening[self.episode]) & (self._in_window(alert_left) >= needed),
            relapses=self.gap == RECOVERED,
            closes=self.closes,
            closed_at=gaps.close_by[self.event],
        )
        return alert(cycles, self._state.tenants, emission)

    def _end(self, ref: Positions, row: Table, recovers: Mask, closes: Mask, emission: Emission) -> None:
        """Tell what ended once more: its timers fired before the event that found it forgotten."""
        over = np.flatnonzero(self._found.ended)
        if not len(over):
            return
        gaps, follow, gone = self._gaps, self._found.end[over], take(row, over)
        recovers, closes = recovers[over], closes[over]
        n, policy = gone["transitions"].astype(np.int64), gaps.policy_before[follow]
        quiet(
            emission,
            ref[over],
            n,
            gone["events"],
            policy,
            (recovers, gaps.recover_by[follow]),
            (closes, gaps.close_by[follow]),
        )
        gone["transitions"] += recovers.astype(np.int32) + closes
        gone["close"] = gaps.close_by[follow]
        gone["status"] = CLOSED
        chosen = over.tolist()
        names = [self._state.keys.name(s) for s in self.slot[over].tolist()]
        emission.incidents(gone, [self.ids[k] for k in chosen], names, [self.sources[k] for k in chosen])

    def _stay(self, row: Table) -> None:
        """Keep what stands; a key whose incident ended and left none is `none` again."""
        keys, stands = self._state.keys, np.flatnonzero(~self._found.ended)
        if len(stands) < len(self.slot):
            keys.clear(np.setdiff1d(self.slot, self.slot[stands]))
        put(keys.rows, self.slot[stands], take(row, stands))
        for k, slot in zip(stands.tolist(), self.slot[stands].tolist(), strict=True):
            keys.incidents[slot] = self.ids[k]
            keys.sources[slot] = self.sources[k]
