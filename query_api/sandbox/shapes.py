"""How values of DuckDB's types are written: the SQL that turns a column into what JSON and CSV can say.

Instants are RFC 3339 in UTC to the microsecond, those without a zone the same without `Z`. Numbers are exact, however
many digits they have. Bytes are base64, intervals and all else the text DuckDB has for it. Lists, structs and maps are
JSON; instants in lists and structs, too, are RFC 3339.
"""

from collections.abc import Sequence
from typing import Any, Literal

# Texts that stand for something else: a number as it is written, JSON.
Kind = Literal["plain", "number", "json"]

_PLAIN = {
    "boolean",
    "tinyint",
    "smallint",
    "integer",
    "bigint",
    "utinyint",
    "usmallint",
    "uinteger",
    "ubigint",
    "float",
    "double",
}
_NUMBERS = {"hugeint", "uhugeint", "decimal", "bignum"}
_NESTED = {"list", "array", "struct", "map", "union", "variant"}
_INSTANT = "%Y-%m-%dT%H:%M:%S.%f"
# Of a type's own word: those with a zone, and those without.
_ZONED = "timestamp with time zone"
_UNZONED = {"timestamp", "timestamp_s", "timestamp_ms"}
_DEPTH = 8  # of lists in lists, as far as instants in them are told


def shown(types: Sequence[Any]) -> tuple[str, list[Kind]]:
    """Return the SELECT list over columns `#1`, `#2`, … of these types, and what the values stand for.

    types: DuckDBPyType, one a column.
    """
    selected = ", ".join(f"{_shown(f'#{n}', kind)} AS c{n}" for n, kind in enumerate(types, 1))
    return selected, [_kind(kind) for kind in types]


def arrow_shown(names: Sequence[str], types: Sequence[Any]) -> str:
    """Return the SELECT list for Arrow: everything as it is, but for intervals, which few readers know."""
    quoted = [f'"{name.replace(chr(34), 2 * chr(34))}"' for name in names]
    return ", ".join(
        f"CAST(#{n} AS VARCHAR) AS {name}" if kind.id == "interval" else f"#{n} AS {name}"
        for n, (name, kind) in enumerate(zip(quoted, types, strict=True), 1)
    )


def _kind(kind: Any) -> Kind:
    if kind.id in _NUMBERS:
        return "number"
    return "json" if kind.id in _NESTED or str(kind) == "JSON" else "plain"


def _shown(column: str, kind: Any) -> str:
    if kind.id in _PLAIN:
        return column
    if kind.id in _NESTED:
        return f"CAST(to_json({_told(column, kind)}) AS VARCHAR)"
    return _text(column, kind)


def _text(value: str, kind: Any) -> str:
    if kind.id == _ZONED:
        return f"CASE WHEN isfinite({value}) THEN strftime({value}, '{_INSTANT}Z') ELSE CAST({value} AS VARCHAR) END"
    if kind.id in _UNZONED:
        return f"CASE WHEN isfinite({value}) THEN strftime({value}, '{_INSTANT}') ELSE CAST({value} AS VARCHAR) END"
    if kind.id == "blob":
        return f"base64({value})"
    return f"CAST({value} AS VARCHAR)"


def _told(value: str, kind: Any, depth: int = 0) -> str:
    """A nested value with its instants and bytes as text."""
    if kind.id in (_ZONED, "blob") or kind.id in _UNZONED:
        return _text(value, kind)
    if depth == _DEPTH or not _has_texts(kind):
        return value
    if kind.id in ("list", "array"):
        inner = _told(f"x{depth}", kind.children[0][1], depth + 1)
        return f"list_transform({value}, lambda x{depth}: {inner})"
    if kind.id == "struct":
        members = []
        for name, inner in kind.children:
            literal, quoted = name.replace("'", "''"), name.replace('"', '""')
            members.append(
                f'"{quoted}" := {_told(f"struct_extract({value}, {chr(39)}{literal}{chr(39)})", inner, depth + 1)}'
            )
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE struct_pack({', '.join(members)}) END"
    return value


def _has_texts(kind: Any) -> bool:
    if kind.id in (_ZONED, "blob") or kind.id in _UNZONED:
        return True
    return kind.id in ("list", "array", "struct") and any(
        _has_texts(inner) for _, inner in kind.children if hasattr(inner, "id")
    )
