"""S7: which rules claim which events, in columns.

Exclusive rules are tried by priority, the first match wins; every other rule claims on its own. Where no workspace
has settings of its own, one compiled plan serves all rows; one that disables a rule gets a plan of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from operators.claim_columns import group_keys, items, measures, scatter
from operators.claim_plan import Claims, Ints
from operators.events import DECODED, RESOLVE, SEVERITIES
from operators.matches import CONFIDENCES, HIGH, MATCH, MEDIUM, Matches
from operators.resolves import resolves
from operators.rulebook import Compiler, Rulebook, columns_read
from operators.rules import Rule, in_order
from operators.settings import Settings

# What every claim takes from its event; a claim also reads what its rule groups by and counts.
_CARRIED = ("at", "offset", "workspace", "source", "tenant", "severity")
_LEVELS = pl.Series("confidence", [None, CONFIDENCES[MEDIUM], CONFIDENCES[HIGH]], pl.String())
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
    matches: Matches
    rejects: pl.DataFrame


class Classifier:
    """The rules, ready to classify. Remembers compiled plans and nothing of the events."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = in_order(rules)
        self.columns: frozenset[str] = _READ | columns_read(self.rules)  # the event columns that are read
        self._compiler = Compiler(self.rules)
        self._settings: dict[str, Settings] = {}
        self._book = self._compiler.rulebook({})
        self._names = pl.Series("rule_id", [*(rule.id for rule in self.rules), None], pl.String())
        self._group_by = tuple(rule.group_by for rule in self.rules)

    def classify(self, frame: pl.DataFrame, settings: Mapping[str, Settings], *, record: bool = True) -> Classified:
        """Classify `frame`: event and resolve rows (DECODED columns and `at`) in the order of their offsets.

        `settings`: by workspace. A column that `frame` lacks counts as null. Without `record`, for runs that do not
        store events, `events` stays as it came and `claims` empty: a third of the time.
        """
        book = self._rulebook(settings)
        events, commands = _split(frame)
        readable = _with_columns(events, self.columns | book.columns)
        claims, policy = book.claims(readable)
        claimed = readable.select(sorted(book.columns.union(_CARRIED)))[claims.row]
        key = group_keys(claimed, self._group_by, claims.rule)
        confidence = np.where((claims.kind == MATCH) & (claims.both | book.spike[policy]), HIGH, MEDIUM)
        matched = claimed.select(
            pl.col("at").cast(pl.Int64),
            "offset",
            pl.Series("policy", policy, pl.Int32()),
            "workspace",
            key.alias("group_key"),
            "source",
            "tenant",
            pl.Series("confidence", confidence, pl.Int8()),
            pl.col("severity").replace_strict(SEVERITIES, range(len(SEVERITIES)), default=-1, return_dtype=pl.Int8()),
            measures(claimed, book.thresholds, policy).alias("measure"),
            items(claimed, book.thresholds, policy).alias("item"),
            pl.Series("kind", claims.kind, pl.Int8()),
        )
        ordered, rejects = resolves(commands, book)
        if ordered.height:
            matched = pl.concat([matched, ordered]).sort("offset", maintain_order=True)
        stored, further = events, pl.DataFrame(schema=CLAIMS)
        if record:
            stored, further = self._record(events, claimed, claims, key, confidence)
        return Classified(stored, further, _matches(matched, book), rejects)

    def _rulebook(self, settings: Mapping[str, Settings]) -> Rulebook:
        if settings != self._settings:
            self._settings = dict(settings)
            self._book = self._compiler.rulebook(self._settings)
        return self._book

    def _record(
        self, events: pl.DataFrame, claimed: pl.DataFrame, claims: Claims, key: pl.Series, confidence: Ints
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the events with the first claim of each beside it, and the further claims."""
        if not len(claims.row):
            nothing = [pl.lit(None, pl.String()).alias(name) for name in ("rule_id", "group_key", "confidence")]
            return events.with_columns(nothing), pl.DataFrame(schema=CLAIMS)
        at = np.flatnonzero(claims.kind == MATCH)
        first = np.ones(len(at), dtype=np.bool_)
        first[1:] = claims.row[at[1:]] != claims.row[at[:-1]]
        its, more = at[first], at[~first]
        rule = np.full(events.height, len(self.rules), dtype=np.int64)
        rule[claims.row[its]] = claims.rule[its]
        level = np.zeros(events.height, dtype=np.int64)
        level[claims.row[its]] = confidence[its]
        stored = events.with_columns(
            self._names.gather(rule),
            scatter([(claims.row[its], key.gather(its))], events.height, pl.String()).alias("group_key"),
            _LEVELS.gather(level),
        )
        further = claimed[more].select(
            "offset",
            "workspace",
            self._names.gather(claims.rule[more]),
            key.gather(more).alias("group_key"),
            _LEVELS.gather(confidence[more]),
        )
        return stored, further


def _split(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the events and the resolve commands of `frame`."""
    if "record" not in frame.columns or frame["record"].null_count() == frame.height:
        return frame, frame.clear()
    is_command = pl.col("record").eq_missing(pl.lit(RESOLVE))
    return frame.filter(~is_command), frame.filter(is_command)


def _with_columns(frame: pl.DataFrame, columns: frozenset[str]) -> pl.DataFrame:
    """Return `frame` with a null column for each of `columns` that it lacks."""
    return frame.with_columns(pl.lit(None, DECODED[name]).alias(name) for name in columns - set(frame.columns))


def _matches(frame: pl.DataFrame, book: Rulebook) -> Matches:
    """Return `frame` as matches; where workspaces differ, with only those policies that occur."""
    if book.is_shared:
        return Matches(frame, book.policies)
    used, index = np.unique(frame["policy"].to_numpy(), return_inverse=True)
    policies = tuple(book.policies[i] for i in used.tolist())
    return Matches(frame.with_columns(pl.Series("policy", index, pl.Int32())), policies)
