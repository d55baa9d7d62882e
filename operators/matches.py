"""What classification hands to the shards: one row for each rule that claims an event.

Rows come in the order of their partition (`offset`; several claims of one event follow each other), so that with `at`
and the partition they can be put into the order of S6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from operators.policy import Policy

# `kind` of a row.
MATCH = 0
WITNESS = 1  # counts towards the volume of a ratio, and towards nothing else
RESOLVE = 2  # a person closes the key's incident

# `confidence` of a row, ranked so that an incident's is a maximum.
MEDIUM, HIGH = 1, 2
CONFIDENCES = {MEDIUM: "Medium", HIGH: "High"}

MATCHES: dict[str, pl.DataType] = {
    "at": pl.Int64(),  # effective time, microseconds since 1970 UTC
    "offset": pl.Int64(),
    "policy": pl.Int32(),  # index in `Matches.policies`
    "workspace": pl.String(),
    "group_key": pl.String(),
    "source": pl.String(),
    "tenant": pl.String(),
    "confidence": pl.Int8(),
    "severity": pl.Int8(),  # the event's, index in `events.SEVERITIES`; -1 where it has none
    "measure": pl.Float64(),  # the number a value_sum, value_avg or value_percentile looks at, else null
    "item": pl.String(),  # the text a value_count tells apart, else null
    "kind": pl.Int8(),
}


@dataclass(frozen=True, slots=True)
class Matches:
    """Claims of one partition's frame: `frame` has the columns MATCHES, `policies` what its `policy` points into.

    While no workspace has settings of its own, `policies` is the same tuple in every call of one classifier.
    """

    frame: pl.DataFrame
    policies: tuple[Policy, ...]

    def __len__(self) -> int:
        return self.frame.height

    @staticmethod
    def empty(policies: tuple[Policy, ...] = ()) -> Matches:
        """Return no claims, with the right columns."""
        return Matches(pl.DataFrame(schema=MATCHES), policies)

    def keyed(self) -> KeyedMatches:
        """Name the keys once, instead of once a row."""
        parts = ["workspace", "policy", "group_key"]
        rows = self.frame.select(*parts, row=pl.int_range(pl.len()))
        groups = rows.group_by(parts, maintain_order=True).agg("row")
        key = np.empty(self.frame.height, np.int64)
        size = groups["row"].list.len().to_numpy()
        key[groups["row"].explode(empty_as_null=False).to_numpy()] = np.repeat(np.arange(groups.height), size)
        rules = [policy.rule_id for policy in self.policies]
        names = [(workspace, rules[policy], group) for workspace, policy, group in groups.select(parts).iter_rows()]
        frame = self.frame.drop("workspace", "group_key").with_columns(pl.Series("key", key))
        return KeyedMatches(frame.select(KEYED.keys()), names, self.policies)


Name = tuple[str, str, str]  # workspace, rule id, group key

KEYED: dict[str, pl.DataType] = {
    **{name: kind for name, kind in MATCHES.items() if name not in ("workspace", "group_key")},
    "key": pl.Int64(),
}


@dataclass(frozen=True, slots=True)
class KeyedMatches:
    """Matches whose key is a number into `names`: `frame` has the columns KEYED."""

    frame: pl.DataFrame
    names: list[Name]
    policies: tuple[Policy, ...]

    def __len__(self) -> int:
        return self.frame.height

    def take(self, rows: NDArray[np.int64]) -> KeyedMatches:
        """Some of the rows, in the order given; the names stay."""
        return KeyedMatches(self.frame[rows], self.names, self.policies)
