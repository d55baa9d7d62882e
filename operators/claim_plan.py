"""Which rules claim which rows of a frame: set membership, compiled once for a set of rules.

An event's stream, type and code decide almost everything. Types listed by the same rules are one class, so are codes;
for each combination of classes the rules that remain are worked out once, as bits of an integer, and remembered as an
*outcome*. A frame then costs three look-ups a row; only `where` filters look at the rows themselves, and only at
those whose outcome leaves that rule possible.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from operators.matches import MATCH, WITNESS
from operators.rule_fields import ANY_STREAM
from operators.rules import Match
from operators.texts import coded

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_LARGEST_TABLE = 1 << 22  # combinations of classes looked up in an array; beyond, by sorting
_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A match that may claim events for the rule at index `rule`. A WITNESS never takes an event from another."""

    rule: int
    streams: tuple[str, ...]
    match: Match
    exclusive: bool = False
    kind: int = MATCH


@dataclass(frozen=True, slots=True)
class Claims:
    """Claims by row of the frame, those of one row in claiming order: exclusive rule, other rules, witnesses."""

    row: Ints
    rule: Ints
    kind: Ints
    both: Bools  # type and code are both listed

    @staticmethod
    def merge(parts: Sequence["Claims"]) -> "Claims":
        """Return all claims in the order of their rows, those of a row in the order of `parts`."""
        if len(parts) < 2:
            return parts[0] if parts else _NO_CLAIMS
        row = np.concatenate([part.row for part in parts])
        order = np.argsort(row, kind="stable")
        rule = np.concatenate([part.rule for part in parts])
        kind = np.concatenate([part.kind for part in parts])
        both = np.concatenate([part.both for part in parts])
        return Claims(row, rule, kind, both).take(order)

    def take(self, which: Ints | Bools) -> "Claims":
        """Return the claims at these positions."""
        return Claims(self.row[which], self.rule[which], self.kind[which], self.both[which])


class ClaimPlan:
    """The compiled form of `candidates`, which come in claiming order: exclusive ones first."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = tuple(candidates)
        self._streams = _Classes([c.streams for c in candidates])
        self._types = _Classes([c.match.type or () for c in candidates])
        self._codes = _Classes([c.match.code or () for c in candidates], fold=lowercase)
        self._any_stream = _bits(ANY_STREAM in c.streams for c in candidates)
        self._unlisted = _bits(not c.match.type and not c.match.code for c in candidates)
        self._exclusive = _bits(c.exclusive for c in candidates)
        self._filtered = _bits(c.match.where is not None for c in candidates)
        self._where = {i: c.match.where.expr() for i, c in enumerate(candidates) if c.match.where}
        self._rule = np.array([c.rule for c in candidates], dtype=np.int64)
        self._kind = np.array([c.kind for c in candidates], dtype=np.int64)
        size = len(self._streams) * len(self._types) * len(self._codes)
        self._table = np.full(size, _UNKNOWN, dtype=np.int64) if size <= _LARGEST_TABLE else None
        self._outcome_of: dict[int, int] = {}
        self._outcomes = _Outcomes()

    def claims(self, frame: pl.DataFrame) -> Claims:
        """Return the claims on `frame`: the event columns that the rules read, n rows."""
        rows, outcome = self._possible(frame)
        if not len(rows):
            return _NO_CLAIMS
        passed = self._filter(frame, rows, outcome)
        found = [self._taken(at, option, rows) for at, option in self._options(outcome, passed)]
        return self._one_a_rule(Claims.merge(found), frame.height)

    def _possible(self, frame: pl.DataFrame) -> tuple[Ints, Ints]:
        """Return the rows that some rule may claim, and the outcome of each."""
        of_type, of_code = self._types.of(frame["type"]), self._codes.of(frame["code"])
        if self._unlisted:
            rows = np.arange(frame.height)
        else:
            rows = (of_type + of_code).nonzero()[0]
            if not len(rows):
                return _NONE, _NONE
            if len(rows) < frame.height:
                of_type, of_code = of_type[rows], of_code[rows]
        key = (self._streams.of(frame["stream"], rows) * len(self._types) + of_type) * len(self._codes) + of_code
        outcome = self._look_up(key)
        possible = outcome > 0
        return rows[possible], outcome[possible]

    def _look_up(self, key: Ints) -> Ints:
        if self._table is None:
            distinct, inverse = np.unique(key, return_inverse=True)
            return np.array([self._outcome(int(k)) for k in distinct], dtype=np.int64)[inverse]
        outcome = self._table[key]
        if outcome.min(initial=0) != _UNKNOWN:
            return outcome
        for unknown in np.unique(key[outcome == _UNKNOWN]):
            self._table[unknown] = self._outcome(int(unknown))
        return self._table[key]

    def _outcome(self, key: int) -> int:
        """Return the outcome of a combination of classes: 0 where no rule is possible."""
        if key not in self._outcome_of:
            rest, code = divmod(key, len(self._codes))
            stream, of_type = divmod(rest, len(self._types))
            types, codes = self._types.bits[of_type], self._codes.bits[code]
            possible = (types | codes | self._unlisted) & (self._streams.bits[stream] | self._any_stream)
            both = types & codes
            first = [self._option(i, both) for i in self._until_certain(possible & self._exclusive)]
            others = [self._option(i, both) for i in _each_bit(possible & ~self._exclusive)]
            self._outcome_of[key] = self._outcomes.number(tuple(first), tuple(others))
        return self._outcome_of[key]

    def _until_certain(self, possible: int) -> Iterator[int]:
        """Yield exclusive candidates in order, up to the first that no filter can turn down."""
        for i in _each_bit(possible):
            yield i
            if not self._filtered >> i & 1:
                return

    @staticmethod
    def _option(candidate: int, both: int) -> int:
        return candidate * 2 + (both >> candidate & 1)

    def _filter(self, frame: pl.DataFrame, rows: Ints, outcome: Ints) -> dict[int, Bools]:
        """Return for each candidate with a `where` whether it holds, by position in `rows`, false where not needed."""
        if not self._where or not len(rows):
            return {}
        # Candidates possible in the same outcomes look at the same rows: one query for all of them.
        together: dict[tuple[int, ...], list[int]] = {}
        for i in self._where:
            if among := self._outcomes.holding(i):
                together.setdefault(among, []).append(i)
        passed: dict[int, Bools] = {}
        for among, filtered in together.items():
            at = np.flatnonzero(np.isin(outcome, among))
            held = frame[rows[at]].select(self._where[i].alias(str(i)) for i in filtered)
            for i in filtered:
                passed[i] = np.zeros(len(rows), dtype=np.bool_)
                passed[i][at] = held[str(i)].to_numpy()
        return passed

    def _options(self, outcome: Ints, passed: dict[int, Bools]) -> Iterator[tuple[Ints, Ints]]:
        """Yield (positions, option that claims each): the exclusive ones until one claims, then every other."""
        first, others = self._outcomes.tables()
        waiting = np.arange(len(outcome))
        for column in first.T:
            option = column[outcome[waiting]]
            claims = self._claims(option, waiting, passed)
            yield waiting[claims], option[claims]
            waiting = waiting[~claims & (option >= 0)]
        everyone = np.arange(len(outcome))
        for column in others.T:
            option = column[outcome]
            claims = self._claims(option, everyone, passed)
            yield everyone[claims], option[claims]

    @staticmethod
    def _claims(option: Ints, at: Ints, passed: dict[int, Bools]) -> Bools:
        claims: Bools = option >= 0
        if passed:
            candidate = option >> 1
            for i in np.unique(candidate[claims]).tolist():
                if i in passed:
                    its = candidate == i
                    claims[its] = passed[i][at[its]]
        return claims

    def _taken(self, at: Ints, option: Ints, rows: Ints) -> Claims:
        candidate = option >> 1
        return Claims(rows[at], self._rule[candidate], self._kind[candidate], (option & 1).astype(np.bool_))

    def _one_a_rule(self, claims: Claims, height: int) -> Claims:
        """Leave out a witness for a rule that has the event as a match."""
        witness = claims.kind == WITNESS
        if not witness.any():
            return claims
        number = claims.rule * height + claims.row
        return claims.take(~witness | ~np.isin(number, number[~witness]))


class _Outcomes:
    """What may happen to an event, by number: exclusive options in order, and all others. Number 0 is nothing."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {((), ()): 0}
        self._holding: dict[int, list[int]] = {}
        self._tables = (_NO_OPTIONS, _NO_OPTIONS)

    def number(self, first: tuple[int, ...], others: tuple[int, ...]) -> int:
        number = self._numbers.setdefault((first, others), len(self._numbers))
        for option in (*first, *others):
            holding = self._holding.setdefault(option >> 1, [])
            if number not in holding[-1:]:
                holding.append(number)
        return number

    def tables(self) -> tuple[Ints, Ints]:
        """Return the exclusive and the other options, a row for each number."""
        if len(self._tables[0]) != len(self._numbers):
            self._tables = (
                _table([first for first, _ in self._numbers]),
                _table([others for _, others in self._numbers]),
            )
        return self._tables

    def holding(self, candidate: int) -> tuple[int, ...]:
        """Return the outcomes in which `candidate` is possible."""
        return tuple(self._holding.get(candidate, ()))


def lowercase(text: str) -> str:
    """The text in lower case, as `where` sees it: Polars may know another Unicode than Python."""
    return text.lower() if text.isascii() else str(pl.Series([text]).str.to_lowercase()[0])


class _Classes:
    """Words by the candidates that list them: class 0 is of those nobody lists. fold: applied to what is looked up."""

    def __init__(self, lists: Sequence[Sequence[str]], fold: Callable[[str], str] | None = None) -> None:
        listed: dict[str, int] = {}
        for i, words in enumerate(lists):
            for word in words:
                listed[word] = listed.get(word, 0) | 1 << i
        self.bits = list(dict.fromkeys([0, *listed.values()]))
        number = {bits: i for i, bits in enumerate(self.bits)}
        self._numbers = {word: number[bits] for word, bits in listed.items()}
        self._fold = fold

    def __len__(self) -> int:
        return len(self.bits)

    def of(self, column: pl.Series, rows: Ints | None = None) -> Ints:
        """Return the class of each text (of these rows only); looked up once for each that is different."""
        if not self._numbers:
            return np.zeros(len(column) if rows is None else len(rows), dtype=np.int64)
        codes, texts = coded(column, rows)
        return np.array([0 if text is None else self._class(text) for text in texts], dtype=np.int64)[codes]

    def _class(self, text: str) -> int:
        return self._numbers.get(text if self._fold is None else self._fold(text), 0)


def _table(rows: Sequence[tuple[int, ...]]) -> Ints:
    """Return `rows` as an array; -1 fills what is shorter than the longest."""
    table = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << i for i, flag in enumerate(flags) if flag)


def _each_bit(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


_NONE = np.zeros(0, dtype=np.int64)
_NO_OPTIONS = np.zeros((0, 0), dtype=np.int64)
_NO_CLAIMS = Claims(_NONE, _NONE, _NONE, np.zeros(0, dtype=np.bool_))
