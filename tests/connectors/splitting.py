"""Decoding the same records in one chunk and in several: a file's chunks must not show in the result."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from connectors.formats import Format
from connectors.formats.types import Decoded, DecodeOptions
from operators.events import DECODED

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def joined(form: Format, chunks: Sequence[bytes], options: DecodeOptions) -> Decoded:
    """The chunks decoded one by one and put together as a reader's consumer does."""
    parts = [form.decode(chunk, options) for chunk in chunks]
    base = 0
    frames, rejects = [], []
    for part in parts:
        assert dict(part.frame.schema) == DECODED
        frames.append(part.frame.with_columns(pl.col("offset") + base))
        rejects.append(part.rejects.with_columns(pl.col("offset") + base))
        base += part.records
    return Decoded(pl.concat(frames), pl.concat(rejects), base)


def assert_split_does_not_show(form: Format, content: bytes, options: DecodeOptions, header: bytes = b"") -> Decoded:
    """Decode line by line, in pairs and at once; returns the result."""
    lines = content.splitlines(keepends=True)
    whole = form.decode(header + content, options)
    for step in (1, 2, 5):
        chunks = [header + b"".join(lines[n : n + step]) for n in range(0, len(lines), step)]
        split = joined(form, chunks, options)
        assert_frame_equal(split.frame, whole.frame)
        assert_frame_equal(split.rejects, whole.rejects)
        assert split.records == whole.records
    return whole
