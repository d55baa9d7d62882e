"""A shard that answers at once: settled rows, and in their place what the pending matches make of them so far (S11).

Each step runs a copy of the keys that something happened to through their pending matches, from as far ahead as they
have been run already (`ahead`). What a key showed before and no longer does is taken back; keys that nothing happened
to are not looked at. Now and then a step settles what no late record can reach.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
import polars as pl

from operators.ahead import Ahead, Ran
from operators.clock import NEVER
from operators.events import SECOND
from operators.frames import empty, framed
from operators.keys import CLOSED, OPEN
from operators.lifecycle import advance
from operators.matches import KeyedMatches, Matches, Name
from operators.output import INCIDENT_TENANTS, MEMBERS, NO_OUTPUT, Emission, Output
from operators.shard import FOREVER, Namer, Shard
from operators.state import State
from operators.tables import Mask, Table, take
from operators.windows import Positions, running, starts


@dataclass(frozen=True, slots=True)
class Gone:
    """Rows that were shown and no longer hold.

    incidents: with everything of theirs. steps: incident -> the number of its first transition that is void.
    alerts: ids. tenants: incidents whose tenants are all told anew.
    """

    incidents: tuple[str, ...] = ()
    steps: tuple[tuple[str, int], ...] = ()
    alerts: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.incidents or self.steps or self.alerts or self.tenants)


@dataclass(frozen=True, slots=True)
class Publication:
    """What a reader sees change: every row replaces the one with its key, after what is `gone` has gone.

    members: MEMBERS of the matches that came since the last step. news: the transitions and alerts among it
    that nobody has seen yet. final: what settled: steps and alerts once, incidents and tenants as they settled last.
    """

    output: Output
    gone: Gone
    members: pl.DataFrame
    news: Output
    final: Output = NO_OUTPUT


def merged(publications: Sequence[Publication]) -> Publication:
    """Several publications, one after the other, as one; at least one."""
    first, *rest = publications
    output, gone, news, final = first.output, first.gone, first.news, first.final
    for later in rest:
        if later.gone:  # of what nobody was told yet, nobody need be
            output, news = _without(output, later.gone), _without(news, later.gone)
        output, news, final = output.joined(later.output), news.joined(later.news), final.joined(later.final)
        gone = Gone(
            gone.incidents + later.gone.incidents,
            gone.steps + later.gone.steps,
            gone.alerts + later.gone.alerts,
            gone.tenants + later.gone.tenants,
        )
    return Publication(output, gone, pl.concat([each.members for each in publications]), news, final)


def _without(output: Output, gone: Gone) -> Output:
    """The rows that are not gone."""
    steps = pl.DataFrame(list(gone.steps), schema={"incident_id": pl.String(), "void": pl.Int64()}, orient="row")
    of = pl.col("incident_id").is_in(gone.incidents)
    transitions = output.transitions.join(steps, on="incident_id", how="left", maintain_order="left")
    return Output(
        output.incidents.filter(~pl.col("id").is_in(gone.incidents)),
        output.incident_tenants.filter(~of & ~pl.col("incident_id").is_in(gone.tenants)),
        transitions.filter(~of & (pl.col("void").is_null() | (pl.col("n") < pl.col("void")))).drop("void"),
        output.alerts.filter(~of & ~pl.col("id").is_in(gone.alerts)),
    )


@dataclass(slots=True)
class _Shown:
    """What is shown of a key beyond its settled state.

    deadline: the instant, µs, at which time alone changes it. steps, events: of each of its incidents that is not
    final, how many transitions and events. alerts: those that are not settled. settled: the incident of the settled
    state, "" while that has none.
    """

    deadline: int = FOREVER
    steps: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    alerts: set[str] = field(default_factory=set)
    settled: str = ""


class LiveShard(Shard):
    """A shard whose pending matches are visible. Picklable. Instants given to `publish` never decrease.

    BEHIND: how far, µs, the state ahead stays behind what is shown; STRIDE: how far it moves at a time, at least.
    """

    BEHIND = 2 * SECOND
    STRIDE = SECOND

    def __init__(self, partitions: Iterable[str] = ()) -> None:
        super().__init__(partitions)
        self._shown: dict[Name, _Shown] = {}
        self._touched: dict[Name, None] = {}
        self._fresh: dict[str, int] = {}  # the lowest offset of each partition that came since the last step
        self._ahead = Ahead()
        self._reach = FOREVER  # the earliest match that came since the state ahead has moved, µs
        self._deadlines: list[tuple[int, Name]] = []  # a heap over what is shown; stale entries are skipped
        self._new_steps: list[tuple[str, int]] = []  # what this step shows for the first time
        self._new_alerts: list[str] = []
        self._hints: dict[Name, list[tuple[int, str]]] = {}  # opened at, id: announced before a restart
        self._shows_again = False
        self._next_timer = NEVER  # no settled key that is not shown has a deadline before this, µs

    def add(self, partition: str, watermark: int, matches: Matches | KeyedMatches | None = None) -> None:
        """Take a partition's next matches (in offset order) and its watermark after them, µs."""
        if matches is not None and len(matches):
            matches = matches.keyed()
            used = np.zeros(len(matches.names), np.bool_)
            used[matches.rows["slot"]] = True
            self._fresh.setdefault(partition, int(matches.rows["offset"][0]))
            self._touched.update(dict.fromkeys(matches.names[n] for n in used.nonzero()[0].tolist()))
            self._disturb(matches)
        super().add(partition, watermark, matches)

    def show_again(self, announced: Iterable[tuple[Name, int, str]]) -> None:
        """Publish with the next step all that is not final: whoever showed it has thrown it away.

        announced: key, opening (µs) and id of incidents that were shown. They keep their ids (S12), until
        `forget_announced` says that everything that led to them has come again.
        """
        newest: dict[Name, dict[str, int]] = {}
        for name, opened_at, incident in announced:
            newest.setdefault(name, {})[incident] = opened_at
        # Of what the snapshot knows, too: a late event may have moved the opening since.
        for name, openings in newest.items():
            hints = [(opened_at, incident) for incident, opened_at in openings.items()]
            for known in (self._hints, self._announced):
                known[name] = hints + [pair for pair in known.get(name, []) if pair[1] not in openings]
        self._touched |= dict.fromkeys([*self._shown, *self._pending.numbers])
        self._shown, self._deadlines, self._shows_again, self._next_timer = {}, [], True, NEVER

    def forget_announced(self) -> None:
        """The incidents announced before have come again by now, or never will."""
        for name in self._hints:
            if name not in self._shown:
                self._announced.pop(name, None)
        self._hints = {}

    @property
    def next_due(self) -> int:
        """The earliest instant, µs, at which time alone may change what is shown; FOREVER where none is known."""
        shown = self._deadlines[0][0] if self._deadlines else FOREVER
        return min(shown, self._next_timer if self._next_timer != NEVER else FOREVER)

    @property
    def oldest_pending(self) -> int:
        """The earliest `at` of the matches that are not settled, µs; FOREVER where there is none."""
        return self._pending.oldest

    @property
    def over(self) -> int:
        """The instant, µs, before which an incident has to be closed so that nothing can reopen it any more."""
        row = self._state.keys.rows
        return int(row["close"][row["active"] & (row["status"] == CLOSED)].min(initial=self._settled))

    def publish(self, until: int, *, settle: bool = False) -> Publication:
        """Bring what is shown up to all matches so far, and to the timers up to `until`, µs.

        settle: also make final what no late record can reach; with the next step after matches came, not with the
        first one, which tells what becomes of them. Raises ValueError.
        """
        if settle and self._fresh:
            raise ValueError("matches came that nobody has seen: publish them, then settle")
        self._new_steps, self._new_alerts = [], []
        output, final = self._standing() if self._shows_again else NO_OUTPUT, NO_OUTPUT
        if settle:
            shown, final = self._settle()
            output = output.joined(shown)
        names = self._due_by(until)
        for name in self._touched:
            names[name] = None
        self._touched = {}
        gone, members = Gone(), empty(MEMBERS)
        if names:
            provisional, gone, members = self._run(list(names), until)
            output = output.joined(provisional)
        if self._next_timer <= until:
            self._next_timer = self._first_timer()
        self._fresh = {}
        self._go_ahead(until)
        return Publication(output, gone, members, self._news(output), final)

    def _standing(self) -> Output:
        """The incidents that stand in the settled state, with all their tenants."""
        self._shows_again = False
        keys = self._state.keys
        slots = keys.rows["active"].nonzero()[0]
        standing = Emission(self._state.policies, self._state.texts)
        self._state.emit(slots, standing)
        return self._with_all_tenants(standing.output(settled=True), [keys.incidents[slot] for slot in slots.tolist()])

    def _news(self, output: Output) -> Output:
        """The transitions and alerts that were marked as new."""
        if not (self._new_steps or self._new_alerts):
            return NO_OUTPUT
        steps, alerts = set(self._new_steps), set(self._new_alerts)
        transitions = output.transitions
        return Output(
            NO_OUTPUT.incidents,
            NO_OUTPUT.incident_tenants,
            _chosen(transitions, [step in steps for step in _pairs(transitions, "incident_id", "n")]),
            _chosen(output.alerts, [alert in alerts for alert in output.alerts["id"].to_list()]),
        )

    # ------------------------------------------------------------ settled

    def _settle(self) -> tuple[Output, Output]:
        """Settle; what is to be shown of it, with the settled state of keys of which nothing more is shown; and all of
        it."""
        until = self.watermark
        if until == NEVER or until <= self._settled:
            return NO_OUTPUT, NO_OUTPUT
        emission = self._advance(until - 1, until)
        self._ahead.settled(until, self._pending.numbers)
        output = emission.output(settled=True)
        moved = emission.reported()
        keys = emission.keys()
        for alert, incident in _pairs(output.alerts, "id", "incident_id"):
            shown = self._shown.get(keys[incident])
            if shown is not None and alert in shown.alerts:
                shown.alerts.discard(alert)
                if (ran := self._ahead.ran.get(keys[incident])) is not None:
                    ran.alerts.discard(alert)
            else:
                self._new_alerts.append(alert)
        for incident, n in _pairs(output.transitions, "incident_id", "n"):
            shown = self._shown.get(keys[incident])
            if shown is None or n >= shown.steps.get(incident, 0):
                self._new_steps.append((incident, n))
        hidden = self._hidden(moved)
        rest = [name for name in self._shown if name not in moved and self._agrees(name)]
        for name in rest:
            self._forget(name)
        self._next_timer = self._first_timer()
        # A row that pending matches have changed already must not fall back to what is settled of it.
        return output.without_state_of(hidden).joined(self._settled_rows(rest)), output

    def _settled_rows(self, names: Iterable[Name]) -> Output:
        """The incidents that stand in the settled state of some keys."""
        told = Emission(self._state.policies, self._state.texts)
        slots = [slot for name in names if (slot := self._state.keys.find(name)) is not None]
        self._state.emit(np.array(slots, np.int64), told)
        return told.output(settled=True)

    def _hidden(self, moved: dict[Name, list[str]]) -> list[str]:
        """Of the incidents that settled on, those whose shown state is ahead of the settled one."""
        hidden: list[str] = []
        for name, shown in self._shown.items():
            current, steps, events = self._current(name)
            ran = self._ahead.ran.get(name)
            # What is over is final, also where its cooldown passed without a word.
            for incident in (shown.settled, *moved.get(name, ())):
                if incident != current:
                    for told in (shown, ran) if ran is not None else (shown,):
                        told.steps.pop(incident, None)
                        told.events.pop(incident, None)
            shown.settled = current
            # Ahead by matches that wait, or by timers; time may also have settled more than anybody was shown. Matches
            # that wait may also be another incident's: then this is the last that is heard of this one.
            ahead = shown.steps.get(current, 0) > steps or shown.events.get(current, 0) > events
            # What was touched is run on right after this, and its rows come on top; but not those of settled tenants.
            if name in moved and current and ahead and name not in self._touched:
                hidden.append(current)
        for name in moved:
            if name not in self._shown or self._agrees(name):
                self._forget(name)
        return hidden

    def _current(self, name: Name) -> tuple[str, int, int]:
        """The incident of a key's settled state, its transitions and events; "" where there is none."""
        keys, slot = self._state.keys, self._state.keys.find(name)
        if slot is None or not keys.rows["active"][slot]:
            return "", 0, 0
        return keys.incidents[slot], int(keys.rows["transitions"][slot]), int(keys.rows["events"][slot])

    def _agrees(self, name: Name) -> bool:
        """Is everything that is shown of a key settled? Time may have settled more than that."""
        if name in self._pending.numbers or name in self._touched:
            return False
        current, steps, _ = self._current(name)
        return all(incident == current and shown <= steps for incident, shown in self._shown[name].steps.items())

    def _forget(self, name: Name) -> None:
        """Nothing is shown of a key beyond its settled state."""
        self._shown.pop(name, None)
        self._know(name, [])

    def _know(self, name: Name, given: list[tuple[int, str]]) -> None:
        """These incidents of a key are announced and not settled; and what was before a restart may come again."""
        ids = {incident for _, incident in given}
        known = given + [hint for hint in self._hints.get(name, ()) if hint[1] not in ids]
        if known:
            self._announced[name] = known
        else:
            self._announced.pop(name, None)

    def _first_timer(self) -> int:
        """The first deadline of the settled state of keys that are not shown, µs."""
        row = self._state.keys.rows
        deadline = np.where(row["status"] == OPEN, row["recover"], row["close"])
        waits = row["active"] & (row["status"] != CLOSED)
        for name in self._shown:
            slot = self._state.keys.find(name)
            if slot is not None:
                waits[slot] = False
        return int(deadline[waits].min()) if waits.any() else FOREVER

    # ------------------------------------------------------------ provisional

    def _due_by(self, until: int) -> dict[Name, None]:
        """The keys that time alone changes by `until`."""
        names: dict[Name, None] = {}
        while self._deadlines and self._deadlines[0][0] <= until:
            deadline, name = heappop(self._deadlines)
            shown = self._shown.get(name)
            if shown is not None and shown.deadline == deadline:
                names[name] = None
        if self._next_timer <= until:
            row = self._state.keys.rows
            ends = np.where(row["status"] == OPEN, row["recover"], row["close"])
            due = np.flatnonzero(row["active"] & (row["status"] != CLOSED) & (ends <= until))
            for slot in due.tolist():
                name = self._state.keys.name(slot)
                if name not in self._shown:
                    names[name] = None
        return names

    def _run(self, names: list[Name], until: int) -> tuple[Output, Gone, pl.DataFrame]:
        """Run a copy of these keys through their pending matches, and tell what changed."""
        copy = self._copy_of(names)
        rows = self._rows(
            self._pending.since(self._ahead.until, self._ahead.ran, names), copy.keys, self._pending.names
        )
        fresh = self._is_fresh(rows)
        lost = [copy.keys.name(slot) for slot in _disordered(rows["slot"], fresh)]
        emission = Emission(copy.policies, copy.texts, tracks=min(self._fresh.values(), default=FOREVER))
        namer = Namer(self._announced)
        before = self._without_fresh(lost, until) if lost else empty(INCIDENT_TENANTS)
        advance(copy, rows, until, emission, name=namer)
        output = emission.output(settled=False)
        gone, same, back = self._compare(names, copy, emission, output, namer)
        if same:
            output = output.with_settled(same)
        if back:
            output = output.joined(self._settled_rows(back))
        if before.height:
            gone = replace(gone, tenants=_without_some(before, output.incident_tenants, self._shown_of(lost)))
            if gone.tenants:
                output = self._with_all_tenants(output, gone.tenants)
        return output, gone, emission.members()

    def _copy_of(self, names: Sequence[Name]) -> State:
        """A state with only these keys, as far ahead as they have been run."""
        ahead = self._ahead
        copy = State(policies=self._state.policies, texts=self._state.texts)
        self._state.copy([name for name in names if name not in ahead.ran], copy)
        ahead.state.copy([name for name in names if name in ahead.ran], copy)
        return copy

    def _is_fresh(self, rows: Table) -> Mask:
        """Which rows came since the last step."""
        floor = np.array([self._fresh.get(name, FOREVER) for name in self._numbers], np.int64)
        return rows["offset"] >= floor[rows["partition"]]  # type: ignore[no-any-return]

    def _without_fresh(self, names: Sequence[Name], until: int) -> pl.DataFrame:
        """The tenants of these keys' incidents before the fresh rows came: INCIDENT_TENANTS."""
        copy, pending = self._copy_of(names), self._pending.since(self._ahead.until, self._ahead.ran, names)
        known = take(pending, (~self._is_fresh(pending)).nonzero()[0])
        emission = Emission(copy.policies, copy.texts)
        advance(copy, self._rows(known, copy.keys, self._pending.names), until, emission, name=Namer(self._announced))
        return emission.output(settled=False).incident_tenants

    def _shown_of(self, names: Iterable[Name]) -> list[str]:
        """The incidents of some keys that are shown."""
        return [incident for name in names if name in self._shown for incident in self._shown[name].steps]

    def _compare(
        self, names: list[Name], copy: State, emission: Emission, output: Output, namer: Namer
    ) -> tuple[Gone, list[str], list[Name]]:
        """Remember what is shown of these keys now; what was shown before and is no longer, what is settled, and of
        which keys the settled incident is shown again."""
        states = emission.states()
        nothing = Ran()
        alerts: dict[Name, set[str]] = {}
        keys = emission.keys()
        for alert, incident in _pairs(output.alerts, "id", "incident_id"):
            alerts.setdefault(keys[incident], set()).add(alert)
        incidents: list[str] = []
        steps: list[tuple[str, int]] = []
        taken: list[str] = []
        same: list[str] = []  # that the pending matches did not touch: as final as before
        back: list[Name] = []  # keys whose settled incident was shown with matches that are not in it any more
        for name in names:
            before = self._shown.pop(name, None) or self._settled_of(name)
            settled, *standing = self._current(name)
            ran = self._ahead.ran.get(name, nothing)
            found = ran.alerts | alerts.get(name, set())
            now = _Shown(self._deadline(name, copy), dict(ran.steps), dict(ran.events), found, settled)
            for incident, (transitions, events) in states.get(name, {}).items():
                now.steps[incident], now.events[incident] = transitions, events
            if settled and settled not in now.steps:
                # It stands, also where the run had nothing to say of it, or only that its cooldown is over.
                now.steps[settled], now.events[settled] = standing
                if [before.steps.get(settled), before.events.get(settled)] != standing:
                    back.append(name)
            for incident, transitions in now.steps.items():
                self._new_steps += [(incident, n) for n in range(before.steps.get(incident, 0), transitions)]
                if transitions < before.steps.get(incident, 0):
                    steps.append((incident, transitions))
            if settled and [now.steps[settled], now.events[settled]] == standing:
                same.append(settled)
            incidents += [incident for incident in before.steps if incident not in now.steps]
            taken += sorted(before.alerts - now.alerts)
            self._new_alerts += sorted(now.alerts - before.alerts)
            self._know(name, ran.given + namer.given.get(name, []))
            if now.steps:
                self._shown[name] = now
                if now.deadline != FOREVER:
                    heappush(self._deadlines, (now.deadline, name))
        if len(self._deadlines) > 2 * len(self._shown) + 1_000:  # most of them are stale
            self._deadlines = [
                (shown.deadline, name) for name, shown in self._shown.items() if shown.deadline != FOREVER
            ]
            heapify(self._deadlines)
        return Gone(tuple(incidents), tuple(steps), tuple(taken)), same, back

    def _settled_of(self, name: Name) -> _Shown:
        """What everybody knows of a key of which nothing more than its settled state is shown."""
        current, steps, events = self._current(name)
        return _Shown(steps={current: steps}, events={current: events}, settled=current) if current else _Shown()

    def _deadline(self, name: Name, copy: State) -> int:
        slot = copy.keys.find(name)
        if slot is None:
            return FOREVER
        row = copy.keys.rows[slot]
        if not row["active"] or row["status"] == CLOSED:
            return FOREVER
        return int(row["recover"] if row["status"] == OPEN else row["close"])

    # ------------------------------------------------------------ ahead

    def _disturb(self, matches: KeyedMatches) -> None:
        """Take note of how far back the matches reach."""
        earliest = int(matches.rows["at"].min())
        self._reach = min(self._reach, earliest)
        if earliest < self._ahead.until:
            early = matches.rows["slot"][matches.rows["at"] < self._ahead.until]
            self._ahead.drop([matches.names[n] for n in np.unique(early).tolist()])

    def _go_ahead(self, until: int) -> None:
        """Run what is shown and will hardly be disturbed any more, so that the next steps need not."""
        ahead = self._ahead
        if until - self.BEHIND < ahead.until + self.STRIDE:
            return
        # Who was late since the last time is so again, but need not hold this back for ever.
        upto = min(until - self.BEHIND, self._reach)
        self._reach = FOREVER
        if upto <= max(ahead.until, self._settled):
            return
        rows, names = self._pending.until(upto - 1, ahead.until, ahead.ran), self._pending.names
        ahead.enter([names[n] for n in np.unique(rows["slot"]).tolist()], self._state)
        emission, namer = Emission(self._state.policies, self._state.texts), Namer(self._announced)
        advance(ahead.state, self._rows(rows, ahead.state.keys, names), upto, emission, name=namer)
        ahead.note(emission, namer.given)
        ahead.until = upto

    def _states(self) -> list[State]:
        return [*super()._states(), self._ahead.state]

    def _with_all_tenants(self, output: Output, incidents: Iterable[str]) -> Output:
        """The output with every tenant of some incidents: the settled ones beside those that came anew."""
        texts = self._state.texts
        where = {
            state.keys.incidents[slot]: (state, slot) for state in self._states() for slot in state.keys.live().tolist()
        }
        told = set(_pairs(output.incident_tenants, "incident_id", "tenant"))
        frames = [output.incident_tenants]
        for incident in incidents:
            if incident in where:
                state, slot = where[incident]
                rows = state.tenants.of(np.array([slot]))
                fresh = [(incident, tenant) not in told for tenant in texts.named(rows["tenant"])]
                rows = take(rows, np.array(fresh, np.bool_))
                tenants = texts.column(rows["tenant"])
                ids = [incident] * len(rows)
                frames.append(framed(INCIDENT_TENANTS, ids, tenants, rows["count"], rows["first"], rows["last"]))
        return output.with_tenants(pl.concat(frames))


def _disordered(slot: Positions, fresh: Mask) -> list[int]:
    """The slots, ascending, in which a row that is fresh comes before one that is not. slot: sorted."""
    if fresh.all():
        return []
    before = running(fresh)[:-1]
    behind = ~fresh & (before > before[starts(slot)])
    return np.unique(slot[behind]).tolist()  # type: ignore[no-any-return]


def _without_some(before: pl.DataFrame, after: pl.DataFrame, incidents: list[str]) -> tuple[str, ...]:
    """Those of the incidents that had a tenant (INCIDENT_TENANTS) which they have no longer."""
    lost = before.join(after, on=["incident_id", "tenant"], how="anti", nulls_equal=True)
    return tuple(lost.get_column("incident_id").filter(lost["incident_id"].is_in(incidents)).unique().sort().to_list())


def _pairs(frame: pl.DataFrame, one: str, other: str) -> Iterable[tuple[Any, Any]]:
    """Two columns, row by row."""
    return zip(frame.get_column(one).to_list(), frame.get_column(other).to_list(), strict=True)


def _chosen(frame: pl.DataFrame, rows: list[bool]) -> pl.DataFrame:
    """Some of the rows."""
    return frame if all(rows) else frame.filter(pl.Series(rows, dtype=pl.Boolean))
