"""A shard of the keys: settled state, pending matches and the watermarks that part them (DESIGN S11).

Matches wait until every partition's watermark has passed them; then they are final. What the matches still waiting
make of the state meanwhile is for `live`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

import numpy as np
import polars as pl

from operators.clock import NEVER
from operators.identity import incident_id
from operators.keys import Keys
from operators.lifecycle import advance
from operators.matches import KEYED, KeyedMatches, Matches, Name
from operators.output import Emission, Output
from operators.state import ROWS, State
from operators.windows import Positions

FOREVER = 2**62  # an instant by which every timer has run out

_PENDING: dict[str, pl.DataType] = {**KEYED, "policy": pl.Int64(), "partition": pl.Int64()}


POSITION: dict[str, pl.DataType] = {"partition": pl.Int64(), "offset": pl.Int64()}


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
        self._announced: dict[Name, list[tuple[int, str]]] = {}  # opened at, id: what callers know and is not settled
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
            return Emission(self._state.policies).output(settled=True)
        # Strictly before: another partition may still deliver a match at this very instant that sorts before ours.
        return self._advance(until - 1, until).output(settled=True)

    def finish(self, until: int) -> Output:
        """End of input (S14): apply the matches with `at` up to and including `until`, µs, and the timers due by it."""
        return self._advance(until, until).output(settled=True)

    def _advance(self, last: int, until: int) -> Emission:
        """Settle the pending matches with `at` up to `last`, and the timers up to `until`."""
        names = self._names
        matches = self._take(last)
        self._settled = max(self._settled, until)
        emission = Emission(self._state.policies)
        rows = self._rows(matches, self._state.keys, names)
        advance(self._state, rows, until, emission, name=Namer(self._announced))
        return emission

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

    def _rows(self, matches: pl.DataFrame, keys: Keys, names: list[Name], *, positions: bool = False) -> pl.DataFrame:
        """The matches with the slots of their keys (and their positions), in the order of S6 within each."""
        columns = ROWS | POSITION if positions else ROWS
        if not matches.height:
            return pl.DataFrame(schema=columns)
        key = matches["key"].to_numpy()
        slot = np.zeros(len(names), np.int64)
        for n in np.flatnonzero(np.bincount(key)).tolist():
            slot[n] = keys.slot(names[n])
        rows = matches.with_columns(pl.Series("slot", slot[key])).select(columns.keys())
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
