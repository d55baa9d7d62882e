"""The directory of a log as one input: its segments read one after the other, as far as they are whole.

Guarantee: what was there when the partition was first opened is read, up to the last newline; a service may go on
writing behind it. Archived segments are left out: records then begin at the first offset that is there.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from connectors.compression import Unreadable
from connectors.log_segments import segment_firsts, segment_path

NAME = "log"  # of its partition, in a replay as in the service
_TAIL = 64 << 10


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment: its file, and the bytes of all segments before it and before its end."""

    path: Path
    begins: int
    ends: int


def is_log(path: str | Path) -> bool:
    """Whether a path is a directory with segments of a log."""
    return os.path.isdir(path) and bool(segment_firsts(Path(path)))


def log_size(directory: Path) -> int:
    """Bytes of whole records. Raises OSError."""
    parts = _parts(directory, segment_firsts(directory))
    return parts[-1].ends if parts else 0


class LogInput:
    """The bytes of all segments, in order. `first`: the offset of the first record; `size`: bytes in all.

    It reads like a file: `read`, `seek`, `consumed`.
    """

    is_stream = False
    is_plain = True

    def __init__(self, directory: Path, first: int | None = None, size: int | None = None) -> None:
        """`first`, `size`: as it was when it was first opened. Raises OSError, Unreadable where that is gone."""
        firsts = segment_firsts(directory)
        self.first = first if first is not None else next(iter(firsts), 0)
        if self.first not in firsts:
            raise Unreadable(f"the segment {segment_path(directory, self.first).name} is gone: put it back")
        self._parts = _parts(directory, [n for n in firsts if n >= self.first])
        whole = self._parts[-1].ends
        self.size = whole if size is None else size
        if whole < self.size:
            raise Unreadable(f"the log shrank from {self.size:,} to {whole:,} bytes")
        self.consumed = 0
        self._file: IO[bytes] | None = None
        self._open: _Part | None = None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, b"" at the end. Raises Unreadable."""
        left = min(size, self.size - self.consumed)
        if left <= 0:
            return b""
        part = self._parts[bisect_right([part.begins for part in self._parts], self.consumed) - 1]
        try:
            if part is not self._open or self._file is None:
                self.close()
                self._file, self._open = open(part.path, "rb", buffering=0), part  # noqa: SIM115 - see close
                self._file.seek(self.consumed - part.begins)
            block = self._file.read(min(left, part.ends - self.consumed))
        except OSError as error:
            raise Unreadable(f"reading {part.path.name} failed: {error.strerror}") from error
        if not block:
            raise Unreadable(f"{part.path.name} shrank while it was read")
        self.consumed += len(block)
        return block

    def seek(self, at: int) -> None:
        """Go on at byte `at` of all."""
        self.close()
        self.consumed = at

    def close(self) -> None:
        """Let go of the open segment."""
        if self._file is not None:
            self._file.close()
        self._file = self._open = None


def _parts(directory: Path, firsts: list[int]) -> list[_Part]:
    """The segments with records, the last one up to its last newline; one empty part where there are none."""
    parts: list[_Part] = []
    at = 0
    for first in firsts:
        path = segment_path(directory, first)
        size = _whole(path) if first == firsts[-1] else path.stat().st_size
        if size or (first == firsts[-1] and not parts):
            parts.append(_Part(path, at, at + size))
        at += size
    return parts


def _whole(path: Path) -> int:
    """Bytes of a file up to its last newline."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - _TAIL)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0
