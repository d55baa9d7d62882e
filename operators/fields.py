"""The fields of an event that a rule may read, each as a Polars expression.

A field is an event column or `attributes.a.b`, a path into the JSON of `attributes`: the value under key `b` of the
object under key `a`, or under the one key `a.b`. There a string is its own text, a number or boolean its JSON text
(a float with its shortest digits), an object or array compact JSON; null and "not there" are the same.
"""

import polars as pl

from operators.rule_errors import suggest

TEXT_COLUMNS = ("source", "type", "code", "tenant", "severity", "message", "place", "id", "workspace", "stream")
NUMBER_COLUMNS = ("value",)
_ATTRIBUTES = "attributes"

# What counts as a number in a text: the grammar of JSON, so neither "0401" nor "inf" nor "nan".
_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"


def check_field(field: object, columns: tuple[str, ...] = TEXT_COLUMNS + NUMBER_COLUMNS) -> str:
    """Return `field` where it is one of `columns` or a path into the attributes, else raise ValueError."""
    if not isinstance(field, str):
        raise ValueError(f"expected the name of a field, got {field!r}")
    column, _, path = field.partition(".")
    if column == _ATTRIBUTES:
        if not path or not all(path.split(".")) or any(c in "'\"\\" or c < " " for c in path):
            raise ValueError(f"{field!r} is no path into the attributes; write attributes.key or attributes.key.key")
        return field
    if field not in columns:
        raise ValueError(f"unknown field {field!r}; {suggest(field, (*columns, 'attributes.<key>'))}")
    return field


def column_of(field: str) -> str:
    """Return the event column that `field` is read from."""
    return field.partition(".")[0]


def text_of(field: str) -> pl.Expr:
    """Return the field as text, null where the event has none."""
    column, _, path = field.partition(".")
    if not path:
        return pl.col(column).cast(pl.String)
    keys = path.split(".")
    nested = pl.col(column).str.json_path_match("$" + "".join(f"['{key}']" for key in keys))
    return nested if len(keys) == 1 else pl.coalesce(nested, pl.col(column).str.json_path_match(f"$['{path}']"))


def number_of(field: str) -> pl.Expr:
    """Return the field as a number: null where the event has none or its text is not a JSON number."""
    if field in NUMBER_COLUMNS:
        return pl.col(field).cast(pl.Float64)
    text = text_of(field)
    return pl.when(text.str.contains(_NUMBER)).then(text).cast(pl.Float64, strict=False)
