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
from operators.tables import Table, take
from operators.texts import coded

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

# The same as numbers. What names a key, a policy, a partition or a text is a number into what stands beside the rows.
ROW = np.dtype(
    [
        ("at", np.int64),
        ("offset", np.int64),
        ("slot", np.int64),  # the key
        ("policy", np.int64),
        ("measure", np.float64),  # NO_MEASURE for none
        ("source", np.int32),
        ("tenant", np.int32),
        ("item", np.int32),
        ("partition", np.int32),
        ("confidence", np.int8),
        ("severity", np.int8),
        ("kind", np.int8),
    ],
    align=True,
)
TEXTS = ("source", "tenant", "item")
# A NaN of its own says that there is no number, so that it can be told from one that is not a number (as R does).
_NO_MEASURE_BITS = 0x7FF8_0000_0000_07A2
NO_MEASURE = float(np.array([_NO_MEASURE_BITS]).view(np.float64)[0])

Name = tuple[str, str, str]  # workspace, rule id, group key


@dataclass(frozen=True, slots=True)
class KeyedMatches:
    """Matches as numbers, ROW: `slot` points into `names`, TEXTS into `texts`, `policy` into `policies`.

    While no workspace has settings of its own, `policies` is the same tuple in every call of one classifier.
    """

    rows: Table
    names: list[Name]
    texts: list[str | None]
    policies: tuple[Policy, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def keyed(self) -> KeyedMatches:
        """These."""
        return self

    def take(self, rows: NDArray[np.int64]) -> KeyedMatches:
        """Some of the rows, in the order given; names and texts stay."""
        return KeyedMatches(take(self.rows, rows), self.names, self.texts, self.policies)

    @property
    def frame(self) -> pl.DataFrame:
        """The rows as a frame with the columns MATCHES."""
        rows, names = self.rows, self.names
        keys = rows["slot"].tolist()
        columns: dict[str, list[str | None]] = {name: [self.texts[n] for n in rows[name].tolist()] for name in TEXTS}
        columns |= {"workspace": [names[n][0] for n in keys], "group_key": [names[n][2] for n in keys]}
        frame = {name: columns.get(name, rows[name] if name in rows.dtype.names else None) for name in MATCHES}  # type: ignore[operator]
        none = np.ascontiguousarray(rows["measure"]).view(np.int64) == _NO_MEASURE_BITS
        spelled = pl.DataFrame(frame, schema=MATCHES)
        return spelled.with_columns(measure=pl.when(~pl.Series(none)).then("measure"))


@dataclass(frozen=True, slots=True)
class Matches:
    """Matches spelled out: `frame` has the columns MATCHES, `policies` what its `policy` points into."""

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
        rows = np.zeros(self.frame.height, ROW)
        for name in ("at", "offset", "policy", "confidence", "severity", "kind"):
            rows[name] = self.frame[name].to_numpy()
        rows["measure"] = self.frame["measure"].fill_null(NO_MEASURE).to_numpy()
        texts: list[str | None] = [None]
        for name in TEXTS:
            numbers, more = coded(self.frame[name])
            rows[name] = np.where(numbers > 0, numbers + len(texts) - 1, 0)
            texts += more[1:]
        keys: dict[Name, int] = {}
        for n, (workspace, policy, group) in enumerate(
            self.frame.select("workspace", "policy", "group_key").iter_rows()
        ):
            rows["slot"][n] = keys.setdefault((workspace, self.policies[policy].rule_id, group), len(keys))
        return KeyedMatches(rows, list(keys), texts, self.policies)
