"""The live store as a Bytewax sink: what arrives while one commit is written is the next one.

Guarantee: exactly once. A commit is one transaction; a snapshot is taken only when everything before it is committed;
after a crash the store first drops what lies beyond the snapshot, and what comes again replaces its equal. Whoever
waits for a record is told after the commit that holds all that follows from it.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors import lake
from connectors.live_store import Changes, LiveStore
from connectors.pipeline import Outcome
from connectors.store import Position
from flows import outcomes
from flows.desk import Desk
from flows.live_detect import Published
from flows.live_progress import LiveProgress
from flows.live_source import PARTITION
from flows.sink import STORE, Counts, Stored
from operators.clock import NEVER
from operators.events import EVENTS
from operators.live import merged
from operators.settings import Settings

MAINTAIN = 5.0  # seconds between looks at what is hot
PUBLISH = 300.0  # seconds between publications of the lake
CACHED = 10_000  # incidents whose tenants are remembered, for answers


@dataclass(frozen=True, slots=True)
class Committed:
    """One commit, for those who watch: the counts of its records, its seconds, open incidents, the feed's end."""

    counts: Counts
    seconds: float
    feed_end: int


Watch = Callable[[Committed], None]


class LivePartition(StatefulSinkPartition[Stored | Published, bytes]):
    """The one writer of the live store. shards: whose publications make a batch complete."""

    def __init__(
        self,
        data: Path,
        store: LiveStore,
        desk: Desk,
        progress: LiveProgress,
        shards: int,
        watch: Watch,
        state: bytes | None,
    ) -> None:
        self._data, self._store, self._desk, self._progress, self._watch = data, store, desk, progress, watch
        self._position, self._counts, self._settings = Position(0), Counts(), {}
        if state is not None:
            self._position, self._counts, self._settings = pickle.loads(state)
        store.repeat({PARTITION: self._position.next_offset})
        self._flushed = self._position.next_offset
        self._stored: list[Stored] = []
        self._published: list[Published] = []
        self._reached = {str(n): self._flushed for n in range(shards)}
        self._taken = self._flushed
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._writing: Future[None] | None = None
        self._tenants: dict[str, set[str]] = {}
        self._maintained = self._lake = time.monotonic()
        self._lake_upto = self._flushed

    def write_batch(self, items: list[Stored | Published]) -> None:
        """Gather; commit what is complete."""
        for item in items:
            if isinstance(item, Stored):
                self._stored.append(item)
                self._taken = item.next_offset
            else:
                self._published.append(item)
                self._reached[item.shard] = item.upto
        if min(self._taken, *self._reached.values()) > self._flushed:
            self._flush()

    def snapshot(self) -> bytes:
        """Everything so far is in the store: this is where a resumed run begins."""
        if self._stored or self._published:
            self._flush()
        self._wait()
        if self._lake_upto < self._flushed and time.monotonic() - self._lake >= PUBLISH:
            self._publish_lake()
        return pickle.dumps((self._position, self._counts, self._settings), protocol=5)

    def close(self) -> None:
        """Commit the rest and leave the lake up to date."""
        if self._stored or self._published:
            self._flush()
        self._wait()
        if self._lake_upto < self._flushed:
            self._publish_lake()
        self._writer.shutdown()

    def _publish_lake(self) -> None:
        self._store.note({f"count.{name}": str(value) for name, value in vars(self._counts).items()})
        lake.publish(self._store, self._data)
        self._lake, self._lake_upto = time.monotonic(), self._flushed

    def _flush(self) -> None:
        """Hand over what is pending, once the commit before it is written."""
        self._wait()
        stored, self._stored = self._stored, []
        published, self._published = self._published, []
        upto = min(self._taken, *self._reached.values())
        publication = merged([each.publication for each in published]) if published else None
        events = [item.events for item in stored if item.events is not None]
        letters = [item.dead_letters for item in stored]
        counts = Counts()
        for item in stored:
            counts.add(item.counts)
            watermark = self._position.watermark if item.watermark == NEVER else item.watermark
            self._position = Position(item.next_offset, watermark)
        self._counts.add(counts)
        tables = {
            "events": pl.concat(events) if events else pl.DataFrame(schema=EVENTS),
            "claims": pl.concat([item.claims for item in stored]) if stored else pl.DataFrame(),
            "dead_letters": pl.concat(letters) if letters else pl.DataFrame(),
            "rules": pl.concat([item.rules for item in stored]) if stored else pl.DataFrame(),
        }
        settings = self._changed_settings(stored[-1].settings if stored else {})
        changes = Changes(tables, publication, {PARTITION: self._position}, settings)
        answers = outcomes.of_commit(self._desk.asked(upto), events, letters, publication)
        now = max((item.now for item in published), default=self._progress.now)
        self._flushed = upto
        self._writing = self._writer.submit(self._commit, changes, upto, now, answers, counts)

    def _changed_settings(self, settings: Mapping[str, Settings]) -> dict[str, str]:
        """The settings that the store does not have yet, as JSON text."""
        changed = {
            workspace: held.model_dump_json(exclude_unset=True)
            for workspace, held in settings.items()
            if self._settings.get(workspace) != held
        }
        self._settings = dict(settings) if changed else self._settings
        return changed

    def _commit(self, changes: Changes, upto: int, now: int, answers: dict[int, Outcome], counts: Counts) -> None:
        """Runs in the writer's thread."""
        began = time.monotonic()
        self._store.commit(changes)
        told = self._with_tenants(changes, answers)
        self._progress.committed, self._progress.now = upto, now
        self._desk.committed(upto, told)
        self._watch(Committed(counts, time.monotonic() - began, self._store.feed_end))
        if time.monotonic() - self._maintained >= MAINTAIN:
            self._store.maintain(now)
            self._maintained = time.monotonic()

    def _with_tenants(self, changes: Changes, answers: dict[int, Outcome]) -> dict[int, Outcome]:
        """The answers with all tenants of their incidents, of which the commit tells only the changed ones."""
        publication = changes.publication
        if publication is not None:
            for incident in (*publication.gone.incidents, *publication.gone.tenants):
                self._tenants.pop(incident, None)
            rows = publication.output.incident_tenants
            if rows.height > CACHED:
                self._tenants.clear()
            elif self._tenants:
                for incident, tenant in rows.select("incident_id", "tenant").iter_rows():
                    if incident in self._tenants:
                        self._tenants[incident].add(tenant)
        wanted = {answer.incident_id for answer in answers.values() if answer.incident_id is not None}
        missing = sorted(wanted.difference(self._tenants))
        if missing:
            if len(self._tenants) + len(missing) > CACHED:
                self._tenants.clear()
                missing = sorted(wanted)
            known = self._store.tenants(missing)
            self._tenants.update({incident: set(known.get(incident, ())) for incident in missing})
        return {
            offset: answer
            if answer.incident_id is None
            else replace(answer, tenants=tuple(sorted(self._tenants[answer.incident_id])))
            for offset, answer in answers.items()
        }

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


class LiveSink(FixedPartitionedSink[Stored | Published, bytes]):
    """The live store, its one partition."""

    def __init__(
        self, data: Path, store: LiveStore, desk: Desk, progress: LiveProgress, shards: int, watch: Watch
    ) -> None:
        self._given = (data, store, desk, progress, shards, watch)

    def list_parts(self) -> list[str]:
        """There is one."""
        return [STORE]

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> LivePartition:
        """Start where the snapshot left off."""
        return LivePartition(*self._given, resume_state)
