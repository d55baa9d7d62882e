"""A message with frames in it: a JSON object that says what it is, and columns as Arrow streams.

    4 bytes   length of the JSON object, big-endian
    JSON      {..., "frames": [["incidents", 1234], ...]}: names and sizes of what follows
    frames    Arrow IPC streams, one after the other; frames without rows are left out

Messages that are too large for a topic are cut into pieces; `Pieces` puts them together again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import orjson
import polars as pl

PIECE = 8 << 20
_COMPRESSED = 1_000  # rows from which compression is worth its time
PIECE_HEADER = "tocsin.piece"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a message says. frames: by name."""

    meta: Mapping[str, Any]
    frames: Mapping[str, pl.DataFrame] = field(default_factory=dict)


def packed(envelope: Envelope) -> bytes:
    """The envelope as bytes."""
    bodies: list[tuple[str, bytes]] = []
    for name, frame in envelope.frames.items():
        if frame.height:
            out = BytesIO()
            frame.write_ipc_stream(out, compression="zstd" if frame.height >= _COMPRESSED else "uncompressed")
            bodies.append((name, out.getvalue()))
    head = orjson.dumps({**envelope.meta, "frames": [(name, len(body)) for name, body in bodies]})
    return b"".join([len(head).to_bytes(4, "big"), head, *(body for _, body in bodies)])


def unpacked(message: bytes) -> Envelope:
    """The envelope in bytes. Raises ValueError where it is none."""
    try:
        size = int.from_bytes(message[:4], "big")
        meta: dict[str, Any] = orjson.loads(message[4 : 4 + size])
        frames, at = {}, 4 + size
        for name, length in meta.pop("frames"):
            frames[name] = pl.read_ipc_stream(BytesIO(message[at : at + length]))
            at += length
        if at != len(message):
            raise ValueError("it is cut off")
    except (orjson.JSONDecodeError, KeyError, TypeError, pl.exceptions.PolarsError, OSError) as wrong:
        raise ValueError(f"not a message of results: {wrong}") from None
    return Envelope(meta, frames)


def pieces(message: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The message in pieces, each with the value of its header: its number and how many there are."""
    count = max(-(-len(message) // PIECE), 1)
    for n in range(count):
        yield b"%d/%d" % (n + 1, count), message[n * PIECE : (n + 1) * PIECE]


class Pieces:
    """Puts messages together. What was begun and never finished, because its sender died, is forgotten."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def add(self, header: bytes, piece: bytes) -> bytes | None:
        """Take the next piece; the whole message with its last one. Raises ValueError."""
        try:
            number, count = map(int, header.split(b"/"))
        except ValueError:
            raise ValueError(f"not a message of results: its header says {header!r}") from None
        if number == 1:
            self._held = []
        if len(self._held) != number - 1:  # the rest of one whose beginning nobody saw
            return None
        if count == 1:
            return piece
        self._held.append(piece)
        if number < count:
            return None
        whole, self._held = b"".join(self._held), []
        return whole
