"""Rollups: what happened in each minute, by stream, source, type and the stream's dimensions.

A rollup is a sum. Rows of one key may stand in several frames, from several flushes, and add up; larger buckets are
sums of smaller ones, and so is every percentile (`operators.histogram`). An event counts in the minute of its `time`,
however late it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from operators.adding import WORTH, histograms, numbered, sums
from operators.events import HOUR, MINUTE, TIMESTAMP
from operators.frames import empty, pick
from operators.histogram import Floats, Ints, bins_of, quantiles
from operators.json_keys import coded_under
from operators.texts import Numbers, coded

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
WHOLE = 1 << 62  # the size of a bucket that holds everything, and begins at 0
NO_SESSIONS = tuple(name for name in DIMENSIONS if name != "session")
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

# The same as it is kept: with the number of its dimensions, but sessions, which are many, in place of their texts.
KEYS: dict[str, pl.DataType] = {"key": pl.Int64(), **dict.fromkeys(NO_SESSIONS, pl.String())}
KEYED: dict[str, pl.DataType] = {
    "start": TIMESTAMP,
    "key": pl.Int64(),
    **{name: kind for name, kind in ROLLUP.items() if name != "start" and name not in NO_SESSIONS},
}

# Streams whose attributes say more, and the attribute behind each dimension.
_ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "verdict": {"label": "guardian_name", "environment": "environment", "tag": "tag"},
    "tool_call": {"guardian": "guardian_id", "environment": "environment", "tag": "tag"},
    "identity": {"guardian": "guardian_id", "label": "nhi_label", "environment": "environment", "tag": "tag"},
}
_SAID = ("guardian", "label", "environment", "tag")
READS = ("time", "workspace", "stream", "source", "type", "code", "tenant", "severity", "value", "attributes")


def rollup(events: pl.DataFrame) -> pl.DataFrame:
    """The minutes of some events (the EVENTS columns that `READS` names): ROLLUP, in no order."""
    return _of_events(events).frame() if events.height else empty(ROLLUP)


def warm() -> None:
    """Load what is compiled, or compile it and keep that; the first large batch, or question, need not wait then."""
    many = pl.int_range(WORTH, eager=True)
    events = pl.DataFrame(
        {"time": many.cast(TIMESTAMP), "source": many.cast(pl.String), "value": many.cast(pl.Float64)}
    )
    rest = {name: pl.lit(None, pl.String).alias(name) for name in READS if name not in events.columns}
    rest |= {"stream": pl.lit("verdict").alias("stream"), "attributes": pl.lit('{"tag":"x"}').alias("attributes")}
    minutes = rollup(events.with_columns(rest.values()))
    keyed(merged(minutes, HOUR, NO_SESSIONS))
    rows = minutes.with_columns(values="value_count", sum=pl.lit(0.0))
    added(rows, np.zeros(len(rows), np.int64), 1, [0.5])


def keyed(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """ROLLUP rows, one or more, as KEYED, and their KEYS."""
    return _of_rows(rows).keyed()


def merged(rows: pl.DataFrame, size: int = MINUTE, keep: Sequence[str] = DIMENSIONS) -> pl.DataFrame:
    """ROLLUP rows added up: of equal keys, of buckets of `size` µs, without the dimensions that are not to be kept; in
    the order of their keys."""
    if not rows.height:
        return empty(ROLLUP)
    return _of_rows(rows).added(size, keep).frame().sort("start", *DIMENSIONS)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows, one or more, as numbers. dimensions: each one's numbers, and its texts by number. offsets: where each row
    begins in bins and counts, and where the last one ends."""

    start: Ints
    dimensions: Sequence[tuple[Numbers, Sequence[str | None]]]
    count: Ints
    errors: Ints
    total: Ints
    offsets: Ints
    bins: NDArray[np.int16]
    counts: Ints

    def added(self, size: int, keep: Sequence[str]) -> _Rows:
        """Rows of equal keys added up, see `merged`."""
        kept = [
            coded if name in keep else (np.zeros(len(self.start), np.int32), _NONE)
            for name, coded in zip(DIMENSIONS, self.dimensions, strict=True)
        ]
        lengths = np.diff(self.offsets)
        row = np.arange(len(self.start)).repeat(lengths)
        start = self.start // size * size
        return _added(start, kept, self.count, self.errors, self.total, row, self.bins, self.counts)

    def frame(self) -> pl.DataFrame:
        """The rows: ROLLUP."""
        said = [
            pick(texts, numbers).alias(name) for name, (numbers, texts) in zip(DIMENSIONS, self.dimensions, strict=True)
        ]
        return pl.DataFrame([pl.Series("start", self.start).cast(TIMESTAMP), *said, *self._numbers()])

    def keyed(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows as KEYED, and the KEYS that they name, each once."""
        dimensions = dict(zip(DIMENSIONS, self.dimensions, strict=True))
        combined, size = np.zeros(len(self.start), np.int64), 1
        for name in NO_SESSIONS:
            numbers, texts = dimensions[name]
            combined, size = _combined(combined, size, numbers, len(texts))
        cell, shown = numbered(combined)
        said = [pick(dimensions[name][1], dimensions[name][0][shown]).alias(name) for name in NO_SESSIONS]
        keys = [_key(texts) for texts in zip(*(column.to_list() for column in said), strict=True)]
        key = pl.Series("key", keys, dtype=pl.Int64)
        sessions, names = dimensions["session"]
        rows = [pl.Series("start", self.start).cast(TIMESTAMP), key[cell], pick(names, sessions).alias("session")]
        return pl.DataFrame([*rows, *self._numbers()]), pl.DataFrame([key, *said])

    def _numbers(self) -> list[pl.Series]:
        return [
            pl.Series("count", self.count),
            pl.Series("errors", self.errors),
            pl.Series("value_count", np.diff(np.concatenate([[0], self.counts.cumsum()])[self.offsets])),
            pl.Series("total", self.total),
            _lists("bins", self.offsets, self.bins),
            _lists("bin_counts", self.offsets, self.counts),
        ]


def _of_events(events: pl.DataFrame) -> _Rows:
    start = events["time"].to_physical().to_numpy() // MINUTE * MINUTE
    dimensions = _dimensions(events)
    value = events["value"]
    plain = value.fill_nan(None)
    values = plain.fill_null(0.0).to_numpy()
    total = np.rint(np.clip(values, -_MOST, _MOST) * MILLIONTHS).astype(np.int64)
    row = np.flatnonzero(plain.is_not_null().to_numpy()) if plain.null_count() else np.arange(len(values))
    ones = np.ones(events.height, np.int64)
    errors = _is_error(events["severity"], dimensions)
    return _added(start, dimensions, ones, errors, total, row, bins_of(values[row]), ones[: len(row)])


def _of_rows(rows: pl.DataFrame) -> _Rows:
    (offsets, bins), (_, counts) = _flat(rows["bins"]), _flat(rows["bin_counts"])
    count, errors, total = (rows[name].to_numpy() for name in ("count", "errors", "total"))
    start = rows["start"].to_physical().to_numpy()
    dimensions = [coded(rows[name]) for name in DIMENSIONS]
    return _Rows(start, dimensions, count, errors, total, offsets, bins, counts)


def _added(
    start: Ints,
    dimensions: Sequence[tuple[Numbers, Sequence[str | None]]],
    count: Ints,
    errors: Ints,
    total: Ints,
    row: Ints,
    bins: NDArray[np.int16],
    counts: Ints,
) -> _Rows:
    """Add up rows of equal start and dimensions. row: of each bin; counts: how often it is there."""
    low = int(start.min())
    key, size = (start - low) // MINUTE, (int(start.max()) - low) // MINUTE + 1
    for numbers, texts in dimensions:
        key, size = _combined(key, size, numbers, len(texts))
    cell, shown = numbered(key)
    return _Rows(
        start[shown],
        [(numbers[shown], texts) for numbers, texts in dimensions],
        *sums(cell, len(shown), count, errors, total),
        *histograms(cell[row], len(shown), bins, counts),
    )


def _combined(key: Ints, size: int, numbers: Numbers, count: int) -> tuple[Ints, int]:
    """Keys below `size` and numbers below `count` as keys of both, and what these are below."""
    if count == 1:
        return key, size
    if size > (1 << 62) // count:
        key, shown = numbered(key)
        size = len(shown)
    return key * count + numbers, size * count


@lru_cache(maxsize=1 << 16)
def _key(texts: tuple[str | None, ...]) -> int:
    """The number of a combination of dimensions: 63 bits of its hash. A million of them are different with a
    probability of 1 − 10⁻⁷."""
    spelled = orjson.dumps(texts)  # no two combinations are spelled the same, whatever is in the texts
    return int.from_bytes(blake2b(spelled, digest_size=8).digest(), "big") >> 1


def _dimensions(events: pl.DataFrame) -> list[tuple[Numbers, Sequence[str | None]]]:
    """The dimensions of events, as numbers."""
    columns = {name: coded(events[name]) for name in ("workspace", "stream", "source", "type", "code")}
    stream, streams = columns["stream"]
    none: tuple[Numbers, Sequence[str | None]] = np.zeros(events.height, np.int32), _NONE
    if _ATTRIBUTES.keys().isdisjoint(streams):
        return [columns.get(name, none) for name in DIMENSIONS]
    said = [_ATTRIBUTES.get(name or "") for name in streams]
    kind = np.array([-1 if keys is None else n for n, keys in enumerate(said)])[stream]
    keys = [[(keys or {}).get(name) for name in _SAID] for keys in said]
    found = dict(columns) | dict(zip(_SAID, coded_under(events["attributes"], keys, kind), strict=True))
    if "tool_call" in streams:
        calls = stream == streams.index("tool_call")
        found["session"] = coded(events["tenant"].set(pl.Series(~calls), None))
    if "verdict" in streams:  # a guardian speaks of itself
        verdicts = stream == streams.index("verdict")
        (sources, names), (guardians, others) = found["source"], found["guardian"]
        known = {text: n for n, text in enumerate(others)}
        texts = list(others)
        used = np.unique(sources[verdicts])
        number = np.zeros(len(names), np.int32)
        for n in used.tolist():
            number[n] = known.setdefault(names[n], len(texts))
            if len(known) > len(texts):
                texts.append(names[n])
        found["guardian"] = np.where(verdicts, number[sources], guardians), texts
    return [found.get(name, none) for name in DIMENSIONS]


def _is_error(severity: pl.Series, dimensions: Sequence[tuple[Numbers, Sequence[str | None]]]) -> Ints:
    """Which events are failures: of type `error`, of severity high or critical, or with an HTTP code from 500 on."""
    coded_by = dict(zip(DIMENSIONS, dimensions, strict=True)) | {"severity": coded(severity)}
    failed = np.zeros(len(severity), np.bool_)
    for name, is_failure in _FAILURES.items():
        numbers, texts = coded_by[name]
        bad = np.array([text is not None and bool(is_failure(text)) for text in texts])
        if bad.any():
            failed |= bad[numbers]
    return failed.astype(np.int64)


_FAILURES: Mapping[str, Callable[[str], object]] = {
    "type": lambda text: text == "error",
    "severity": lambda text: text in ("high", "critical"),
    "code": re.compile("5[0-9][0-9]").fullmatch,
}
_NONE: list[str | None] = [None]


def _lists(name: str, offsets: Ints, values: NDArray[np.integer]) -> pl.Series:
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
    return pl.Series(name, lists)


def _flat(lists: pl.Series) -> tuple[Ints, NDArray[Any]]:
    """Where each list begins and the last one ends, and what is in them all; without a copy."""
    held = lists.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = held.offsets.to_numpy()
    return offsets - offsets[0], held.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]


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
        (starts, bins), (_, counts) = _flat(rows["bins"]), _flat(rows["bin_counts"])
        found = quantiles(np.asarray(group, np.int64), starts, bins, counts.astype(np.int64, copy=False), size, ranks)
    # As whole millionths again, so that the order of the rows does not show in the last digit.
    millionths = np.rint(rows["sum"].to_numpy() * MILLIONTHS)
    sums = np.bincount(group, millionths, size).astype(np.float64) / MILLIONTHS
    return Added(ints("count"), ints("errors"), ints("values"), sums, found)
