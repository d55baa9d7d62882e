"""JSON Lines: one JSON object a line -> DECODED rows.

What a line means is defined in record.py, one line at a time. Here whole groups of lines are decoded at once: lines of
one shape (shapes.py) are proved by a regular expression to be valid and alike, and then cut into columns. Every line
that no shape claims, or that a column is not sure of, is decoded by record.py, so both ways give the same rows.
Shapes met lately are remembered for each thread, which makes it faster and never changes a result.
"""

from __future__ import annotations

import threading

import numpy as np
import orjson
import polars as pl

from connectors.formats import paths, shaped
from connectors.formats.lines import Lines
from connectors.formats.record import Reject, Row, frame_of, rejects_of, row_of
from connectors.formats.shapes import Shape, learn
from connectors.formats.spans import Ints
from connectors.formats.types import Decoded, DecodeOptions

BOM = b"\xef\xbb\xbf"
SPACE = b" \t\r"
WORTHWHILE = 64  # lines; fewer are decoded one by one just as fast
REMEMBERED = 16  # shapes
ATTEMPTS = 16  # lines looked at in vain before the rest of a chunk is decoded one by one

NO_REJECTS = rejects_of([], [], [])
_recent = threading.local()


def decode(chunk: bytes, options: DecodeOptions) -> Decoded:
    """Decode a chunk of whole lines. Blank lines count as positions and give nothing."""
    lines = Lines.of(chunk)
    frames: list[pl.DataFrame] = []
    rest = np.flatnonzero(lines.ends > lines.starts)
    if len(rest) >= WORTHWHILE:
        frames, rest = _by_shape(lines, rest, options)
    rejects = NO_REJECTS
    if len(rest) or not frames:
        single, rejects = _one_by_one(lines, rest, options)
        frames.append(single)
    frame = frames[0] if len(frames) == 1 else pl.concat(frames).sort("offset")
    return Decoded(frame, rejects, len(lines.starts))


def decode_line(line: bytes, options: DecodeOptions) -> Row | None:
    """The row of one line, None where it is blank. Raises Reject."""
    text = line.removeprefix(BOM).strip(SPACE)
    if not text:
        return None
    try:
        value = orjson.loads(text)
        if not isinstance(value, dict):
            raise Reject(f"a JSON object is expected, this is {_named(value)}")
        return row_of(paths.members(text), options)
    except orjson.JSONDecodeError as error:
        raise Reject(f"not valid JSON: {error}") from None
    except RecursionError:
        raise Reject("not usable JSON: nested too deeply") from None


def _one_by_one(lines: Lines, rows: Ints, options: DecodeOptions) -> tuple[pl.DataFrame, pl.DataFrame]:
    good: list[tuple[int, Row]] = []
    bad: list[tuple[int, bytes, str]] = []
    for offset in rows.tolist():
        raw = lines.raw(offset)
        try:
            row = decode_line(raw, options)
        except Reject as error:
            bad.append((offset, raw, str(error)))
        else:
            if row is not None:
                good.append((offset, row))
    rejects = rejects_of([offset for offset, _, _ in bad], [raw for _, raw, _ in bad], [error for _, _, error in bad])
    return frame_of([offset for offset, _ in good], [row for _, row in good]), rejects


def _by_shape(lines: Lines, rows: Ints, options: DecodeOptions) -> tuple[list[pl.DataFrame], Ints]:
    """Frames of the lines that have a shape, and the rows that are left, ascending."""
    rigid = any(paths.is_path(target) and len(paths.steps(target)) > 1 for target in options.mapping.values())
    texts = lines.texts()
    frames: list[pl.DataFrame] = []
    left: list[Ints] = []

    def claim(shape: Shape, rest: Ints) -> tuple[int, Ints]:
        matches = (texts if len(rest) == len(texts) else texts.gather(rest)).str.contains(shape.pattern).to_numpy()
        claimed = rest if matches.all() else rest[matches]
        if len(claimed) < WORTHWHILE:
            return 0, rest
        try:
            frame, good = shaped.decode(shape, lines, claimed, options)
            frames.append(frame)
            left.append(claimed[~good])
        except shaped.Unsupported:
            left.append(claimed)
        return len(claimed), rest[~matches]

    known = _known(rigid)
    yields: dict[Shape, int] = {}
    for shape in known:
        if len(rows) >= WORTHWHILE:
            yields[shape], rows = claim(shape, rows)
    attempts = 0
    while len(rows) >= WORTHWHILE and attempts < ATTEMPTS:
        learned = _learned(lines.raw(int(rows[0])), rigid)
        claimed = 0
        if learned is not None and learned not in yields:
            claimed, rows = claim(learned, rows)
        if learned is not None and claimed:
            yields[learned] = claimed
        else:
            attempts += 1
            left.append(rows[:1])
            rows = rows[1:]
    known.sort(key=lambda shape: -yields.get(shape, 0))
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
