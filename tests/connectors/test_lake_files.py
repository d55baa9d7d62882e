"""The lake of a cluster: each row once, whatever crashes when; in a directory and in S3."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from connectors import lake_files, rolled
from connectors.lake_files import ROLLED, LakeError, LakeFiles, views
from connectors.schema import TABLES, sql_type
from operators.events import EVENTS
from operators.frames import empty
from operators.rollup import ROLLUP, rollup
from tests.stores import event, incident, rows, step, t

MIDNIGHT = datetime(2025, 3, 27, tzinfo=UTC)
PART = "tocsin.log-3"
# Where one name begins with the other, what belongs to the one is easily taken for the other's.
PARTS = ("tocsin.log-1", "tocsin.log-10")


@dataclass(frozen=True)
class Place:
    """An empty lake, and a look at what is in it that does not go through the code under test."""

    where: str
    base: str
    files: fs.FileSystem

    @property
    def local(self) -> bool:
        return not self.where.startswith("s3:")

    def paths(self, folder: str = "") -> list[str]:
        """All files below a folder, relative to the lake."""
        below = fs.FileSelector(f"{self.base}/{folder}".rstrip("/"), recursive=True, allow_not_found=True)
        found = [info for info in self.files.get_file_info(below) if info.type == fs.FileType.File]
        return sorted(info.path.removeprefix(f"{self.base}/") for info in found)

    def visible(self) -> list[str]:
        return [path for path in self.paths() if not path.startswith("_staged/")]

    def staged(self) -> list[str]:
        return self.paths("_staged")

    def content(self, path: str) -> bytes:
        with self.files.open_input_stream(f"{self.base}/{path}", compression=None) as file:
            return bytes(file.read())

    def rows(self, table: str) -> pl.DataFrame:
        """What a reader who knows nothing but the final paths sees, file by file."""
        found = [pl.read_parquet(self.content(path), hive_partitioning=False) for path in self.paths(table)]
        return pl.concat(found) if found else rows(table)

    def offsets(self, partition: str = "p") -> list[int]:
        return sorted(self.rows("events").filter(pl.col("partition") == partition)["offset"].to_list())

    def views(self, target: Path) -> duckdb.DuckDBPyConnection:
        """A connection with the views. What lies in S3 is brought to `target`, for want of DuckDB's extension."""
        statements = views(self.where)
        if not self.local:
            for path in self.paths():
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(self.content(path))
            statements = [statement.replace(self.where, str(target)) for statement in statements]
        con = duckdb.connect()
        for statement in statements:
            con.execute(statement)
        return con


class Server:
    """S3 on this machine, with one bucket."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def without_rights(self) -> None:
        """From now on, whoever is not known or has no right is refused."""
        self._authenticate_after("0")

    def with_all_rights(self) -> None:
        self._authenticate_after("inf")

    def _authenticate_after(self, requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        url = f"{self.endpoint}/moto-api/reset-auth"
        urllib.request.urlopen(urllib.request.Request(url, requests.encode(), headers, method="POST")).close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    moto = pytest.importorskip("moto.server", reason="moto, which plays S3, is not installed: pip install -e '.[dev]'")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        # Whoever runs the tests may have credentials of their own.
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        _s3(f"{host}:{port}").create_dir("bucket")
        yield Server(f"http://{host}:{port}")
    running.stop()


def _s3(endpoint: str) -> fs.S3FileSystem:
    return fs.S3FileSystem(endpoint_override=endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True)


Places = Callable[[], Place]


@pytest.fixture(scope="module", params=["local", "s3"])
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Makes empty lakes of one kind."""
    if request.param == "s3":
        files = _s3(request.getfixturevalue("server").endpoint.removeprefix("http://"))
        return lambda: _place("s3://", f"bucket/{uuid.uuid4().hex}/lake", files)
    return lambda: _place("", str(tmp_path_factory.mktemp("shared") / "lake"), fs.LocalFileSystem())


def _place(scheme: str, base: str, files: fs.FileSystem) -> Place:
    return Place(scheme + base, base, files)


@pytest.fixture
def place(places: Places) -> Place:
    return places()


class Crash(BaseException):
    """The process is gone: no handler may catch this and go on."""


@dataclass
class Fragile:
    """A file system that lets so many changes through, and then the process dies."""

    files: Any
    left: int
    crashed: bool = field(default=False, init=False)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.files, name)
        return self._counted(name, call) if name.startswith(("open_out", "move", "copy", "delete")) else call

    def _counted(self, name: str, call: Any) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if self.left:
                self.left -= 1
                return call(*args, **options)
            if name == "open_output_stream" and not self.crashed:
                with call(*args, **options) as file:
                    file.write(b"PAR1 and not much more")
            self.crashed = True
            raise Crash

        return counted


def crashing(lake: LakeFiles, after: int) -> LakeFiles:
    """The lake of a process that dies after so many changes."""
    dying = LakeFiles(lake.where)
    dying._fs = Fragile(dying._fs, after)
    return dying


def log(offsets: Sequence[int], partition: str = "p", days: Sequence[int] = (0,)) -> pl.DataFrame:
    """Events at these offsets, in turn on these days."""
    at = [MIDNIGHT + timedelta(days=days[n % len(days)], seconds=n) for n in offsets]
    return rows("events", *({**event(n, 0, "a", "x", partition=partition), "at": at[i]} for i, n in enumerate(offsets)))


# ---------------------------------------------------------------- staging and committing


def test_nobody_sees_a_row_before_its_snapshot_is_complete(place: Place) -> None:
    """Its epoch may still be taken back; a reader would have counted what never happened."""
    lake = LakeFiles.open(place.where)
    events = log(range(6), days=(0, 1))
    names = lake.stage(PART, "events", events, 0)
    assert place.visible() == []
    assert place.staged() == sorted(names)
    lake.commit(names)
    file = f"{PART}-00000000000000000000.parquet"
    assert place.visible() == [f"events/date=2025-03-27/{file}", f"events/date=2025-03-28/{file}"]
    assert place.staged() == []
    assert place.rows("events").sort("offset").equals(events)
    assert place.rows("events").schema == EVENTS


def test_opening_leaves_nothing_behind(place: Place) -> None:
    """What is written to see whether it can be must not be taken for data."""
    LakeFiles.open(place.where)
    LakeFiles.open(place.where + "/")
    assert place.paths() == []


def test_a_day_is_that_of_at_in_utc(place: Place) -> None:
    """Who reads one folder expects exactly that day."""
    lake = LakeFiles.open(place.where)
    microsecond = timedelta(microseconds=1)
    frame = rows("events", *({**event(n, 0, "a", "x"), "at": MIDNIGHT + n * microsecond} for n in (1, -1, 0)))
    lake.commit(lake.stage(PART, "events", frame, 7))
    file = f"{PART}-{7:020d}.parquet"
    days = {path: pl.read_parquet(place.content(path))["offset"].to_list() for path in place.visible()}
    assert days == {f"events/date=2025-03-26/{file}": [-1], f"events/date=2025-03-27/{file}": [1, 0]}


def test_a_dead_letter_without_a_time_is_kept(place: Place, tmp_path: Path) -> None:
    """What came before the first good record has none, and is just what somebody looks for."""
    lake = LakeFiles.open(place.where)
    frame = rows("dead_letters", {"offset": 0, "raw": "?"}, {"offset": 1, "raw": "!", "at": MIDNIGHT})
    lake.commit(lake.stage(PART, "dead_letters", frame, 0))
    lake.commit(lake.stage(PART, "dead_letters", frame[:1], 2))
    folders = {path.split("/")[1] for path in place.visible()}
    assert folders == {"date=__HIVE_DEFAULT_PARTITION__", "date=2025-03-27"}
    con = place.views(tmp_path)
    assert con.sql('SELECT raw FROM dead_letters ORDER BY "offset", raw').fetchall() == [("?",), ("?",), ("!",)]


def test_no_rows_make_no_file(place: Place) -> None:
    """Most epochs have no alerts: nobody wants a million empty files."""
    lake = LakeFiles.open(place.where)
    for table in set(TABLES).difference(rolled.VIEWS):
        assert lake.stage(PART, table, rows(table), 0) == ()
    assert lake.stage(PART, ROLLED, empty(ROLLUP), 0) == ()
    lake.commit(())
    lake.recover(PART, ())
    assert place.paths() == []


def test_files_are_read_fast(place: Place) -> None:
    """Groups of rows with statistics can be skipped and shared among threads; other types would break the views."""
    lake = LakeFiles.open(place.where)
    events = pl.concat([log(range(1))] * 130_000).with_columns(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("offset"), pl.lit(None).alias("code")
    )
    lake.commit(lake.stage(PART, "events", events, 0))
    file = pq.ParquetFile(BytesIO(place.content(place.visible()[0])))
    column = file.metadata.row_group(0).column(list(EVENTS).index("offset"))
    assert file.metadata.num_row_groups == 2
    assert (column.compression, column.statistics.has_min_max) == ("ZSTD", True)
    assert place.rows("events").schema == EVENTS


def test_parts_have_files_of_their_own_whatever_they_are_called(place: Place) -> None:
    """A partition is called as somebody's file or topic is; two that share a file name lose one's rows."""
    lake = LakeFiles.open(place.where)
    called = ["a/b", "a~2Fb", "a b", "..", ".a", "_a", "a=b", "ä*?[x]", "", "x" * 240, "x" * 239 + "y", "../../up"]
    names = [lake.stage(part, "claims", rows("claims", {"partition": part, "offset": 1}), 1) for part in called]
    assert len(place.staged()) == len(called)
    for part, staged in zip(called, names, strict=True):
        lake.recover(part, staged)
    assert sorted(place.rows("claims")["partition"]) == sorted(called)
    assert all(path.startswith("claims/") and path[7].isalnum() | (path[7] == "~") for path in place.visible())


def test_what_was_returned_survives_the_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snapshot that names a file is durable; a file that is not would be missed at the next start."""
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    where = tmp_path / "a" / "b" / "lake"
    lake = LakeFiles.open(str(where))

    def unsynced(*names: str) -> set[Path]:
        needed = {path for name in names for path in ((where / name), *(where / name).parents)}
        return {path for path in needed if path.is_relative_to(tmp_path) and path.stat().st_ino not in synced}

    assert {path.stat().st_ino for path in (tmp_path, *where.parents[:2])} <= synced  # they hold new entries
    synced -= {path.stat().st_ino for path in (where, *where.rglob("*"))}
    names = lake.stage(PART, "events", log(range(4), days=(0, 1)), 0)
    assert unsynced(*names) == set()
    synced -= {path.stat().st_ino for path in (where, *where.rglob("*")) if path.is_dir()}
    lake.commit(names)
    assert unsynced(*(name.split("/", 2)[2] for name in names)) == set()
    # A process that dies between moving and syncing leaves the syncing to the next one.
    synced -= {path.stat().st_ino for path in (where, *where.rglob("*")) if path.is_dir()}
    lake.commit(names)
    assert unsynced(*(name.split("/", 2)[2] for name in names)) == set()


# ---------------------------------------------------------------- crashes


def test_a_crash_between_stage_and_commit(place: Place) -> None:
    """What the snapshot names counts, all else comes again: with other cuts, and each row is there once."""
    lake = LakeFiles.open(place.where)
    named = lake.stage(PART, "events", log(range(5)), 0)
    lake.stage(PART, "events", log(range(5, 8)), 5)
    lake.stage(PART, "events", log(range(8, 9)), 8)
    again = LakeFiles.open(place.where)
    again.recover(PART, named)
    assert place.offsets() == [0, 1, 2, 3, 4]
    assert place.staged() == []
    again.commit(again.stage(PART, "events", log(range(5, 9)), 5))
    assert place.offsets() == list(range(9))


def test_a_crash_in_the_middle_of_a_commit(places: Places) -> None:
    """Some files are visible, some not, one perhaps both; the next process completes it, and reads nothing twice."""
    crashes, after, partly = 0, 0, set()
    while crashes == after:
        place = places()
        lake = LakeFiles.open(place.where)
        names = lake.stage(PART, "events", log(range(9), days=(0, 1, 2)), 0)
        try:
            crashing(lake, after).commit(names)
        except Crash:
            crashes += 1
        partly.add(len(place.visible()))
        assert set(place.offsets()) <= set(range(9))
        assert len(place.offsets()) == len(set(place.offsets()))
        for _ in range(2):
            LakeFiles(place.where).recover(PART, names)
            assert place.offsets() == list(range(9))
            assert place.staged() == []
        after += 1
    assert {0, 3} < partly  # else no crash came between two files
    assert crashes >= 3


def test_a_crash_while_recovering(places: Places) -> None:
    """A machine that fails once often fails again."""
    crashes, after = 0, 0
    while crashes == after:
        place = places()
        lake = LakeFiles.open(place.where)
        named = lake.stage(PART, "events", log(range(4), days=(0, 1)), 0)
        lake.stage(PART, "events", log(range(4, 6)), 4)
        try:
            crashing(lake, after).recover(PART, named)
        except Crash:
            crashes += 1
        lake.recover(PART, named)
        assert (place.offsets(), place.staged()) == ([0, 1, 2, 3], [])
        after += 1
    assert crashes >= 3


def test_a_part_leaves_the_other_parts_alone(place: Place) -> None:
    """Workers restart one by one, and a name may begin with another one's."""
    lake = LakeFiles.open(place.where)
    one, ten = (lake.stage(part, "events", log(range(3), part), 0) for part in PARTS)
    lake.recover(PARTS[0], ())
    assert place.staged() == sorted(ten)
    lake.commit(ten)
    assert (place.offsets(PARTS[0]), place.offsets(PARTS[1])) == ([], [0, 1, 2])
    with pytest.raises(LakeError, match="neither staged nor committed"):
        lake.commit(one)


@dataclass
class Part:
    """A sink part as a cluster runs it: its input is a log of `size` events on three days."""

    name: str
    place: Place
    days: Sequence[int]
    size: int = 12
    position: int = 0
    names: tuple[str, ...] = ()
    completed: tuple[int, tuple[str, ...]] = (0, ())

    def stage(self, rows: int, lake: LakeFiles) -> None:
        end = min(self.position + rows, self.size)
        offsets = range(self.position, end)
        frame = log(offsets, self.name).with_columns(
            at=pl.Series([MIDNIGHT + timedelta(days=self.days[n]) for n in offsets], dtype=EVENTS["at"])
        )
        self.names += lake.stage(self.name, "events", frame, self.position)
        self.position = end

    def complete(self, lake: LakeFiles) -> None:
        """The epoch ends, its snapshot is complete, the next one begins."""
        self.completed = (self.position, self.names)
        self.names = ()
        lake.commit(self.completed[1])

    def recover(self, lake: LakeFiles) -> None:
        lake.recover(self.name, self.completed[1])
        self.position, self.names = self.completed[0], ()

    def do(self, action: str, rows: int, after: int | None) -> None:
        """Do one thing; with `after`, in a process that dies after so many changes, and start again."""
        lake = LakeFiles(self.place.where)
        try:
            getattr(self, action)(
                *([rows] if action == "stage" else []), lake if after is None else crashing(lake, after)
            )
        except Crash:
            pass
        if after is not None or action == "recover":
            self.recover(lake)
            assert self.place.offsets(self.name) == list(range(self.completed[0]))


ACTIONS = st.tuples(
    st.sampled_from(PARTS),
    st.sampled_from(["stage", "stage", "stage", "complete", "complete", "recover"]),
    st.integers(1, 5),
    st.none() | st.integers(0, 8),
)


def test_each_row_is_there_once_whatever_crashes_when(places: Places) -> None:
    """The promise: two parts, cut at random, that crash at random while they stage, commit and recover."""

    @settings(max_examples=max(1, settings().max_examples // (1 if places().local else 5)))
    @given(
        st.lists(ACTIONS, max_size=15),
        st.lists(st.lists(st.integers(0, 2), min_size=12, max_size=12), min_size=2, max_size=2),
    )
    def run(actions: list[tuple[str, str, int, int | None]], days: list[list[int]]) -> None:
        place = places()
        parts = {name: Part(name, place, each) for name, each in zip(PARTS, days, strict=True)}
        for name, action, size, after in actions:
            parts[name].do(action, size, after)
            for part in parts.values():
                assert place.offsets(part.name) == list(range(part.completed[0]))
        for part in parts.values():
            while part.position < part.size:
                part.stage(5, LakeFiles(place.where))
            part.complete(LakeFiles(place.where))
        assert place.staged() == []
        for part in parts.values():
            seen = place.rows("events").filter(pl.col("partition") == part.name).sort("offset")
            assert seen["offset"].to_list() == list(range(part.size))
            assert seen["at"].to_list() == [MIDNIGHT + timedelta(days=day) for day in part.days]

    run()


def test_a_row_that_would_be_missing_is_not_passed_over(place: Place) -> None:
    """A wrong lake, or a file removed by hand: going on would lose rows, and nobody would know."""
    lake = LakeFiles.open(place.where)
    names = lake.stage(PART, "events", log(range(4), days=(0, 1)), 0)
    lake.commit(names)
    place.files.delete_file(f"{place.base}/{names[1].split('/', 2)[2]}")
    for again in (lambda: lake.commit(names), lambda: lake.recover(PART, names)):
        with pytest.raises(LakeError, match=r"date=2025-03-28/.*neither staged nor committed.*put it back"):
            again()
    elsewhere = LakeFiles.open(place.where + "-other")
    with pytest.raises(LakeError, match=r" and 1 more, which .* name the right lake"):
        elsewhere.recover(PART, names)


def test_a_cluster_that_starts_from_nothing_does_not_double_a_lake(place: Place) -> None:
    """Its recovery directory was lost, the lake was not: every row would come a second time."""
    lake = LakeFiles.open(place.where)
    lake.commit(lake.stage(PART, "events", log(range(4)), 0))
    before = place.content(place.visible()[0])
    with pytest.raises(LakeError, match=r"is there already.*name another lake"):
        LakeFiles.open(place.where).stage(PART, "events", log(range(2)), 0)
    assert place.content(place.visible()[0]) == before


def test_a_first_offset_below_zero_is_refused(place: Place) -> None:
    """Its name would not sort, and could be another part's."""
    with pytest.raises(ValueError, match="must not be negative"):
        LakeFiles(place.where).stage(PART, "events", log(range(1)), -1)


def test_a_commit_that_storage_refuses_can_be_tried_again(place: Place) -> None:
    """And is not taken for a lost file: the advice to put one back would lead nowhere."""
    lake = LakeFiles.open(place.where)
    names = lake.stage(PART, "events", log(range(4), days=(0, 1)), 0)

    class Full:
        def __getattr__(self, name: str) -> Any:
            return self.refuse if name in ("move", "copy_file") else getattr(lake._fs, name)

        def refuse(self, *paths: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full = LakeFiles(place.where)
    full._fs = Full()
    with pytest.raises(LakeError, match="there is no room left; free some, and start again"):
        full.commit(names)
    assert place.visible() == []
    lake.commit(names)
    assert place.offsets() == [0, 1, 2, 3]


# ---------------------------------------------------------------- views


def test_views_show_the_tables_with_their_names_and_types(place: Place, tmp_path: Path) -> None:
    """A query that was written for one process must run on a cluster's lake."""
    lake = LakeFiles.open(place.where)
    unfilled = place.views(tmp_path / "empty")
    for name, table in TABLES.items():
        kinds = {column: sql_type(dtype) for column, dtype in table.columns.items()}
        kinds = {column: kind.replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE") for column, kind in kinds.items()}
        assert _kinds(unfilled, name) == kinds
        assert unfilled.sql(f"SELECT count(*) FROM {name}").fetchall() == [(0,)]
        if name in rolled.VIEWS:
            minutes = rollup(rows("events", event(0, 1, "a", "x", value=1.0)))
            names = lake.stage(f"part-{name}", ROLLED, minutes, 0) if name == ROLLED else ()
        else:
            names = lake.stage("shard-2", name, rows(name, dict.fromkeys(table.columns)), 0)
        before = 1 if name == "histogram_1m" else 0  # it shows the minutes, too
        assert place.views(tmp_path / name).sql(f"SELECT count(*) FROM {name}").fetchall() == [(before,)]
        lake.commit(names)
        filled = place.views(tmp_path / f"{name}-filled")
        assert _kinds(filled, name) == kinds
        assert filled.sql(f"SELECT count(*) FROM {name}").fetchall() == [(1,)]


def _kinds(con: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    return {column: kind for column, kind, *_ in con.sql(f"DESCRIBE {name}").fetchall()}


def test_views_show_the_rows_of_all_parts(place: Place, tmp_path: Path) -> None:
    """An analyst asks about the service, not about a partition."""
    lake = LakeFiles.open(place.where)
    for part in PARTS:
        given_none = log(range(3), part, days=(0, 1)).with_columns(
            id=pl.when(pl.col("offset") != 1).then(pl.lit("mine"))
        )
        lake.commit(lake.stage(part, "events", given_none, 0))
        lake.commit(lake.stage(part, "claims", rows("claims", {"partition": part, "offset": 1, "rule_id": "r"}), 0))
        steps = [step(part, 0, 1, "Open", "r", 1), step(part, 1, 24 * 60, "Recovering", "q", 1)]
        lake.commit(lake.stage(part, "transitions", rows("transitions", *steps), 0))
        lake.commit(lake.stage(part, "alerts", rows("alerts", {"id": f"alert {part}", "at": t(3)}), 0))
    con = place.views(tmp_path)
    ids = con.sql('SELECT partition, id FROM events ORDER BY partition, "offset"').fetchall()
    assert ids == [(part, id) for part in PARTS for id in ("mine", f"{part}:1", "mine")]
    assert con.sql('SELECT DISTINCT partition, "offset", rule_id FROM claims ORDER BY 1').fetchall() == [
        (part, 1, "r") for part in PARTS
    ]
    assert con.sql("SELECT incident_id, n FROM transitions ORDER BY ALL").fetchall() == [
        (part, n) for part in PARTS for n in (0, 1)
    ]
    assert con.sql("SELECT id FROM alerts ORDER BY id").fetchall() == [(f"alert {part}",) for part in PARTS]


def test_an_incident_is_shown_as_it_was_last_written(place: Place, tmp_path: Path) -> None:
    """It changes with every event; each change is a row of the lake."""
    lake = LakeFiles.open(place.where)
    for first, version, events in ((0, 7, 1), (1, 8, 5), (2, 6, 9)):  # the newest is neither the first nor the last
        two = [incident(id, "r", "a", 0, 1, events, tenant_count=None) for id in ("i", "k")]
        lake.commit(lake.stage("shard-0", "incidents", rows("incidents", *two[: 3 - first]), first, version))
        whom = [{"incident_id": "i", "tenant": tenant, "event_count": events} for tenant in ("x", None)]
        lake.commit(lake.stage("shard-0", "incident_tenants", rows("incident_tenants", *whom), first, version))
    last = rows("incidents", incident("j", "r", "a", 0, 1, 2), incident("i", "r", "a", 0, 1, 6, severity=None))
    con = place.views(tmp_path / "before")
    assert con.sql("SELECT id, event_count FROM incidents ORDER BY id").fetchall() == [("i", 5), ("k", 5)]
    assert con.sql("SELECT tenant, event_count FROM incident_tenants ORDER BY 1").fetchall() == [("x", 5), (None, 5)]
    lake.commit(lake.stage("shard-1", "incidents", last, 9))  # without a version: `first`
    con = place.views(tmp_path / "after")
    found = con.sql("SELECT id, event_count, severity FROM incidents ORDER BY id").fetchall()
    assert found == [("i", 6, None), ("j", 2, "high"), ("k", 5, "high")]


def test_a_rule_that_every_part_writes_is_shown_once(place: Place, tmp_path: Path) -> None:
    """Each worker knows the rules; a join with them must not multiply rows."""
    lake = LakeFiles.open(place.where)
    for part in PARTS:
        lake.commit(lake.stage(part, "rules", rows("rules", {"rule_id": "r", "version": "v", "definition": "{}"}), 0))
    assert place.views(tmp_path).sql("SELECT * FROM rules").fetchall() == [("r", "v", "{}")]


def test_views_made_once_see_what_comes_later(tmp_path: Path) -> None:
    """A dashboard keeps its connection open."""
    where = str(tmp_path / "it's [a] lake*" / "offset=7")  # which is no column here
    lake = LakeFiles.open(where)
    lake.commit(lake.stage(PART, "events", log(range(2)), 0))
    con = duckdb.connect()
    for statement in views(where):
        con.execute(statement)
    lake.commit(lake.stage(PART, "events", log(range(2, 5), days=(1, 2)), 2))
    lake.stage(PART, "events", log(range(5, 9)), 5)
    assert con.sql('SELECT "offset" FROM events ORDER BY 1').fetchall() == [(n,) for n in range(5)]


def test_views_of_a_bucket_name_it(server: Server) -> None:
    """The statements are for a DuckDB elsewhere. A prefix is there once something lies below it, and not before."""
    where = f"s3://bucket/{uuid.uuid4().hex}"
    assert all("read_parquet" not in statement for statement in views(where))
    lake = LakeFiles.open(where)
    lake.commit(lake.stage(PART, "alerts", rows("alerts", {"id": "a", "at": MIDNIGHT}), 0))
    assert any(f"read_parquet('{where}/alerts/date=*/*.parquet'" in statement for statement in views(where))


def test_a_bucket_without_a_prefix_is_a_lake(server: Server) -> None:
    """Who has a bucket for it alone need not invent a folder."""
    _s3(server.endpoint.removeprefix("http://")).create_dir("alone")
    lake = LakeFiles.open("s3://alone")
    lake.recover(PART, lake.stage(PART, "alerts", rows("alerts", {"id": "a", "at": MIDNIGHT}), 0))
    assert any("'s3://alone/alerts/date=*/*.parquet'" in statement for statement in views("s3://alone"))


def test_views_only_read(place: Place) -> None:
    """An analyst has the right to read, and no other."""
    lake = LakeFiles.open(place.where)
    lake.commit(lake.stage(PART, "events", log(range(2)), 0))
    before = place.paths()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LakeFiles, "_write", None)
        views(place.where)
    assert place.paths() == before


# ---------------------------------------------------------------- what is wrong, in sentences


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("s3://nobody-has-this/lake", "there is no such bucket; create it, or correct its name"),
        ("s3://", "the bucket is missing; write s3://bucket/prefix"),
        ("gs://bucket/lake", "a lake is a directory or s3://bucket/prefix; name one of these"),
    ],
)
def test_a_lake_that_cannot_be_is_refused_at_once(server: Server, where: str, sentence: str) -> None:
    with pytest.raises(LakeError, match=sentence) as caught:
        LakeFiles.open(where)
    assert str(caught.value).startswith(where)


def test_credentials_that_are_refused_are_told_from_rights_that_are_missing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is corrected where the cluster runs, the other by whoever owns the bucket."""
    boto3 = pytest.importorskip("boto3")
    users = boto3.client("iam", endpoint_url=server.endpoint, region_name="us-east-1")
    users.create_user(UserName="worker")
    key = users.create_access_key(UserName="worker")["AccessKey"]
    server.without_rights()
    try:
        with pytest.raises(LakeError, match="the credentials are refused; set AWS_ACCESS_KEY_ID and AWS_SECRET"):
            LakeFiles.open("s3://bucket/lake")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        with pytest.raises(LakeError, match="the credentials are refused"):
            LakeFiles.open("s3://bucket/lake")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        with pytest.raises(LakeError, match="access is denied; allow these credentials s3:GetObject, s3:PutObject"):
            LakeFiles.open("s3://bucket/lake")
        with pytest.raises(LakeError, match="access is denied"):
            views("s3://bucket/lake")
    finally:
        server.with_all_rights()
    LakeFiles.open("s3://bucket/lake")


def test_storage_that_does_not_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(LakeError, match="the storage does not answer; check AWS_ENDPOINT_URL"):
        LakeFiles.open("s3://bucket/lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint.replace("http", "https"))
    with pytest.raises(LakeError, match="the storage does not answer"):
        LakeFiles.open("s3://bucket/lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(LakeError, match=r"AWS_ENDPOINT_URL is 'minio:9000'; write it as http://host:port"):
        LakeFiles.open("s3://bucket/lake")


def test_storage_that_fails_later_is_told_in_the_same_words(server: Server) -> None:
    """A bucket may be deleted, a key revoked, while a cluster runs."""
    bucket = _s3(server.endpoint.removeprefix("http://"))
    bucket.create_dir("passing")
    lake = LakeFiles.open("s3://passing/lake")
    fs.S3FileSystem(
        endpoint_override=server.endpoint, scheme="http", region="us-east-1", allow_bucket_deletion=True
    ).delete_dir("passing")
    with pytest.raises(LakeError, match="there is no such bucket"):
        lake.stage(PART, "events", log(range(1)), 0)
    with pytest.raises(LakeError, match="there is no such bucket; correct"):
        views("s3://passing/lake")


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for where in (tmp_path / "file", tmp_path / "file" / "lake"):
        with pytest.raises(LakeError, match="a file is in the way; name a directory"):
            LakeFiles.open(str(where))
        with pytest.raises(LakeError, match="there is no such directory"):
            views(str(where))


@pytest.mark.parametrize("forbidden", ["", "lake", "lake/_staged"])
def test_a_directory_without_the_right_to_write(forbidden: str) -> None:
    """On a shared directory it is often only one of the machines that may not."""
    with tempfile.TemporaryDirectory() as root:  # pytest's own is closed to other users
        lake = Path(root) / "lake"
        if forbidden:
            (lake / "_staged").mkdir(parents=True)
        for path in (Path(root), *Path(root).rglob("*")):
            path.chmod(0o777)
        (Path(root) / forbidden).chmod(0o555)
        with _nobody():
            with pytest.raises(LakeError, match="this process may not write there; give it the right to"):
                LakeFiles.open(str(lake))
        (Path(root) / forbidden).chmod(0o777)
        with _nobody():
            LakeFiles.open(str(lake))


@contextmanager
def _nobody() -> Iterator[None]:
    """Be a user to whom rights apply: root may write everywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.EROFS, "it is read-only; mount it writable, or name another directory"),
        (errno.ENOSPC, "there is no room left; free some, and start again"),
        (errno.EDQUOT, "there is no room left"),
        (errno.EPERM, "this process may not write there"),
        (errno.EACCES, "this process may not write there"),
        (errno.EIO, r"lake cannot be used: \[Errno 5\]"),
    ],
)
def test_what_the_operating_system_refuses_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    """Who is called at night reads this line first."""
    lake = LakeFiles.open(str(tmp_path / "lake"))
    names = lake.stage(PART, "events", log(range(1)), 0)

    def refuse(path: Path) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(lake_files, "sync", refuse)
    attempts = (
        lambda: LakeFiles.open(lake.where),
        lambda: lake.stage(PART, "claims", rows("claims", {"offset": 1}), 0),
        lambda: lake.commit(names),
        lambda: lake.recover(PART, names),
    )
    for attempt in attempts:
        with pytest.raises(LakeError, match=sentence):
            attempt()
