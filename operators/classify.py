"""S7: which rules claim which events, in columns.

Exclusive rules are tried by priority, the first match wins; every other rule claims on its own. Where no workspace
has settings of its own, one compiled plan serves all rows; one that disables a rule gets a plan of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.claim_plan import Claims
from operators.claimed import Claimed
from operators.events import DECODED, RESOLVE
from operators.frames import empty, framed, pick
from operators.matches import CONFIDENCES, HIGH, MATCH, MEDIUM, KeyedMatches, Matches, Name
from operators.resolves import REJECTS, resolves
from operators.rulebook import Compiler, Rulebook, columns_read
from operators.rules import Rule, in_order
from operators.settings import Settings
from operators.tables import Table, joined, take
from operators.windows import changes

_LEVELS = [None, CONFIDENCES[MEDIUM], CONFIDENCES[HIGH]]
_READ = frozenset({"workspace", "stream", "source", "type", "code", "tenant", "severity"})

CLAIMS: dict[str, pl.DataType] = {
    "offset": pl.Int64(),
    "workspace": pl.String(),
    "rule_id": pl.String(),
    "group_key": pl.String(),
    "confidence": pl.String(),
}


@dataclass(frozen=True, slots=True)
class Classified:
    """A frame of one partition after classification.

    `events`: the frame's event rows with `rule_id`, `group_key` and `confidence` of the first rule that claims each,
    null where none does. `claims`: the columns CLAIMS, every further claim of an event. `matches`: what the shards
    count, resolve commands included. `rejects`: {offset, raw, error} of commands that name no rule.
    """

    events: pl.DataFrame
    claims: pl.DataFrame
    matches: KeyedMatches
    rejects: pl.DataFrame


class Classifier:
    """The rules, ready to classify. Remembers compiled plans and nothing of the events."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = in_order(rules)
        self.columns: frozenset[str] = _READ | columns_read(self.rules)  # the event columns that are read
        self._compiler = Compiler(self.rules)
        self._settings: dict[str, Settings] = {}
        self._book = self._compiler.rulebook({})
        self._names = [rule.id for rule in self.rules]

    def classify(self, frame: pl.DataFrame, settings: Mapping[str, Settings], *, record: bool = True) -> Classified:
        """Classify `frame`: event and resolve rows (DECODED columns and `at`) in the order of their offsets.

        `settings`: by workspace. A column that `frame` lacks counts as null. Without `record`, for runs that do not
        store events, `events` stays as it came and `claims` empty: a third of the time.
        """
        book = self._rulebook(settings)
        events, commands = _split(frame)
        readable = _with_columns(events, self.columns | book.columns)
        claims, policy = book.claims(readable)
        claimed = Claimed(readable, claims, policy, book)
        rows, names, rejects = claimed.rows, claimed.names, empty(REJECTS)
        if commands.height:
            ordered, rejects = resolves(commands, book)
            more = Matches(ordered, book.policies).keyed()
            more.rows["slot"] += len(names)
            rows, names = joined(rows, more.rows), names + more.names
            rows = take(rows, rows["offset"].argsort(kind="stable"))
        stored, further = self._record(events, claims, claimed) if record else (events, empty(CLAIMS))
        return Classified(stored, further, _matches(rows, names, claimed.texts, book), rejects)

    def _rulebook(self, settings: Mapping[str, Settings]) -> Rulebook:
        if settings != self._settings:
            self._settings = dict(settings)
            self._book = self._compiler.rulebook(self._settings)
        return self._book

    def _record(self, events: pl.DataFrame, claims: Claims, claimed: Claimed) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the events with the first claim of each beside it, and the further claims."""
        at = (claims.kind == MATCH).nonzero()[0]
        lead = changes(claims.row[at])
        its, more = at[lead], at[~lead]
        values: list[NDArray[Any]] = [claims.rule, claimed.group, claimed.rows["confidence"]]
        columns = []
        for (name, texts), value in zip(self._said(claimed), values, strict=True):
            number = np.full(events.height, -1)
            number[claims.row[its]] = value[its]
            columns.append(pick([*texts, None], number).alias(name))
        if not len(more):
            return events.hstack(columns), empty(CLAIMS)
        workspace, workspaces = claimed.coded("workspace")
        said = [pick(texts, value[more]) for (_, texts), value in zip(self._said(claimed), values, strict=True)]
        further = framed(CLAIMS, claimed.integers("offset")[more], pick(workspaces, workspace[more]), *said)
        return events.hstack(columns), further

    def _said(self, claimed: Claimed) -> tuple[tuple[str, Sequence[str | None]], ...]:
        """The columns that say which rule claims an event, for which key and how surely, and their texts by number."""
        return ("rule_id", self._names), ("group_key", claimed.groups), ("confidence", _LEVELS)


def _split(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the events and the resolve commands of `frame`."""
    if "record" not in frame.columns or frame["record"].null_count() == frame.height:
        return frame, frame.clear()
    is_command = pl.col("record").eq_missing(pl.lit(RESOLVE))
    return frame.filter(~is_command), frame.filter(is_command)


def _with_columns(frame: pl.DataFrame, columns: frozenset[str]) -> pl.DataFrame:
    """Return `frame` with a null column for each of `columns` that it lacks."""
    lacking = columns.difference(frame.columns)
    return frame.with_columns(pl.lit(None, DECODED[name]).alias(name) for name in lacking) if lacking else frame


def _matches(rows: Table, names: list[Name], texts: list[str | None], book: Rulebook) -> KeyedMatches:
    """Return rows as matches; where workspaces differ, with only those policies that occur."""
    if book.is_shared:
        return KeyedMatches(rows, names, texts, book.policies)
    used, rows["policy"] = np.unique(rows["policy"], return_inverse=True)
    return KeyedMatches(rows, names, texts, tuple(book.policies[i] for i in used.tolist()))
