"""JSON Lines: one JSON object a line -> DECODED rows.

What a line means is defined in record.py, one line at a time. Here whole groups of lines are decoded at once: lines of
one shape (shapes.py) are proved by a regular expression to be valid and alike, and then cut into columns. Every line
that no shape claims, or that a column is not sure of, is decoded by record.py, so both ways give the same rows.
Shapes met lately are remembered for each thread, which makes it faster and never changes a result.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import msgspec
import numpy as np
import orjson
import polars as pl

from connectors.formats import paths, shaped
from connectors.formats.lines import Lines
from connectors.formats.record import Reader, Reject, Row, frame_of, rejects_of
from connectors.formats.shapes import Shape, learn
from connectors.formats.spans import Ints, Mask
from connectors.formats.types import Decoded, DecodeOptions

BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r"
WORTHWHILE = 128  # lines; fewer are decoded one by one just as fast
SMALL = 1 << 18  # bytes; a larger chunk is not counted before it is taken apart
REMEMBERED = 64  # shapes
ATTEMPTS = 16  # lines looked at in vain before the rest of a chunk is decoded one by one
SAMPLE, SHARE = 256, 64  # a shape is tried on all lines where at least one in 64 of a sample of 256 has it

NO_REJECTS = rejects_of([], [], [])
_parse = msgspec.json.Decoder().decode
_LONG_INTEGER = re.compile(rb"[0-9]{309}")
_recent = threading.local()


def decode(chunk: bytes, options: DecodeOptions) -> Decoded:
    """Decode a chunk of whole lines. Blank lines count as positions and give nothing."""
    found = _scanned(chunk, options)
    if found is None:
        whole = chunk.removesuffix(b"\n").split(b"\n") if chunk else []
        return Decoded(*_one_by_one(list(enumerate(whole)), options), len(whole))
    frame, left, records = found
    if not left:
        return Decoded(frame, NO_REJECTS, records)
    single, rejects = _one_by_one(left, options)
    if len(single):
        frame = pl.concat([frame, single]).sort("offset")
    return Decoded(frame, rejects, records)


def _scanned(chunk: bytes, options: DecodeOptions) -> tuple[pl.DataFrame, list[tuple[int, bytes]], int] | None:
    from connectors.formats import scanned

    end = chunk.rfind(b"\n") + 1
    found = scanned.decode(chunk[:end], options) if end else None
    if found is None or end == len(chunk):
        return found
    frame, left, records = found
    return frame, [*left, (records, chunk[end:])], records + 1


def decode_line(line: bytes, options: DecodeOptions) -> Row | None:
    """The row of one line, None where it is blank. Raises Reject."""
    return _line(line, Reader(options))


def _line(line: bytes, reader: Reader) -> Row | None:
    try:
        values = _parse(line)
        # Where orjson, which defines what is valid, does not take an integer of any length:
        good = type(values) is dict and (len(line) < 309 or _LONG_INTEGER.search(line) is None)
        if good:
            return reader.row(values, lambda: paths.raws(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return _odd_line(line, reader)


def _odd_line(line: bytes, reader: Reader) -> Row | None:
    """`_line` for those that are blank, not valid, or not sure to be."""
    text = line.removeprefix(BOM).strip(SPACE)
    if not text:
        return None
    try:
        value = orjson.loads(text)
        if not isinstance(value, dict):
            raise Reject(f"a JSON object is expected, this is {_named(value)}")
        fields = paths.raws(text)
        return reader.row(value, lambda: fields)
    except orjson.JSONDecodeError as error:
        raise Reject(f"not valid JSON: {error}") from None
    except RecursionError:
        raise Reject("not usable JSON: nested too deeply") from None


def _one_by_one(lines: Sequence[tuple[int, bytes]], options: DecodeOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows and the rejects of lines given with their positions."""
    reader = Reader(options)
    offsets: list[int] = []
    rows: list[Row] = []
    bad: list[tuple[int, bytes, str]] = []
    for offset, line in lines:
        try:
            row = _line(line, reader)
        except Reject as error:
            bad.append((offset, line, str(error)))
        else:
            if row is not None:
                rows.append(row)
                offsets.append(offset)
    rejects = rejects_of(*zip(*bad, strict=True)) if bad else NO_REJECTS
    return frame_of(offsets, rows), rejects


def _named(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
