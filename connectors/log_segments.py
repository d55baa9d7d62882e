"""The files of a log: named by the offset of their first record, found by offset, repaired after a crash.

`<first offset, 20 digits>.jsonl`, one record a line, offsets without gaps. A record is there when its newline is. What
a crash can leave behind is a part of the last group that was being written; `recovered` cuts it off.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectors.log_errors import LogDamaged
from connectors.log_lines import END, ingested_at

BLOCK = 1 << 20
_NAME = re.compile(r"[0-9]{20}\.jsonl")


@dataclass(frozen=True, slots=True)
class Slice:
    """Records of the log from offset `first` on. lines: whole ones, the last with its newline."""

    first: int
    lines: bytes
    records: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """The end of a log: bytes and records of its last segment, bytes cut off it, and the last stamp in it, µs."""

    size: int
    records: int
    ingested_at: int | None
    cut: int


def segment_path(directory: Path, first: int) -> Path:
    """The file whose first record has offset `first`."""
    return directory / f"{first:020d}.jsonl"


def segment_firsts(directory: Path) -> list[int]:
    """The first offsets of a directory's segments, ascending."""
    with os.scandir(directory) as entries:
        return sorted(int(entry.name[:20]) for entry in entries if _NAME.fullmatch(entry.name))


class SegmentReader:
    """A segment being read from any offset, by one thread at a time.

    Where lines begin is remembered sparsely, once a block, as far as somebody has read.
    """

    def __init__(self, path: Path, first: int) -> None:
        self._path = path
        self._offsets = [first]
        self._positions = [0]
        self._last = (first, 0)  # where the last slice ended: most readers go on there

    def read(self, offset: int, most: int, size: int) -> Slice:
        """Lines from `offset` on, of the first `size` bytes of the file: up to `most` bytes, but at least one line.

        Raises LogDamaged where they are not there.
        """
        try:
            with open(self._path, "rb", buffering=0) as file:
                at = self._position(file.fileno(), offset, size)
                data = self._lines(file.fileno(), at, most, size)
        except OSError as error:
            raise LogDamaged(f"{self._path}: {error.strerror}") from None
        records = data.count(b"\n")
        self._last = (offset + records, at + len(data))
        return Slice(offset, data, records)

    def _position(self, file: int, offset: int, size: int) -> int:
        """The byte at which the line `offset` begins."""
        n = bisect_right(self._offsets, offset) - 1
        at, position = max((self._offsets[n], self._positions[n]), self._last if self._last[0] <= offset else (-1, 0))
        while at < offset:
            block = self._lines(file, position, BLOCK, size)
            records = block.count(b"\n")
            if at + records > offset:
                ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
                return position + int(ends[offset - at - 1]) + 1
            at, position = at + records, position + len(block)
            if at > self._offsets[-1]:
                self._offsets.append(at)
                self._positions.append(position)
        return position

    def _lines(self, file: int, at: int, most: int, size: int) -> bytes:
        """Whole lines from byte `at` on, at least one."""
        while True:
            data = os.pread(file, min(most, size - at), at)
            end = data.rfind(b"\n") + 1
            if end:
                return data if end == len(data) else data[:end]
            if len(data) < most:
                raise LogDamaged(f"{self._path}: records are missing behind byte {at:,}")
            most *= 2


def recovered(path: Path) -> Recovered:
    """Cut what a crash has left at the end of the last segment, durably. Raises LogDamaged.

    That can be half a line, and after a power failure also zeros anywhere in the last group of records, because its
    pages are written in any order. Later groups behind it prove that it was acknowledged: then it is damage.
    """
    with open(path, "r+b", buffering=0) as file:
        good, records, last = 0, 0, b""
        size = os.fstat(file.fileno()).st_size
        while good < size:
            block = _block(file.fileno(), good)
            sound = _sound(block)
            if sound:
                records += block.count(b"\n", 0, sound)
                last = block[block.rfind(b"\n", 0, sound - 1) + 1 : sound]
            good += sound
            if sound < len(block) or not sound:
                break
        if good < size:
            _check_is_last_group(path, file.fileno(), good)
            os.ftruncate(file.fileno(), good)
            os.fsync(file.fileno())
    return Recovered(good, records, ingested_at(last), size - good)


def last_stamp(path: Path) -> int | None:
    """When the last record of a whole segment was accepted, in µs; None where it has no records."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        most = 64 << 10
        while True:
            file.seek(max(0, size - most))
            data = file.read()
            begin = data.rfind(b"\n", 0, -1) + 1
            if begin or most >= size:
                return ingested_at(data[begin:])
            most *= 4


def _block(file: int, at: int) -> bytes:
    """Bytes from `at` on: whole lines, unless the file ends in the middle of one."""
    most = BLOCK
    while True:
        data = os.pread(file, most, at)
        end = data.rfind(b"\n") + 1
        if len(data) < most or end:
            return data if len(data) < most else data[:end]
        most *= 2


def _sound(block: bytes) -> int:
    """How many of the bytes are whole lines of the log: nothing but a crash leaves others."""
    end = block.rfind(b"\n") + 1
    if block.find(b"\0", 0, end) < 0 and block.count(END, 0, end) == block.count(b"\n", 0, end):
        return end
    sound = 0
    for line in _each(block[:end]):
        if b"\0" in line or ingested_at(line) is None:
            break
        sound += len(line)
    return sound


def _each(lines: bytes) -> list[bytes]:
    return [line + b"\n" for line in lines.split(b"\n")[:-1]]


def _check_is_last_group(path: Path, file: int, at: int) -> None:
    """Raises LogDamaged where groups of records follow that were written one after the other."""
    stamps: set[int] = set()
    while block := _block(file, at):
        stamps |= {found for line in _each(block) if (found := ingested_at(line)) is not None}
        if len(stamps) > 1:
            raise LogDamaged(f"{path}: damaged behind byte {at:,}, and later records are whole; restore the file")
        at += len(block)
