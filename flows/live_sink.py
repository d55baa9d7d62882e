"""The live store as a Bytewax sink: each batch is shown as soon as everything that follows from it is known.

Guarantee: exactly once. Changes are shown as a whole; a snapshot is taken only when everything before it is written;
after a crash the store first drops what lies beyond the snapshot, and what comes again replaces its equal. Whoever
waits for a record is told once all that follows from it can be read.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag

import polars as pl
import structlog
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors import lake
from connectors.live_store import LiveStore
from connectors.memtable import Changes
from connectors.store import Position
from flows import outcomes
from flows.desk import Desk
from flows.live_detect import Published
from flows.live_progress import LiveProgress
from flows.live_source import PARTITION
from flows.sink import STORE, Counts, Stored
from flows.tenants import Tenants
from operators.clock import NEVER
from operators.live import merged
from operators.settings import Settings

PUBLISH = 300.0  # seconds between publications of the lake
WRITE_NOW = 50_000  # events that are worth a file of their own: they need not wait for the next write
MOST_WAITING = 400_000  # events in memory before the dataflow waits for the store


@dataclass(frozen=True, slots=True)
class Seen:
    """Some records are processed, for those who watch. seconds: since the batch before was. live: keys with state."""

    counts: Counts
    seconds: float
    live: int


logger = structlog.get_logger("tocsin.store")

Watch = Callable[[Seen], None]


class LivePartition(StatefulSinkPartition[Stored | Published, bytes]):
    """The one writer of what the live store shows. shards: whose publications make a batch complete. write: set where
    the store should write what waits, now."""

    def __init__(
        self,
        data: Path,
        store: LiveStore,
        desk: Desk,
        progress: LiveProgress,
        shards: int,
        watch: Watch,
        write: Flag,
        state: bytes | None,
    ) -> None:
        self._data, self._store, self._desk, self._progress = data, store, desk, progress
        self._watch, self._write = watch, write
        self._position, self._counts = Position(0), Counts()
        self._settings: dict[str, Settings] = {}
        self._forgotten = [NEVER, NEVER]  # what was over at the snapshots before this one, µs
        if state is not None:
            self._position, self._counts, self._settings, self._forgotten = pickle.loads(state)
        store.repeat({PARTITION: self._position.next_offset})
        self._shown = self._taken = self._lake_upto = self._position.next_offset
        self._stored: list[Stored] = []
        self._published: list[Published] = []
        self._reached = {str(n): self._shown for n in range(shards)}
        self._over = NEVER
        self._tenants = Tenants(store)
        self._lake = -PUBLISH  # a new service is soon to be read from the command line, too

    def write_batch(self, items: list[Stored | Published]) -> None:
        """Gather; show what is complete."""
        for item in items:
            if isinstance(item, Stored):
                self._stored.append(item)
                self._taken = item.next_offset
            else:
                self._published.append(item)
                self._reached[item.shard] = _upto(item)
                self._over = max(self._over, item.over)
        upto = min(self._taken, *self._reached.values())
        # A publication without a record says again, after a restart, what is not final.
        if upto > self._shown or any(_upto(item) <= upto for item in self._published):
            self._show()

    def snapshot(self) -> bytes:
        """Everything so far is in the store: this is where a resumed run begins."""
        if self._stored or self._published:
            self._show()
        self._store.write()
        # What was over two snapshots ago is over in every snapshot that a run may still begin from.
        self._store.maintain(self._forgotten[0])
        self._forgotten = [self._forgotten[1], self._over]
        if self._lake_upto < self._shown and time.monotonic() - self._lake >= PUBLISH:
            self._publish_lake()
        return pickle.dumps((self._position, self._counts, self._settings, self._forgotten), protocol=5)

    def close(self) -> None:
        """Write the rest and leave the lake up to date, if that can be: all of it comes again from the log.

        Raises nothing: Bytewax would end the process, which still has requests to answer.
        """
        try:
            if self._stored or self._published:
                self._show()
            self._store.write()
            if self._lake_upto < self._shown:
                self._publish_lake()
        except Exception as error:
            logger.warning("store not written at the end", reason=str(error))

    def _publish_lake(self) -> None:
        with self._store.exclusive() as store:
            store.note({f"count.{name}": str(value) for name, value in vars(self._counts).items()})
            lake.publish(store, self._data)
        self._lake, self._lake_upto = time.monotonic(), self._shown

    def _show(self) -> None:
        """Let readers see what is complete, then tell those who wait."""
        began = time.monotonic()
        upto = min(self._taken, *self._reached.values())
        stored = [item for item in self._stored if item.next_offset <= upto]
        published = [item for item in self._published if _upto(item) <= upto]
        del self._stored[: len(stored)]  # they come in the order of the log
        self._published = [item for item in self._published if _upto(item) > upto]
        publication = merged([each.publication for each in published]) if published else None
        counts = Counts()
        for item in stored:
            counts.add(item.counts)
            watermark = self._position.watermark if item.watermark == NEVER else item.watermark
            self._position = Position(item.next_offset, watermark)
        self._counts.add(counts)
        settings = self._changed_settings(stored[-1].settings) if stored else {}
        self._store.accept(Changes(tables_of(stored), publication, {PARTITION: self._position}, settings))
        if self._store.waiting >= WRITE_NOW:
            self._write.set()
            if self._store.waiting >= MOST_WAITING:
                self._store.write()
        events = [item.events for item in stored if item.events is not None]
        answers = outcomes.of_commit(
            self._desk.asked(upto), events, [item.dead_letters for item in stored], publication
        )
        told = self._tenants.complete(publication, answers)
        self._shown = self._progress.committed = upto
        self._progress.now = max((item.now for item in published), default=self._progress.now)
        self._desk.committed(upto, told)
        live = max((item.live for item in published), default=0)
        self._watch(Seen(counts, time.monotonic() - began, live))

    def _changed_settings(self, settings: Mapping[str, Settings]) -> dict[str, str]:
        """The settings that the store does not have yet, as JSON text."""
        changed = changed_settings(self._settings, settings)
        self._settings = dict(settings) if changed else self._settings
        return changed


def _upto(published: Published) -> int:
    return published.reached[PARTITION]


def changed_settings(before: Mapping[str, Settings], now: Mapping[str, Settings]) -> dict[str, str]:
    """The settings that are new, or others than before, as JSON text by workspace."""
    return {
        workspace: held.model_dump_json(exclude_unset=True)
        for workspace, held in now.items()
        if before.get(workspace) != held
    }


def tables_of(stored: Sequence[Stored]) -> dict[str, pl.DataFrame]:
    """The rows to append, where there are any."""
    frames = {
        "events": [item.events for item in stored if item.events is not None],
        "claims": [item.claims for item in stored],
        "dead_letters": [item.dead_letters for item in stored],
        "rules": [item.rules for item in stored],
        "configurations": [item.configurations for item in stored],
    }
    full = {name: [frame for frame in parts if frame.height] for name, parts in frames.items()}
    return {name: pl.concat(parts) for name, parts in full.items() if parts}


class LiveSink(FixedPartitionedSink[Stored | Published, bytes]):
    """The live store, its one partition."""

    def __init__(
        self,
        data: Path,
        store: LiveStore,
        desk: Desk,
        progress: LiveProgress,
        shards: int,
        watch: Watch,
        write: Flag,
    ) -> None:
        self._given = (data, store, desk, progress, shards, watch, write)

    def list_parts(self) -> list[str]:
        """There is one."""
        return [STORE]

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> LivePartition:
        """Start where the snapshot left off."""
        return LivePartition(*self._given, resume_state)
