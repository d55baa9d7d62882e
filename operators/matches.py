"""What classification hands to the shards: one row for each rule that claims an event.

Rows come in the order of their partition (`offset`; several claims of one event follow each other), so that with `at`
and the partition they can be put into the order of S6.
"""

from dataclasses import dataclass

import polars as pl

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
    def empty(policies: tuple[Policy, ...] = ()) -> "Matches":
        """Return no claims, with the right columns."""
        return Matches(pl.DataFrame(schema=MATCHES), policies)
