"""Lines of one shape as DECODED rows, column by column. What it cannot be sure of it leaves to record.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from connectors.formats import times
from connectors.formats.lines import Group, Lines
from connectors.formats.paths import is_path, steps
from connectors.formats.record import ALWAYS, COLUMNS, NAMES, SEVERITY_WORDS, TEXTS, TIMES
from connectors.formats.shapes import Path, Shape, Value
from connectors.formats.spans import Ints
from connectors.formats.types import DecodeOptions
from operators.events import DECODED, EVENT, TIMESTAMP

Mask = NDArray[np.bool_]


class Unsupported(Exception):
    """The shape needs a decision line by line."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the columns of a shape come from, and which fields end up in `attributes`."""

    values: dict[str, Value]
    literals: dict[str, str]
    extras: dict[str, Value]


def decode(shape: Shape, lines: Lines, rows: Ints, options: DecodeOptions) -> tuple[pl.DataFrame, Mask]:
    """Rows for those of `rows`, all lines of `shape`, that are plainly good: True in the mask. Raises Unsupported."""
    plan = _plan(shape, options.mapping)
    reader = _Reader(Group.of(lines, rows), np.ones(len(rows), np.bool_))
    wanted = ALWAYS | options.columns
    read = wanted | ({"severity"} if "attributes" in wanted else set())
    columns: dict[str, pl.Series | None] = reader.texts({name: plan.values.get(name) for name in TEXTS if name in read})
    for name in TIMES:
        columns[name] = reader.time(plan.values[name]) if name in plan.values else None
    columns["value"] = reader.number(plan.values["value"]) if "value" in plan.values else None
    columns["attributes"] = reader.attributes(plan) if "attributes" in wanted else None
    columns["severity"] = reader.severity(columns.get("severity"))
    reader.only_events(columns.pop("record"))
    for name in ("time", "source", "type"):
        reader.require(columns[name], name in plan.literals)
    defaults = {"workspace": options.workspace, "stream": options.default_stream}
    made = [pl.Series("offset", rows)]
    for name in COLUMNS:
        constant = plan.literals.get(name, defaults.get(name)) if name in wanted else None
        made.append(_column(name, columns.get(name) if name in wanted else None, constant, len(rows)))
    frame = pl.DataFrame(made)
    return (frame if reader.good.all() else frame.filter(pl.Series(reader.good))), reader.good


def _column(name: str, found: pl.Series | None, constant: str | None, height: int) -> pl.Series:
    if found is None:
        return pl.Series(name, [constant], DECODED[name]).new_from_index(0, height)
    if constant is not None and found.null_count():
        found = found.fill_null(constant)
    return found.alias(name)


def _plan(shape: Shape, mapping: Mapping[str, str]) -> _Plan:
    values: dict[str, Value] = {}
    literals: dict[str, str] = {}
    used: set[Path] = set()
    for column in COLUMNS:
        if column not in mapping:
            present: list[Path] = [(name,) for name in NAMES[column] if (name,) in shape.values]
            if len(present) > 1:
                raise Unsupported  # which one counts depends on the line
        elif is_path(mapping[column]):
            path = steps(mapping[column])
            if not path or path in shape.unplaced:
                raise Unsupported
            present = [path] if path in shape.values else []
        else:
            literals[column] = _literal(column, mapping[column])
            continue
        for path in present:
            values[column] = shape.values[path]
            _check(column, values[column])
            used.add(path)
    extras = {str(path[0]): value for path, value in shape.values.items() if len(path) == 1 and path not in used}
    return _Plan(values, literals, extras)


def _literal(column: str, literal: str) -> str:
    if column not in TEXTS or column == "record" or not literal:
        raise Unsupported
    if column == "severity":
        literal = SEVERITY_WORDS.get(literal.strip().lower(), "")
        if not literal:
            raise Unsupported
    return literal


def _check(column: str, value: Value) -> None:
    """Kinds of value that no line of the shape could have as a good one, or only with a look at each."""
    if value.kind in ("object", "list") and (column != "attributes" or value.kind == "list"):
        raise Unsupported
    if column == "attributes" and value.kind == "text":
        raise Unsupported


class _Reader:
    """Reads columns and keeps account of the lines that are plainly good."""

    def __init__(self, group: Group, good: Mask) -> None:
        self.group, self.good = group, good

    def texts(self, values: Mapping[str, Value | None]) -> dict[str, pl.Series | None]:
        """Text columns: null and empty texts become null, a number or a boolean its JSON text."""
        found: dict[str, pl.Series | None] = dict.fromkeys(values)
        present = {name: value for name, value in values.items() if value is not None}
        distinct = list(dict.fromkeys(present.values()))  # a mapping may send one field to several columns
        series = self.group.texts([(value, int(value.kind == "text")) for value in distinct])
        read = {value: self._nulled(value, text) for value, text in zip(distinct, series, strict=True)}
        return found | {name: read[value] for name, value in present.items()}

    def _nulled(self, value: Value, series: pl.Series) -> pl.Series:
        if value.kind == "bare":
            return _null_where(series, series == "null")
        starts, ends = self.group.span(value, 1)
        empty = starts == ends
        if empty.any():
            series = _null_where(series, pl.Series(empty))
        return _unescaped(series) if self.group.lines.escaped else series

    def time(self, value: Value) -> pl.Series:
        starts, ends = self.group.span(value, value.kind == "text")
        found, good = times.micros(self.group.lines.data, (starts, ends))
        series = pl.Series(found).cast(TIMESTAMP)
        if good.all() and value.kind == "text":
            return series
        absent = starts == ends if value.kind == "text" else (self.group.text(value) == "null").to_numpy()
        self.good &= absent | (good & (value.kind == "text"))
        return _null_where(series, pl.Series(absent))

    def number(self, value: Value) -> pl.Series:
        raw = self.group.text(value)
        series = raw.cast(pl.Float64, strict=False)
        if value.kind == "text":
            self.good &= (raw == '""').to_numpy()
            return _null_where(series, pl.repeat(True, len(series), eager=True))
        numeric = series.is_finite().fill_null(False) & ~raw.is_in(["true", "false"])
        self.good &= (numeric | (raw == "null")).to_numpy()
        return series

    def severity(self, words: pl.Series | None) -> pl.Series | None:
        if words is None:
            return None
        known = {word: SEVERITY_WORDS.get(word.strip().lower()) for word in words.drop_nulls().unique().to_list()}
        found = words.replace_strict(list(known), list(known.values()), default=None, return_dtype=pl.String)
        self.good &= (found.is_not_null() | words.is_null()).to_numpy()
        return found

    def only_events(self, kinds: pl.Series | None) -> None:
        if kinds is not None:
            self.good &= (kinds.is_null() | (kinds == EVENT)).fill_null(True).to_numpy()

    def require(self, column: pl.Series | None, constant: bool) -> None:
        if column is None:
            self.good &= constant
        elif column.null_count():
            self.good &= column.is_not_null().to_numpy()

    def attributes(self, plan: _Plan) -> pl.Series | None:
        """The record's own object as it stands, with the extras appended."""
        own = plan.values.get("attributes")
        if own is not None and own.kind == "bare":
            self.good &= (self.group.text(own) == "null").to_numpy()
            own = None
        if not plan.extras:
            return None if own is None else self.group.text(own)
        parts: list[pl.Series | pl.Expr] = [pl.lit("{")]
        if own is not None:
            parts += self._inner(own, plan.extras)
        for position, (name, value) in enumerate(plan.extras.items()):
            parts += [pl.lit("," * (position > 0) + orjson.dumps(name).decode() + ":"), self.group.text(value)]
        columns = [part.alias(str(i)) for i, part in enumerate([*parts, pl.lit("}")])]
        return pl.select(columns).select(pl.concat_str(pl.all())).to_series()

    def _inner(self, own: Value, extras: Mapping[str, Value]) -> list[pl.Series | pl.Expr]:
        """The members of the record's own object and a comma; lines in which an extra might repeat one are doubtful."""
        inner = self.group.text(own, 1)
        for name in extras:
            self.good &= ~inner.str.contains(f'"{name}"', literal=True).to_numpy()
        if self.group.lines.escaped:
            self.good &= ~inner.str.contains("\\", literal=True).to_numpy()
        filled = inner.str.contains(r"[^ \t\r]")
        return [inner, pl.select(pl.when(filled).then(pl.lit(",")).otherwise(pl.lit(""))).to_series()]


def _null_where(series: pl.Series, mask: pl.Series) -> pl.Series:
    return series.set(mask, None) if mask.any() else series


def _unescaped(series: pl.Series) -> pl.Series:
    rows = series.str.contains("\\", literal=True).fill_null(False).arg_true()
    if not len(rows):
        return series
    texts = orjson.loads('["' + '","'.join(series.gather(rows).to_list()) + '"]')
    return series.scatter(rows, pl.Series(texts, dtype=pl.String))
