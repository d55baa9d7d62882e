"""A chunk of JSON lines as DECODED rows, by the compiled scanner.

The texts of columns in LARGE are not copied: such a column keeps the whole chunk alive. Who holds on to a few rows of
it for long must copy them, for instance by writing them down or through `to_list`. The other columns are held by who
waits for matches, and so do without the chunk: that halves the memory of a replay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from connectors.formats import spans
from connectors.formats.record import ALWAYS, TIMES
from connectors.formats.scanner.grammar import LF
from connectors.formats.scanner.scan import scan
from connectors.formats.scanner.tables import SEEN, Bytes, Floats, Ints, Mask
from connectors.formats.scanner.wanted import Search, search
from connectors.formats.types import DecodeOptions
from operators.events import DECODED

LARGEST = 2**30 - 1  # bytes; a view addresses twice as many, which is what `made` may take

LARGE = ("message", "attributes")
INLINE = 12  # bytes; a text up to this length is within its view


def decode(chunk: bytes, options: DecodeOptions) -> tuple[pl.DataFrame, list[tuple[int, bytes]], int] | None:
    """The rows of plainly good lines, the other lines (position, text) but blank ones, and how many lines there are.

    None where the options or the chunk are not for the scanner. The last line ends with a line feed.
    """
    wanted = search(options)
    if wanted is None or len(chunk) > LARGEST:
        return None
    rows = _scanned(chunk, wanted)
    left = [(line, chunk[start:end]) for line, start, end in rows.left.tolist()]
    return _frame(chunk, wanted, rows, options), left, rows.records


@dataclass(frozen=True, slots=True)
class _Rows:
    """What `scan` wrote, cut to n rows; see there. `filled`: how many values of each column are not null."""

    lines: Ints
    left: Ints
    cells: Ints
    numbers: Floats
    given: Mask
    made: Bytes
    filled: Ints
    records: int


def _scanned(chunk: bytes, wanted: Search) -> _Rows:
    data = np.frombuffer(chunk, np.uint8)
    words = np.ndarray(max(len(data) - 7, 0), np.uint64, chunk, strides=1)  # the eight bytes from every place on
    height, width = np.count_nonzero(data == LF), len(wanted.columns)
    # Pages that are not written to take no memory.
    lines, left = np.empty(height, np.int64), np.empty((height, 3), np.int64)
    cells, numbers = np.empty((width, height, 2), np.int64), np.empty(height, np.float64)
    given, made = np.empty((width, height), np.bool_), np.empty(2 * len(chunk), np.uint8)
    notes = np.zeros(1, SEEN)
    records = scan(data, words, wanted.tables, notes, lines, left, cells, numbers, given, made)
    seen = notes[0]
    n = int(seen.rows)
    return _Rows(
        lines[:n],
        left[: seen.left],
        cells[:, :n],
        numbers[:n],
        given[:, :n],
        made[: seen.used].copy(),  # lives as long as the texts, the rest need not
        seen.filled,
        records,
    )


def _frame(chunk: bytes, wanted: Search, rows: _Rows, options: DecodeOptions) -> pl.DataFrame:
    kept = ALWAYS | options.columns
    constants: dict[str, str | None] = {"workspace": options.workspace, "stream": options.default_stream}
    constants |= wanted.literals
    place = {name: column for column, name in enumerate(wanted.columns) if name in kept and rows.filled[column]}
    columns = [pl.Series("offset", rows.lines)]
    for name, dtype in DECODED.items():
        constant = constants.get(name) if name in kept else None
        if name in place:
            series = _series(name, place[name], rows, chunk)
            columns.append(series.fill_null(constant) if constant is not None and series.null_count() else series)
        elif name != "offset":
            columns.append(pl.Series(name, [constant], dtype).new_from_index(0, len(rows.lines)))
    return pl.DataFrame(columns)


def _series(name: str, column: int, rows: _Rows, chunk: bytes) -> pl.Series:
    """A column of which at least one value is given."""
    height = len(rows.lines)
    cells, given = rows.cells[column], None
    if rows.filled[column] < height:
        given = pa.py_buffer(np.packbits(rows.given[column], bitorder="little"))
    if name in TIMES:
        times = pa.py_buffer(np.ascontiguousarray(cells[:, 0]))
        return pl.Series(name, pa.Array.from_buffers(pa.timestamp("us", "UTC"), height, [given, times]))
    if name == "value":
        numbers = pa.py_buffer(_numbers(cells, rows.numbers, rows.given[column], chunk))
        return pl.Series(name, pa.Array.from_buffers(pa.float64(), height, [given, numbers]))
    if cells.view(np.int32)[:, 0].max() <= INLINE:
        return pl.Series(name, pa.Array.from_buffers(pa.string_view(), height, [given, pa.py_buffer(cells)]))
    views = [given, pa.py_buffer(cells), pa.py_buffer(chunk), pa.py_buffer(rows.made)]
    texts = pa.Array.from_buffers(pa.string_view(), height, views)
    return pl.Series(name, texts if name in LARGE else texts.cast(pa.large_string()))


def _numbers(cells: Ints, numbers: Floats, given: Mask, chunk: bytes) -> Floats:
    """The numbers, with those read from their text that the scanner could not tell exactly."""
    hard = np.flatnonzero(given & np.isnan(numbers))
    if len(hard):
        texts = spans.text(np.frombuffer(chunk, np.uint8), (cells[hard, 0], cells[hard, 1]))
        numbers[hard] = texts.cast(pl.Float64).to_numpy()
    return numbers
