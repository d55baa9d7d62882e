"""Events of a store lie in files, or are hot; whatever happens in between, each is seen once."""

import shutil
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import duckdb
import polars as pl
import pytest

from connectors import event_files, event_table, lake
from connectors.event_table import EventTable
from connectors.manifest import Manifest
from connectors.reader import open_reader
from connectors.store import Position, Store, StoreError
from query_api.fetch import QueryError, fetch
from query_api.sql import run_sql
from tests.stores import event, rows, t

DAY = 24 * 60


def batch(first: int, count: int, partition: str = "p", day: float = 0) -> pl.DataFrame:
    """Events of a partition at offsets from `first` on, a second apart."""
    made = (event(n, day * DAY + n / 60, "orders", "x") for n in range(first, first + count))
    return rows("events", *({**row, "partition": partition} for row in made))


def flush(store: Store, first: int, count: int, partition: str = "p", day: float = 0) -> None:
    store.flush({"events": batch(first, count, partition, day)}, {partition: Position(first + count, 0)})


def offsets(con: duckdb.DuckDBPyConnection, partition: str = "p") -> list[int]:
    """What the view shows of a partition, repetitions included."""
    found = con.execute('SELECT "offset" FROM events WHERE partition = ? ORDER BY 1', [partition]).fetchall()
    return [n for (n,) in found]


def analyst(data: Path) -> list[int]:
    """What an analyst sees who opens the published views now."""
    with duckdb.connect(str(data / "analyst.duckdb"), read_only=True) as con:
        return offsets(con)


def parts(data: Path) -> list[str]:
    """Names of the files that are there."""
    return sorted(Path(path).name for path in event_files.present(data))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten rows are many."""
    monkeypatch.setattr(event_table, "BULK", 10)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    Store.create(tmp_path / "data" / "store.duckdb", 4).close()
    return tmp_path / "data"


@pytest.fixture
def store(data: Path) -> Store:
    return Store.open(data / "store.duckdb")


# ---------------------------------------------------------------- where events go


def test_many_events_become_a_file_and_few_are_hot(store: Store, data: Path) -> None:
    """A replay writes each event once; a live service does not make a file for each request."""
    flush(store, 0, 10)
    assert (parts(data), store.hot_rows) == (["part-000001.parquet"], 0)
    flush(store, 10, 9)
    assert (parts(data), store.hot_rows) == (["part-000001.parquet"], 9)
    assert offsets(store.cursor()) == list(range(19))


def test_each_day_has_its_directory(store: Store, data: Path) -> None:
    """A flush around midnight, with a straggler of the day before."""
    events = pl.concat([batch(0, 1), batch(1, 10, day=1), batch(11, 10, day=2)])
    store.flush({"events": events}, {"p": Position(21, 0)})
    assert sorted(p.parent.name for p in (data / "lake/events").rglob("*.parquet")) == [
        "date=2025-03-27",
        "date=2025-03-28",
    ]
    assert store.hot_rows == 1
    store.roll()
    assert (data / "lake/events/date=2025-03-26/part-000003.parquet").exists()
    assert offsets(store.cursor()) == list(range(21))


def test_an_event_without_an_id_is_called_by_its_position(store: Store, data: Path) -> None:
    """`id` is what users give us when they ask about an event; hot, in a file, or published, it reads the same."""
    nameless = batch(0, 10).with_columns(id=pl.when(pl.col("offset") > 7).then(pl.lit(None, pl.String)).otherwise("id"))
    store.flush({"events": pl.concat([nameless, nameless[9:].with_columns(offset=pl.lit(10, pl.Int64))])}, {})
    store.flush({"events": nameless[9:].with_columns(offset=pl.lit(11, pl.Int64))}, {})
    lake.publish(store, data)
    ask = 'SELECT id FROM events WHERE "offset" > 6 ORDER BY "offset"'
    expected = [("e7",), ("p:8",), ("p:9",), ("p:10",), ("p:11",)]
    assert store.cursor().execute(ask).fetchall() == expected
    with duckdb.connect(str(data / "analyst.duckdb"), read_only=True) as con:
        assert con.execute(ask).fetchall() == expected


def test_an_event_without_effective_time_is_refused(store: Store) -> None:
    """It would belong to no day, and vanish without a word."""
    with pytest.raises(StoreError, match="effective time"):
        store.flush({"events": batch(0, 10).with_columns(at=pl.lit(None, pl.Datetime("us", "UTC")))}, {})


# ---------------------------------------------------------------- roll and merge


def test_a_roll_moves_hot_rows_into_files(store: Store, data: Path) -> None:
    """And shows them once before, during and after; also to whoever has begun to read."""
    for first in range(0, 8, 2):
        flush(store, first, 2)
    reader = store.cursor()
    reader.execute("BEGIN")
    assert offsets(reader) == list(range(8))
    store.roll(least=9)
    assert (store.hot_rows, parts(data)) == (8, [])
    store.roll(least=8)
    assert (store.hot_rows, parts(data)) == (0, ["part-000001.parquet"])
    assert offsets(reader) == list(range(8))
    reader.execute("COMMIT")
    assert offsets(reader) == list(range(8)) == offsets(store.cursor())
    store.roll()
    assert parts(data) == ["part-000001.parquet"]  # there was nothing to roll


def test_readers_of_other_threads_see_every_event_once(store: Store, data: Path) -> None:
    """Dashboards ask all the time: a moment with an event twice, or not at all, would be an alarm."""
    seen: list[list[int]] = []
    done = threading.Event()
    cursor = store.cursor()

    def read() -> None:
        while not done.is_set():
            seen.append(offsets(cursor))

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(40):
        flush(store, n * 3, 3)
        if n % 4 == 3:
            store.roll()
        if n % 20 == 19:
            store.merge(least=2)
    done.set()
    thread.join()
    assert len(seen) > 3
    for found in seen:
        assert found == list(range(len(found)))
        assert len(found) % 3 == 0  # whole flushes


def test_small_files_are_merged_and_the_old_ones_stay_for_a_while(store: Store, data: Path) -> None:
    """Weeks of live operation, and an analyst whose notebook has been open since this morning."""
    for n in range(3):
        flush(store, 10 * n, 10)
    lake.publish(store, data)
    with duckdb.connect(str(data / "analyst.duckdb"), read_only=True) as since_this_morning:
        store.merge(least=2)
        assert offsets(store.cursor()) == list(range(30))
        for _ in range(3):
            lake.publish(store, data)
        assert len(parts(data)) == 4
        assert offsets(since_this_morning) == list(range(30)) == analyst(data)
    lake.publish(store, data, last=True)
    assert parts(data) == ["part-000004.parquet"]
    assert analyst(data) == list(range(30))


def test_files_that_were_replaced_go_after_an_hour_of_publications(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the disk would fill with what nobody reads."""
    monkeypatch.setattr(lake, "KEPT", 2)
    for n in range(2):
        flush(store, 10 * n, 10)
    lake.publish(store, data)
    store.merge(least=2)
    counts = []
    for _ in range(3):
        lake.publish(store, data)
        counts.append(len(parts(data)))
    assert counts == [3, 3, 1]
    assert analyst(data) == list(range(20))


# ---------------------------------------------------------------- crashes


def crash(script: str, data: Path) -> None:
    """Run `script` in a process that kills itself, with a store open for writing and `flush` at hand."""
    begin = f"""
import os
from pathlib import Path
from connectors import event_table, event_files, lake
from connectors.store import Store, Position
from connectors.event_table import EventTable
from tests.connectors.test_event_table import flush
event_table.BULK = 10
data = Path({str(data)!r})
store = Store.open(data / "store.duckdb")
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", begin + script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr


BEFORE = "EventTable.apply = lambda *_: os._exit(9)\n"
AFTER = """
from contextlib import contextmanager
transaction = Store._transaction
@contextmanager
def deadly(self):
    with transaction(self):
        yield
    os._exit(9)
Store._transaction = deadly
"""


@pytest.mark.parametrize(("moment", "flushed"), [(BEFORE, 10), (AFTER, 20)])
def test_a_crash_in_a_flush_leaves_all_of_it_or_nothing(moment: str, flushed: int, store: Store, data: Path) -> None:
    """Between the file and the commit it is as if nothing had been written; right after the commit it is all there."""
    flush(store, 0, 10)
    lake.publish(store, data)
    store.close()
    crash(moment + "flush(store, 10, 10)", data)
    assert parts(data) == ["part-000001.parquet", "part-000002.parquet"]
    assert offsets(open_reader(data).connection) == list(range(flushed))  # before anybody has cleaned up
    assert analyst(data) == list(range(10))
    with Store.open(data / "store.duckdb") as again:
        assert len(parts(data)) == flushed / 10
        assert again.positions() == {"p": Position(flushed, 0)}
        flush(again, flushed, 10)
        assert offsets(again.cursor()) == list(range(flushed + 10))
        lake.publish(again, data)
    assert analyst(data) == list(range(flushed + 10))


@pytest.mark.parametrize("moment", [BEFORE, AFTER])
@pytest.mark.parametrize("work", ["store.roll()", "store.merge(least=2)", "store.resume({'p': 15})"])
def test_a_crash_in_maintenance_loses_and_repeats_nothing(moment: str, work: str, store: Store, data: Path) -> None:
    """Rolling, merging and going back are flushes, too."""
    for first, count in ((0, 10), (10, 10), (20, 5)):
        flush(store, first, count)
    if "roll" not in work:
        lake.publish(store, data)
    store.close()
    crash(moment + work, data)
    expected = list(range(15 if "resume" in work and moment == AFTER else 25))
    with Store.open(data / "store.duckdb") as again:
        assert offsets(again.cursor()) == expected
        again.compact()
        assert offsets(again.cursor()) == expected
        lake.publish(again, data, last=True)
        assert len(parts(data)) == 1
    assert analyst(data) == expected


def test_an_error_in_a_flush_leaves_a_file_that_nobody_sees(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full for the transaction: its events must not show, and the next flush must not meet the file."""

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(EventTable, "apply", full)
        with pytest.raises(OSError, match="No space left"):
            flush(store, 0, 10)
    assert (offsets(store.cursor()), store.positions()) == ([], {})
    flush(store, 0, 10)
    assert offsets(store.cursor()) == list(range(10))
    assert parts(data) == ["part-000001.parquet", "part-000002.parquet"]
    lake.publish(store, data)
    assert analyst(data) == list(range(10))
    assert parts(data) == ["part-000002.parquet"]


@pytest.mark.parametrize("left", ["part-000099.parquet", "part-000002.parquet.new"])
def test_what_does_not_count_is_invisible_and_removed(left: str, store: Store, data: Path) -> None:
    """A half-written file, or one that a crash left: whole as it may look, it was never flushed."""
    flush(store, 0, 10)
    store.close()
    [file] = (data / "lake/events").rglob("part-000001.parquet")
    shutil.copy(file, file.with_name(left))
    assert offsets(open_reader(data).connection) == list(range(10))
    Store.open(data / "store.duckdb").close()
    assert parts(data) == ["part-000001.parquet"]


def test_a_file_name_is_not_used_again(store: Store, data: Path) -> None:
    """An analyst's view may name the file of a run that was taken back: it must not show what came instead."""
    flush(store, 0, 10)
    lake.publish(store, data)
    store.resume({})
    store.close()
    with Store.open(data / "store.duckdb") as again:
        flush(again, 0, 12)
        assert parts(data) == ["part-000001.parquet", "part-000002.parquet"]
        assert analyst(data) == list(range(10))
        assert offsets(again.cursor()) == list(range(12))


# ---------------------------------------------------------------- resume


def test_resume_keeps_drops_and_cuts_files(store: Store, data: Path) -> None:
    """Files before the snapshot stay as they are, files beyond go, one that straddles is written anew without it."""
    for first in (0, 10, 20):
        flush(store, first, 10)
    store.flush({"events": pl.concat([batch(30, 5), batch(0, 15, "q")])}, {})
    flush(store, 35, 3)
    store.resume({"p": 15, "q": 4})
    assert offsets(store.cursor()) == list(range(15))
    assert offsets(store.cursor(), "q") == list(range(4))
    ask = 'SELECT path[-19:], "rows" FROM event_files ORDER BY 1'
    assert store.cursor().execute(ask).fetchall() == [
        ("part-000001.parquet", 10),
        ("part-000005.parquet", 5),
        ("part-000006.parquet", 4),
    ]
    spans = 'SELECT partition, min(first_offset), max(last_offset), sum("rows") FROM event_spans GROUP BY 1 ORDER BY 1'
    assert store.cursor().execute(spans).fetchall() == [("p", 0, 14, 15), ("q", 0, 3, 4)]
    store.flush({"events": pl.concat([batch(15, 30), batch(4, 11, "q")])}, {})
    assert offsets(store.cursor()) == list(range(45))
    assert offsets(store.cursor(), "q") == list(range(15))


def test_resume_drops_all_of_a_partition_it_does_not_know(store: Store) -> None:
    """A partition first met after the snapshot is read from its beginning again, in whatever files it lies."""
    store.flush({"events": pl.concat([batch(0, 10), batch(0, 10, "new")])}, {})
    flush(store, 10, 5, "new")
    store.resume({"p": 10})
    assert (offsets(store.cursor()), offsets(store.cursor(), "new")) == (list(range(10)), [])


def test_what_was_published_outlives_a_run_that_is_taken_back(store: Store, data: Path) -> None:
    """Published, killed, resumed and killed again before the next publication: the views still open their files."""
    flush(store, 0, 10)
    lake.publish(store, data)
    for _ in range(2):
        store.resume({})
        store.close()
        store = Store.open(data / "store.duckdb")
    assert offsets(store.cursor()) == []
    assert analyst(data) == list(range(10))


def test_views_written_just_before_a_crash_keep_their_files(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after `analyst.duckdb` and before the manifest, then taken back by a resumed run that is killed, too."""
    flush(store, 0, 10)
    lake.publish(store, data)
    flush(store, 10, 10)
    write = Manifest.write

    def killed(self: Manifest, folder: Path) -> None:
        if self.number == 2:
            raise KeyboardInterrupt
        write(self, folder)

    with monkeypatch.context() as power:
        power.setattr(Manifest, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            lake.publish(store, data)
    for _ in range(2):
        store.resume({"p": 5})
        store.close()
        store = Store.open(data / "store.duckdb")
    assert analyst(data) == list(range(20))
    lake.publish(store, data, last=True)
    assert analyst(data) == list(range(5))
    assert len(parts(data)) == 1


# ---------------------------------------------------------------- readers


def test_analysts_see_what_was_published_and_nothing_else_while_a_writer_goes_on(store: Store, data: Path) -> None:
    """They open it at any time: half a flush, or one without its incidents, would be a wrong number in a report."""
    flush(store, 0, 10)
    flush(store, 10, 3)
    lake.publish(store, data)
    assert analyst(data) == list(range(13))
    flush(store, 13, 10)
    flush(store, 23, 3)
    event_files.write(data, t(0).date(), batch(26, 10), 999)  # a flush that is being written
    assert analyst(data) == list(range(13))
    assert offsets(lake.connect(data)) == list(range(13))
    lake.publish(store, data)
    assert analyst(data) == list(range(26)) == offsets(lake.connect(data))


def test_a_data_directory_can_be_moved(store: Store, data: Path, tmp_path: Path) -> None:
    """To another disk, or into a container; and then go on there."""
    flush(store, 0, 10)
    lake.publish(store, data)
    store.close()
    shutil.move(data, moved := tmp_path / "it's elsewhere")
    assert offsets(open_reader(moved).connection) == list(range(10))
    with Store.open(moved / "store.duckdb") as again:
        flush(again, 10, 10)
        assert offsets(again.cursor()) == list(range(20))
        lake.publish(again, moved)
    with duckdb.connect(str(moved / "store.duckdb"), read_only=True) as plain:
        assert offsets(plain) == list(range(20))
    assert analyst(moved) == list(range(20))


def test_a_relative_directory_means_the_same_from_anywhere(
    tmp_path: Path, data: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--data data`, and an analyst who starts elsewhere."""
    store.close()
    monkeypatch.chdir(data.parent)
    with Store.open(Path("data/store.duckdb")) as again:
        flush(again, 0, 10)
        lake.publish(again, Path("data"))
    monkeypatch.chdir("/")
    assert analyst(data) == list(range(10))


@pytest.mark.parametrize("where", ["store", "lake"])
def test_a_persons_sql_reads_files_of_events_and_no_others(where: str, store: Store, data: Path) -> None:
    """A query that somebody pasted must not read a neighbour's data, though the view itself reads files."""
    flush(store, 0, 10)
    lake.publish(store, data)
    (data / "secret.csv").write_text("a\n1\n")
    batch(0, 1).write_parquet(data / "secret.parquet")
    if where == "store":
        store.close()
    reading = open_reader(data)
    assert reading.origin == where
    assert run_sql(reading.connection, "SELECT count(*) AS n FROM events")["n"][0] == 10
    up = f"{data}/lake/../secret.parquet"
    for path in (data / "secret.csv", data / "secret.parquet", up, "/etc/passwd"):
        for read in ("read_text", "read_csv", "read_parquet", "read_blob"):
            with pytest.raises(QueryError, match="disabled by configuration"):
                run_sql(reading.connection, f"FROM {read}('{path}')")
    for query in (f"FROM '{data}/secret.parquet'", "SET VARIABLE tocsin_data = '/'", "RESET allowed_directories"):
        with pytest.raises(QueryError):
            run_sql(reading.connection, query)


# ---------------------------------------------------------------- files that are gone


def test_a_writer_refuses_a_store_whose_files_are_gone(store: Store, data: Path) -> None:
    """An archive that is not mounted: writing on would make the loss final."""
    flush(store, 0, 10)
    flush(store, 10, 10)
    store.close()
    hidden = data / "lake-not-mounted"
    (data / "lake").rename(hidden)
    with pytest.raises(StoreError, match=r"2 of 2 files of events are missing.*put them back"):
        Store.open(data / "store.duckdb")
    with closing(open_reader(data).connection) as con:
        with pytest.raises(QueryError, match="events cannot be read"):
            fetch(con, "FROM events")
        assert fetch(con, "FROM incidents").is_empty()  # the rest can still be read
    hidden.rename(data / "lake")
    with Store.open(data / "store.duckdb") as again:
        assert offsets(again.cursor()) == list(range(20))
