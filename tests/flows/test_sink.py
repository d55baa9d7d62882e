"""The sink: large transactions, snapshots only of what is durable, and repeats that replace their equals."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from connectors.schema import TABLES
from connectors.store import Position, Store
from flows import sink
from flows.sink import Counts, Stored, StorePartition
from operators.clock import NEVER
from operators.output import Output
from tests.stores import event, rows, step

INC = "inc_" + "a" * 26


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Store.create(tmp_path / "store.duckdb", shards=4).close()
    return tmp_path


class Flushes(list[tuple[dict[str, int], dict[str, Position]]]):
    """What was handed to the store: rows by table, and positions."""


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> Flushes:
    found = Flushes()
    flush = Store.flush

    def spy(self: Store, tables: Mapping[str, pl.DataFrame], positions: Mapping[str, Position], *rest: Any) -> None:
        flush(self, tables, positions, *rest)
        found.append(({name: frame.height for name, frame in tables.items() if frame.height}, dict(positions)))

    monkeypatch.setattr(Store, "flush", spy)
    return found


ROLLED = (
    'SELECT "minute", source, type, "count" FROM rollup_1m',
    'SELECT date_trunc(\'minute\', time) AS "minute", source, type, count(*) AS "count" FROM events GROUP BY ALL',
)


def stored(first: int, count: int, *, letters: int = 0, watermark: int = 0) -> Stored:
    """A batch of partition p: `count` events from offset `first`, then dead letters."""
    end = first + count
    events = rows("events", *(event(n, n / 100, "orders", "request_timeout") for n in range(first, end)))
    dead = rows(
        "dead_letters", *({"partition": "p", "offset": end + n, "raw": "{", "error": "e"} for n in range(letters))
    )
    claims = rows("claims", *({"partition": "p", "offset": n, "workspace": "default", "rule_id": "r", "group_key": "g",
                               "confidence": "High"} for n in range(first, end, 5)))  # fmt: skip
    counts = Counts(records=count + letters, events=count, dead_letters=letters)
    rules = pl.DataFrame(schema=dict(TABLES["rules"].columns))
    return Stored("p", end + letters, watermark, events, claims, dead, rules, counts, {})


def output(*steps: int) -> Output:
    """Transitions of one incident, and nothing else."""
    empty = {
        name: pl.DataFrame(schema=dict(TABLES[name].columns)) for name in ("incidents", "incident_tenants", "alerts")
    }
    return Output(transitions=rows("transitions", *(step(INC, n, n, "Open", "why", 1) for n in steps)), **empty)


def offsets(data: Path, table: str = "events") -> list[int]:
    """What a table of a closed store holds; each of its events is counted once."""
    with closing(duckdb.connect(str(data / "store.duckdb"), read_only=True)) as con:
        con.execute("SET TimeZone = 'UTC'")
        rolled, counted = (con.sql(f"FROM ({sql}) ORDER BY ALL").pl() for sql in ROLLED)
        assert rolled.equals(counted)
        return [n for (n,) in con.execute(f'SELECT "offset" FROM {table} ORDER BY ALL').fetchall()]


def test_small_batches_gather_into_one_transaction(
    data: Path, flushes: Flushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction for each batch would make a replay ten times slower."""
    monkeypatch.setattr(sink, "FLUSH_EVENTS", 40)
    part = StorePartition(data, None, False, None)
    for n in range(3):
        part.write_batch([stored(10 * n, 10)])
    assert flushes == []
    part.write_batch([stored(30, 10)])
    part.close()
    assert [tables.get("events") for tables, _ in flushes] == [40, None]


def test_many_rows_of_incidents_flush_too(data: Path, flushes: Flushes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without events (`--no-events`) these alone would gather for ever, and memory with them."""
    monkeypatch.setattr(sink, "FLUSH_ROWS", 3)
    part = StorePartition(data, None, False, None)
    part.write_batch([output(0, 1)])
    part.write_batch([output(2)])
    part.close()
    assert flushes[0][0] == {"transitions": 3}


def test_few_events_wait_for_a_file_and_are_not_counted_as_there(
    data: Path, flushes: Flushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of the positions (the lake) would leave a gap where the rest of them comes later."""
    monkeypatch.setattr(sink, "FLUSH_ROWS", 6)
    monkeypatch.setattr(sink, "BULK", 20)
    part = StorePartition(data, None, False, None)
    part.write_batch([stored(0, 20), output(0, 1)])  # enough rows, and enough events
    part.write_batch([stored(20, 5), stored(25, 2), output(2, 3, 4, 5)])  # enough rows, few events
    part.write_batch([])
    part.close()
    assert [(tables.get("events"), positions["p"].next_offset) for tables, positions in flushes] == [
        (20, 20),
        (None, 20),
        (7, 27),
    ]
    assert offsets(data) == list(range(27))


def test_a_snapshot_says_what_is_durable(data: Path, flushes: Flushes) -> None:
    """A snapshot of rows that were only handed over would lose them in a crash right after it."""
    part = StorePartition(data, None, False, None)
    part.write_batch([stored(0, 10, letters=2), output(0)])
    positions, counts = pickle.loads(part.snapshot())
    assert positions == {"p": Position(12, 0)}
    assert (counts.records, counts.events, counts.dead_letters) == (12, 10, 2)
    assert flushes == [({"events": 10, "claims": 2, "dead_letters": 2, "transitions": 1}, positions)]
    part.close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Flushes take until this is set."""
    go = threading.Event()
    flush = Store.flush

    def slow(self: Store, *args: Any) -> None:
        assert go.wait(60)
        flush(self, *args)

    monkeypatch.setattr(Store, "flush", slow)
    yield go
    go.set()


def test_a_snapshot_waits_for_the_writer(data: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading goes on while the store writes; a snapshot does not get ahead of it."""
    monkeypatch.setattr(sink, "FLUSH_EVENTS", 10)
    part = StorePartition(data, None, False, None)
    part.write_batch([stored(0, 10)])  # returns at once, though nothing is written yet
    done = threading.Event()
    taken: list[bytes] = []

    def take() -> None:
        taken.append(part.snapshot())
        done.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not done.wait(0.2)
    held.set()
    assert done.wait(60)
    thread.join()
    part.close()
    assert pickle.loads(taken[0])[0] == {"p": Position(10, 0)}
    assert offsets(data) == list(range(10))


def test_a_failed_write_fails_the_run(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full: the next snapshot must not claim the rows, and somebody must be told."""

    def full(self: Store, *args: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Store, "flush", full)
    part = StorePartition(data, None, False, None)
    part.write_batch([stored(0, 10)])
    with pytest.raises(OSError, match="No space left"):
        part.snapshot()


def test_what_was_flushed_after_the_snapshot_is_dropped_and_comes_again(data: Path) -> None:
    """`kill -9` between two snapshots: rows that lie beyond the first one would be there twice."""
    part = StorePartition(data, None, False, None)
    part.write_batch([stored(0, 10, letters=1), output(0)])
    snapshot = part.snapshot()
    part.write_batch([stored(11, 10, letters=3), output(1, 2)])
    part.snapshot()  # this one is lost: the kill came before Bytewax had written it
    part.close()
    again = StorePartition(data, snapshot, True, None)
    for batch in (
        [stored(11, 4)],
        [stored(15, 6, letters=3)],
        [output(1)],
        [output(2, 3)],
    ):  # other batches than before
        again.write_batch(batch)  # type: ignore[arg-type]
    positions, counts = pickle.loads(again.snapshot())
    again.close()
    assert offsets(data) == [*range(10), *range(11, 21)]
    assert offsets(data, "dead_letters") == [10, 21, 22, 23]
    assert positions == {"p": Position(24, 0)}
    assert (counts.records, counts.events, counts.dead_letters) == (24, 20, 4)
    with closing(duckdb.connect(str(data / "store.duckdb"), read_only=True)) as con:
        assert con.execute("SELECT n FROM transitions ORDER BY n").fetchall() == [(0,), (1,), (2,), (3,)]
        assert (
            dict(con.execute("SELECT key, value FROM meta WHERE key LIKE 'count.%'").fetchall())["count.events"] == "20"
        )


def test_killed_before_the_first_snapshot(data: Path) -> None:
    """Everything comes again from the beginning, so nothing of the first attempt may stay."""
    part = StorePartition(data, None, False, None)
    part.write_batch([stored(0, 10, letters=1), output(0)])
    part.close()
    again = StorePartition(data, None, True, None)
    assert again._store.positions()["p"].next_offset == 0
    again.write_batch([stored(0, 10, letters=1), output(0)])
    again.close()
    assert offsets(data) == list(range(10))
    assert offsets(data, "dead_letters") == [10]


def test_a_batch_without_a_watermark_keeps_the_last_one(data: Path) -> None:
    """Batches that a configuration cuts have none of their own."""
    part = StorePartition(data, None, False, None)
    part.write_batch([stored(0, 5, watermark=7_000_000), stored(5, 5, watermark=NEVER)])
    positions, _ = pickle.loads(part.snapshot())
    part.close()
    assert positions == {"p": Position(10, 7_000_000)}


def test_the_lake_is_published_with_a_snapshot(data: Path) -> None:
    """Analysts see a long replay grow; and never more than what is durable."""
    part = StorePartition(data, None, False, 0.0)
    part.write_batch([stored(0, 10)])
    part.snapshot()
    part.close()
    with closing(duckdb.connect(str(data / "analyst.duckdb"), read_only=True)) as con:
        assert con.execute("SELECT count(*) FROM events").fetchall() == [(10,)]
