"""What the live sink shows when, whom it tells, and what a snapshot of it stands for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Event as Flag
from typing import Any

import polars as pl
import pytest

from connectors.live_store import LiveStore
from connectors.log import Appended
from connectors.pipeline import Receipt
from connectors.schema import TABLES
from connectors.store import Position, StoreError
from flows import live_sink, tenants
from flows.desk import Desk, Waiter
from flows.live_detect import Published
from flows.live_progress import LiveProgress
from flows.live_sink import LivePartition, Seen
from flows.sink import Counts, Stored
from operators.clock import NEVER
from operators.live import Gone, Publication
from operators.output import MEMBERS, NO_OUTPUT, Output
from operators.settings import NO_SETTINGS, Settings
from tests.connectors.changes import Row, hit, live
from tests.stores import event, rows
from tests.system.runs import PATIENCE


class Bench:
    """A sink at work: its store, desk and progress."""

    def __init__(self, data: Path, shards: int = 1) -> None:
        self.data, self.shards = data, shards
        self.store = LiveStore.create(data / "store.duckdb", shards=1)
        self.desk, self.progress, self.write = Desk(lambda first, count: ()), LiveProgress(), Flag()
        self.seen: list[Seen] = []
        self.sink = self.build(None)

    def build(self, state: bytes | None) -> LivePartition:
        """Start, from a snapshot or from the beginning."""
        return LivePartition(
            self.data, self.store, self.desk, self.progress, self.shards, self.seen.append, self.write, state
        )

    def take(self, *items: Stored | Published) -> None:
        self.sink.write_batch(list(items))

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows, as a reader sees them now."""
        with self.store.reading() as con:
            return con.execute(sql).fetchall()

    async def told(self, offset: int, *items: Stored | Published) -> Receipt:
        """What somebody is told who waits for a record that comes with these."""
        waiter, appended = Waiter(asyncio.get_running_loop(), 1, True), Future[Appended]()
        self.desk.wait(waiter, appended, lambda error: error)
        appended.set_result(Appended(offset, 1, 0))
        self.take(*items)
        return await asyncio.wait_for(waiter.answer, PATIENCE)

    def tenants(self, offset: int, *tenants: Row, **more: Any) -> tuple[str, ...]:
        """The tenants that the sender of a record of incident i learns of."""
        items = stored(offset, 1), published(offset + 1, live("i"), members=[offset], tenants=tenants, **more)
        [outcome] = asyncio.run(self.told(offset, *items)).outcomes
        assert outcome.incident_id == "i"
        return outcome.tenants


def stored(first: int, count: int, settings: dict[str, Settings] | None = None, watermark: int = NEVER) -> Stored:
    """A batch of the log: events from offset `first` on."""
    events = rows(
        "events",
        *(event(n, 0, "payments", "auth_failed", "auth_failure", partition="log") for n in range(first, first + count)),
    )
    none = {name: pl.DataFrame(schema=dict(TABLES[name].columns)) for name in ("claims", "dead_letters", "rules")}
    counts = Counts(records=count, events=count)
    return Stored("log", first + count, watermark, events, **none, counts=counts, settings=settings or {})


def published(
    upto: int,
    *incidents: Row,
    shard: str = "0",
    members: list[int] | None = None,
    tenants: tuple[Row, ...] = (),
    gone: Gone | None = None,
) -> Published:
    """What a shard makes of all records before `upto`. members: offsets of those that belong to incident i."""
    output = Output(
        rows("incidents", *incidents), rows("incident_tenants", *tenants), NO_OUTPUT.transitions, NO_OUTPUT.alerts
    )
    belong = [(0, offset, "auth_failure", "i", False) for offset in members or ()]
    frame = pl.DataFrame(belong, schema=MEMBERS, orient="row")
    publication = Publication(output, gone or Gone(), frame, NO_OUTPUT)
    return Published(shard, {"log": upto}, now=upto, publication=publication, live=1, over=NEVER)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


def test_nothing_is_shown_before_all_of_it_is_known(bench: Bench) -> None:
    """An event without its incident, or an incident without its event, would contradict the other in a dashboard."""
    counts = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM incidents)"
    bench.take(stored(0, 2))
    assert bench.ask(counts) == [(0, 0)]
    bench.take(published(2, live("i")))
    assert bench.ask(counts) == [(2, 1)]
    bench.take(published(3, live("j")))
    assert bench.ask(counts) == [(2, 1)]
    bench.take(stored(2, 1))
    assert bench.ask(counts) == [(3, 2)]


@pytest.mark.parametrize("ahead", ["stored", "published"])
def test_what_runs_ahead_does_not_get_lost(bench: Bench, ahead: str) -> None:
    """Whichever half of a batch comes first: the sender is told the incident, with the half that completes it."""
    halves = {"stored": stored(1, 1), "published": published(2, live("i"), members=[1], tenants=(hit("i", "acme"),))}
    first = halves.pop(ahead)
    bench.take(stored(0, 1), published(1), first)
    assert bench.ask("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM incidents)") == [(1, 0)]
    assert bench.progress.committed == 1
    [outcome] = asyncio.run(bench.told(1, *halves.values())).outcomes
    assert (outcome.incident_id, outcome.tenants) == ("i", ("acme",))


def test_the_slowest_shard_decides(tmp_path: Path) -> None:
    """With several shards an answer waits for the one that has the incident."""
    bench = Bench(tmp_path, shards=2)
    bench.take(stored(0, 2), published(2, live("i"), shard="0"))
    assert bench.ask("SELECT id FROM incidents") == []
    bench.take(published(2, live("j"), shard="1"))
    assert bench.ask("SELECT id FROM incidents ORDER BY id") == [("i",), ("j",)]
    assert bench.progress.committed == 2
    bench.store.close()


def test_who_waits_is_told_when_it_can_be_read(bench: Bench) -> None:
    """The answer names the incident, and a question right after it finds it."""
    receipt = asyncio.run(bench.told(0, stored(0, 1), published(1, live("i"), members=[0])))
    assert receipt.done
    [outcome] = receipt.outcomes
    assert (outcome.incident_id, outcome.status, outcome.rule_id) == ("i", "Open", "auth_failure")
    assert bench.ask("SELECT id FROM incidents") == [("i",)]
    assert (bench.progress.committed, bench.seen[-1].counts.events) == (1, 1)


@pytest.mark.parametrize("most", [0, 1, 10_000])
def test_an_answer_names_all_tenants_of_the_incident(bench: Bench, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Not only those of its batch: also those before it, however few are remembered, but none that was taken back."""
    monkeypatch.setattr(tenants, "CACHED", most)
    assert bench.tenants(0, hit("i", "acme")) == ("acme",)
    assert bench.tenants(1) == ("acme",)
    assert bench.tenants(2, hit("i", "beta"), hit("other", "gamma")) == ("acme", "beta")
    bench.store.write()
    assert bench.tenants(3, hit("i", "alpha")) == ("acme", "alpha", "beta")
    assert bench.tenants(4, hit("i", "beta"), gone=Gone(tenants=("i",))) == ("beta",)
    assert bench.tenants(5, hit("i", "delta"), gone=Gone(incidents=("i",))) == ("delta",)


def test_a_snapshot_is_all_that_a_restart_needs(bench: Bench) -> None:
    """What it stands for is on the disk; what came after it comes again, and is there once."""
    bench.take(stored(0, 2, watermark=7), published(2, live("i", 2, settled=True)))
    state = bench.sink.snapshot()
    assert bench.store.positions() == {"log": Position(2, 7)}
    bench.take(stored(2, 1), published(3, live("j")))
    bench.store.close()
    bench.store = LiveStore.open(bench.data / "store.duckdb")
    assert bench.ask("SELECT id FROM incidents") == [("i",)]
    bench.sink = bench.build(state)
    bench.take(stored(2, 1), published(3, live("j")))
    assert bench.ask("SELECT id FROM incidents ORDER BY id") == [("i",), ("j",)]
    assert bench.ask('SELECT "offset" FROM events ORDER BY ALL') == [(0,), (1,), (2,)]


def test_settings_are_written_where_they_change(bench: Bench) -> None:
    """The API answers with the settings that count; rewriting them with every batch would cost every batch."""
    changed = Settings.model_validate({"lifecycle": {"recovery": "60s"}})
    for offset, held in enumerate(({}, {"acme": changed}, {"acme": changed})):
        bench.take(stored(offset, 1, held), published(offset + 1))
        waiting = bench.store._memtable.take()
        assert waiting is not None
        assert set(waiting.settings) == ({"acme"} if offset == 1 else set())
        bench.store.write()
    [(body,)] = bench.ask("SELECT body FROM settings WHERE workspace = 'acme'")
    assert NO_SETTINGS.merge(Settings.model_validate_json(body)) == changed


def test_many_events_are_written_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They need not wait in memory for the next write; where the store cannot follow, the dataflow waits for it."""
    monkeypatch.setattr(live_sink, "WRITE_NOW", 3)
    monkeypatch.setattr(live_sink, "MOST_WAITING", 5)
    for offset, wanted, waiting in ((0, False, 2), (2, True, 4), (4, True, 0)):
        bench.take(stored(offset, 2), published(offset + 2))
        assert (bench.write.is_set(), bench.store.waiting) == (wanted, waiting)


def test_an_end_that_cannot_be_written_ends_nothing_else(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk at shutdown must not take down the process that has answers to give: the log has it all."""

    def fail(*_: Any) -> None:
        raise StoreError("disk full")

    bench.take(stored(0, 1), published(1, live("i")))
    monkeypatch.setattr(LiveStore, "_write_out", fail)
    bench.sink.close()
    assert bench.ask("SELECT id FROM incidents") == [("i",)]
