"""Two ways of decoding JSON lines held equal: the fast one, and the definition, line by line."""

from __future__ import annotations

from polars.testing import assert_frame_equal

from connectors.formats.jsonl import decode, decode_line
from connectors.formats.record import Reject, frame_of, rejects_of
from connectors.formats.types import Decoded, DecodeOptions


def one_by_one(chunk: bytes, options: DecodeOptions) -> Decoded:
    """The definition: every line on its own."""
    lines = chunk.split(b"\n")
    if not lines[-1]:
        lines.pop()
    good, bad = [], []
    for offset, line in enumerate(lines):
        try:
            row = decode_line(line, options)
        except Reject as error:
            bad.append((offset, line, str(error)))
        else:
            if row is not None:
                good.append((offset, row))
    frame = frame_of([offset for offset, _ in good], [row for _, row in good])
    rejects = rejects_of([b[0] for b in bad], [b[1] for b in bad], [b[2] for b in bad])
    return Decoded(frame, rejects, len(lines))


def check(chunk: bytes, options: DecodeOptions) -> Decoded:
    """What the fast way gives, which is what the definition gives."""
    found, expected = decode(chunk, options), one_by_one(chunk, options)
    assert_frame_equal(found.frame, expected.frame, check_exact=True)
    assert_frame_equal(found.rejects, expected.rejects)
    assert found.records == expected.records
    return found
