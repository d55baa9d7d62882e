"""The log as a Bytewax source: what arrived while the last batch was processed is the next one.

Guarantee: each record is delivered once per run of Bytewax's recovery: the snapshot holds the next offset with the
partition's clock, known ids and settings, and the log is read from there. Where nothing arrives but time alone would
change something, a tick is appended to the log, so that replay sees time pass as it did here.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from threading import Event as Flag

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.formats import jsonl
from connectors.formats.types import DecodeOptions
from connectors.log import Log, LogUnavailable
from connectors.log_lines import stamp
from flows.live_progress import LiveProgress
from flows.snapshots import pickled
from operators.events import SECOND
from operators.intake import Batch, Intake

PARTITION = "log"
BATCH_BYTES = 8 << 20
# Seconds to wait for a record where nothing is under way; a stop and an epoch's end wait as long.
WAIT = 0.25
TICK = SECOND  # between ticks, µs


class LogPartition(StatefulSourcePartition[Batch, bytes]):
    """The log's tail. Ends when `stop` is set; what was not read then is read by the next run."""

    def __init__(
        self,
        log: Log,
        clock: Callable[[], int],
        lateness: int,
        progress: LiveProgress,
        stop: Flag,
        state: bytes | None,
    ) -> None:
        self._log, self._clock, self._progress, self._stop = log, clock, progress, stop
        self._begins = True
        if state is not None:
            self._intake: Intake = pickle.loads(state)
        else:
            self._intake = Intake(PARTITION, lateness, log.first_offset)
        progress.taken = self._intake.next_offset
        progress.committed = self._intake.next_offset
        self._ticked = 0
        self._options = DecodeOptions()

    def next_batch(self) -> list[Batch]:
        """The next records; none where none came in time."""
        if self._stop.is_set():
            raise StopIteration
        if self._begins:  # what is shown again after a restart does not wait for a record
            self._begins = False
            return self._taken(b"")
        offset = self._intake.next_offset
        # Bytewax gives the other steps no time while this one waits: only where they have nothing to do.
        idle = self._progress.committed >= offset
        found = self._log.read(offset, BATCH_BYTES, WAIT if idle else 0.0)
        if found is None:
            if idle:
                self._tick()
            return []
        return self._taken(found.lines)

    def _taken(self, lines: bytes) -> list[Batch]:
        decoded = jsonl.decode(lines, self._options)
        batches = self._intake.take(decoded.frame, decoded.rejects, decoded.records)
        self._progress.taken = self._intake.next_offset
        return batches

    def _tick(self) -> None:
        """Tell the log that nothing else happened, where that means something."""
        now = self._clock()
        if self._progress.timer > now or now < self._ticked + TICK:
            return
        try:
            self._log.append([b'{"record":"tick","time":"%b"}' % stamp(now).encode()], "")
        except LogUnavailable:
            return  # it will be told with the next one
        self._ticked = now

    def snapshot(self) -> bytes:
        """Where to go on, pickled at once."""
        return pickled(self._intake)


class LogSource(FixedPartitionedSource[Batch, bytes]):
    """The log, its one partition. clock: now, in µs."""

    def __init__(self, log: Log, clock: Callable[[], int], lateness: int, progress: LiveProgress, stop: Flag) -> None:
        self._given = (log, clock, lateness, progress, stop)

    def list_parts(self) -> list[str]:
        """There is one."""
        return [PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> LogPartition:
        """Open it at its position."""
        return LogPartition(*self._given, resume_state)
