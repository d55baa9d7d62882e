"""What one JSON record means: a row of DECODED columns, or a reason why it cannot be used.

This is the definition that every JSON-like format shares. Faster decoders must give the same rows (see jsonl.py).

- null, and an empty text in a known column, mean "absent"
- numbers and booleans in a text column become their JSON text; an object or a list there is an error
- known names come first, then the aliases; an alias that is not used stays in `attributes`
- `attributes` is the record's own object as it was written, with the fields nobody asked for appended;
  where both have a name, the object's own counts
- a column of `options.mapping` takes its value from there and nowhere else
- columns that `options.columns` does not name are null, except those the pipeline itself needs; a command or a
  configuration record keeps all of them, because its body is in `attributes`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson
import polars as pl

from connectors.formats import times
from connectors.formats.paths import Fields, Raws, Step, is_path, lookup, members, steps
from connectors.formats.types import REJECTS, DecodeOptions
from operators.events import CONFIGURE, DECODED, EVENT, RAW_LIMIT, RESOLVE, TICK

Row = dict[str, str | int | float | None]  # DECODED columns without `offset`; times in µs since 1970 UTC

ALIASES = {
    "source": "integrationKey",
    "type": "eventType",
    "code": "errorCode",
    "tenant": "tenantId",
    "attributes": "rawPayload",
}
TEXTS = ("id", "workspace", "stream", "source", "type", "code", "tenant", "severity", "message", "place", "record")
TIMES = ("time", "ingested_at")
COLUMNS = tuple(name for name in DECODED if name != "offset")
NAMES = {column: (column, ALIASES[column]) if column in ALIASES else (column,) for column in COLUMNS}  # own name first
ALWAYS = frozenset({"offset", "time", "ingested_at", "id", "workspace", "stream", "source", "type", "record"})

SEVERITY_WORDS = {
    **{word: word for word in ("critical", "high", "medium", "low", "info")},
    **dict.fromkeys(("fatal", "crit", "emergency", "emerg", "alert", "panic", "severe", "sev1", "p1"), "critical"),
    **dict.fromkeys(("error", "err", "major", "sev2", "p2"), "high"),
    **dict.fromkeys(("warning", "warn", "moderate", "sev3", "p3"), "medium"),
    **dict.fromkeys(("minor", "sev4", "p4"), "low"),
    **dict.fromkeys(("notice", "informational", "information", "debug", "trace", "verbose", "none"), "info"),
}

# Where a value comes from: a field of the record, a path into it, or the JSON text of a literal.
Key = str | tuple[Step, ...] | bytes

_NULLS = {name: pl.Series(name, [None], dtype) for name, dtype in DECODED.items()}
_EMPTY: Row = dict.fromkeys(COLUMNS)
_TIME_EXPECTED = "RFC 3339 is expected, such as 2026-01-31T08:30:00Z"
_NUMBER_STARTS = tuple(b"-0123456789"[i : i + 1] for i in range(11))


class Reject(ValueError):
    """A record that cannot be used; the text says which field, its value, and what was expected."""


def row(obj: Mapping[str, object], options: DecodeOptions) -> Row:
    """The row of a parsed record. Raises Reject."""
    return row_of({name: orjson.dumps(value) for name, value in obj.items()}, options)


def row_of(fields: Fields, options: DecodeOptions) -> Row:
    """The row of a record given as JSON texts by field name. Raises Reject."""
    reader = Reader(options)
    return reader.row({name: _parsed(text, reader.deep) for name, text in fields.items()}, lambda: fields)


class Reader:
    """Makes rows of parsed records: what depends on the options only is worked out once."""

    def __init__(self, options: DecodeOptions) -> None:
        self.options = options
        self.mapping = tuple(options.mapping.items())
        self.given: dict[Key, object] = {
            key: _literal(key) for _, key in _mapped(self.mapping) if isinstance(key, bytes)
        }
        self.paths = [key for _, key in _mapped(self.mapping) if isinstance(key, tuple)]
        self.deep = any(len(path) > 1 for path in self.paths)
        self.attributes = "attributes" in options.columns
        self.unwanted = [name for name in COLUMNS if name not in ALWAYS and name not in options.columns]

    def row(self, record: Mapping[str, object], raw: Callable[[], Raws]) -> Row:
        """The row of a record. Raises Reject.

        `record` holds its parsed fields, of which the texts count; numbers and objects are read from `raw`, which
        gives the JSON text of every field as it was written and is called only where that is needed.
        """
        fields: Raws | None = None
        names = tuple(record)
        plan = _plan(names, self.mapping)
        values: Mapping[Key, object] = record  # type: ignore[assignment]
        if self.mapping:
            values = {**values, **self.given, **{path: _at(record, path) for path in self.paths}}
        result = _EMPTY.copy()
        spare: list[Key] = []  # second names that hold something, too
        for column, keys in plan.times:
            key = keys[0] if len(keys) == 1 else _first(keys, values, spare)
            value = values[key]
            micros = times.parse(value) if isinstance(value, str) else None
            if micros is None and not _absent(value):
                raise Reject(
                    f"{column}: {_shown(_json(key, (fields := fields or raw())))} is not a time; {_TIME_EXPECTED}"
                )
            result[column] = micros
        for column, key in plan.single:
            value = values[key]
            if type(value) is str:
                result[column] = value or None
            elif value is not None:
                result[column] = _scalar(column, _json(key, (fields := fields or raw())))
        for column, keys in plan.double:
            key = _first(keys, values, spare)
            value = values[key]
            if not _absent(value):
                result[column] = (
                    value if isinstance(value, str) else _scalar(column, _json(key, (fields := fields or raw())))
                )
        kind = None if result["record"] is None else _kind(result)
        if plan.value:
            key = _first(plan.value, values, spare)
            result["value"] = None if _absent(values[key]) else _number(_json(key, (fields := fields or raw())))
        if result["workspace"] is None:
            result["workspace"] = self.options.workspace
        if result["stream"] is None:
            result["stream"] = self.options.default_stream
        if result["time"] is None or result["source"] is None or result["type"] is None:
            for column in ("time",) if kind else ("time", "source", "type"):
                if result[column] is None:
                    raise Reject(_missing(column, self.options.mapping))
        odd = plan.severity if result["severity"] is not None and not _severity(result) else ()
        if kind or self.attributes:
            own = _object(plan.attributes, values, spare) if plan.attributes else None
            if spare or odd or plan.others:
                extras = self.extras(plan, spare, odd, values, (fields := fields or raw()))
                result["attributes"] = _attributes(
                    None if own is None else _json(own, (fields := fields or raw())), extras
                )
            elif own is not None:
                result["attributes"] = _json(own, (fields := fields or raw())).decode()
        if not kind:
            for column in self.unwanted:
                result[column] = None
        return result

    def extras(
        self, plan: _Plan, spare: list[Key], odd: tuple[Key, ...], values: Mapping[Key, object], fields: Raws
    ) -> Fields:
        """The fields that `attributes` gets: those of no column, unused ones, and an odd severity."""
        names = plan.others
        if spare:
            names = tuple(n for n in fields if n in plan.others or (n in spare and n not in plan.mapped))
        extras = {name: bytes(fields[name]) for name in names}
        if odd:
            extras["severity"] = _json(_first(odd, values, []), fields)
        return extras


def frame_of(offsets: Sequence[int], rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a frame with the DECODED columns in their order."""
    found = zip(COLUMNS, zip(*[row.values() for row in rows], strict=True), strict=True) if rows else ()
    filled = {name: values for name, values in found if values.count(None) < len(rows)}
    columns = [pl.Series("offset", offsets, pl.Int64)]
    for name in COLUMNS:
        if name in TIMES and name in filled:
            columns.append(pl.Series(name, filled[name], pl.Int64).cast(DECODED[name]))
        elif name in filled:
            columns.append(pl.Series(name, filled[name]))
        else:
            columns.append(_NULLS[name].new_from_index(0, len(rows)))
    return pl.DataFrame(columns)


def rejects_of(offsets: Sequence[int], raws: Sequence[bytes | str], errors: Sequence[str]) -> pl.DataFrame:
    """Rejects as a frame with the REJECTS columns; `raw` is cut at RAW_LIMIT bytes and always valid text."""
    texts = [(raw.encode() if isinstance(raw, str) else raw)[:RAW_LIMIT].decode(errors="replace") for raw in raws]
    return pl.DataFrame({"offset": offsets, "raw": texts, "error": errors}, schema=REJECTS)


@dataclass(frozen=True, slots=True)
class _Plan:
    """For records with certain names: each column's keys, texts with one and with two of them apart.

    `others` are the fields that no column may take, `mapped` those that a mapping takes as a whole.
    """

    times: tuple[tuple[str, tuple[Key, ...]], ...]
    single: tuple[tuple[str, Key], ...]
    double: tuple[tuple[str, tuple[Key, ...]], ...]
    value: tuple[Key, ...]
    severity: tuple[Key, ...]
    attributes: tuple[Key, ...]
    others: tuple[str, ...]
    mapped: frozenset[Key]


@lru_cache(maxsize=1024)
def _plan(names: tuple[str, ...], mapping: tuple[tuple[str, str], ...]) -> _Plan:
    mapped = {column: _top(key, names) for column, key in _mapped(mapping)}
    keys: dict[str, tuple[Key, ...]] = {
        column: (mapped[column],) if column in mapped else tuple(name for name in NAMES[column] if name in names)
        for column in COLUMNS
    }
    taken = {key for found in keys.values() for key in found}
    return _Plan(
        tuple((column, keys[column]) for column in TIMES if keys[column]),
        tuple((column, keys[column][0]) for column in TEXTS if len(keys[column]) == 1),
        tuple((column, keys[column]) for column in TEXTS if len(keys[column]) > 1),
        keys["value"],
        keys["severity"],
        keys["attributes"],
        tuple(name for name in names if name not in taken),
        frozenset(mapped.values()),
    )


def _mapped(mapping: tuple[tuple[str, str], ...]) -> list[tuple[str, tuple[Step, ...] | bytes]]:
    """What each column is mapped to: a path, or the JSON text of a literal."""
    found: list[tuple[str, tuple[Step, ...] | bytes]] = []
    for column, target in mapping:
        if column in COLUMNS:
            json = target.encode() if column in ("attributes", "value") else orjson.dumps(target)
            found.append((column, steps(target) if is_path(target) else json))
    return found


def _top(key: tuple[Step, ...] | bytes, names: tuple[str, ...]) -> Key:
    """The field's name in place of a path that leads to a field of the record itself."""
    top = key[0] if isinstance(key, tuple) and len(key) == 1 else None
    return top if isinstance(top, str) and top in names else key


def _literal(json: bytes) -> object:
    return _parsed(json, False)


def _parsed(text: bytes, deep: bool) -> object:
    """A JSON text as far as `Reader` looks at it: objects and lists only for paths that go into them."""
    if text.startswith(b'"') or text == b"null" or (deep and text.startswith((b"{", b"["))):
        return orjson.loads(text)
    return {} if text.startswith(b"{") else [] if text.startswith(b"[") else 0


def _at(record: Mapping[str, object], path: tuple[Step, ...]) -> object:
    found: object = record
    for step in path:
        if isinstance(step, str):
            found = found.get(step) if isinstance(found, Mapping) else None
        else:
            found = found[step] if isinstance(found, list) and step < len(found) else None
    return found


def _json(key: Key, fields: Raws) -> bytes:
    """The JSON text of what a key stands for."""
    if isinstance(key, str):
        return bytes(fields[key])
    if isinstance(key, bytes):
        return key
    return lookup({name: bytes(raw) for name, raw in fields.items()}, key) or b"null"


def _first(keys: tuple[Key, ...], values: Mapping[Key, object], spare: list[Key]) -> Key:
    """The first key that holds something, if any does; `spare` gets the further ones."""
    found = [key for key in keys if not _absent(values[key])]
    spare += found[1:]
    return found[0] if found else keys[0]


def _object(keys: tuple[Key, ...], values: Mapping[Key, object], spare: list[Key]) -> Key | None:
    """The key of the record's own attributes; what is under their names and no object is `spare`."""
    found: Key | None = None
    for key in keys:
        if found is None and isinstance(values[key], dict):
            found = key
        elif values[key] is not None:
            spare.append(key)
    return found


def _absent(value: object) -> bool:
    return value is None or value == ""


def _scalar(column: str, text: bytes) -> str:
    if text.startswith((b"{", b"[")):
        raise Reject(f"{column}: {_shown(text)} is {_named(text)}, a text or a number is expected")
    return text.decode()


def _number(text: bytes) -> float:
    if not text.startswith(_NUMBER_STARTS):
        raise Reject(f"value: {_shown(text)} is {_named(text)}, a number is expected")
    try:
        number = float(text)
    except ValueError:
        raise Reject(f"value: {_shown(text)} is not a number") from None
    if not math.isfinite(number):
        raise Reject(f"value: {_shown(text)} is too large for a number")
    return number


def _kind(result: Row) -> str | None:
    """Sets and returns `record`: None for an event."""
    kind = result["record"]
    if kind not in (None, EVENT, RESOLVE, CONFIGURE, TICK):
        raise Reject(f'record: "{kind}" is unknown; "event", "resolve" or "configure" is expected')
    result["record"] = None if kind == EVENT else kind
    return None if kind == EVENT else str(kind) if kind else None


def _severity(result: Row) -> str | None:
    """Sets `severity` to one of the five words, or null, and returns it."""
    found = SEVERITY_WORDS.get(str(result["severity"]).strip().lower())
    result["severity"] = found
    return found


def _attributes(own: bytes | None, extras: Fields) -> str | None:
    if own is not None and extras:
        known = members(own)
        extras = {name: text for name, text in extras.items() if name not in known}
    if not extras:
        return None if own is None else own.decode()
    inner = b"" if own is None else own[1:-1]
    added = b",".join(orjson.dumps(name) + b":" + text for name, text in extras.items())
    return (b"{" + inner + (b"," if inner.strip() else b"") + added + b"}").decode()


def _missing(column: str, mapping: Mapping[str, str]) -> str:
    if column in mapping:
        return f"{column}: missing, nothing at {mapping[column]}"
    alias = ALIASES.get(column)
    return f"{column}: missing" + (f', "{column}" or "{alias}" is expected' if alias else f', "{column}" is expected')


def _shown(text: bytes) -> str:
    shown = text.decode(errors="replace")
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _named(text: bytes) -> str:
    return {b"{": "an object", b"[": "a list", b'"': "a text"}.get(text[:1], "no number")
