"""The durable log: records appended by many, written and synced together by one thread, read back from any offset.

Guarantee: an append whose future has a result is on the disk and is read at its offset, whatever happens to the process
or the machine afterwards (the disk itself excepted). An append that failed left nothing behind. Where the process dies
before it is answered, its records are there as a whole, in part from the front, or not at all. Offsets have no gaps,
and `ingested_at` never decreases.

All appends that wait are one write and one fsync (group commit; Hagmann, 1987, "Reimplementing the Cedar file system
using logging and group commit"). Memory is bounded: what waits, and the tail that readers are served from.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from connectors.durable import sync
from connectors.log_errors import LogBusy, LogClosed, LogDamaged, LogFull, LogHeld, LogUnavailable
from connectors.log_lines import Lines, lines, merged
from connectors.log_segments import (
    Recovered,
    SegmentReader,
    Slice,
    last_stamp,
    recovered,
    segment_firsts,
    segment_path,
)
from connectors.log_tail import Tail
from connectors.log_writer import SegmentWriter

__all__ = ["Appended", "Log", "LogBusy", "LogClosed", "LogDamaged", "LogFull", "LogHeld", "LogUnavailable", "Slice"]

SEGMENT_BYTES = 128 << 20
TAIL_BYTES = 64 << 20  # kept in memory for readers that keep up
WAITING_BYTES = 64 << 20  # of bodies that wait to be written
GROUP_BYTES = 16 << 20  # bodies written together, unless a single append is larger


@dataclass(frozen=True, slots=True)
class Appended:
    """Records that are durable: offsets [first, first + count), accepted at `ingested_at` (µs)."""

    first: int
    count: int
    ingested_at: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    bodies: Sequence[bytes]
    workspace: str
    size: int
    future: Future[Appended]


class Log:
    """An open log. Use `open`, not the constructor. All methods are safe in any thread.

    repaired: bytes that a crash had left at its end and that were cut off when it was opened.
    """

    def __init__(
        self,
        directory: Path,
        lock: int,
        clock: Callable[[], int],
        firsts: list[int],
        end: Recovered,
        stamp: int,
        segment_bytes: int,
        tail_bytes: int,
        waiting_bytes: int,
    ) -> None:
        self.directory = directory
        self.repaired = end.cut
        self._held = lock
        self._clock = clock
        self._firsts = firsts
        self._readers: dict[int, SegmentReader] = {}
        self._reading = threading.Lock()
        self._writer = SegmentWriter(directory, firsts[-1], end.records, end.size, segment_bytes)
        self._tail = Tail(self._writer.next, tail_bytes)
        self._stamp = stamp
        self._writing = False
        self._queue: deque[_Waiting] = deque()
        self._waiting = 0
        self._most_waiting = waiting_bytes
        self._closed: str | None = None
        self._trouble: str | None = None
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # for the writer: something waits, or it is over
        self._news = threading.Condition(self._lock)  # for everybody else: a group was written, or refused
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        clock: Callable[[], int],
        segment_bytes: int = SEGMENT_BYTES,
        tail_bytes: int = TAIL_BYTES,
        waiting_bytes: int = WAITING_BYTES,
    ) -> Log:
        """Open a log, made if need be, and cut off what a crash has left at its end.

        clock: now, in µs since 1970. Raises LogHeld, LogDamaged, OSError.
        """
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LogHeld(f"the log {directory} is in use by another process") from None
            sync(directory.parent)
            firsts = segment_firsts(directory)
            end = recovered(segment_path(directory, firsts[-1])) if firsts else Recovered(0, 0, None, 0)
            stamp = end.ingested_at
            for first in reversed(firsts[:-1]):
                if stamp is not None:
                    break
                stamp = last_stamp(segment_path(directory, first))
            sizes = (segment_bytes, tail_bytes, waiting_bytes)
            return cls(directory, lock, clock, firsts or [0], end, stamp or 0, *sizes)
        except BaseException:
            os.close(lock)
            raise

    @property
    def first_offset(self) -> int:
        """The offset of the oldest record that is still here."""
        return self._firsts[0]

    @property
    def next_offset(self) -> int:
        """The offset that the next record will get: all before it are durable."""
        return self._tail.next

    @property
    def trouble(self) -> str | None:
        """Why the last append was refused, or None when it went well."""
        return self._closed or self._trouble

    def append(self, bodies: Sequence[bytes], workspace: str) -> Future[Appended]:
        """Append records in order and together; returns at once.

        bodies: JSON objects, each without line breaks and with at least one member, not changed afterwards; they are
        not looked into. The future may have the exception LogFull, or ValueError where a body is none; cancelled in
        time, nothing is written. Raises LogBusy, LogClosed.
        """
        size = sum(map(len, bodies))
        if not size:
            raise ValueError("there is nothing to append")
        future: Future[Appended] = Future()
        with self._lock:
            if self._closed:
                raise LogClosed(self._closed)
            if self._waiting and self._waiting + size > self._most_waiting:
                raise LogBusy(f"{self._waiting:,} bytes wait to be written to the log")
            self._queue.append(_Waiting(bodies, workspace, size, future))
            self._waiting += size
            self._work.notify()
        return future

    def read(self, offset: int, most: int, timeout: float) -> Slice | None:
        """Records from `offset` on: whole lines of up to `most` bytes, but at least one; None where none came in time.

        timeout: seconds to wait where `offset` is the end. Raises LogDamaged where the offset is not in the log.
        """
        until = time.monotonic() + timeout
        with self._lock:
            while offset == self._tail.next:
                left = until - time.monotonic()
                if left <= 0 or self._closed:
                    return None
                self._news.wait(left)
            if not self._firsts[0] <= offset < self._tail.next:
                raise LogDamaged(
                    f"{self.directory}: the log has records {self._firsts[0]:,} to {self._tail.next:,}, not {offset:,}"
                )
            found = self._tail.cut(offset, most)
        return self._from_file(offset, most) if found is None else found.joined()

    def advance(self, at: int) -> int:
        """Promise that no later record gets an `ingested_at` below `at` (µs). Returns the offset from which that holds.

        It waits for a write that is under way. Who has read up to the returned offset has seen every record accepted
        before `at`; the promise ends with the process.
        """
        with self._lock:
            while self._writing and self._stamp < at:
                self._news.wait()
            self._stamp = max(self._stamp, at)
            return self._tail.next

    def close(self) -> None:
        """Write what waits, then let go of the files. Appends are refused from now on."""
        with self._lock:
            self._closed = self._closed or "the log is closed"
            self._work.notify_all()
            self._news.notify_all()
        if self._held < 0:
            return
        self._thread.join()
        self._writer.close()
        os.close(self._held)
        self._held = -1

    def _from_file(self, offset: int, most: int) -> Slice:
        with self._lock:
            segment = max(first for first in self._firsts if first <= offset)
            size = self._writer.size if segment == self._writer.first else None
        with self._reading:
            path = segment_path(self.directory, segment)
            reader = self._readers.setdefault(segment, SegmentReader(path, segment))
            return reader.read(offset, most, os.path.getsize(path) if size is None else size)

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._write(group)
            except Exception as error:  # nobody may wait for ever, whatever it was
                self._refuse(group, LogFull(f"the log stopped working: {error!r}"), over=True)

    def _next_group(self) -> list[_Waiting]:
        """What waits, once something does; none when the log is closed and all is written."""
        with self._lock:
            group: list[_Waiting] = []
            while not group and (self._queue or not self._closed):
                if not self._queue:
                    self._work.wait()
                size = 0
                while self._queue and (not group or size + self._queue[0].size <= GROUP_BYTES):
                    waiting = self._queue.popleft()
                    self._waiting -= waiting.size
                    # Who has gone away meanwhile gets nothing written; from here on nobody can.
                    if waiting.future.set_running_or_notify_cancel():
                        group.append(waiting)
                        size += waiting.size
            if group:
                self._stamp = max(self._clock(), self._stamp)
                self._writing = True
            return group

    def _write(self, group: list[_Waiting]) -> None:
        at = self._stamp  # `advance` leaves it alone while a group is written
        good: list[_Waiting] = []
        pieces: list[Lines] = []
        for waiting in group:
            try:
                pieces += lines(waiting.bodies, waiting.workspace, at)
                good.append(waiting)
            except (ValueError, TypeError) as error:
                waiting.future.set_exception(error)
        pieces = merged(pieces)
        first = self._tail.next
        if good:
            try:
                self._writer.append(pieces)
            except LogFull as error:
                self._refuse(good, error)
                return
        with self._lock:
            if self._writer.first > self._firsts[-1]:
                self._firsts.append(self._writer.first)
            for piece in pieces:
                self._tail.add(piece)
            self._writing, self._trouble = False, None
            self._news.notify_all()
        for waiting in good:
            waiting.future.set_result(Appended(first, len(waiting.bodies), at))
            first += len(waiting.bodies)

    def _refuse(self, group: list[_Waiting], error: LogUnavailable, *, over: bool = False) -> None:
        with self._lock:
            self._writing, self._trouble = False, str(error)
            if over:
                self._closed = str(error)
                group = [*group, *self._queue]
                self._queue.clear()
            self._news.notify_all()
        for waiting in group:
            if not waiting.future.done():
                waiting.future.set_exception(error)
