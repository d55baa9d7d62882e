"""The lake: what analysts see while the service runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from connectors import lake
from connectors.reader import open_reader
from connectors.schema import TABLES
from connectors.store import Position, Store, StoreError
from tests.stores import event, make_store, rows, tables


def count(data: Path, table: str) -> int:
    with duckdb.connect(str(data / "analyst.duckdb"), read_only=True) as con:
        return int(con.execute(f'SELECT count(*) FROM "{table}"').fetchall()[0][0])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(make_store(tmp_path / "data") / "store.duckdb")


@pytest.fixture
def data(store: Store) -> Path:
    return store.path.parent


def test_every_table_is_in_the_lake_with_the_same_rows_and_columns(store: Store, data: Path) -> None:
    """The same SQL must mean the same in store and lake."""
    lake.publish(store, data)
    con = lake.connect(data)
    for name in TABLES:
        ours, theirs = (c.sql(f'FROM "{name}" ORDER BY ALL').pl() for c in (store.cursor(), con))
        assert ours.equals(theirs), name


def test_the_lake_is_read_by_another_process_while_a_writer_holds_the_store(store: Store, data: Path) -> None:
    """That is what the lake is for. The reading process knows nothing of Tocsin, and starts elsewhere."""
    lake.publish(store, data)
    ask = (
        f"import duckdb; c = duckdb.connect({str(data / 'analyst.duckdb')!r}, read_only=True);"
        "print(c.execute('select count(*) from events').fetchall()[0][0])"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, cwd="/", check=True)
    assert done.stdout.strip() == str(tables()["events"].height)
    assert open_reader(data).origin == "lake"


def test_a_second_publication_adds_only_what_is_new(store: Store, data: Path) -> None:
    """Publishing a year again every minute would not end."""
    first = lake.publish(store, data)
    files = {path: path.stat().st_mtime_ns for path in (data / "lake").glob("events/**/*.parquet")}
    store.flush({"events": rows("events", event(15, 60 * 24, "a", "x"))}, {"p": Position(16)})
    second = lake.publish(store, data)
    assert (first.number, second.number) == (1, 2)
    assert count(data, "events") == tables()["events"].height + 1
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert [path.parent.name for path in (data / "lake/events").rglob("part-000002.parquet")] == ["date=2025-03-27"]


def test_an_interrupted_publication_is_undone_by_the_next(store: Store, data: Path) -> None:
    """A crash between the files and the manifest must not show events twice."""
    lake.publish(store, data)
    (data / "lake" / "manifest.json").unlink()
    (data / "lake" / ".staging" / "events").mkdir(parents=True)
    lake.publish(store, data)
    assert count(data, "events") == tables()["events"].height


def test_rows_written_again_after_a_resume_are_not_published_twice(store: Store, data: Path) -> None:
    """A publication may be ahead of the snapshot that a crashed run starts again from."""
    lake.publish(store, data)
    store.resume({"p": 5})
    lake.publish(store, data)
    again = tables()["events"].filter(tables()["events"]["offset"] >= 5)
    store.flush({"events": again}, {"p": Position(15)})
    lake.publish(store, data)
    assert count(data, "events") == tables()["events"].height


def test_the_lake_can_be_moved(store: Store, data: Path, tmp_path: Path) -> None:
    """Archives move, and containers see other paths: one variable says where the files are."""
    lake.publish(store, data)
    shutil.copytree(data, moved := tmp_path / "it's elsewhere")
    shutil.rmtree(data / "lake")
    with duckdb.connect(str(moved / "analyst.duckdb"), read_only=True) as con:
        con.execute("SET VARIABLE tocsin_data = $1", [str(moved)])
        assert con.execute("SELECT count(*) FROM incidents").fetchall() == [(3,)]
    (moved / "store.duckdb").unlink()
    assert open_reader(moved).connection.execute("SELECT count(*) FROM incidents").fetchall() == [(3,)]


def test_a_lake_without_events_has_empty_views(tmp_path: Path) -> None:
    """`--no-events` stores none; asking for them is no error. Once there are some, the view shows them."""
    store = Store.create(tmp_path / "store.duckdb", 1)
    lake.publish(store, tmp_path)
    assert count(tmp_path, "events") == 0
    store.flush({"events": rows("events", event(0, 0, "a", "x"))}, {"p": Position(1)})
    lake.publish(store, tmp_path)
    assert count(tmp_path, "events") == 1


def test_a_reader_is_told_what_to_do_when_there_is_nothing_to_read(tmp_path: Path, store: Store, data: Path) -> None:
    """No store: make one. A store that is in use and was never published: say so."""
    with pytest.raises(StoreError, match="tocsin replay"):
        open_reader(tmp_path / "nothing")
    with pytest.raises(StoreError, match=r"in use.*nothing has been published"):
        open_reader(data)


@pytest.mark.parametrize("published", [True, False])
def test_a_reader_reaches_no_other_file(store: Store, data: Path, published: bool) -> None:
    """`tocsin sql` with somebody's query must not read /etc/passwd or write anything."""
    if published:
        lake.publish(store, data)
    else:
        store.close()
    con = open_reader(data).connection
    for query in ("FROM read_text('/etc/passwd')", f"COPY (SELECT 1) TO '{data / 'x.csv'}'", f"ATTACH '{data / 'y'}'"):
        with pytest.raises(duckdb.Error, match="disabled by configuration"):
            con.execute(query)
