"""A small shared table of how far each partition is: for the progress bar, and to keep partitions side by side.

It steers speed, never results. Each row has one writer, the partition's reader; numbers are whole 64-bit words, and a
reader that sees one of them late only waits or shows a little longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from operators.clock import NEVER
from operators.events import MINUTE

WATERMARK, SPAN, BYTES, RECORDS, ENDED = range(5)
_FIELDS = 5

# How far ahead of the slowest partition another may read, at least.
SLACK = 10 * MINUTE


class Board:
    """Progress of the partitions of a run, in a file that all its processes map. Event times in µs, sizes in bytes."""

    def __init__(self, path: Path, names: Sequence[str], *, create: bool = False) -> None:
        self._rows = {name: n for n, name in enumerate(names)}
        shape = (max(1, len(names)), _FIELDS)
        self._table = np.memmap(path, np.int64, "w+" if create else "r+", shape=shape)
        if create:
            self._table[:, WATERMARK] = NEVER

    def report(self, name: str, watermark: int, size: int, records: int) -> None:
        """Tell how far a partition is: its watermark, bytes of the file and records read so far."""
        row = self._table[self._rows[name]]
        if watermark != NEVER and row[WATERMARK] != NEVER:
            row[SPAN] = watermark - row[WATERMARK]
        row[WATERMARK], row[BYTES], row[RECORDS] = watermark, size, records

    def end(self, name: str) -> None:
        """Tell that a partition has been read to its end."""
        self._table[self._rows[name], ENDED] = 1

    def may_read(self, name: str) -> bool:
        """Is this partition not too far ahead of the others? The slowest one always may read."""
        row = self._table[self._rows[name]]
        reading = self._table[self._table[:, ENDED] == 0, WATERMARK]
        if row[WATERMARK] == NEVER or len(reading) < 2:
            return True
        # Twice the last step, so that partitions with large steps do not wait in turns.
        slowest = int(reading.min())
        return bool(row[WATERMARK] <= slowest or row[WATERMARK] <= max(slowest, NEVER + 1) + max(SLACK, 2 * row[SPAN]))

    @property
    def bytes_read(self) -> int:
        """Bytes of all inputs read so far."""
        return int(self._table[:, BYTES].sum())

    @property
    def records(self) -> int:
        """Records of all inputs read so far."""
        return int(self._table[:, RECORDS].sum())

    @property
    def finished(self) -> bool:
        """Has every partition been read to its end?"""
        return bool(self._table[: len(self._rows), ENDED].all())
