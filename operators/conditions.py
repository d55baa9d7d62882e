"""`where`: filters on the fields of an event, in the notation of Sigma, as one Polars expression.

A map holds where all its entries hold; a list of maps where any of them does; `not:` where what it holds does not.
An entry is `field: value` or `field|modifier: value`; a list of values means any of them, with `|all` all of them.
Text compares without regard to case and with Sigma's wildcards `*` and `?` (`\\*` is a star), `re` with regard to case;
a number or boolean compares as such; null means that the event has no such field. Every other test of a missing field
fails, and its `not` holds.

Source of the notation: the Sigma specification, "Detections" and "Value modifiers".
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from operators.fields import NUMBER_COLUMNS, check_field, column_of, number_of, text_of
from operators.networks import in_network, parse_network
from operators.rule_errors import suggest

Scalar = str | int | float | bool | None
Path = tuple[str | int, ...]

MODIFIERS = ("contains", "startswith", "endswith", "re", "gt", "gte", "lt", "lte", "cidr")
# What has a meaning in a regular expression.
_META = re.compile(r"[\\.+*?()|\[\]{}^$#&~-]")
_ORDER = {"gt": pl.Expr.gt, "gte": pl.Expr.ge, "lt": pl.Expr.lt, "lte": pl.Expr.le}


class ConditionError(ValueError):
    """A `where` that cannot be used: `problems` are (path inside it, what is wrong)."""

    def __init__(self, problems: list[tuple[Path, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(message for _, message in problems))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One entry: `field` compared by `op` (a modifier, or `is`) with any, or all, of `values`."""

    field: str
    op: str
    values: tuple[Scalar, ...]
    every: bool = False

    def expr(self) -> pl.Expr:
        tests = [self._one(value) for value in self.values]
        return pl.all_horizontal(tests) if self.every else pl.any_horizontal(tests)

    def fields(self) -> Iterator[str]:
        yield self.field

    def _one(self, value: Scalar) -> pl.Expr:
        if value is None:
            return (pl.col(self.field) if self.field in NUMBER_COLUMNS else text_of(self.field)).is_null()
        if self.op in _ORDER:
            number = number_of(self.field)
            # Polars holds NaN greater than every number and equal to itself; here no comparison with it holds.
            return (number.is_not_nan() & _ORDER[self.op](number, float(value))).fill_null(False)
        if self.op == "is" and isinstance(value, int | float) and not isinstance(value, bool):
            return (number_of(self.field) == float(value)).fill_null(False)
        text = text_of(self.field)
        if self.op == "re":
            return text.str.contains(str(value)).fill_null(False)
        if self.op == "cidr":
            return in_network(text, str(value)).fill_null(False)
        return _text_test(text.str.to_lowercase(), self.op, _text(value)).fill_null(False)


@dataclass(frozen=True, slots=True)
class Group:
    """All, any, or (`not`) none of `parts` hold."""

    kind: str
    parts: tuple["Comparison | Group", ...]

    def expr(self) -> pl.Expr:
        parts = [part.expr() for part in self.parts]
        if self.kind == "all":
            return pl.all_horizontal(parts)
        return pl.any_horizontal(parts) if self.kind == "any" else ~pl.any_horizontal(parts)

    def fields(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.fields()


@dataclass(frozen=True, slots=True)
class Where:
    """A checked `where`: two are equal where they were written equal, up to the order of keys."""

    text: str  # canonical JSON of what was written
    root: Comparison | Group = field(compare=False, repr=False)

    def expr(self) -> pl.Expr:
        """Return a boolean expression over event columns, never null."""
        return self.root.expr()

    def columns(self) -> frozenset[str]:
        """Return the event columns that the expression reads."""
        return frozenset(map(column_of, self.root.fields()))

    def raw(self) -> Any:
        """Return it as it was written, in plain lists and maps."""
        return json.loads(self.text)


def parse_where(raw: object) -> Where:
    """Check `raw`, the plain lists and maps of a `where`, and return it. Raises ConditionError with every problem."""
    problems: list[tuple[Path, str]] = []
    root = _group(raw, (), problems)
    if problems:
        raise ConditionError(problems)
    return Where(json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=False), root)


def _group(raw: object, path: Path, problems: list[tuple[Path, str]], kind: str = "all") -> Group:
    if isinstance(raw, list | tuple) and raw:
        parts = tuple(_group(item, (*path, i), problems) for i, item in enumerate(raw))
        return Group("none" if kind == "none" else "any", parts)
    if not isinstance(raw, Mapping) or not raw:
        problems.append((path, f"expected `field: value` entries, or a list of such maps, got {raw!r}"))
        return Group(kind, ())
    entries = tuple(_entry(str(key), value, (*path, str(key)), problems) for key, value in raw.items())
    return Group("none", (Group("all", entries),)) if kind == "none" else Group(kind, entries)


def _entry(key: str, value: object, path: Path, problems: list[tuple[Path, str]]) -> Comparison | Group:
    if key == "not":
        return _group(value, path, problems, "none")
    name, *modifiers = key.split("|")
    every = "all" in modifiers
    ops = [modifier for modifier in modifiers if modifier != "all"]
    unknown = [op for op in ops if op not in MODIFIERS]
    problems += [(path, f'unknown modifier "{op}"; {suggest(op, (*MODIFIERS, "all"))}') for op in unknown]
    if len(ops) > 1:
        problems.append((path, f"one modifier at a time (and `all`), got {' and '.join(ops)}"))
    op = ops[0] if ops else "is"
    try:
        check_field(name)
        if name in NUMBER_COLUMNS and op not in (*_ORDER, "is"):
            raise ValueError(f"{name} is a number: only {', '.join(_ORDER)} and plain values apply, not {op}")
    except ValueError as wrong:
        problems.append((path, str(wrong)))
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not values:
        problems.append((path, "the list of values is empty"))
    for i, item in enumerate(values):
        try:
            _check_value(name, op, item)
        except ValueError as wrong:
            problems.append(((*path, i) if isinstance(value, list | tuple) else path, str(wrong)))
    return Comparison(name, op, values, every)


def _check_value(name: str, op: str, value: object) -> None:
    """Raise ValueError where `op` cannot compare with `value`."""
    if isinstance(value, Mapping | list | tuple):
        raise ValueError(f"expected a text, number, true, false or null, got {value!r}; nested fields are written a.b")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if op in _ORDER and not number:
        raise ValueError(f"{op} compares with a number, got {value!r}")
    if name in NUMBER_COLUMNS and op == "is" and not number and value is not None:
        raise ValueError(f"{name} compares with a number or null, got {value!r}")
    if op != "is" and value is None:
        raise ValueError(f"null stands alone (`{name}: null`), not with {op}")
    if op == "re":
        _check_regex(value)
    if op == "cidr":
        parse_network(value)


def _check_regex(value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"expected a regular expression in quotes, got {value!r}")
    try:
        pl.Series([""]).str.contains(value)
    except pl.exceptions.ComputeError as wrong:
        # The engine says it over several lines, the reason in the last one that begins with "error:".
        reasons = re.findall(r"error: (.+)", str(wrong))
        raise ValueError(f"invalid regular expression {value!r}: {reasons[-1] if reasons else wrong}") from None


def _text(value: Scalar) -> str:
    """Return the text that a value compares with: JSON's for numbers and booleans."""
    return value if isinstance(value, str) else json.dumps(value)


def _text_test(text: pl.Expr, op: str, value: str) -> pl.Expr:
    """Compare lower-case `text` with `value`; wildcards in it make it a regular expression."""
    pieces = wildcard_pieces(value.lower())
    if all(isinstance(piece, str) for piece in pieces):
        literal = pl.lit("".join(map(str, pieces)), pl.String)
        match op:
            case "contains":
                return text.str.contains(literal, literal=True)
            case "startswith":
                return text.str.starts_with(literal)
            case "endswith":
                return text.str.ends_with(literal)
        return text == literal
    body = "".join(_META.sub(r"\\\g<0>", piece) if isinstance(piece, str) else piece.regex for piece in pieces)
    start = "" if op in ("contains", "endswith") else "^"
    end = "" if op in ("contains", "startswith") else "$"
    return text.str.contains(f"(?s){start}{body}{end}")


@dataclass(frozen=True, slots=True)
class Wildcard:
    """`*`, any text, or `?`, any one character."""

    regex: str


def wildcard_pieces(value: str) -> list["str | Wildcard"]:
    """Split `value` at its wildcards. A backslash takes the meaning from a `*`, `?` or backslash after it only."""
    found: list[str | Wildcard] = []
    for token in re.findall(r"\\[*?\\]|[*?]|[^*?\\]+|\\", value):
        if token in "*?":
            found.append(Wildcard(".*" if token == "*" else "."))
        else:
            found.append(token[1:] if len(token) == 2 and token[0] == "\\" and token[1] in "*?\\" else token)
    return found
