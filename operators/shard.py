"""A shard of the keys: settled state, pending matches and the watermarks that part them (DESIGN S11).

Matches wait until every partition's watermark has passed them; then they are final. What the matches still waiting
make of the state meanwhile is for `live`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import numpy as np

from operators.clock import NEVER
from operators.identity import incident_id
from operators.keys import Keys
from operators.lifecycle import advance
from operators.matches import TEXTS, KeyedMatches, Matches, Name
from operators.output import NO_OUTPUT, Emission, Output
from operators.pending import FOREVER as FOREVER
from operators.pending import Pending
from operators.state import State
from operators.tables import Table, order_by, take
from operators.windows import Positions


class Shard:
    """Turns matches into incidents. Picklable.

    partitions: those whose watermarks must have passed before anything settles; others join when they are met.
    """

    def __init__(self, partitions: Iterable[str] = ()) -> None:
        self._watermarks: dict[str, int] = dict.fromkeys(partitions, NEVER)
        self._numbers: dict[str, int] = {name: n for n, name in enumerate(self._watermarks)}
        self._state = State()
        self._pending = Pending()
        self._announced: dict[Name, list[tuple[int, str]]] = {}  # opened at, id: what callers know and is not settled
        self._settled = NEVER

    @property
    def live_keys(self) -> int:
        """Keys that hold any state."""
        return len(self._state.keys)

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions in the order of their numbers (MEMBERS)."""
        return tuple(self._numbers)

    @property
    def pending(self) -> int:
        """Matches that wait for their watermark."""
        return len(self._pending)

    @property
    def watermark(self) -> int:
        """The lowest watermark of all partitions, µs; NEVER while one is unknown."""
        return min(self._watermarks.values(), default=NEVER)

    def add(self, partition: str, watermark: int, matches: Matches | KeyedMatches | None = None) -> None:
        """Take a partition's next matches (in offset order) and its watermark after them, µs."""
        number = self._numbers.setdefault(partition, len(self._numbers))
        self._watermarks[partition] = max(watermark, self._watermarks.get(partition, NEVER))
        if matches is None or not len(matches):
            return
        keyed = matches.keyed()
        rows = self._pending.add(keyed.rows, keyed.names)
        rows["policy"] = self._state.policies.numbers(keyed.policies)[keyed.rows["policy"]]
        codes = [keyed.rows[name] for name in TEXTS]
        for name, column in zip(TEXTS, self._state.texts.numbers(keyed.texts, codes), strict=True):
            rows[name] = column
        rows["partition"] = number

    def settle(self) -> Output:
        """Make final what no late record can reach: matches before the lowest watermark, timers up to it."""
        until = self.watermark
        if until == NEVER or until <= self._settled:
            return NO_OUTPUT
        # Strictly before: another partition may still deliver a match at this very instant that sorts before ours.
        return self._advance(until - 1, until).output(settled=True)

    def finish(self, until: int) -> Output:
        """End of input (S14): apply the matches with `at` up to and including `until`, µs, and the timers due by it."""
        return self._advance(until, until).output(settled=True)

    def _advance(self, last: int, until: int) -> Emission:
        """Settle the pending matches with `at` up to `last`, and the timers up to `until`."""
        self._forget_texts()
        matches, names = self._pending.take(last)
        self._settled = max(self._settled, until)
        emission = Emission(self._state.policies, self._state.texts)
        rows = self._rows(matches, self._state.keys, names)
        advance(self._state, rows, until, emission, name=Namer(self._announced))
        return emission

    def _forget_texts(self) -> None:
        """Let go of the texts that nothing refers to any more, once there are many."""
        state = self._state
        if not state.texts.is_grown():
            return
        columns = [(self._pending.rows, name) for name in TEXTS]
        for each in self._states():
            columns += [*((each.retained, name) for name in TEXTS), (each.tenants.rows, "tenant")]
        fresh = state.texts.keep([rows[name] for rows, name in columns])
        for (rows, name), numbers in zip(columns, fresh, strict=True):
            rows[name] = numbers

    def _states(self) -> list[State]:
        """All states that share the texts."""
        return [self._state]

    def _rows(self, matches: Table, keys: Keys, names: list[Name]) -> Table:
        """The matches with the slots of their keys, in the order of S6 within each."""
        if not len(matches):
            return matches
        used = np.zeros(len(names), np.bool_)
        used[matches["slot"]] = True
        slot = np.zeros(len(names), np.int64)
        for n in used.nonzero()[0].tolist():
            slot[n] = keys.slot(names[n])
        mine = slot[matches["slot"]]
        order = self._order(matches, mine)
        rows = take(matches, order)
        rows["slot"] = mine[order]
        return rows

    def _order(self, rows: Table, slot: Positions) -> Positions:
        """S6 within slots: at, then the partition's name, then offset."""
        if len(self._numbers) == 1:
            return order_by(rows["at"], slot)  # stable: a partition's rows are in offset order
        names = sorted(self._numbers)
        rank = np.zeros(len(names), np.int64)
        rank[[self._numbers[name] for name in names]] = np.arange(len(names))
        return order_by(rows["offset"], rank[rows["partition"]], rows["at"], slot)


class Namer:
    """Names incidents, keeping the ids already announced (S12): callers and alerts know them.

    An announced id belongs to the incident that holds the instant it was announced for; a late event may have moved
    the opening before it. An id that is taken so is not derived again for another incident of the key.
    """

    def __init__(self, announced: dict[Name, list[tuple[int, str]]]) -> None:
        self._left = {name: list(ids) for name, ids in announced.items()}
        self.given: dict[Name, list[tuple[int, str]]] = {}

    def __call__(self, workspace: str, rule_id: str, group_key: str, opened_at: int, last_at: int) -> str:
        name = (workspace, rule_id, group_key)
        left, given = self._left.get(name), self.given.setdefault(name, [])
        held = [pair for pair in left if opened_at <= pair[0] <= last_at] if left else None
        if left and held:
            chosen = min(held)
            left.remove(chosen)
            identity = chosen[1]
        else:
            identity = incident_id(*name, opened_at)
            if left or given:
                taken = {known for _, known in (*(left or ()), *given)}
                again = count(1)
                while identity in taken:
                    identity = incident_id(*name, opened_at, next(again))
        given.append((opened_at, identity))
        return identity
