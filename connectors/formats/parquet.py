"""Parquet: slices of row groups as frames, their columns by name or by mapping.

Foreign types become text, numbers, booleans, UTC times or JSON; a column that is no event column goes to the
attributes. A row that cannot be used is a dead letter like a bad line. Without a column or mapping for `time`,
`timestamp` is taken for it. A time without a zone is UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import polars as pl

from connectors.formats.columns import rows_and_rejects
from connectors.formats.paths import is_path, steps
from connectors.formats.record import ALIASES
from connectors.formats.types import Decoded, DecodeOptions
from operators.events import DECODED, TIMESTAMP

_AS_TEXT = (pl.Null, pl.Categorical, pl.Enum, pl.Binary, pl.Date, pl.Time, pl.Duration)


def decode(frame: pl.DataFrame, options: DecodeOptions) -> Decoded:
    """The events of a slice; row i has offset i."""
    if "time" not in frame.columns and "time" not in options.mapping and "timestamp" in frame.columns:
        options = replace(options, mapping={"time": "$.timestamp", **options.mapping})
    table = frame.select(_plain(name, dtype).alias(name) for name, dtype in frame.schema.items())
    offsets = pl.arange(len(frame), eager=True, dtype=pl.Int64)
    rows, rejects = rows_and_rejects(table, options, offsets)
    return Decoded(rows, rejects, len(frame))


def needed(names: Iterable[str], options: DecodeOptions) -> list[str]:
    """The columns of a file worth reading: all of them where somebody wants the attributes."""
    if "attributes" in options.columns or "record" in names:
        return list(names)
    event = {*DECODED, *ALIASES.values(), "timestamp"}
    mapped = {str(path[0]) for target in options.mapping.values() if is_path(target) and (path := steps(target))}
    return [name for name in names if name in event | mapped]


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    """The column as one of the types a table may have."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        utc = column.dt.replace_time_zone("UTC") if dtype.time_zone is None else column.dt.convert_time_zone("UTC")
        return utc.cast(TIMESTAMP)
    if dtype.is_decimal():
        return column.cast(pl.Float64)
    return column.cast(pl.String, strict=False) if dtype in _AS_TEXT else column
