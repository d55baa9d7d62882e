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
from collections.abc import Mapping, Sequence

import orjson
import polars as pl

from connectors.formats import times
from connectors.formats.paths import Fields, is_path, lookup, members, steps
from connectors.formats.types import REJECTS, DecodeOptions
from operators.events import CONFIGURE, DECODED, EVENT, RAW_LIMIT, RESOLVE

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


_NUMBER_STARTS = tuple(b"-0123456789"[i : i + 1] for i in range(11))


class Reject(ValueError):
    """A record that cannot be used; the text says which field, its value, and what was expected."""


def row(obj: Mapping[str, object], options: DecodeOptions) -> Row:
    """The row of a parsed record. Raises Reject."""
    return row_of(_texts(obj), options)


def row_of(fields: Fields, options: DecodeOptions) -> Row:
    """The row of a record given as JSON texts by field name. Raises Reject."""
    taken, used = _chosen(fields, options.mapping)
    result: Row = dict.fromkeys(COLUMNS)
    for column, text in taken.items():
        if column in TIMES:
            result[column] = _time(column, text)
        elif column in TEXTS:
            result[column] = _text(column, text)
    kind = _kind(result)
    result["value"] = _number(taken.get("value"))
    result["workspace"] = result["workspace"] or options.workspace
    result["stream"] = result["stream"] or options.default_stream
    for column in ("time",) if kind else ("time", "source", "type"):
        if result[column] is None:
            raise Reject(_missing(column, options.mapping))
    kept = _severity(result, taken.get("severity"))
    if kind or "attributes" in options.columns:
        extras = {name: text for name, text in fields.items() if name not in used} | kept
        result["attributes"] = _attributes(taken.get("attributes"), extras)
    if kind:
        return result
    return {name: value if name in ALWAYS or name in options.columns else None for name, value in result.items()}


def frame_of(offsets: Sequence[int], rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a frame with the DECODED columns in their order."""
    plain = {name: pl.Int64() if name in TIMES else dtype for name, dtype in DECODED.items()}
    columns = {name: [row[name] for row in rows] for name in COLUMNS}
    return pl.DataFrame({"offset": offsets, **columns}, schema=plain).cast({name: DECODED[name] for name in TIMES})


def rejects_of(offsets: Sequence[int], raws: Sequence[bytes | str], errors: Sequence[str]) -> pl.DataFrame:
    """Rejects as a frame with the REJECTS columns; `raw` is cut at RAW_LIMIT bytes and always valid text."""
    texts = [(raw.encode() if isinstance(raw, str) else raw)[:RAW_LIMIT].decode(errors="replace") for raw in raws]
    return pl.DataFrame({"offset": offsets, "raw": texts, "error": errors}, schema=REJECTS)


def _texts(obj: Mapping[str, object]) -> Fields:
    return {name: orjson.dumps(value) for name, value in obj.items()}


def _chosen(fields: Fields, mapping: Mapping[str, str]) -> tuple[dict[str, bytes], set[str]]:
    """Each column's JSON text, and the names of the fields that need not be kept in `attributes`."""
    taken: dict[str, bytes] = {}
    used: set[str] = set()
    for column in COLUMNS:
        if column in mapping:
            found, top = _mapped(fields, column, mapping[column])
            used |= top
            if found is not None:
                taken[column] = found
            continue
        for name in NAMES[column]:
            text = fields.get(name)
            if text is None:
                continue
            if _absent(column, text):
                used.add(name)
            elif column not in taken and (column != "attributes" or text.startswith(b"{")):
                taken[column] = text
                used.add(name)
    return taken, used


def _mapped(fields: Fields, column: str, target: str) -> tuple[bytes | None, set[str]]:
    if not is_path(target):
        return (target.encode() if column in ("attributes", "value") else orjson.dumps(target)), set()
    path = steps(target)
    top = {path[0]} if len(path) == 1 and isinstance(path[0], str) else set()
    return lookup(fields, path), top


def _absent(column: str, text: bytes) -> bool:
    return text == b"null" or (text == b'""' and column != "attributes")


def _text(column: str, text: bytes | None) -> str | None:
    if text is None or _absent(column, text):
        return None
    if text.startswith((b"{", b"[")):
        raise Reject(f"{column}: {_shown(text)} is {_named(text)}, a text or a number is expected")
    return str(orjson.loads(text)) if text[:1] == b'"' else text.decode()


def _time(column: str, text: bytes | None) -> int | None:
    if text is None or _absent(column, text):
        return None
    parsed = times.parse(orjson.loads(text)) if text.startswith(b'"') else None
    if parsed is None:
        raise Reject(f"{column}: {_shown(text)} is not a time; RFC 3339 is expected, such as 2026-01-31T08:30:00Z")
    return parsed


def _number(text: bytes | None) -> float | None:
    if text is None or _absent("value", text):
        return None
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
    if kind not in (None, EVENT, RESOLVE, CONFIGURE):
        raise Reject(f'record: "{kind}" is unknown; "event", "resolve" or "configure" is expected')
    result["record"] = None if kind == EVENT else kind
    return None if kind == EVENT else str(kind) if kind else None


def _severity(result: Row, text: bytes | None) -> Fields:
    """Sets `severity` to one of the five words; returns what is kept in `attributes` instead."""
    word = result["severity"]
    if word is None or text is None:
        return {}
    result["severity"] = SEVERITY_WORDS.get(str(word).strip().lower())
    return {} if result["severity"] else {"severity": text}


def _attributes(own: bytes | None, extras: Fields) -> str | None:
    if own is None or not own.startswith(b"{"):
        own = None
    elif extras:
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
