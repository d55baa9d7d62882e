"""A record as a line of the log: the body as it came, with the log's own members behind it.

`{<the client's members>,"workspace":"<id>","ingested_at":"2026-01-31T08:30:00.123456Z"}` and a newline. Of a name that
stands twice in a JSON object the last one counts, so nothing a client sends can take the place of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter

import orjson

from connectors.formats import times

_EPOCH = datetime(1970, 1, 1)
_STAMP = b'"ingested_at":"'
PIECE = 1000  # bodies
SMALL = 128 << 10  # bytes
_OPEN, _LAST = itemgetter(slice(None, -1)), itemgetter(-1)  # a body without its closing brace, and its last byte
END = b'Z"}\n'  # how every line ends


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines, and how many."""

    text: bytes
    records: int


def lines(bodies: Sequence[bytes], workspace: str, at: int) -> list[Lines]:
    """The lines of bodies that are accepted at `at` (µs). Raises ValueError where a body is not one line of an object.

    A piece at a time, so that the second look at it finds it in the processor's cache: 0.2 µs a body.
    """
    behind = b',"workspace":%b,%b%b"}\n' % (orjson.dumps(workspace), _STAMP, stamp(at).encode())
    return [_piece(bodies[n : n + PIECE], behind) for n in range(0, len(bodies), PIECE)]


def _piece(bodies: Sequence[bytes], behind: bytes) -> Lines:
    text = behind.join([*map(_OPEN, bodies), b""])
    if not all(bodies) or bytes(map(_LAST, bodies)).count(b"}") != len(bodies) or text.count(b"\n") != len(bodies):
        raise ValueError("a record must be one JSON object without line breaks")
    return Lines(text, len(bodies))


def merged(pieces: Sequence[Lines]) -> list[Lines]:
    """The same lines in fewer pieces: small ones are put together."""
    if len(pieces) < 2:
        return list(pieces)
    found: list[Lines] = []
    small: list[Lines] = []
    size = 0
    for piece in pieces:
        if size + len(piece.text) > SMALL and small:
            found.append(_joined(small))
            small, size = [], 0
        small.append(piece)
        size += len(piece.text)
    return [*found, _joined(small)]


def _joined(pieces: list[Lines]) -> Lines:
    if len(pieces) == 1:
        return pieces[0]
    return Lines(b"".join([piece.text for piece in pieces]), sum(piece.records for piece in pieces))


def stamp(at: int) -> str:
    """µs since 1970 as RFC 3339 with six digits."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds") + "Z"


def ingested_at(line: bytes) -> int | None:
    """When a line was accepted, in µs; None where it is no whole line of the log."""
    head, found, rest = line.rpartition(_STAMP)
    if not found or not rest.endswith(END) or not head.startswith(b"{"):
        return None
    return times.parse(rest[: -len(END) + 1].decode(errors="replace"))
