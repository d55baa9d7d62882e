"""Files as a Bytewax source: each partition reads, decodes ahead in threads, and stamps in order.

Guarantee: each record is delivered once per run of Bytewax's recovery: the snapshot holds the position in the file and
the partition's clock, known ids and settings, all as of the last batch delivered.
"""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from threading import Event as Flag

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors import files
from connectors.chunks import LARGEST
from connectors.formats import FORMATS
from connectors.formats.types import Decoded, DecodeOptions
from connectors.partitions import Chunk, Position, decode
from flows.board import Board
from flows.plan import Input, Plan
from flows.snapshots import pickled
from operators.intake import Batch, Intake

# Whole chunks read and decoded ahead, over all partitions of a process; with more of these chunks are smaller.
AHEAD = 3
PAUSE = timedelta(milliseconds=2)


@cache
def decoders() -> ThreadPoolExecutor:
    """The threads that decode; decoding lets go of the interpreter lock."""
    return ThreadPoolExecutor(max(1, os.cpu_count() or 1), thread_name_prefix="decode")


@cache
def reader() -> ThreadPoolExecutor:
    """The one thread that reads and cuts into chunks, in the order in which it is asked to."""
    return ThreadPoolExecutor(1, thread_name_prefix="read")


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A chunk on its way: what it decodes to, and where the reader stood after it."""

    decoded: Future[Decoded]
    position: Position
    consumed: int  # bytes of the file, for the progress


class FilePartition(StatefulSourcePartition[Batch, bytes]):
    """One file. Ends where the file ends, or when `stop` is set: then it can be resumed.

    ahead: chunks read before they are asked for, `largest` bytes each at most.
    """

    def __init__(self, plan: Plan, item: Input, options: DecodeOptions, board: Board, stop: Flag, ahead: int,
                 largest: int, state: bytes | None) -> None:  # fmt: skip
        self._plan, self._name, self._board, self._stop = plan, item.name, board, stop
        self._options = options
        resumed: tuple[Intake, Position | None, bool] = (
            pickle.loads(state) if state is not None else (Intake(item.name, plan.lateness), None, False)
        )
        self._intake, self._position, self._ended = resumed
        self._format = FORMATS[item.format]
        entry = files.Input(item.name, item.path, self._format, item.size)
        self._reader = None if self._ended else files.open_partition(entry, options, self._position, largest)
        if state is None and self._reader is not None:
            self._intake.next_offset = self._reader.first
        self._chunks: Iterator[Chunk] = self._reader.chunks() if self._reader is not None else iter(())
        self._queue: deque[Future[_Ahead | None]] = deque()
        self._ahead = ahead
        self._paused = False
        if self._ended:
            board.end(item.name)  # the board is new with each run, and others would wait for this partition

    def next_batch(self) -> list[Batch]:
        """The next batches in order; none while the other partitions have to catch up."""
        if self._ended or self._stop.is_set():
            raise StopIteration
        self._paused = not self._board.may_read(self._name)
        if self._paused:
            return []
        self._read_ahead()
        first = self._queue[0].result()
        if first is None:
            self._ended = True
            self._board.end(self._name)
            return self._intake.finish()
        decoded = first.decoded.result()
        self._queue.popleft()
        self._read_ahead()
        self._position = first.position
        batches = self._intake.take(decoded.frame, decoded.rejects, decoded.records, self._plan.wall)
        self._board.report(self._name, self._intake.clock.watermark, first.consumed, self._intake.next_offset)
        return batches

    def next_awake(self) -> datetime | None:
        """Soon, where the others have to catch up; else at once."""
        return datetime.now(UTC) + PAUSE if self._paused else None

    def snapshot(self) -> bytes:
        """Where to go on, pickled at once."""
        return pickled((self._intake, self._position, self._ended))

    def close(self) -> None:
        """Let go of the file."""
        for chunk in self._queue:
            chunk.cancel()
        for chunk in self._queue:
            if not chunk.cancelled() and (ahead := chunk.result()) is not None:
                ahead.decoded.cancel()
        if self._reader is not None:
            self._reader.close()

    def _read_ahead(self) -> None:
        while len(self._queue) < self._ahead:
            self._queue.append(reader().submit(self._next_chunk))

    def _next_chunk(self) -> _Ahead | None:
        chunk = next(self._chunks, None)
        if chunk is None:
            return None
        decoded = decoders().submit(decode, self._format, chunk, self._options)
        return _Ahead(decoded, chunk.position, chunk.consumed)


class FileSource(FixedPartitionedSource[Batch, bytes]):
    """The inputs of a plan, a partition each."""

    def __init__(self, plan: Plan, options: DecodeOptions, board: Board, stop: Flag) -> None:
        self._plan, self._options, self._board, self._stop = plan, options, board, stop
        self._inputs = {item.name: item for item in plan.inputs}

    def list_parts(self) -> list[str]:
        """The partitions' names; every worker sees the same files."""
        return list(self._inputs)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> FilePartition:
        """Open a partition at its position."""
        item = self._inputs[for_part]
        mine = max(1, -(-len(self._inputs) // self._plan.workers))
        ahead = max(1, AHEAD // mine)
        largest = min(LARGEST, max(1 << 20, LARGEST * AHEAD // (mine * ahead)))
        return FilePartition(self._plan, item, self._options, self._board, self._stop, ahead, largest, resume_state)
