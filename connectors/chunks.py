"""Bytes cut into chunks of whole lines, in bounded memory.

A chunk ends where a record ends. The first one is small, so that many partitions can be peeked at; the next ones
grow until the cost per chunk no longer counts. No loop here runs once per line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from connectors.compression import Read, Unreadable
from operators.events import RAW_LIMIT

MAX_LINE = 16 << 20
FIRST = 64 << 10
# Below MAX_LINE, so that only the first line of a chunk, begun in an earlier block, can be too long.
LARGEST = 10 << 20

# How many of the bytes are whole records: `cut(data) -> n`, 0 when not even one record is complete.
Cut = Callable[[bytes], int]


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes of the input: whole lines, or with `error` one record that is not to be decoded.

    `data` is those bytes; where there is an error only as much of them as a dead letter keeps.
    """

    data: bytes
    size: int
    error: str | None = None
    last: bool = False  # nothing after it can be read


def last_newline(data: bytes) -> int:
    """The cut of formats whose records are lines."""
    return data.rfind(b"\n") + 1


def pieces(read: Read, cut: Cut = last_newline, largest: int = LARGEST) -> Iterator[Piece]:
    """Everything `read` gives, in order: chunks of whole lines and, between them, what cannot be decoded.

    `largest`: bytes a chunk is allowed to grow to (one record may still be as long as MAX_LINE).
    """
    size = min(FIRST, largest)
    held = b""  # the beginning of a record that is not complete yet
    while True:
        block, broken = _gather(read, size)
        at_end = not block
        newline = block.find(b"\n")
        line = len(held) + newline if newline >= 0 else len(held) + len(block)  # of the first line, unless held has it
        if line > MAX_LINE and b"\n" not in held:
            raw = (held + block[:RAW_LIMIT])[:RAW_LIMIT]
            skipped, block, broken = _skip_line(read, size, len(held), block, newline, broken)
            held = b""
            yield Piece(raw, skipped, f"the line is longer than {MAX_LINE >> 20} MiB ({skipped:,} bytes)")
        whole, held = _cut(held, block, cut)
        if whole:
            yield Piece(whole, len(whole))
        if broken:
            yield Piece(held[:RAW_LIMIT], len(held), broken, last=True)
            return
        if at_end:
            if held:
                yield Piece(held, len(held))
            return
        size = min(size * 4, largest)


def _cut(held: bytes, block: bytes, cut: Cut) -> tuple[bytes, bytes]:
    """The whole records of `held` and `block`, and the rest. Copies each byte once where records are lines."""
    if cut is not last_newline:
        data = held + block
        end = cut(data)
        return data[:end], data[end:]
    end = block.rfind(b"\n") + 1
    if not end:
        return b"", held + block
    if not held and end == len(block):
        return block, b""
    return b"".join((held, memoryview(block)[:end])), block[end:]


def _gather(read: Read, size: int) -> tuple[bytes, str]:
    """At least `size` bytes unless the input ends, and why it cannot go on, if so."""
    blocks: list[bytes] = []
    missing = size
    try:
        while missing > 0 and (block := read(missing)):
            blocks.append(block)
            missing -= len(block)
    except Unreadable as error:
        return b"".join(blocks), str(error)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks), ""


def _skip_line(read: Read, step: int, held: int, block: bytes, newline: int, broken: str) -> tuple[int, bytes, str]:
    """Read on to the end of a line that is too long, keeping none of it: its size, what follows, why it broke off.

    `step`: bytes to read at a time; `held`: bytes of the line before `block`; `newline`: its end in `block`, or -1.
    """
    size = held
    while newline < 0 and block and not broken:
        size += len(block)
        block, broken = _gather(read, step)
        newline = block.find(b"\n")
    if newline < 0:
        return size + len(block), b"", broken
    return size + newline + 1, block[newline + 1 :], broken
