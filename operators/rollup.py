"""Rollups: what happened in each minute, by stream, source, type and the stream's dimensions.

A rollup is a sum. Rows of one key may stand in several frames, from several flushes, and add up; larger buckets are
sums of smaller ones, and so is every percentile (`operators.histogram`). An event counts in the minute of its `time`,
however late it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from operators.events import HOUR, MINUTE, TIMESTAMP
from operators.frames import empty, pick
from operators.histogram import Floats, Ints, bins_of, quantiles
from operators.json_keys import texts_of
from operators.texts import coded

# What a row is about. What a stream does not have is null.
DIMENSIONS = (
    "workspace",
    "stream",
    "source",
    "type",
    "code",
    "guardian",  # of `verdict` the source, else attributes.guardian_id
    "label",  # what people call it: attributes.guardian_name, attributes.nhi_label
    "environment",
    "tag",
    "session",  # the tenant of a `tool_call`
)
# What is kept where everything else is put together.
SOURCE = ("workspace", "stream", "source")
# Sums are whole millionths, so that no grouping of additions changes a result; what is larger counts as this.
MILLIONTHS = 1_000_000
_MOST = 9_000_000_000_000

ROLLUP: dict[str, pl.DataType] = {
    "start": TIMESTAMP,
    **{name: pl.String() for name in DIMENSIONS},
    "count": pl.Int64(),
    "errors": pl.Int64(),
    "value_count": pl.Int64(),  # events that have a value
    "total": pl.Int64(),  # of the values, in millionths
    "bins": pl.List(pl.Int16()),  # ascending
    "bin_counts": pl.List(pl.Int64()),
}

# Streams whose attributes say more, and the attribute behind each dimension.
_ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "verdict": {"label": "guardian_name", "environment": "environment", "tag": "tag"},
    "tool_call": {"guardian": "guardian_id", "environment": "environment", "tag": "tag"},
    "identity": {"guardian": "guardian_id", "label": "nhi_label", "environment": "environment", "tag": "tag"},
}
_SAMPLE = 1_000
_READ = ("guardian_id", "guardian_name", "nhi_label", "environment", "tag")


def rollup(events: pl.DataFrame) -> pl.DataFrame:
    """The minutes of some events (the EVENTS columns that `READS` names): ROLLUP, in the order of its key."""
    if not events.height:
        return empty(ROLLUP)
    minute = events["time"].to_physical().to_numpy() // MINUTE
    columns = dimensions(events)
    value = events["value"]
    holds = (value.is_not_null() & value.is_not_nan()).to_numpy()
    values = value.fill_null(0.0).fill_nan(0.0).to_numpy()
    total = np.rint(np.clip(values, -_MOST, _MOST) * MILLIONTHS).astype(np.int64)
    entry = np.flatnonzero(holds)
    errors = is_error(events).to_numpy()
    ones = np.ones(events.height, np.int64)
    return _sums(minute * MINUTE, columns, ones, errors, total, entry, bins_of(values[entry]), ones[entry])


READS = ("time", "workspace", "stream", "source", "type", "code", "tenant", "severity", "value", "attributes")


def merged(rows: pl.DataFrame, size: int = MINUTE, keep: Sequence[str] = DIMENSIONS) -> pl.DataFrame:
    """ROLLUP rows added up: of equal keys, of buckets of `size` µs, without the dimensions that are not to be kept."""
    if not rows.height:
        return empty(ROLLUP)
    start = rows["start"].to_physical().to_numpy() // size * size
    columns = [rows[name] if name in keep else None for name in DIMENSIONS]
    lengths = rows["bins"].list.len().to_numpy()
    entry = np.arange(rows.height).repeat(lengths)
    bins, counts = (rows[name].explode(empty_as_null=False).to_numpy() for name in ("bins", "bin_counts"))
    count, errors, total = (rows[name].to_numpy() for name in ("count", "errors", "total"))
    return _sums(start, columns, count, errors, total, entry, bins, counts)


def hours(rows: pl.DataFrame) -> pl.DataFrame:
    """The hours of some minutes, sessions apart no longer."""
    return merged(rows, HOUR, [name for name in DIMENSIONS if name != "session"])


def dimensions(events: pl.DataFrame) -> list[pl.Series | None]:
    """The dimensions of events, None for those that none of them has."""
    stream = events["stream"]
    found: dict[str, pl.Series | None] = {
        name: events[name] for name in ("workspace", "stream", "source", "type", "code")
    }
    present = set(stream.unique().to_list()).intersection(_ATTRIBUTES)
    if present:
        found |= _of_attributes(events, present)
    if "tool_call" in present:
        found["session"] = events.select(pl.when(pl.col("stream") == "tool_call").then("tenant"))["tenant"]
    if "verdict" in present:
        guardian = found.get("guardian")
        other = pl.lit(None, pl.String) if guardian is None else guardian
        found["guardian"] = events.select(
            pl.when(pl.col("stream") == "verdict").then("source").otherwise(other).alias("guardian")
        )["guardian"]
    return [found.get(name) for name in DIMENSIONS]


def is_error(events: pl.DataFrame) -> pl.Series:
    """Which events are failures: of type `error`, of severity high or critical, or with an HTTP code from 500 on."""
    return events.select(
        pl.any_horizontal(
            pl.col("type") == "error",
            pl.col("severity").is_in(["high", "critical"]),
            pl.col("code").str.contains(r"^5\d\d$"),
        ).fill_null(False)
    ).to_series()


def _of_attributes(events: pl.DataFrame, streams: set[str]) -> dict[str, pl.Series | None]:
    """The dimensions that the attributes of these streams hold."""
    stream, names = coded(events["stream"])
    said = events["attributes"].set(~events["stream"].is_in(sorted(streams)), None)
    values = _said_under(said, _READ)
    found: dict[str, pl.Series | None] = {}
    for dimension in ("guardian", "label", "environment", "tag"):
        by_stream = {n: _ATTRIBUTES.get(name or "", {}).get(dimension) for n, name in enumerate(names)}
        used = {key for key in by_stream.values() if key is not None}
        if len(used) == 1 and len(streams) == len([key for key in by_stream.values() if key is not None]):
            found[dimension] = values[used.pop()]
        elif used:
            column = pl.Series(values=[None], dtype=pl.String).new_from_index(0, events.height)
            for n, key in by_stream.items():
                if key is not None:
                    column = column.zip_with(pl.Series(stream != n), values[key])
            found[dimension] = column
    return found


def _said_under(objects: pl.Series, keys: Sequence[str]) -> dict[str, pl.Series]:
    """`texts_of`; where few texts come again and again each is read once."""
    if objects.head(_SAMPLE).n_unique() > _SAMPLE // 4:
        return texts_of(objects, keys)
    numbers, texts = coded(objects)
    return {key: column[numbers] for key, column in texts_of(pl.Series(values=texts, dtype=pl.String), keys).items()}


def _sums(
    start: Ints,
    columns: Sequence[pl.Series | None],
    count: Ints,
    errors: Ints,
    total: Ints,
    entry: Ints,
    bins: NDArray[np.int16],
    counts: Ints,
) -> pl.DataFrame:
    """Add up rows with equal start and dimensions. entry: the row of each bin; counts: how often it is there."""
    texts: list[list[str | None]] = []
    cell, size = np.zeros(len(start), np.int64), 1
    kept: list[Ints] = []
    for column in columns:
        numbers, its = (np.zeros(len(start), np.int32), _NONE) if column is None else coded(column)
        ranked = _ranked(its)
        texts.append([its[n] for n in ranked.argsort().tolist()])
        kept.append(ranked[numbers])
        if len(its) > 1:
            cell, size = cell * len(its) + kept[-1], size * len(its)
        if size > 1 << 31:
            found, cell = np.unique(cell, return_inverse=True)
            size = len(found)
    minute, at = np.unique(start, return_inverse=True)
    if size * len(minute) > 1 << 46:
        found, cell = np.unique(cell, return_inverse=True)
        size = len(found)
    key = at * size + cell
    order = key.argsort(kind="stable")
    key = key[order]
    begins = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    place = np.empty(len(key), np.int64)  # of each row, its key's among them all
    place[order] = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(key))))
    shown = order[begins]  # a row of each key
    low = int(bins.min()) if len(bins) else 0
    width = int(bins.max()) - low + 1 if len(bins) else 1
    both = place[entry] * width + (bins.astype(np.int64) - low)
    by = both.argsort(kind="stable")
    both = both[by]
    first = np.flatnonzero(np.concatenate([[True], both[1:] != both[:-1]])) if len(both) else np.zeros(0, np.int64)
    summed = np.add.reduceat(counts[by], first) if len(first) else counts[:0]
    entries = both[first]
    offsets = np.searchsorted(entries, np.arange(len(begins) + 1) * width)
    return pl.DataFrame(
        [
            pl.Series("start", minute[at[shown]]).cast(TIMESTAMP),
            *(pick(its, of[shown]).alias(name) for name, its, of in zip(DIMENSIONS, texts, kept, strict=True)),
            pl.Series("count", np.add.reduceat(count[order], begins)),
            pl.Series("errors", np.add.reduceat(errors[order].astype(np.int64), begins)),
            pl.Series("value_count", np.diff(np.concatenate([[0], summed.cumsum()])[offsets])),
            pl.Series("total", _saturated(total[order], begins)),
            _lists("bins", offsets, (entries % width + low).astype(np.int16)),
            _lists("bin_counts", offsets, summed),
        ]
    )


_NONE: list[str | None] = [None]


def _ranked(texts: list[str | None]) -> Ints:
    """The place of each text in their order, none first."""
    ranked = np.empty(len(texts), np.int64)
    ranked[sorted(range(len(texts)), key=lambda n: (texts[n] is not None, texts[n] or ""))] = np.arange(len(texts))
    return ranked


def _saturated(total: Ints, begins: Ints) -> Ints:
    """Sums of runs, held within what an integer can be."""
    sums: Ints = np.add.reduceat(total, begins)
    about = np.add.reduceat(total.astype(np.float64), begins)
    limit = _MOST * MILLIONTHS
    sums[about > limit], sums[about < -limit] = limit, -limit
    return sums


def _lists(name: str, offsets: Ints, values: NDArray[np.integer]) -> pl.Series:
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
    return pl.Series(name, lists)


@dataclass(frozen=True, slots=True)
class Added:
    """Sums of groups of rows, an entry a group. quantiles: [group, rank], NaN where a group has no value."""

    count: Ints
    errors: Ints
    values: Ints
    sum: Floats
    quantiles: Floats


def added(rows: pl.DataFrame, group: Ints, size: int, ranks: Sequence[float] = ()) -> Added:
    """Add up rows of `query_api.rollups.select`. group: of each row, from 0 to size − 1. ranks: in (0, 1], for which
    the rows must have histograms."""

    def ints(name: str) -> Ints:
        return np.bincount(group, rows[name].to_numpy(), size).astype(np.int64)

    found = np.full((size, len(ranks)), np.nan)
    if ranks and rows.height:
        starts = np.concatenate([[0], rows["bins"].list.len().to_numpy().cumsum(dtype=np.int64)])
        bins, counts = (rows[name].explode(empty_as_null=False).to_numpy() for name in ("bins", "bin_counts"))
        found = quantiles(np.asarray(group, np.int64), starts, bins, counts.astype(np.int64), size, ranks)
    sums = np.bincount(group, rows["sum"].to_numpy(), size).astype(np.float64)
    return Added(ints("count"), ints("errors"), ints("values"), sums, found)
