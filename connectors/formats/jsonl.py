"""JSON Lines: one JSON object a line -> DECODED rows.

What a line means is defined in record.py, one line at a time. Lines that are plainly good are decoded by a compiled
scanner instead (scanner/), with the same result; every line that it is not sure of comes back here. Loading the scanner
takes as long as some ten thousand lines one by one, so it waits until there was that much.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from threading import Lock

import msgspec
import orjson
import polars as pl

from connectors.formats import paths
from connectors.formats.record import Reader, Reject, Row, frame_of, rejects_of
from connectors.formats.types import Decoded, DecodeOptions

BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r"
WORTHWHILE = 2048  # bytes; a smaller chunk is decoded one by one just as fast
LOADING = 2 << 20  # bytes; decoded one by one before the scanner is loaded

# Plainly good rows, the other lines with their positions, and how many lines there are; None: not for the scanner.
_Scanned = tuple[pl.DataFrame, list[tuple[int, bytes]], int]
_Scan = Callable[[bytes, DecodeOptions], _Scanned | None]

NO_REJECTS = rejects_of([], [], [])
_parse = msgspec.json.Decoder().decode
_LONG_INTEGER = re.compile(rb"[0-9]{309}")


def decode(chunk: bytes, options: DecodeOptions) -> Decoded:
    """Decode a chunk of whole lines. Blank lines count as positions and give nothing."""
    scan = _scanner.of(len(chunk))
    found = _scanned(chunk, options, scan) if scan else None
    if found is None:
        whole = chunk.removesuffix(b"\n").split(b"\n") if chunk else []
        return Decoded(*_one_by_one(list(enumerate(whole)), options), len(whole))
    frame, left, records = found
    rejects = NO_REJECTS
    if left:
        single, rejects = _one_by_one(left, options)
        frame = pl.concat([frame, single]).sort("offset") if len(single) else frame
    return Decoded(frame, rejects, records)


def warm() -> None:
    """Load the scanner, in half a second; where none was kept compile it first, in some ten, and keep it."""
    _scanner.load()


class _Scanner:
    """The scanner, once it is worth its loading. Several threads may ask; counting need not be exact."""

    def __init__(self) -> None:
        self.scan: _Scan | None = None
        self.unscanned = 0  # bytes decoded without it
        self._loading = Lock()

    def of(self, size: int) -> _Scan | None:
        """The scanner for a chunk of so many bytes, None where it is not worth it, or not there yet."""
        if size < WORTHWHILE:
            return None
        if self.scan is None:
            self.unscanned += size
            if self.unscanned >= LOADING:
                self.load()
        return self.scan

    def load(self) -> None:
        """Load it, unless somebody else is about to: nobody needs to wait for it."""
        if self.scan is not None or not self._loading.acquire(blocking=False):
            return
        try:
            from connectors.formats.scanner import frames

            frames.decode(b'{"time":"2026-01-31T08:30:00Z","source":"a","type":"b"}\n', DecodeOptions())
            self.scan = frames.decode
        finally:
            self._loading.release()


_scanner = _Scanner()


def _scanned(chunk: bytes, options: DecodeOptions, scan: _Scan) -> _Scanned | None:
    end = chunk.rfind(b"\n") + 1
    found = scan(chunk[:end], options) if end else None
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
