"""A chunk of text cut into lines, with the positions of its quotation marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from connectors.formats import spans
from connectors.formats.shapes import Anchor, Value
from connectors.formats.spans import Bytes, Ints, Span


@dataclass(frozen=True, slots=True)
class Lines:
    """`starts` and `ends` of n lines, line ends not included; `first[i]` to `first[i + 1]` index the quotation marks
    of line i in `quotes`, escaped marks left out. `step` is the number of marks a line where all lines have the same,
    else 0. `escaped` says whether the chunk holds a backslash at all."""

    chunk: bytes
    data: Bytes
    starts: Ints
    ends: Ints
    quotes: Ints
    first: Ints
    step: int
    escaped: bool

    @staticmethod
    def of(chunk: bytes) -> Lines:
        data = np.frombuffer(chunk, np.uint8)
        starts, ends = spans.lines(data)
        escaped = b"\\" in chunk
        plain = chunk.replace(b"\\\\", b"__").replace(b'\\"', b"__") if escaped else chunk
        quotes = np.flatnonzero(np.frombuffer(plain, np.uint8) == 0x22)
        step = _step(starts, ends, quotes)
        first = np.arange(len(starts) + 1) * step if step else np.append(np.searchsorted(quotes, starts), len(quotes))
        return Lines(chunk, data, starts, ends, quotes, first, step, escaped)

    def texts(self) -> pl.Series:
        """The lines as text, line ends included. Where the chunk is not valid UTF-8, the broken lines are empty."""
        if spans.is_utf8(self.chunk):
            edges = np.append(self.starts, len(self.chunk)).astype(np.int32)
            buffers = [None, pa.py_buffer(edges), pa.py_buffer(self.chunk)]
            return pl.Series(pa.Array.from_buffers(pa.utf8(), len(self.starts), buffers))
        return pl.Series([_valid(self.raw(row)) for row in range(len(self.starts))], dtype=pl.String)

    def raw(self, row: int) -> bytes:
        return self.data[self.starts[row] : self.ends[row]].tobytes()


@dataclass(frozen=True, slots=True)
class Group:
    """Some lines of one shape: where their values stand."""

    lines: Lines
    ends: Ints
    quotes_from: Ints
    quotes_to: Ints
    step: int

    @staticmethod
    def of(lines: Lines, rows: Ints) -> Group:
        if len(rows) == len(lines.starts):
            return Group(lines, lines.ends, lines.first[:-1], lines.first[1:], lines.step)
        return Group(lines, lines.ends[rows], lines.first[rows], lines.first[rows + 1], 0)

    def span(self, value: Value, trim: int = 0) -> Span:
        """The value of every line, without `trim` bytes on both sides."""
        return self._at(value.start, trim), self._at(value.end, -trim)

    def text(self, value: Value, trim: int = 0) -> pl.Series:
        return spans.text(self.lines.data, self.span(value, trim))

    def texts(self, values: Sequence[tuple[Value, int]]) -> list[pl.Series]:
        """Several values, each with its trim, in any order."""
        if not values:
            return []
        columns = [self.span(value, trim) for value, trim in values]
        order = sorted(range(len(columns)), key=lambda i: int(columns[i][0][0]))
        found = spans.texts(self.lines.data, [columns[i] for i in order])
        return [found[order.index(i)] for i in range(len(columns))]

    def _at(self, anchor: Anchor, more: int) -> Ints:
        if anchor.quote is None:
            return self.ends + (anchor.shift + more)
        if self.step:
            return self.lines.quotes[anchor.quote % self.step :: self.step] + (anchor.shift + more)
        base = self.quotes_from if anchor.quote >= 0 else self.quotes_to
        return self.lines.quotes[base + anchor.quote] + (anchor.shift + more)


def _step(starts: Ints, ends: Ints, quotes: Ints) -> int:
    """The number of quotation marks that every line has, 0 where they differ."""
    if not len(starts) or not len(quotes) or len(quotes) % len(starts):
        return 0
    step = len(quotes) // len(starts)
    alike = (quotes[::step] > starts).all() and (quotes[step - 1 :: step] < ends).all()
    return step if alike else 0


def _valid(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ""
