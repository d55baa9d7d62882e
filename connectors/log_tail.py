"""The latest lines of the log in memory, up to a number of bytes; what is older is read from the files."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from connectors.log_lines import Lines
from connectors.log_segments import Slice

OVERHEAD = 200  # bytes that a piece costs beside its lines


@dataclass(frozen=True, slots=True)
class Cuttings:
    """Parts of pieces that make up a slice; joined outside the lock."""

    first: int
    parts: tuple[memoryview, ...]

    def joined(self) -> Slice:
        """The slice."""
        lines = b"".join(self.parts)
        return Slice(self.first, lines, lines.count(b"\n"))


class Tail:
    """Pieces of lines in order. Used under the log's lock. `next`: the offset behind them."""

    def __init__(self, next_offset: int, most: int) -> None:
        self.next = next_offset
        self._most = most
        self._held = 0
        self._firsts: list[int] = []
        self._pieces: list[bytes] = []
        self._gone = 0  # pieces at the front of the lists that were let go
        self._cursor = (-1, 0)  # (offset, byte in its piece) where the last slice ended inside a piece

    def add(self, lines: Lines) -> None:
        """Add lines, and let go of the oldest where there is too much."""
        self._firsts.append(self.next)
        self._pieces.append(lines.text)
        self._held += len(lines.text) + OVERHEAD
        self.next += lines.records
        while self._held > self._most and self._gone < len(self._pieces) - 1:
            self._held -= len(self._pieces[self._gone]) + OVERHEAD
            self._pieces[self._gone] = b""
            self._gone += 1
        if self._gone > 1000 and self._gone * 2 > len(self._pieces):
            del self._firsts[: self._gone], self._pieces[: self._gone]
            self._gone = 0

    def cut(self, offset: int, most: int) -> Cuttings | None:
        """Lines from `offset` on, up to `most` bytes but at least one line; None where they are no longer here."""
        n = bisect_right(self._firsts, offset) - 1
        if n < self._gone or offset >= self.next:
            return None
        begin = self._begin(n, offset)
        left = most
        parts: list[memoryview] = []
        while n < len(self._pieces) and left > 0:
            piece = self._pieces[n]
            end = len(piece)
            if end - begin > left:
                end = piece.rfind(b"\n", begin, begin + left) + 1
                if not end and not parts:
                    end = piece.index(b"\n", begin) + 1
                if end:
                    parts.append(memoryview(piece)[begin:end])
                    before = offset if len(parts) == 1 else self._firsts[n]
                    self._cursor = (before + piece.count(b"\n", begin, end), end)
                break
            parts.append(memoryview(piece)[begin:end])
            left -= end - begin
            n, begin = n + 1, 0
        return Cuttings(offset, tuple(parts))

    def _begin(self, n: int, offset: int) -> int:
        """The byte of piece `n` at which the line `offset` begins."""
        skip = offset - self._firsts[n]
        if not skip:
            return 0
        if self._cursor[0] == offset:
            return self._cursor[1]
        ends = np.flatnonzero(np.frombuffer(self._pieces[n], np.uint8) == 10)
        return int(ends[skip - 1]) + 1
