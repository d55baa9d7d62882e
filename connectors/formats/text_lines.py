"""A chunk of bytes as a column of lines, shared by the formats whose records are plain text lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from connectors.formats import record, spans
from connectors.formats.types import REJECTS
from operators.events import RAW_LIMIT


@dataclass(frozen=True, slots=True)
class TextLines:
    """`frame`: offset (index in the chunk) and raw (the line without its end), blank lines left out.

    `rejects`: REJECTS, the lines that are no UTF-8. `records`: all lines, good, bad and blank.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    records: int


def split(chunk: bytes) -> TextLines:
    """The lines of a chunk; `\\n` and `\\r\\n` end a line, the last one may go without."""
    chunk, rejects = without_invalid(chunk)
    data = np.frombuffer(chunk, np.uint8)
    raw = spans.text(data, spans.lines(data)).str.strip_chars_end("\r").alias("raw")
    frame = pl.DataFrame({"offset": pl.arange(len(raw), eager=True, dtype=pl.Int64), "raw": raw})
    return TextLines(frame.filter(pl.col("raw").str.contains(r"\S")), rejects, len(raw))


def without_invalid(chunk: bytes) -> tuple[bytes, pl.DataFrame]:
    """The chunk with those lines emptied that are no UTF-8, and these lines as REJECTS."""
    if chunk.isascii() or spans.is_utf8(np.frombuffer(chunk, np.uint8)):
        return chunk, pl.DataFrame(schema=REJECTS)
    lines = chunk.split(b"\n")
    offsets, raws, errors = [], [], []
    for offset, line in enumerate(lines):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            offsets.append(offset)
            raws.append(line)
            errors.append(f"not valid UTF-8: byte 0x{line[error.start]:02x} at position {error.start}")
            lines[offset] = b""
    return b"\n".join(lines), record.rejects_of(offsets, raws, errors)


def rejected(frame: pl.DataFrame, error: pl.Expr) -> pl.DataFrame:
    """REJECTS of `frame` (with offset and raw), one for each row, `error` saying why."""
    rejects = frame.select("offset", "raw", error.alias("error"))
    if rejects.filter(pl.col("raw").str.len_bytes() > RAW_LIMIT).is_empty():
        return rejects
    return record.rejects_of(rejects["offset"].to_list(), rejects["raw"].to_list(), rejects["error"].to_list())
