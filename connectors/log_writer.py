"""The end of the log on disk: durable appends to the last segment, the next one when it is full, repair when it fails.

Guarantee: when `append` returns, the lines are on the disk; when it raises, none of them will be read. A segment whose
sync failed is not written to any more: its pages may be marked clean and yet be lost, and a later sync would say that
all is well (https://wiki.postgresql.org/wiki/Fsync_Errors). It is cut back to what an earlier sync has vouched for, and
a new segment begins.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from connectors.durable import sync
from connectors.log_errors import LogDamaged, LogFull
from connectors.log_lines import Lines
from connectors.log_segments import segment_path

VECTORS = 512  # pieces one call may write
RETRY_AFTER = 5  # seconds: a full disk does not get room at once

# The calls that can fail, by names of their own.
_write, _sync, _truncate = os.writev, os.fdatasync, os.ftruncate


class SegmentWriter:
    """The segment being written. `first`: offset of its first record; `next`: of the next; `size`: durable bytes."""

    def __init__(self, directory: Path, first: int, records: int, size: int, segment_bytes: int) -> None:
        """Raises OSError, LogDamaged."""
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._file = _opened(segment_path(directory, first), size)
        sync(directory)
        self.first, self.next, self.size = first, first + records, size
        self._longer = False  # the file may hold more than `size` bytes
        self._distrusted = False  # its last sync failed

    def append(self, pieces: Sequence[Lines]) -> None:
        """Write lines and sync. Raises LogFull; the log is then as it was."""
        size = sum(len(piece.text) for piece in pieces)
        try:
            if self._longer:
                self._cut_back()
            if self._distrusted or (self.size and self.size + size > self._segment_bytes):
                self._begin()
            self._longer = True
            _write_all(self._file, [piece.text for piece in pieces])
            try:
                _sync(self._file)
            except OSError:
                self._distrusted = True
                raise
        except OSError as error:
            if self._longer:
                with suppress(OSError):  # or else before the next append
                    self._cut_back()
            raise LogFull(f"the log cannot be written: {error.strerror}", RETRY_AFTER) from error
        self._longer = False
        self.next += sum(piece.records for piece in pieces)
        self.size += size

    def close(self) -> None:
        """Let go of the file; what refused lines left in it is cut off, if it can be."""
        if self._longer:
            with suppress(OSError):
                self._cut_back()
        os.close(self._file)

    def _cut_back(self) -> None:
        """Take what was not acknowledged off the file, durably."""
        if self._distrusted:  # with a descriptor that has not been told of the error yet
            again = os.open(segment_path(self._directory, self.first), os.O_WRONLY | os.O_APPEND)
            os.close(self._file)
            self._file = again
        _truncate(self._file, self.size)
        _sync(self._file)
        self._longer = False

    def _begin(self) -> None:
        """Begin a new segment, or the same again where it has no records."""
        path = segment_path(self._directory, self.next)
        file = _opened(path, 0)
        try:
            sync(self._directory)
        except OSError:
            os.close(file)
            raise
        os.close(self._file)
        self._file = file
        self.first, self.size, self._distrusted = self.next, 0, False


def _opened(path: Path, size: int) -> int:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    found = os.fstat(file).st_size
    if found != size:
        os.close(file)
        raise LogDamaged(f"{path}: {size:,} bytes are expected, there are {found:,}")
    return file


def _write_all(file: int, texts: Sequence[bytes]) -> None:
    for n in range(0, len(texts), VECTORS):
        some: list[bytes | memoryview] = list(texts[n : n + VECTORS])
        while some:
            written = _write(file, some)
            while some and written >= len(some[0]):
                written -= len(some.pop(0))
            if some and written:
                some[0] = memoryview(some[0])[written:]
