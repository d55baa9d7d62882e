"""Rows for a question, out of minutes, hours, events and memory: the same as counting the events one by one."""

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import rolled
from connectors.live_store import LiveStore, StoreClosedError
from connectors.memtable import Changes
from connectors.pipeline import RolledUp
from connectors.store import Position
from operators.events import DAY, HOUR, MINUTE
from operators.rollup import DIMENSIONS, WHOLE, added
from query_api.rollups import BY, Wanted, select
from tests.connectors.changes import before_each_statement
from tests.operators.test_rollup import START, dimensions, events, fails, frame

FIRST = int(START.timestamp()) * 1_000_000


@contextmanager
def opened() -> Iterator[LiveStore]:
    """An empty store of the service."""
    with tempfile.TemporaryDirectory() as folder, LiveStore.create(Path(folder) / "store.duckdb", 1) as store:
        yield store


def changes(given: list[dict[str, Any]], first: int, last: int) -> Changes:
    """What the dataflow brings of these events; `at` is when they were taken, as for late ones."""
    rows = frame([{**row, "at": START, "ingested_at": START, "late": False} for row in given[first:last]])
    return Changes({"events": rows} if rows.height else {}, None, {"p": Position(last)})


@st.composite
def questions(draw: st.DrawFn) -> Wanted:
    """Any window, aligned or not, any dimensions, any filter."""
    grain = draw(st.sampled_from([MINUTE, HOUR, DAY, WHOLE]))
    edge = st.one_of(
        st.integers(-10, 2 * HOUR + 10),
        st.integers(0, 120).map(lambda n: n * MINUTE),
        st.sampled_from([0, HOUR, 2 * HOUR]),
        st.integers(-1, 5).map(lambda n: n * DAY),
    )
    start, end = sorted((draw(edge), draw(edge)))
    where = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "type": st.just(("passed", "error")),
                "guardian": st.sampled_from([("g1", None), ("s1",), (None,)]),
                "session": st.just(("t1",)),
                "environment": st.just(("live",)),
            },
        )
    )
    by = draw(st.sampled_from([(), ("source",), ("stream", "source"), ("type", "code"), ("session",), BY]))
    streams = draw(st.sampled_from([(), ("verdict",), ("tool_call", "log"), ("nothing",)]))
    return Wanted("w1", streams, FIRST + start, FIRST + end, where, by, grain, draw(st.booleans()))


def counted(given: list[dict[str, Any]], wanted: Wanted) -> dict[tuple[Any, ...], list[Any]]:
    """Bucket and dimensions to [count, errors, values], one event after the other."""
    found: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [0, 0, []])
    for row in given:
        micros = FIRST + (row["time"] - START) // timedelta(microseconds=1)
        said = dict(zip(DIMENSIONS, dimensions(row), strict=True))
        if (
            wanted.start <= micros < wanted.end
            and said["workspace"] == wanted.workspace
            and (not wanted.streams or row["stream"] in wanted.streams)
            and all(said[name] in accepted for name, accepted in wanted.where.items())
        ):
            cell = found[micros // wanted.grain * wanted.grain, *(said[name] for name in wanted.by)]
            cell[0] += 1
            cell[1] += fails(row)
            if row["value"] is not None and not math.isnan(row["value"]):
                cell[2].append(row["value"])
    return dict(found)


def check(store: LiveStore, given: list[dict[str, Any]], wanted: Wanted) -> None:
    """The store tells of these events what counting them tells."""
    with store.reading() as con:
        rows = select(con, wanted)
    expected = counted(given, wanted)
    keys = sorted({tuple(key) for key in rows.select("start", *wanted.by).iter_rows()}, key=str)
    assert keys == sorted(expected, key=str)
    group = np.array([keys.index(key) for key in rows.select("start", *wanted.by).iter_rows()], np.int64)
    found = added(rows, group, len(keys), [0.5, 0.99] if wanted.values else [])
    for n, key in enumerate(keys):
        count, errors, values = expected[key]
        assert (found.count[n], found.errors[n], found.values[n]) == (count, errors, len(values))
        assert found.sum[n] == pytest.approx(math.fsum(values), rel=1e-9, abs=1e-6 * count)
        if wanted.values and values:
            exact = [sorted(values)[math.ceil(rank * len(values)) - 1] for rank in (0.5, 0.99)]
            assert found.quantiles[n] == pytest.approx(exact, rel=0.0100001, abs=1e-6)


@settings(max_examples=40)
@given(events(), st.data())
def test_any_question_is_answered_as_if_events_were_counted(given: list[dict[str, Any]], data: st.DataObject) -> None:
    """Whatever is in memory, written, folded, or came again after a crash."""
    # On several days, so that some are over and some go on.
    given = [{**row, "time": row["time"] + timedelta(days=(0, 1, 3)[n % 3])} for n, row in enumerate(given)]
    with opened() as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rolled, "MOST_FOLDED", data.draw(st.sampled_from([3, 1_000])))
        shown, snapshots = 0, [0, 0]
        for _ in range(data.draw(st.integers(1, 8))):
            match data.draw(st.sampled_from(["show", "show", "write", "snapshot", "crash", "again"])):
                case "show":
                    upto = data.draw(st.integers(shown, len(given)))
                    store.accept(changes(given, shown, upto))
                    shown = upto
                case "write":
                    store.write()
                case "snapshot":
                    store.write()
                    store.fold({"p": snapshots[0]}, least=1)
                    snapshots = [snapshots[1], shown]
                case "crash":  # the run goes on from a snapshot, maybe the one before the last
                    shown = data.draw(st.sampled_from(snapshots))
                    snapshots = [min(shown, each) for each in snapshots]
                    store.repeat({"p": shown})
                case "again":
                    hour = data.draw(st.integers(0, 1)) * HOUR + data.draw(st.integers(0, 3)) * DAY
                    store.write()
                    done = store.roll_up_again("w1", FIRST + hour, FIRST + hour + HOUR, {"p": snapshots[0]})
                    assert not done.changed
            check(store, given[:shown], data.draw(questions()))
        store.write()
        for _ in given:
            store.fold(least=1)
        check(store, given[:shown], data.draw(questions()))
        assert store.cursor().execute("SELECT count(*) FROM hot_rollups").fetchall() == [(0,)]


def test_a_rollup_that_was_lost_is_made_again() -> None:
    """What a window of the past should be follows from its events; the caller learns whether it was."""
    given = [
        {"time": START + timedelta(minutes=n), "workspace": w, "stream": "log", "source": "s", "value": 1.0,
         "type": "x", "partition": "p", "offset": n, **dict.fromkeys(("code", "tenant", "severity", "attributes"))}
        for n, w in enumerate(["w1", "w2"] * 50)
    ]  # fmt: skip
    with opened() as store:
        store.accept(changes(given, 0, 100))
        store.write()
        store.fold(least=1)
        store._con.execute("DELETE FROM rollup_minutes WHERE start >= $1", [START + timedelta(minutes=30)])
        store._con.execute("DELETE FROM open_hours WHERE key IN (SELECT key FROM rollup_keys WHERE workspace = 'w1')")
        done = store.roll_up_again("w1", FIRST + 45 * MINUTE, FIRST + 50 * MINUTE, None)  # whole hours are made again
        assert done == RolledUp(minutes=60, rows=30, changed=15, before=15, after=30)
        for grain in (MINUTE, HOUR):
            check(store, given, Wanted("w1", (), FIRST, FIRST + HOUR, by=("source", "type"), grain=grain))
        left = Wanted("w2", (), FIRST, FIRST + HOUR)
        with store.reading() as con:
            assert select(con, left)["count"].sum() == 15  # another workspace's are not touched
        assert not store.roll_up_again("w1", FIRST, FIRST + HOUR, None).changed
        names = rolled.days(store.cursor())
        assert list(names) == ["2026-05-01"]


def plain(count: int) -> list[dict[str, Any]]:
    """An event a minute."""
    return [
        {"time": START + timedelta(minutes=n), "workspace": "w1", "stream": "log", "source": "s", "value": 1.0,
         "type": "x", "partition": "p", "offset": n, **dict.fromkeys(("code", "tenant", "severity", "attributes"))}
        for n in range(count)
    ]  # fmt: skip


def test_what_is_folded_between_two_hours_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window is made again hour by hour, and meanwhile snapshots are taken: what they fold has no position any more,
    and is replaced as a whole."""
    given = plain(120)
    with opened() as store:
        for first in range(0, 120, 40):
            store.accept(changes(given, first, first + 40))
            store.write()
        write, written = store.write, []

        def write_and_fold() -> bool:
            written.append(1)
            if len(written) == 2:
                store.fold({"p": 120}, least=1)
            return write()

        monkeypatch.setattr(store, "write", write_and_fold)
        done = store.roll_up_again("w1", FIRST, FIRST + 2 * HOUR, {"p": 40})
        assert (len(written), done.changed) == (2, 0)
        for grain in (MINUTE, HOUR):
            check(store, given, Wanted("w1", (), FIRST, FIRST + 2 * HOUR, by=("source",), grain=grain))


def test_a_window_is_not_made_again_in_a_closed_store() -> None:
    """The store is opened again after trouble: who asked hears to try again, not of a mistake in here."""
    with opened() as store:
        store.accept(changes(plain(3), 0, 3))
        store.close()
        with pytest.raises(StoreClosedError):
            store.roll_up_again("w1", FIRST, FIRST + HOUR, None)


@pytest.mark.parametrize("does", [LiveStore.announced, LiveStore.positions, LiveStore.meta])
def test_nobody_works_on_the_store_in_the_middle_of_a_window(does: Callable[[LiveStore], object]) -> None:
    """The jobs of a service that was killed begin at once when it starts, and so does its dataflow. Both ask one
    connection, and would get each other's answers."""
    given = plain(60)
    with opened() as store:
        for first in range(0, 60, 10):
            store.accept(changes(given, first, first + 10))
            store.write()
        others: list[Thread] = []

        def happens(sql: str) -> None:
            if others or "FROM events" not in sql:
                return
            others.append(Thread(target=does, args=(store,)))
            others[0].start()
            others[0].join(0.2)
            assert others[0].is_alive()

        con = store._con
        with before_each_statement(store, happens):
            store._con.sql = lambda sql, **more: (happens(sql), con.sql(sql, **more))[1]  # type: ignore[method-assign]
            assert not store.roll_up_again("w1", FIRST, FIRST + HOUR, None).changed
        others[0].join(10)
        assert not others[0].is_alive()
        check(store, given, Wanted("w1", (), FIRST, FIRST + HOUR))


def test_a_window_waits_until_what_comes_again_is_gone() -> None:
    """The other way round: a job must not count what the dataflow is about to drop."""
    given = plain(60)
    with opened() as store:
        for first in (0, 30):
            store.accept(changes(given, first, first + 30))
            store.write()
        done: list[RolledUp] = []
        job = Thread(target=lambda: done.append(store.roll_up_again("w1", FIRST, FIRST + HOUR, None)))

        def happens(sql: str) -> None:
            if sql.startswith("UPDATE positions"):
                job.start()
                job.join(0.2)
                assert job.is_alive()

        with before_each_statement(store, happens):
            store.repeat({"p": 30})
        job.join(10)
        assert done == [RolledUp(60, 30, 0, 30, 30)]
        check(store, given[:30], Wanted("w1", (), FIRST, FIRST + HOUR))
