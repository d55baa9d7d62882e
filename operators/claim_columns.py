"""What the claims of a frame carry besides the event's own columns: group keys, measures and items.

Each takes the frame of the claimed events, one row a claim, and says which of several fields a row wants. Most frames
want one field for all rows.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
import polars as pl

from operators.claim_plan import Ints
from operators.fields import number_of, text_of
from operators.rules import ThresholdSpec, ValueAvg, ValueCount, ValuePercentile, ValueSum

K = TypeVar("K", bound=Hashable)

# JSON's escapes, in the spelling that Python's json.dumps(ensure_ascii=False) uses.
_SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_ESCAPES = {chr(i): f"\\u{i:04x}" for i in range(32)} | _SHORT
_TO_ESCAPE = r'[\x00-\x1f"\\]'


def group_keys(events: pl.DataFrame, group_by: Sequence[tuple[str, ...]], which: Ints) -> pl.Series:
    """Return the group key of each row, where `which` says by which of `group_by` it is grouped."""
    return _choose(events, which, group_by, group_key, pl.String())


def measures(events: pl.DataFrame, thresholds: Sequence[ThresholdSpec | None], which: Ints) -> pl.Series:
    """Return the number that the threshold of each row (an index, `which`) adds up or ranks, else null."""
    fields = [t.field if isinstance(t, ValueSum | ValueAvg | ValuePercentile) else None for t in thresholds]
    return _choose(events, which, fields, number_of, pl.Float64())


def items(events: pl.DataFrame, thresholds: Sequence[ThresholdSpec | None], which: Ints) -> pl.Series:
    """Return the text that the threshold of each row (an index, `which`) tells apart, else null."""
    fields = [t.field if isinstance(t, ValueCount) else None for t in thresholds]
    return _choose(events, which, fields, text_of, pl.String())


def group_key(fields: tuple[str, ...]) -> pl.Expr:
    """Return the group key: one field's text ("" where there is none), a compact JSON array for several."""
    if len(fields) == 1:
        return text_of(fields[0]).fill_null("")
    inner = pl.concat_str([_json_text(text_of(field)) for field in fields], separator=",")
    return pl.concat_str([pl.lit("["), inner, pl.lit("]")])


def _json_text(text: pl.Expr) -> pl.Expr:
    escaped = text.str.replace_many(list(_ESCAPES), list(_ESCAPES.values()))
    quoted = pl.concat_str(
        [pl.lit('"'), pl.when(text.str.contains(_TO_ESCAPE)).then(escaped).otherwise(text), pl.lit('"')]
    )
    return quoted.fill_null("null")


def _choose(
    events: pl.DataFrame,
    which: Ints,
    wanted: Sequence[K | None],
    expression: Callable[[K], pl.Expr],
    dtype: pl.DataType,
) -> pl.Series:
    """Return for each row the expression of `wanted[which]`, null where nothing is wanted."""
    used = set(wanted)
    if len(used) > 1:
        used = {wanted[i] for i in np.flatnonzero(np.bincount(which, minlength=len(wanted))).tolist()}
    if used <= {None}:
        return pl.Series([None], dtype=dtype).new_from_index(0, len(which))
    if len(used) == 1:
        return events.select(expression(key).cast(dtype).alias("chosen") for key in used if key is not None)["chosen"]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(wanted))}
    number = np.array([numbers[key] for key in wanted], dtype=np.int64)[which]
    parts = []
    for key in used:
        if key is not None:
            at = np.flatnonzero(number == numbers[key])
            parts.append((at, events[at].select(expression(key).cast(dtype).alias("chosen"))["chosen"]))
    return scatter(parts, len(which), dtype)


def scatter(parts: Sequence[tuple[Ints, pl.Series]], height: int, dtype: pl.DataType) -> pl.Series:
    """Return a column of `height` rows with each part's values at its positions, null elsewhere."""
    values = pl.concat([*(column for _, column in parts), pl.Series([None], dtype=dtype)])
    source = np.full(height, len(values) - 1, dtype=np.int64)
    at = np.concatenate([positions for positions, _ in parts])
    source[at] = np.arange(len(at))
    return values.gather(pl.Series(source))
