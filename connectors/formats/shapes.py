"""Shapes of JSON lines: learned from one line, proved for others by a regular expression.

Lines of one producer mostly differ in their values only. A `Shape` is a line with its values left open: a regular
expression that only lines of that shape match, every one of them valid JSON, and for each value the place where it is
found, counted in quotation marks from the start or the end of the line. That makes decoding a matter of arithmetic on
the positions of quotation marks. One member per line may be open as a whole (`loose`), with objects and lists of
any content down to two levels; other nested values keep their names and lengths.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

Kind = Literal["text", "bare", "object", "list"]
Path = tuple[str | int, ...]

# Stricter than JSON where a decoder could still object: surrogate escapes and numbers beyond a double's range.
_TEXT = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u(?:[0-9abcefABCEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})))*"'
_BARE = r"(?:-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,39})?(?:[eE][+-]?[0-9]{1,2})?|true|false|null)"
_GAP = r"[ \t]*"


def _list_of(value: str) -> str:
    return rf"\[{_GAP}(?:{value}{_GAP}(?:,{_GAP}{value}{_GAP})*)?\]"


def _object_of(value: str) -> str:
    member = f"{_TEXT}{_GAP}:{_GAP}{value}{_GAP}"
    return rf"\{{{_GAP}(?:{member}(?:,{_GAP}{member})*)?\}}"


_SCALAR = f"(?:{_TEXT}|{_BARE})"
_INNER = f"(?:{_SCALAR}|{_object_of(_SCALAR)}|{_list_of(_SCALAR)})"
_PATTERNS: dict[Kind, str] = {
    "text": _TEXT,
    "bare": _BARE,
    "object": _object_of(_INNER),
    "list": _list_of(_INNER),
}


@dataclass(frozen=True, slots=True)
class Anchor:
    """A position in a line: `shift` bytes after its quotation mark number `quote`.

    Numbers from 0 count from the start of the line, negative ones from its end; None is the end of the line itself.
    """

    quote: int | None
    shift: int


@dataclass(frozen=True, slots=True)
class Value:
    """Where a value stands in the lines of a shape, quotation marks included."""

    kind: Kind
    start: Anchor
    end: Anchor


@dataclass(frozen=True, slots=True)
class Shape:
    """`pattern` proves a line, with its line end or without; `values` by path, top-level fields in their order.

    `unplaced` are the paths of values that exist in every line, but have no countable place.
    """

    pattern: str
    values: dict[Path, Value] = field(compare=False)
    unplaced: frozenset[Path] = field(compare=False)


def learn(line: str, rigid: bool) -> Shape | None:
    """The shape of a line that holds a valid JSON object; None where it has none.

    `rigid` lets no member be loose, so that every path inside has its place.
    """
    scanner = _Scanner(line, rigid)
    try:
        scanner.run()
        values = scanner.values()
    except _Irregular:
        return None
    pattern = "^" + "".join(token.pattern for token in scanner.tokens) + r"\n?$"
    return Shape(pattern, values, frozenset(scanner.ranges.keys() - values.keys()))


class _Irregular(Exception):
    """The line repeats a name, escapes one, or is not what it was said to be."""


@dataclass(frozen=True, slots=True)
class _Token:
    pattern: str
    quotes: int | None  # None: as many as there are
    fixed: bytes | None = None  # the text itself where it is the same in all lines

    @property
    def is_text(self) -> bool:
        return self.fixed is None and self.quotes == 2


_SPACE = re.compile(r"[ \t\r]*")
_NAME = re.compile(r'"([^"\\\x00-\x1f]*)"')
_DECODER = json.JSONDecoder()


class _Scanner:
    """Cuts a line into tokens: fixed text and open values."""

    def __init__(self, line: str, rigid: bool) -> None:
        self.line, self.rigid, self.at = line, rigid, 0
        self.tokens: list[_Token] = []
        self.ranges: dict[Path, tuple[Kind, int, int]] = {}  # the tokens a value is made of

    def run(self) -> None:
        self.space()
        if not self.line.startswith("{", self.at):
            raise _Irregular
        loose = None if self.rigid else self.loose_member()
        self.object((), loose)
        self.space()
        if self.at != len(self.line):
            raise _Irregular

    def loose_member(self) -> str | None:
        """The member to leave open: the record's own attributes if it has any, else its first nested one."""
        nested = [name for name, value in json.loads(self.line).items() if isinstance(value, dict | list)]
        preferred = [name for name in ("attributes", "rawPayload") if name in nested]
        return next(iter(preferred + nested), None)

    def fixed(self, text: str) -> None:
        self.at += len(text)
        self.tokens.append(_Token(pl.escape_regex(text), text.count('"'), text.encode()))

    def space(self) -> None:
        match = _SPACE.match(self.line, self.at)
        if match and match.group():
            self.fixed(match.group())

    def take(self, allowed: str) -> str:
        found = self.line[self.at : self.at + 1]
        if not found or found not in allowed:
            raise _Irregular
        self.fixed(found)
        return found

    def value(self, path: Path, loose: bool) -> None:
        first = len(self.tokens)
        start = self.line[self.at : self.at + 1]
        kind: Kind = {'"': "text", "{": "object", "[": "list"}.get(start, "bare")  # type: ignore[assignment]
        if loose or kind in ("text", "bare"):
            self.at = _DECODER.raw_decode(self.line, self.at)[1]
            self.tokens.append(_Token(_PATTERNS[kind], {"text": 2, "bare": 0}.get(kind)))
        elif kind == "object":
            self.object(path, None)
        else:
            self.list(path)
        self.ranges[path] = (kind, first, len(self.tokens))

    def object(self, path: Path, loose: str | None) -> None:
        self.take("{")
        self.space()
        names: set[str] = set()
        while not (self.line.startswith("}", self.at) and not names):
            match = _NAME.match(self.line, self.at)
            if match is None or match.group(1) in names:
                raise _Irregular
            name = match.group(1)
            names.add(name)
            self.fixed(match.group())
            self.space()
            self.take(":")
            self.space()
            self.value((*path, name), name == loose)
            self.space()
            if self.line.startswith("}", self.at):
                break
            self.take(",")
            self.space()
        self.take("}")

    def list(self, path: Path) -> None:
        self.take("[")
        self.space()
        index = 0
        while not (self.line.startswith("]", self.at) and not index):
            self.value((*path, index), False)
            index += 1
            self.space()
            if self.line.startswith("]", self.at):
                break
            self.take(",")
            self.space()
        self.take("]")

    def values(self) -> dict[Path, Value]:
        """Every value that has an anchor on both sides; the top-level ones keep the order of the line."""
        anchors = _anchors(self.tokens)
        found = {}
        for path, (kind, first, last) in self.ranges.items():
            start, end = anchors[first], anchors[last]
            if start and end:
                found[path] = Value(kind, start, end)
            elif len(path) == 1:
                raise _Irregular
        return found


def _anchors(tokens: list[_Token]) -> list[Anchor | None]:
    """The anchor of every boundary between tokens: bytes after the quotation mark before it, or before the next one."""
    numbers = _numbers(tokens)
    forward: list[Anchor | None] = [None]
    for token, number in zip(tokens, numbers, strict=True):
        last = forward[-1]
        if number is not None and token.quotes:
            forward.append(Anchor(number + token.quotes - 1, 1 if token.is_text else _after_last_quote(token)))
        else:
            forward.append(Anchor(last.quote, last.shift + len(token.fixed)) if last and token.fixed else None)
    backward: list[Anchor | None] = [Anchor(None, 0)]
    for token, number in zip(reversed(tokens), reversed(numbers), strict=True):
        last = backward[-1]
        if number is not None and token.quotes:
            backward.append(Anchor(number, 0 if token.fixed is None else -token.fixed.index(b'"')))
        else:
            backward.append(Anchor(last.quote, last.shift - len(token.fixed)) if last and token.fixed else None)
    return [left or right for left, right in zip(forward, reversed(backward), strict=True)]


def _after_last_quote(token: _Token) -> int:
    return 0 if token.fixed is None else len(token.fixed) - token.fixed.rindex(b'"')


def _numbers(tokens: list[_Token]) -> list[int | None]:
    """The number of each token's first quotation mark: from the start, or behind a loose member from the end."""
    loose = next((i for i, token in enumerate(tokens) if token.quotes is None), len(tokens))
    numbers: list[int | None] = []
    total = 0
    for token in tokens[:loose]:
        numbers.append(total)
        total += token.quotes or 0
    rest: list[int | None] = []
    total = 0
    for token in reversed(tokens[loose + 1 :]):
        total -= token.quotes or 0
        rest.append(total)
    return numbers + [None] * (loose < len(tokens)) + rest[::-1]
