"""A message with frames in it: a JSON object that says what it is, and columns as Arrow streams.

    4 bytes   length of the JSON object, big-endian
    JSON      {..., "frames": [["incidents", 1234], ...]}: names and sizes of what follows
    frames    Arrow IPC streams, one after the other; frames without rows are left out

Messages that are too large for a topic are cut into pieces; `Pieces` puts them together again, also where those of two
senders mix, one of which is dead and does not know it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import uuid4

import orjson
import polars as pl

PIECE = 8 << 20
SENDERS = 4  # of which unfinished messages are kept
_COMPRESSED = 1_000  # rows from which compression is worth its time
PIECE_HEADER = "tocsin.piece"
# What bytes that are no envelope make their readers raise.
_UNUSABLE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
    pl.exceptions.PanicException,
    pl.exceptions.PolarsError,
)


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
    except _UNUSABLE as wrong:
        raise ValueError(f"not a message of results: {wrong}") from None
    return Envelope(meta, frames)


def pieces(message: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The message in pieces, each with the value of its header: its number, how many there are, of which message."""
    count = max(-(-len(message) // PIECE), 1)
    whose = uuid4().hex.encode() if count > 1 else b""
    for n in range(count):
        yield b"%d/%d/%b" % (n + 1, count, whose), message[n * PIECE : (n + 1) * PIECE]


class Pieces:
    """Puts messages together. What was begun and never finished, because its sender died, is forgotten."""

    def __init__(self) -> None:
        self._held: dict[bytes, list[bytes]] = {}  # in the order in which they were begun

    def add(self, header: bytes, piece: bytes) -> bytes | None:
        """Take the next piece; the whole message with its last one. Raises ValueError."""
        number, count, whose = _parsed(header)
        if count == 1:
            return piece
        if number == 1:
            self._held.pop(whose, None)
            while len(self._held) >= SENDERS:
                del self._held[next(iter(self._held))]
            self._held[whose] = []
        held = self._held.get(whose)
        if held is None or len(held) != number - 1:  # the rest of one whose beginning nobody saw
            return None
        held.append(piece)
        if number < count:
            return None
        del self._held[whose]
        return b"".join(held)


def _parsed(header: bytes) -> tuple[int, int, bytes]:
    """A piece's number, how many there are, and of which message. Raises ValueError."""
    try:
        first, second, whose = header.split(b"/")
        number, count = int(first), int(second)
    except ValueError:
        number = count = 0
    if not 1 <= number <= count:
        raise ValueError(f"not a message of results: its header says {header!r}")
    return number, count, whose
