"""A shard of the keys: settled state, pending matches and the watermarks that part them (DESIGN S11).

Matches wait until every partition's watermark has passed them; then they are final. What the matches still waiting
would make of the state is computed on a copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import numpy as np
import polars as pl

from operators.clock import NEVER
from operators.identity import incident_id
from operators.keys import CLOSED, OPEN, Keys
from operators.lifecycle import advance
from operators.matches import KEYED, KeyedMatches, Matches, Name
from operators.output import Emission, Output
from operators.state import ROWS, State
from operators.tenants import Tenants
from operators.windows import Positions

FOREVER = 2**62  # an instant by which every timer has run out

_PENDING: dict[str, pl.DataType] = {**KEYED, "policy": pl.Int64(), "partition": pl.Int64()}


class Shard:
    """Turns matches into incidents. Picklable.

    partitions: those whose watermarks must have passed before anything settles; others join when they are met.
    """

    def __init__(self, partitions: Iterable[str] = ()) -> None:
        self._watermarks: dict[str, int] = dict.fromkeys(partitions, NEVER)
        self._numbers: dict[str, int] = {name: n for n, name in enumerate(self._watermarks)}
        self._state = State()
        self._pending: list[pl.DataFrame] = []
        self._names: list[Name] = []  # of the keys that are pending, and the number of each in their rows
        self._named: dict[Name, int] = {}
        self._provisional: dict[Name, list[tuple[int, str]]] = {}  # opened at, id: what was announced and not settled
        self._reported: dict[Name, list[str]] = {}  # the incidents of the last provisional output
        self._settled = NEVER

    @property
    def live_keys(self) -> int:
        """Keys that hold any state."""
        return len(self._state.keys)

    @property
    def pending(self) -> int:
        """Matches that wait for their watermark."""
        return sum(frame.height for frame in self._pending)

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
        keyed = matches.keyed() if isinstance(matches, Matches) else matches
        policy = self._state.policies.numbers(keyed.policies)[keyed.frame["policy"].to_numpy()]
        key = keyed.frame["key"].to_numpy()
        used = np.flatnonzero(np.bincount(key, minlength=len(keyed.names)))
        numbers = np.zeros(len(keyed.names), np.int64)
        numbers[used] = [self._number(keyed.names[n]) for n in used.tolist()]
        columns = (
            pl.Series("policy", policy),
            pl.Series("key", numbers[key]),
            pl.lit(number, pl.Int64).alias("partition"),
        )
        self._pending.append(keyed.frame.with_columns(*columns).select(_PENDING.keys()))

    def _number(self, name: Name) -> int:
        number = self._named.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
        return number

    def settle(self) -> Output:
        """Make final what no late record can reach: matches before the lowest watermark, timers up to it."""
        until = self.watermark
        if until == NEVER or until <= self._settled:
            return self._nothing()
        # Strictly before: another partition may still deliver a match at this very instant that sorts before ours.
        return self._advance(until - 1, until)

    def finish(self, until: int) -> Output:
        """End of input (S14): apply the matches with `at` up to and including `until`, µs, and the timers due by it."""
        return self._advance(until, until)

    def provisional(self, until: int) -> Output:
        """What the pending matches with `at` ≤ `until`, and the timers due by then, would make of their keys.

        Takes the place of the provisional output before it; what that one said and this one does not is taken back.
        """
        rows = self._joined().filter(pl.col("at") <= until)
        pending = [self._names[n] for n in rows["key"].unique(maintain_order=True).to_list()]
        copy = self._copy_of(pending, until)
        emission = Emission(copy.policies)
        namer = _Namer(self._provisional)
        advance(copy, self._rows(rows, copy.keys, self._names), until, emission, name=namer)
        replaced = tuple(identity for ids in self._reported.values() for identity in ids)
        earlier, self._reported = self._reported, emission.reported()
        self._provisional = namer.given
        output = emission.output(settled=False, replaces=replaced)
        return output.with_incidents(self._standing([name for name in earlier if name not in self._reported]))

    def _standing(self, names: list[Name]) -> Output:
        """The settled state of some keys, as it was before something provisional was said of them."""
        emission = Emission(self._state.policies)
        slots = [slot for name in names if (slot := self._state.keys.find(name)) is not None]
        self._state.emit(np.array(slots, np.int64), emission)
        return emission.output(settled=True)

    def _advance(self, last: int, until: int) -> Output:
        """Settle the pending matches with `at` up to `last`, and the timers up to `until`."""
        names = self._names
        matches = self._take(last)
        self._settled = max(self._settled, until)
        emission = Emission(self._state.policies)
        rows = self._rows(matches, self._state.keys, names)
        advance(self._state, rows, until, emission, name=_Namer(self._provisional))
        return emission.output(settled=True)

    def _nothing(self) -> Output:
        return Emission(self._state.policies).output(settled=True)

    def _joined(self) -> pl.DataFrame:
        if not self._pending:
            return pl.DataFrame(schema=_PENDING)
        if len(self._pending) > 1:
            self._pending = [pl.concat(self._pending)]
        return self._pending[0]

    def _take(self, last: int) -> pl.DataFrame:
        """Remove and return the pending matches with `at` up to `last`."""
        pending = self._joined()
        due = pending["at"] <= last
        rest = pending.filter(~due)
        # Names of keys that no longer wait must not pile up.
        key = rest["key"].to_numpy()
        used = np.flatnonzero(np.bincount(key, minlength=len(self._names)))
        numbers = np.zeros(len(self._names), np.int64)
        numbers[used] = np.arange(len(used))
        self._pending = [rest.with_columns(pl.Series("key", numbers[key]))] if rest.height else []
        self._names = [self._names[n] for n in used.tolist()]
        self._named = {name: n for n, name in enumerate(self._names)}
        return pending.filter(due)

    def _rows(self, matches: pl.DataFrame, keys: Keys, names: list[Name]) -> pl.DataFrame:
        """The matches with the slots of their keys, in the order of S6 within each."""
        if not matches.height:
            return pl.DataFrame(schema=ROWS)
        key = matches["key"].to_numpy()
        slot = np.zeros(len(names), np.int64)
        for n in np.flatnonzero(np.bincount(key)).tolist():
            slot[n] = keys.slot(names[n])
        rows = matches.with_columns(pl.Series("slot", slot[key])).select(ROWS.keys())
        return rows[self._order(matches, slot[key])]

    def _order(self, rows: pl.DataFrame, slot: Positions) -> Positions:
        """S6 within slots: at, then the partition's name, then offset."""
        at = rows["at"].to_numpy()
        if len(self._numbers) == 1:
            return np.lexsort((at, slot))  # stable: a partition's rows are in offset order
        names = sorted(self._numbers)
        rank = np.zeros(len(names), np.int64)
        rank[[self._numbers[name] for name in names]] = np.arange(len(names))
        return np.lexsort((rows["offset"].to_numpy(), rank[rows["partition"].to_numpy()], at, slot))

    def _copy_of(self, names: list[Name], until: int) -> State:
        """A state with only these keys and those with a deadline up to `until`."""
        mine = self._state
        row = mine.keys.rows
        deadline = np.where(row["status"] == OPEN, row["recover"], row["close"])
        due = np.flatnonzero(row["active"] & (row["status"] != CLOSED) & (deadline <= until))
        wanted = dict.fromkeys([*names, *(mine.keys.name(slot) for slot in due.tolist())])
        copy = State(policies=mine.policies)
        old: list[int] = []
        new: list[int] = []
        for name in wanted:
            slot = mine.keys.find(name)
            if slot is not None:
                old.append(slot)
                new.append(copy.keys.slot(name))
                copy.keys.incidents[new[-1]] = mine.keys.incidents[slot]
                copy.keys.sources[new[-1]] = mine.keys.sources[slot]
        copy.keys.rows[new] = row[old]
        moved = pl.DataFrame({"slot": old, "new": new}, schema={"slot": pl.Int64(), "new": pl.Int64()})
        copy.tenants = Tenants(_moved(mine.tenants.rows, moved))
        copy.retained = _moved(mine.retained, moved)
        return copy


def _moved(rows: pl.DataFrame, slots: pl.DataFrame) -> pl.DataFrame:
    """The rows of some slots under their new numbers, in order."""
    kept = rows.join(slots, on="slot", how="inner", maintain_order="left")
    return kept.with_columns(pl.col("new").alias("slot")).select(rows.columns)


class _Namer:
    """Names incidents, keeping the ids already announced (S12): callers and alerts know them.

    An announced id belongs to the incident that holds the instant it was announced for; a late event may have moved
    the opening before it. An id that is taken so is not derived again for another incident of the key.
    """

    def __init__(self, announced: dict[Name, list[tuple[int, str]]]) -> None:
        self._left = {name: list(ids) for name, ids in announced.items()}
        self.given: dict[Name, list[tuple[int, str]]] = {}

    def __call__(self, workspace: str, rule_id: str, group_key: str, opened_at: int, last_at: int) -> str:
        name = (workspace, rule_id, group_key)
        left, given = self._left.get(name, []), self.given.setdefault(name, [])
        held = [pair for pair in left if opened_at <= pair[0] <= last_at]
        if held:
            chosen = min(held)
            left.remove(chosen)
            identity = chosen[1]
        else:
            taken = {known for _, known in (*left, *given)}
            identity = next(i for n in count() if (i := incident_id(*name, opened_at, n)) not in taken)
        given.append((opened_at, identity))
        return identity
