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
    if len(chunk) < SMALL and chunk.count(b"\n") < WORTHWHILE:
        whole = chunk.removesuffix(b"\n").split(b"\n") if chunk else []
        return Decoded(*_one_by_one(list(enumerate(whole)), options), len(whole))
    lines = Lines.of(chunk)
    frames: list[pl.DataFrame] = []
    rest = np.flatnonzero(lines.ends > lines.starts)
    frames, rest = _by_shape(lines, rest, options)
    rejects = NO_REJECTS
    if len(rest) or not frames:
        single, rejects = _one_by_one([(row, lines.raw(row)) for row in rest.tolist()], options)
        frames.append(single)
    frame = frames[0] if len(frames) == 1 else pl.concat(frames).sort("offset")
    return Decoded(frame, rejects, len(lines.starts))


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


def _by_shape(lines: Lines, rows: Ints, options: DecodeOptions) -> tuple[list[pl.DataFrame], Ints]:
    """Frames of the lines that have a shape, and the rows that are left, ascending."""
    rigid = any(paths.is_path(target) and len(paths.steps(target)) > 1 for target in options.mapping.values())
    frames: list[pl.DataFrame] = []
    left: list[Ints] = []
    texts = lines.texts()
    attempts = min(ATTEMPTS, 1 + len(rows) // 256)

    def matches(shape: Shape, rest: Ints) -> Mask:
        some = texts if len(rest) == len(texts) else texts.gather(rest)
        found: Mask = some.str.contains(shape.pattern).to_numpy()
        return found

    def claim(shape: Shape, rest: Ints) -> tuple[int, Ints]:
        sample = rest[:: len(rest) // SAMPLE + 1]
        large = len(rest) > 8 * SAMPLE
        if large and np.count_nonzero(matches(shape, sample)) * SHARE < len(sample):
            return 0, rest
        found = matches(shape, rest)
        claimed = rest if found.all() else rest[found]
        if len(claimed) < WORTHWHILE:
            return 0, rest
        try:
            frame, good = shaped.decode(shape, lines, claimed, options)
            frames.append(frame)
            left.append(claimed[~good])
        except shaped.Unsupported:
            left.append(claimed)
        return len(claimed), rest[~found]

    known, vain = _known(rigid), 0
    yields: dict[Shape, int] = {}
    for shape in known:
        if len(rows) < WORTHWHILE or vain >= 2 * attempts:
            break
        yields[shape], rows = claim(shape, rows)
        vain += not yields[shape]
    while len(rows) >= WORTHWHILE and attempts > 0:
        learned = _learned(lines.raw(int(rows[0])), rigid)
        claimed = 0
        if learned is not None and not yields.get(learned):
            claimed, rows = claim(learned, rows)
        if learned is not None and claimed:
            yields[learned] = claimed
        else:
            attempts -= 1
            left.append(rows[:1])
            rows = rows[1:]
    _remember(rigid, known, yields)
    return frames, np.sort(np.concatenate([*left, rows]))


def _known(rigid: bool) -> list[Shape]:
    if not hasattr(_recent, "shapes"):
        _recent.shapes = {False: [], True: []}
    return list(_recent.shapes[rigid])


def _remember(rigid: bool, known: list[Shape], yields: dict[Shape, int]) -> None:
    """The shapes of this chunk by their share of it, then those that were known before."""
    ranked = sorted(yields, key=lambda shape: -yields[shape])
    untried = [shape for shape in known if shape not in yields]
    _recent.shapes[rigid] = (ranked + untried)[:REMEMBERED]


def _learned(line: bytes, rigid: bool) -> Shape | None:
    try:
        text = line.decode()
        return learn(text, rigid) if isinstance(orjson.loads(text), dict) else None
    except (ValueError, RecursionError):
        return None


def _named(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
