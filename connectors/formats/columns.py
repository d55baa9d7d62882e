"""Rows of DECODED columns from a table of named fields: CSV, Parquet and the parsed fields of log lines.

`record.row_of` defines the meaning. Rows that are plainly good are taken as columns here; every other row goes to
`row_of` one by one, which gives its row or the reason why there is none. So errors read alike in all formats.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import polars as pl

from connectors.formats import record, times
from connectors.formats.paths import Fields, is_path, steps
from connectors.formats.types import REJECTS, DecodeOptions
from operators.events import DECODED, TIMESTAMP

_GIVEN, _DOUBT, _EXTRAS = "given ", "doubt ", "extras"  # columns beside the DECODED ones, dropped at the end
_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"  # RFC 8259
_TEXT = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*"'
_SCALAR = rf"(?:{_TEXT}|-?(?:0|[1-9][0-9]{{0,17}})(?:\.[0-9]{{1,17}})?(?:[eE][+-]?[0-9]{{1,2}})?|true|false|null)"
_NAME = r'"[^"\\\x00-\x1f]*": ?'
_INNER = rf"(?:{_SCALAR}|\[(?:{_SCALAR}(?:, ?{_SCALAR})*)?\]|\{{(?:{_NAME}{_SCALAR}(?:, ?{_NAME}{_SCALAR})*)?\}})"
_FLAT_OBJECT = rf"^\{{(?:{_NAME}{_INNER}(?:, ?{_NAME}{_INNER})*)?\}}$"  # at most two levels deep
_FIRST = pl.lit(0).cast(TIMESTAMP)
_LAST = pl.lit(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)).cast(TIMESTAMP)


@dataclass(frozen=True, slots=True)
class _Field:
    """What a column is taken from: null where absent. `names`: the table's columns it reads."""

    value: pl.Expr
    dtype: pl.DataType
    names: tuple[str, ...] = ()
    doubt: pl.Expr | None = None  # true where `value` may not be what `row_of` takes


def rows_and_rejects(
    table: pl.DataFrame, options: DecodeOptions, offsets: pl.Series, raws: pl.Series | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The DECODED frame of the usable rows, and REJECTS of the others, both in the table's order.

    `table`: the fields, each text, numbers, booleans, UTC times or nested values; null and "" are absent.
    `offsets`, `raws`: for each row its index in the chunk and the record as it came; without `raws` a dead letter keeps
    the fields as JSON.
    """
    schema = dict(table.schema)
    fields = {column: _field(column, schema, options) for column in DECODED if column != "offset"}
    present = {column: field for column, field in fields.items() if field is not None}
    used = {name for field in present.values() for name in field.names}
    extras = {name: dtype for name, dtype in schema.items() if name not in used}
    if "attributes" not in options.columns:
        present.pop("attributes", None)
        extras = {}
    # In two steps, so that nothing is worked out twice.
    frame = table.select(
        offsets.alias("offset"),
        *(_value(column, field).alias(column) for column, field in present.items()),
        *(field.value.is_not_null().alias(_GIVEN + column) for column, field in present.items()),
        *(field.doubt.alias(_DOUBT + column) for column, field in present.items() if field.doubt is not None),
        _joined(extras).alias(_EXTRAS),
    )
    doubtful = frame.select(_doubtful(frame, extras)).to_series() | _damaged(frame)
    frame = _completed(frame.with_columns(attributes=_attributes("attributes" in present)), options)
    if not doubtful.any():
        return frame, pl.DataFrame(schema=REJECTS)
    raws = pl.repeat(None, len(table), dtype=pl.String, eager=True) if raws is None else raws
    slow, rejects = _one_by_one(table.filter(doubtful), options, offsets.filter(doubtful), raws.filter(doubtful))
    return pl.concat([frame.filter(~doubtful), slow]).sort("offset"), rejects


def _field(column: str, schema: dict[str, pl.DataType], options: DecodeOptions) -> _Field | None:
    """Where a column comes from, by the order of `row_of`: a mapping alone, else its own name, else the alias."""
    target = options.mapping.get(column)
    if target is not None:
        if not is_path(target):
            return _Field(pl.lit(target or None, pl.String), pl.String())
        path = steps(target)
        if len(path) == 1 and path[0] in schema:
            return _named(str(path[0]), schema)
        missing = bool(path) and path[0] not in schema
        return None if missing else _Field(pl.lit(None, pl.String), pl.String(), (), pl.lit(True))
    found = [_named(name, schema) for name in (column, record.ALIASES.get(column)) if name in schema]
    if len(found) < 2:
        return found[0] if found else None
    first, second = found
    doubt = second.value.is_not_null() if first.dtype != second.dtype else pl.lit(False)
    doubt |= first.value.is_not_null() & second.value.is_not_null()
    value = first.value if first.dtype != second.dtype else pl.coalesce(first.value, second.value)
    return _Field(value, first.dtype, first.names + second.names, doubt)


def _named(name: str, schema: dict[str, pl.DataType]) -> _Field:
    return _Field(_filled(name, schema[name]), schema[name], (name,))


def _filled(name: str, dtype: pl.DataType) -> pl.Expr:
    """The field; an empty text is absent."""
    return pl.when(pl.col(name) != "").then(pl.col(name)) if dtype == pl.String else pl.col(name)


def _value(column: str, field: _Field) -> pl.Expr:
    """The column where it is plainly good, null elsewhere."""
    text, dtype = field.value, field.dtype
    if column in record.TIMES:
        time = time_of_text(text) if dtype == pl.String else text if dtype == TIMESTAMP else pl.lit(None, TIMESTAMP)
        return pl.when(time.is_between(_FIRST, _LAST)).then(time)
    if column == "value":
        return _number(text, dtype)
    if column == "attributes":
        text = _json(text, dtype) if isinstance(dtype, pl.Struct) else text if dtype == pl.String else pl.lit("")
        return pl.when(text.str.starts_with("{") & text.str.ends_with("}")).then(text)
    if dtype.is_nested() or dtype == TIMESTAMP:
        return pl.lit(None, pl.String)
    text = text if dtype == pl.String else _json(text, dtype)
    if column == "severity":
        words = text.str.strip_chars().str.to_lowercase()
        return words.replace_strict(record.SEVERITY_WORDS, default=None, return_dtype=pl.String)
    return pl.lit(None, pl.String) if column == "record" else text


def _number(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.String:
        number = pl.when(text.str.contains(_NUMBER)).then(text).cast(pl.Float64, strict=False)
    elif dtype.is_numeric():
        number = text.cast(pl.Float64)
    else:
        return pl.lit(None, pl.Float64)
    return pl.when(number.is_finite()).then(number)


def time_of_text(text: pl.Expr) -> pl.Expr:
    """RFC 3339 text as `times.parse` reads it; null where it is none."""
    return text.map_batches(_times, return_dtype=TIMESTAMP)


def _times(texts: pl.Series) -> pl.Series:
    return times.column(texts) if len(texts) else pl.Series(texts.name, dtype=TIMESTAMP)


def _json(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """JSON text; null stays null, and JSON has no NaN."""
    if dtype == TIMESTAMP:
        return value.dt.strftime('"%Y-%m-%dT%H:%M:%S%.6fZ"')
    text = pl.struct(value.alias("x")).struct.json_encode().str.slice(len('{"x":')).str.strip_suffix("}")
    return pl.when(value.is_finite() if dtype.is_float() else value.is_not_null()).then(text)


def _joined(extras: dict[str, pl.DataType]) -> pl.Expr:
    """The fields nobody asked for, as the inside of a JSON object."""
    members = [pl.lit(_key(name)) + _json(_filled(name, dtype), dtype) for name, dtype in extras.items()]
    return pl.concat_str(members, separator=",", ignore_nulls=True) if members else pl.lit("")


def _key(name: str) -> str:
    return orjson.dumps(name).decode() + ":"


def _attributes(own_object: bool) -> pl.Expr:
    """The record's own object with the other fields appended; null where there is neither."""
    joined = pl.col(_EXTRAS)
    alone = pl.when(joined != "").then(pl.concat_str(pl.lit("{"), joined, pl.lit("}")))
    if not own_object:
        return alone
    own = pl.col("attributes")
    inner = own.str.slice(1).str.strip_suffix("}")
    comma = pl.when(inner.str.contains(r"\S")).then(pl.lit(",")).otherwise(pl.lit(""))
    both = pl.concat_str(pl.lit("{"), inner, comma, joined, pl.lit("}"))
    return pl.when(own.is_null()).then(alone).when(joined == "").then(own).otherwise(both)


def _doubtful(frame: pl.DataFrame, extras: dict[str, pl.DataType]) -> pl.Expr:
    """True where the row must go to `row_of`: a field that is given but not plainly good, or one missing."""
    given = [name.removeprefix(_GIVEN) for name in frame.columns if name.startswith(_GIVEN)]
    doubts = [pl.col(_GIVEN + column) & pl.col(column).is_null() for column in given]
    doubts += [pl.col(name) for name in frame.columns if name.startswith(_DOUBT)]
    doubts += [pl.col(name).is_null() if name in given else pl.lit(True) for name in ("time", "source", "type")]
    if "attributes" in given:
        # A name that `extras` has, too, perhaps written with escapes; and an escape may be half a surrogate pair, which
        # the columnar parser lets through and `row_of` does not.
        odd = ["\\u", *(["\\/"] if extras else []), *(_key(name)[:-1] for name in extras)]
        doubts.append(pl.col("attributes").str.contains_any(odd))
    return pl.any_horizontal(doubt.fill_null(False) for doubt in doubts)


def _damaged(frame: pl.DataFrame) -> pl.Series:
    """True where the record's own attributes may be no JSON object. Nearly all are proved by one expression."""
    if "attributes" not in frame.columns:
        return pl.repeat(False, len(frame), eager=True)
    own = frame["attributes"]
    unproved = own.is_not_null() & ~own.str.contains(_FLAT_OBJECT).fill_null(False)
    try:
        own.filter(unproved).str.json_decode(pl.Struct({}))
    except pl.exceptions.ComputeError:
        return unproved  # the parser does not tell which
    return unproved & False


def _completed(frame: pl.DataFrame, options: DecodeOptions) -> pl.DataFrame:
    """All DECODED columns in their order, defaults filled in, columns nobody reads emptied."""
    wanted = record.ALWAYS | options.columns
    defaults = {"workspace": options.workspace, "stream": options.default_stream}
    columns = {}
    for name, dtype in DECODED.items():
        kept = name in frame.columns and name in wanted
        column = pl.col(name) if kept else pl.lit(None, dtype)
        columns[name] = (column.fill_null(defaults[name]) if name in defaults else column).cast(dtype)
    return frame.select(**columns)


def _one_by_one(
    table: pl.DataFrame, options: DecodeOptions, offsets: pl.Series, raws: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame]:
    texts = table.select(**{name: _json(_filled(name, dtype), dtype) for name, dtype in table.schema.items()})
    good: list[int] = []
    rows: list[record.Row] = []
    bad: list[int] = []
    kept: list[str] = []
    errors: list[str] = []
    numbers = _source_names("value", options)
    objects = _source_names("attributes", options)
    for offset, raw, texts_of_row in zip(offsets, raws, texts.iter_rows(named=True), strict=True):
        fields = {name: text.encode() for name, text in texts_of_row.items() if text is not None}
        try:
            row = record.row_of(_typed(fields, numbers, objects), options)
        except record.Reject as reject:
            bad.append(offset)
            kept.append(raw or _object(fields))
            errors.append(str(reject))
        else:
            good.append(offset)
            rows.append(row)
    return record.frame_of(good, rows), record.rejects_of(bad, kept, errors)


def _source_names(column: str, options: DecodeOptions) -> set[str]:
    """The names a column may be taken from."""
    target = options.mapping.get(column)
    if target is None:
        return {column, record.ALIASES.get(column, column)}
    path = steps(target) if is_path(target) else ()
    return {str(path[0])} if len(path) == 1 else set()


def _typed(fields: Fields, numbers: set[str], objects: set[str]) -> Fields:
    """`fields`, with the texts of a table that stand for a number or an object in a column that wants one."""
    typed = dict(fields)
    for name in (numbers | objects) & fields.keys():
        if fields[name].startswith(b'"'):
            text = orjson.loads(fields[name])
            if (name in numbers and re.fullmatch(_NUMBER, text)) or (name in objects and _is_object(text)):
                typed[name] = text.encode()
    return typed


def _is_object(text: str) -> bool:
    try:
        return text.startswith("{") and isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _object(fields: Fields) -> str:
    return (b"{" + b",".join(orjson.dumps(name) + b":" + text for name, text in fields.items()) + b"}").decode()
