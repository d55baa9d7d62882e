"""Exactly once, as far as it is the store's part."""

from pathlib import Path

import duckdb
import polars as pl
import pytest

from connectors.schema import BOOKKEEPING, STORE_VERSION, TABLES
from connectors.store import Position, Store, StoreError, StoreLockedError
from tests.stores import EVENTS, event, incident, rows, t, tables


def contents(store: Store) -> dict[str, list[tuple[object, ...]]]:
    con = store.cursor()
    found = {name: con.sql(f'FROM "{name}" ORDER BY ALL').pl() for name in (*TABLES, *BOOKKEEPING)}
    found["rollup_files"] = found["rollup_files"].drop("path")  # a name is never used again
    return {name: frame.rows() for name, frame in found.items()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store.duckdb", 4, {"lateness": "30s"})


def test_a_store_remembers_what_it_was_made_with(store: Store, tmp_path: Path) -> None:
    """A resumed run must find its shards, settings and positions again."""
    store.flush({}, {"p": Position(7, 123), "q": Position(0)}, {"note": "x"})
    store.close()
    with Store.open(tmp_path / "store.duckdb") as again:
        assert (again.shards, again.settings) == (4, {"lateness": "30s"})
        assert again.positions() == {"p": Position(7, 123), "q": Position(0, None)}
        assert again.meta()["note"] == "x"


def test_tables_have_the_columns_of_the_frames(store: Store) -> None:
    """A frame written and read again is the same frame: no column renamed, no time shifted."""
    store.flush(tables(), {})
    for name, frame in tables().items():
        read = store.cursor().sql(f'FROM "{name}"').pl().cast(frame.schema)
        assert read.sort(pl.all()).equals(frame.sort(pl.all())), name


def test_a_flush_repeated_after_resume_changes_nothing(store: Store) -> None:
    """A killed run starts again from its last snapshot: what it writes a second time must not be there twice."""
    early, late = EVENTS[:5], EVENTS[5:]
    rest = {name: frame for name, frame in tables().items() if name != "events"}
    store.flush({"events": rows("events", *early)}, {"p": Position(5, 0)})
    store.flush({"events": rows("events", *late), **rest}, {"p": Position(15, 0)})
    once = contents(store)
    store.resume({"p": 5})
    assert store.positions() == {"p": Position(5, 0)}
    assert len(contents(store)["events"]) == 5
    store.flush({"events": rows("events", *late), **rest}, {"p": Position(15, 0)})
    assert contents(store) == once


def test_resume_drops_a_partition_it_does_not_know(store: Store) -> None:
    """A partition first met after the snapshot is read from its beginning again."""
    store.flush({"events": rows("events", {**event(0, 0, "a", "x"), "partition": "new"})}, {"new": Position(1)})
    store.resume({})
    assert contents(store)["events"] == []
    assert store.positions() == {"new": Position(0)}


def test_an_incident_written_twice_is_one_row_the_last(store: Store) -> None:
    """Incidents change while they live; within one flush and between flushes the newest row holds."""
    first, second = incident("i", "r", "s", 0, 1, 1), incident("i", "r", "s", 0, 2, 2)
    store.flush({"incidents": rows("incidents", first, second)}, {})
    assert [row[17] for row in contents(store)["incidents"]] == [2]
    store.flush({"incidents": rows("incidents", incident("i", "r", "s", 0, 3, 3))}, {})
    assert [row[17] for row in contents(store)["incidents"]] == [3]


def test_an_error_in_the_middle_of_a_flush_leaves_nothing_of_it(store: Store) -> None:
    """Half a flush would count its events and not their incidents."""
    store.flush(tables(), {"p": Position(15, 0)})
    before = contents(store)
    broken = rows("incidents", incident("i", "r", "s", 0, 1, 1)).with_columns(event_count=pl.lit("many"))
    with pytest.raises(StoreError, match="cannot write"):
        store.flush({"events": rows("events", event(20, 0, "a", "x")), "incidents": broken}, {"p": Position(21)})
    assert contents(store) == before
    store.flush({"events": rows("events", event(20, 0, "a", "x"))}, {"p": Position(21)})
    assert store.positions()["p"] == Position(21)


@pytest.mark.parametrize("frame", [rows("incidents").drop("id"), rows("incidents").with_columns(x=1)])
def test_rows_of_another_shape_are_refused(store: Store, frame: pl.DataFrame) -> None:
    """A column that is left out or unknown is a mistake of the writer, not a null."""
    with pytest.raises(StoreError, match="rows for incidents"):
        store.flush({"incidents": frame}, {})


def test_a_store_of_a_newer_version_is_refused_and_left_alone(store: Store, tmp_path: Path) -> None:
    """An old program must not write into a layout that it does not know."""
    path = tmp_path / "store.duckdb"
    store.flush({}, {}, {"store_version": str(STORE_VERSION + 1)})
    store.close()
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(StoreError, match="newer version of Tocsin"):
            Store.open(path, read_only)
    assert path.read_bytes() == before


def test_a_store_of_an_older_version_is_refused_with_what_to_do(store: Store, tmp_path: Path) -> None:
    """Its events lie elsewhere: reading it as one of today would show none."""
    path = tmp_path / "store.duckdb"
    store.flush({}, {}, {"store_version": "1"})
    store.close()
    before = path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(StoreError, match=r"older version of Tocsin .*replay again"):
            Store.open(path, read_only)
    assert path.read_bytes() == before


def test_what_is_no_store_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """A wrong --data must be told apart from a broken program."""
    with pytest.raises(StoreError, match="there is no store at"):
        Store.open(tmp_path / "none.duckdb")
    (tmp_path / "text.duckdb").write_text("hello " * 1000)
    with pytest.raises(StoreError, match="cannot open"):
        Store.open(tmp_path / "text.duckdb")
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    with pytest.raises(StoreError, match="no Tocsin store"):
        Store.open(tmp_path / "other.duckdb")


def test_a_store_is_not_made_over_another_and_never_half(store: Store, tmp_path: Path) -> None:
    """`create` on an existing store would lose it; what a crash left of one being made is no obstacle."""
    with pytest.raises(StoreError, match="exists already"):
        Store.create(tmp_path / "store.duckdb", 1)
    (tmp_path / "b.duckdb.new").write_text("left behind")
    Store.create(tmp_path / "b.duckdb", 1).close()


def test_a_reader_is_told_that_a_writer_holds_the_store(store: Store, tmp_path: Path) -> None:
    """Locked is not broken: readers then turn to the lake."""
    with pytest.raises(StoreLockedError, match="in use"):
        Store.open(tmp_path / "store.duckdb", read_only=True)


def test_compacting_keeps_every_row(store: Store) -> None:
    """Maintenance must never lose anything."""
    store.flush(tables(), {"p": Position(15, 0)})
    before = contents(store)
    store.compact()
    after = contents(store)
    assert before["events"][0][0] == t(0)
    for name in (*TABLES, "positions", "meta"):
        assert after[name] == before[name], name
