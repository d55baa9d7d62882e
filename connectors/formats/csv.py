"""CSV with a header (RFC 4180): commas, semicolons, tabs or bars; quoted cells may hold delimiters and newlines.

A chunk is the header line and then whole records; the header is not counted in offsets. A cell is text, an empty one
is absent, and `value` is read as a number. Without a column or mapping for `time`, `timestamp` is taken for it.

A line with an odd number of quotation marks begins a record of several lines, which ends with the next such line. A
stray mark must not swallow the file, so a record has at most MAX_RECORD bytes; where that is not enough, the line is
a bad record of its own and the next line starts afresh.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connectors.formats import spans
from connectors.formats.columns import rows_and_rejects
from connectors.formats.record import rejects_of
from connectors.formats.spans import Ints
from connectors.formats.types import Decoded, DecodeOptions

MAX_RECORD = 1 << 20
DELIMITERS = (",", ";", "\t", "|")
_QUOTE = 0x22


def decode(chunk: bytes, options: DecodeOptions) -> Decoded:
    """The events of a header line and whole records."""
    header, _, body = chunk.partition(b"\n")
    names, delimiter = columns(header)
    found = _Records.of(body)
    texts, errors = _texts(body, found)
    offsets = pl.arange(len(texts), eager=True, dtype=pl.Int64)
    good = texts.str.contains(r"\S") & ~offsets.is_in(list(errors))
    plain = good & ~found.quoted & (texts.str.count_matches(delimiter, literal=True) == max(len(names) - 1, 0))
    table = texts.filter(plain).str.split_exact(delimiter, max(len(names) - 1, 1)).struct.unnest()
    table = table.select(pl.nth(n).alias(name) for n, name in enumerate(names))
    rest = offsets.filter(good & ~plain).to_list()
    rows: list[list[str]] = []
    for offset in rest:
        try:
            rows.append(_cells(texts[offset], len(names), delimiter))
        except (csv.Error, ValueError) as error:
            errors[offset] = f"not valid CSV: {error}"
    if rest:
        slow = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
        table = pl.concat([table, slow])
    at = pl.concat([offsets.filter(plain), pl.Series([n for n in rest if n not in errors], dtype=pl.Int64)])
    order = at.arg_sort()
    frame, more = rows_and_rejects(table[order], _with_time(names, options), at[order], texts[at[order]])
    bad = sorted(errors)
    rejects = rejects_of(bad, [found.raw(body, n) for n in bad], [errors[n] for n in bad])
    return Decoded(frame, pl.concat([rejects, more]).sort("offset"), len(texts))


def cut(data: bytes) -> int:
    """Where the last record of `data` ends that is surely complete; `data` begins with a record."""
    end = data.rfind(b"\n") + 1
    found = _Records.of(data[:end])
    last = np.flatnonzero(found.unclosed)[-1:]
    # The rest of this record may be still to come.
    return int(found.starts[last[0]]) if len(last) and end - found.starts[last[0]] <= MAX_RECORD else end


def columns(header: bytes) -> tuple[list[str], str]:
    """The names in a header line, made unique, and the delimiter, the one that occurs most often."""
    text = header.decode(errors="replace").removeprefix("\ufeff").rstrip("\r\n")
    delimiter = max(DELIMITERS, key=text.count)
    names: list[str] = []
    for n, cell in enumerate(next(csv.reader([text], delimiter=delimiter), []), 1):
        name = cell.strip() or f"column {n}"
        names.append(name if name not in names else f"{name} {n}")
    return names, delimiter


@dataclass(frozen=True, slots=True)
class _Records:
    """Where n records lie in some bytes, line ends not included, and what is special about them."""

    starts: Ints
    ends: Ints
    quoted: pl.Series
    unclosed: NDArray[np.bool_]

    @staticmethod
    def of(body: bytes) -> _Records:
        data = np.frombuffer(body, np.uint8)
        starts, ends = spans.lines(data)
        if b'"' not in body:
            none = np.zeros(len(starts), np.bool_)
            return _Records(starts, ends, pl.Series(none), none)
        marks = np.flatnonzero(data == _QUOTE)
        counts = np.searchsorted(marks, ends) - np.searchsorted(marks, starts)
        odd = np.flatnonzero(counts % 2)
        first, unclosed = np.ones(len(starts), np.bool_), np.zeros(len(starts), np.bool_)
        last = np.arange(len(starts))
        at = 0
        while at < len(odd):  # once for each record of several lines
            begin, end = odd[at], odd[min(at + 1, len(odd) - 1)]
            if end > begin and ends[end] - starts[begin] < MAX_RECORD:
                first[begin + 1 : end + 1] = False
                last[begin] = end
                at += 2
            else:
                unclosed[begin] = True
                at += 1
        quoted = pl.Series((counts > 0)[first])
        return _Records(starts[first], ends[last[first]], quoted, unclosed[first])

    def raw(self, body: bytes, n: int) -> bytes:
        return body[self.starts[n] : self.ends[n]]


def _texts(body: bytes, found: _Records) -> tuple[pl.Series, dict[int, str]]:
    """The records as text, and what is wrong with those that cannot be taken apart: index -> reason."""
    errors = {int(n): "not valid CSV: a quotation mark is not closed" for n in np.flatnonzero(found.unclosed)}
    data = np.frombuffer(body, np.uint8)
    if body.isascii() or spans.is_utf8(data):
        return spans.text(data, (found.starts, found.ends)).str.strip_chars_end("\r"), errors
    texts = []
    for n in range(len(found.starts)):
        raw = found.raw(body, n)
        texts.append(raw.decode(errors="replace").rstrip("\r"))
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            errors[n] = f"not valid UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}"
    return pl.Series(texts, dtype=pl.String), errors


def _cells(text: str, width: int, delimiter: str) -> list[str]:
    cells = next(csv.reader([text], delimiter=delimiter, strict=True))
    if len(cells) != width:
        raise ValueError(f"{len(cells)} cells, but the header has {width}")
    return cells


def _with_time(names: list[str], options: DecodeOptions) -> DecodeOptions:
    if "time" in names or "time" in options.mapping or "timestamp" not in names:
        return options
    return replace(options, mapping={"time": "$.timestamp", **options.mapping})
