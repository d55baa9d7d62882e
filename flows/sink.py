"""The store as a Bytewax sink: whole batches gather into flushes, and a second thread writes them.

Guarantee: exactly once. A flush is one transaction, with the files of its events written before it; a snapshot is taken
only when everything before it is in the store; after a crash the store first drops what lies beyond the snapshot, and
what comes again replaces its equal.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors import lake
from connectors.event_table import BULK
from connectors.store import HOT_ROWS, Position, Store
from operators.clock import NEVER
from operators.events import CONFIGURATIONS
from operators.frames import empty
from operators.output import Output
from operators.settings import Settings

# Events in one transaction: two row groups of the file that they become. Larger ones gain nothing, and need memory.
FLUSH_EVENTS = 245_760
# Rows of incidents and their parts that may wait for the events.
FLUSH_ROWS = 200_000


@dataclass
class Counts:
    """What the summary says; part of the snapshot, so that a resumed run counts everything once."""

    records: int = 0
    events: int = 0
    matches: int = 0
    late: int = 0
    duplicates: int = 0
    dead_letters: int = 0

    def add(self, more: Counts) -> None:
        """Count these, too."""
        for name, value in asdict(more).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True, slots=True)
class Stored:
    """A classified batch on its way to the store. `events` is None where events are not stored; `settings` are those of
    the workspaces after it."""

    partition: str
    next_offset: int
    watermark: int
    events: pl.DataFrame | None
    claims: pl.DataFrame
    dead_letters: pl.DataFrame
    rules: pl.DataFrame
    counts: Counts
    settings: Mapping[str, Settings]
    configurations: pl.DataFrame = field(default_factory=lambda: empty(CONFIGURATIONS))


@dataclass
class _Pending:
    """What the next flush holds."""

    tables: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    events: int = 0
    rows: int = 0

    def add(self, name: str, frame: pl.DataFrame) -> None:
        """Put rows behind those of their table."""
        if frame.height:
            self.tables.setdefault(name, []).append(frame)
            if name == "events":
                self.events += frame.height
            else:
                self.rows += frame.height


class StorePartition(StatefulSinkPartition[Stored | Output, bytes]):
    """The one writer of a store. publish_every: seconds between publications of the lake, None for never."""

    def __init__(self, data: Path, state: bytes | None, repeating: bool, publish_every: float | None) -> None:
        self._data = data
        self._store = Store.open(data / "store.duckdb")
        self._positions: dict[str, Position] = {}
        self._counts = Counts()
        if state is not None:
            self._positions, self._counts = pickle.loads(state)
        if repeating:
            self._store.resume({name: position.next_offset for name, position in self._positions.items()})
        self._pending = _Pending()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._writing: Future[Any] | None = None
        self._publish_every = publish_every
        self._published = time.monotonic()

    def write_batch(self, items: list[Stored | Output]) -> None:
        """Gather; flush what has become large."""
        for item in items:
            if isinstance(item, Output):
                for name, frame in item.tables().items():
                    self._pending.add(name, frame)
            else:
                self._take(item)
        many = self._pending.events >= FLUSH_EVENTS
        if many or self._pending.rows >= FLUSH_ROWS:
            self._flush(few_wait=not many)

    def snapshot(self) -> bytes:
        """Everything so far is in the store: this is where a resumed run begins."""
        self._flush()
        self._wait()
        if self._publish_every is not None and time.monotonic() - self._published >= self._publish_every:
            self._writing = self._writer.submit(lake.publish, self._store, self._data)
            self._published = time.monotonic()
        return pickle.dumps((self._positions, self._counts), protocol=5)

    def close(self) -> None:
        """Write the rest and let go of the store."""
        self._flush()
        self._wait()
        self._writer.shutdown()
        self._store.close()

    def _take(self, item: Stored) -> None:
        if item.events is not None:
            self._pending.add("events", item.events)
        self._pending.add("claims", item.claims)
        self._pending.add("dead_letters", item.dead_letters)
        self._pending.add("rules", item.rules)
        self._pending.add("configurations", item.configurations)
        watermark = None if item.watermark == NEVER else item.watermark
        before = self._positions.get(item.partition)
        if watermark is None and before is not None:
            watermark = before.watermark
        self._positions[item.partition] = Position(item.next_offset, watermark)
        self._counts.add(item.counts)

    def _flush(self, *, few_wait: bool = False) -> None:
        """Hand over what is pending; at most one flush is being written meanwhile.

        few_wait: events that are not worth a file wait for the next flush, and the positions say so.
        """
        self._wait()
        pending, self._pending = self._pending, _Pending()
        positions = dict(self._positions)
        if few_wait and pending.events < BULK:
            for rest in pending.tables.pop("events", []):
                self._pending.add("events", rest)
                partition, offset = rest["partition"][0], rest["offset"][0]
                held = positions[partition]
                positions[partition] = Position(min(offset, held.next_offset), held.watermark)
        tables = {name: pl.concat(frames) for name, frames in pending.tables.items()}
        meta = {f"count.{name}": str(value) for name, value in asdict(self._counts).items()}
        self._writing = self._writer.submit(self._write, tables, positions, meta)

    def _write(
        self, tables: Mapping[str, pl.DataFrame], positions: Mapping[str, Position], meta: Mapping[str, str]
    ) -> None:
        """Runs in the writer's thread."""
        self._store.flush(tables, positions, meta)
        self._store.roll(HOT_ROWS)

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


class StoreSink(FixedPartitionedSink[Stored | Output, bytes]):
    """The store of a data directory; only the process it falls to opens it. repeating: records may come again."""

    def __init__(self, data: Path, *, repeating: bool, publish_every: float | None) -> None:
        self._data, self._repeating, self._publish_every = data, repeating, publish_every

    def list_parts(self) -> list[str]:
        """There is one."""
        return [STORE]

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> StorePartition:
        """Open it, where the snapshot left off."""
        return StorePartition(self._data, resume_state, self._repeating, self._publish_every)


STORE = "store"  # its one partition
