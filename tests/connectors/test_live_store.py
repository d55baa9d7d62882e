"""What readers of the live service see: at once, the same once it is written, and the same again after a crash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from connectors import live_store
from connectors.live_store import LIVE, LiveStore
from connectors.memtable import Changes
from connectors.store import Position, Store, StoreError
from operators.live import Gone
from tests.connectors.changes import (
    Crash,
    alert,
    before_each_statement,
    changes,
    crash_at,
    expected,
    happened,
    hit,
    live,
    moved,
    seen,
    told,
)
from tests.stores import t

FIRST = {
    "events": happened(0, 1),
    "incidents": [live("i", 2), live("j")],
    "incident_tenants": [hit("i", "acme"), hit("i", "beta"), hit("j", "acme")],
    "transitions": [moved("i", 0), moved("j", 0)],
    "alerts": [alert("i.opened", "i"), alert("j.opened", "j")],
    "dead_letters": [{"partition": "p", "offset": 2, "raw": "{", "error": "not JSON", "at": t(0)}],
    "configurations": [{"partition": "p", "offset": 2, "workspace": "default", "time": t(0), "at": t(0),
                        "actor": "api_key", "settings": "{}"}],
    "claims": [{"partition": "p", "offset": 1, "workspace": "default", "rule_id": "vip", "group_key": "x",
                "confidence": "High"}],
}  # fmt: skip
SECOND = {
    "events": happened(3),
    "incidents": [live("i", 3)],
    "incident_tenants": [hit("i", "acme", 2)],
    "transitions": [moved("i", 0, events=2), moved("i", 1, 5)],
    "alerts": [alert("i.opened", "i", 1), alert("i.resolved", "i", 5)],
}
BOTH = {
    **FIRST,
    "events": happened(0, 1, 3),
    "incidents": [live("i", 3), live("j")],
    "incident_tenants": [hit("i", "acme", 2), hit("i", "beta"), hit("j", "acme")],
    "transitions": [moved("i", 0, events=2), moved("i", 1, 5), moved("j", 0)],
    "alerts": [alert("i.opened", "i", 1), alert("i.resolved", "i", 5), alert("j.opened", "j")],
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LiveStore]:
    with LiveStore.create(tmp_path / "store.duckdb", shards=1) as made:
        yield made


def reopened(store: LiveStore) -> LiveStore:
    """The store as the next process finds it: what was not written is lost."""
    store.close()
    return LiveStore.open(store.path)


def feed(store: LiveStore) -> list[tuple[Any, ...]]:
    """What the feed tells, in its order: kind, incident, name."""
    return store.cursor().execute("SELECT kind, incident_id, name FROM feed ORDER BY seq").fetchall()


def columns(store: LiveStore, sql: str) -> list[tuple[Any, ...]]:
    """Rows, as a reader sees them now."""
    with store.reading() as con:
        return con.execute(sql).fetchall()


# ---------------------------------------------------------------- shown, written, found again


def test_what_is_accepted_is_seen_at_once_and_for_good(store: LiveStore) -> None:
    """An answered caller finds the incident: from memory, from the file, and after a restart."""
    store.accept(changes(3, **FIRST))
    assert seen(store) == expected(FIRST)
    assert store.write()
    assert seen(store) == expected(FIRST)
    with reopened(store) as again:
        assert seen(again) == expected(FIRST)
        assert again.positions() == {"p": Position(3, 0)}


@pytest.mark.parametrize("written", [(), (0,), (1,), (0, 1)], ids=str)
def test_a_row_replaces_the_one_with_its_key(store: LiveStore, written: Sequence[int]) -> None:
    """An incident that changes is one incident, wherever its rows lie: both in memory, one written, both written."""
    for number, tables in enumerate((FIRST, SECOND)):
        store.accept(changes(3 + number, **tables))
        if number in written:
            store.write()
    assert seen(store) == expected(BOTH)
    store.write()
    assert seen(store) == expected(BOTH)
    assert not store.write()  # nothing is left


def test_names_stand_for_what_is_written_again_once_nothing_waits(store: LiveStore) -> None:
    """A connection that served others before shows what the next question should see, and nothing of an older one."""
    for upto, tables in ((3, FIRST), (4, SECOND)):
        store.accept(changes(upto, **tables))
        shown = seen(store)
        assert seen(store) == shown
        store.write()
        assert [seen(store), seen(store), seen(store)] == [shown] * 3


def test_settings_are_those_of_the_last_change(store: LiveStore) -> None:
    """A pattern that somebody disabled shows as disabled, before and after it is written."""
    for body in ("one", "two"):
        store.accept(changes(1, settings={"acme": body, "beta": "same"}))
        for _ in range(2):
            assert sorted(columns(store, "SELECT workspace, body FROM settings")) == [("acme", body), ("beta", "same")]
            store.write()


def test_a_question_sees_one_instant(store: LiveStore) -> None:
    """A page and its total must not disagree because something came in between, or was written."""
    store.accept(changes(3, **FIRST))
    with store.reading() as con:
        assert told(con) == expected(FIRST)
        store.accept(changes(4, **SECOND))
        store.write()
        store.maintain(0)
        assert told(con) == expected(FIRST)
    assert seen(store) == expected(BOTH)


def test_a_connection_that_was_interrupted_serves_nobody_else(store: LiveStore) -> None:
    """A question that ran into its deadline leaves its connection in any state."""
    store.accept(changes(3, **FIRST))

    def interrupted() -> None:
        with store.reading() as con:
            con.execute("CREATE OR REPLACE TEMP VIEW incidents AS SELECT 1")
            raise Crash

    with pytest.raises(Crash):
        interrupted()
    assert seen(store) == expected(FIRST)


def test_tenants_come_by_incident_in_the_order_of_their_names(store: LiveStore) -> None:
    """The answer to an event lists whom the incident touches, from both halves of the store."""
    store.accept(changes(3, **FIRST))
    store.write()
    store.accept(changes(4, incident_tenants=[hit("i", "aaa"), hit("i", "acme", 9)]))
    assert store.tenants(["i", "j", "none"]) == {"i": ("aaa", "acme", "beta"), "j": ("acme",)}
    assert store.tenants([]) == {}


def test_a_replays_results_are_no_store_of_the_service(tmp_path: Path) -> None:
    """Two kinds of store must not be mixed: the sentence says what to do."""
    Store.create(tmp_path / "store.duckdb", shards=1).close()
    with pytest.raises(StoreError, match="holds the results of a replay"):
        LiveStore.open(tmp_path / "store.duckdb")


# ---------------------------------------------------------------- taking back

GONE: dict[str, tuple[Gone, dict[str, Sequence[dict[str, Any]]]]] = {
    "an incident, with all that belongs to it": (
        Gone(incidents=("i",)),
        {name: [row for row in table if "i" not in (row.get("incident_id"), row.get("id"))]
         for name, table in BOTH.items()},
    ),
    "steps from one on": (Gone(steps=(("i", 1),)), {**BOTH, "transitions": [moved("i", 0, events=2), moved("j", 0)]}),
    "an alert": (
        Gone(alerts=("i.resolved",)), {**BOTH, "alerts": [alert("i.opened", "i", 1), alert("j.opened", "j")]}
    ),
    "the tenants of an incident": (Gone(tenants=("i",)), {**BOTH, "incident_tenants": [hit("j", "acme")]}),
}  # fmt: skip


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("gone", GONE)
def test_what_a_late_event_makes_untrue_vanishes(store: LiveStore, gone: str, written: bool) -> None:
    """Else a dashboard keeps an incident that never was."""
    store.accept(changes(3, **FIRST))
    store.accept(changes(4, **SECOND))
    if written:
        store.write()
    void, left = GONE[gone]
    store.accept(changes(5, gone=void))
    assert seen(store) == expected(left)
    with reopened(store) as again:
        assert seen(again) == expected(left)


@pytest.mark.parametrize("written", [True, False])
def test_what_goes_and_comes_again_is_replaced(store: LiveStore, written: bool) -> None:
    """A late event opens the incident earlier: same id, other steps and tenants, in one change."""
    store.accept(changes(3, **FIRST))
    if written:
        store.write()
    gone = Gone(incidents=("i",), steps=(("j", 0),), alerts=("j.opened",), tenants=("j",))
    new = {
        "incidents": [live("i", 5), live("j", 6)],
        "incident_tenants": [hit("i", "new"), hit("j", "acme", 4)],
        "transitions": [moved("i", 0, 1), moved("j", 0, 2)],
        "alerts": [alert("i.opened", "i", 1), alert("j.opened", "j", 2)],
    }
    store.accept(changes(4, gone=gone, **new))
    assert seen(store) == expected({**FIRST, **new})


def test_nobody_sees_what_is_taken_back_beside_what_came_in_its_place(store: LiveStore) -> None:
    """For the milliseconds of a write a dashboard would show two incidents of one key."""
    store.accept(changes(3, **FIRST))
    store.write()
    store.accept(changes(4, **SECOND))
    instead = {"incidents": [live("k", 3)], "incident_tenants": [hit("k", "acme", 2)]}
    after = {name: [row for row in table if "i" not in (row.get("incident_id"), row.get("id"))]
             for name, table in BOTH.items()}  # fmt: skip
    after = {name: [*table, *instead.get(name, ())] for name, table in after.items()}
    met = watched(store, lambda: store.accept(changes(5, gone=Gone(incidents=("i",)), **instead)))
    assert all(each == expected(BOTH) for each in met)
    assert seen(store) == expected(after)


def watched(store: LiveStore, work: Any) -> list[Any]:
    """What readers see before each statement of some work, but for the one that nobody can come in front of."""
    met: list[Any] = []

    def look(sql: str) -> None:
        if sql != "COMMIT":  # readers wait while it happens
            met.append(seen(store))

    with before_each_statement(store, look):
        work()
    assert met
    return met


# ---------------------------------------------------------------- crashes


def test_a_reader_meets_no_half_of_a_write(store: LiveStore) -> None:
    """While a write goes on everybody sees what they saw before and after it."""
    store.accept(changes(3, **FIRST))
    store.write()
    store.accept(changes(4, **SECOND))
    assert all(each == expected(BOTH) for each in watched(store, store.write))
    assert seen(store) == expected(BOTH)


def test_a_write_that_fails_anywhere_leaves_nothing_and_loses_nothing(store: LiveStore) -> None:
    """A full disk: what waits stays visible, is counted as waiting, and is written once there is room."""
    store.accept(changes(3, **FIRST))
    store.write()
    store.accept(changes(4, **SECOND))
    before = store.cursor().sql("FROM live_incidents ORDER BY id").pl().rows()
    for statement in count():
        try:
            with before_each_statement(store, crash_at(statement)):
                store.write()
        except Crash:
            assert seen(store) == expected(BOTH)
            assert store.cursor().sql("FROM live_incidents ORDER BY id").pl().rows() == before
            assert store.positions() == {"p": Position(3, 0)}
            assert store.waiting == 1
        else:
            break
    assert statement > 5
    assert store.waiting == 0
    assert seen(store) == expected(BOTH)
    with reopened(store) as again:
        assert seen(again) == expected(BOTH)


def test_a_take_back_that_fails_shows_nothing_of_it(store: LiveStore) -> None:
    """It comes again from the log; until then the old view holds, as a whole."""
    store.accept(changes(3, **FIRST))
    for statement in count():
        try:
            with before_each_statement(store, crash_at(statement)):
                store.accept(changes(4, gone=Gone(incidents=("j",)), incidents=[live("i", 9)]))
        except Crash:
            assert seen(store) == expected(FIRST)
        else:
            break
    assert columns(store, "SELECT id, event_count FROM incidents") == [("i", 9)]


def copy(store: LiveStore, into: Path) -> LiveStore:
    """What a process that was killed at this moment leaves behind."""
    shutil.copytree(store.data, into)
    return LiveStore.open(into / store.path.name)


def test_after_a_crash_everything_that_is_repeated_changes_nothing(store: LiveStore, tmp_path: Path) -> None:
    """`kill -9` anywhere: what the log brings again is there once, and the feed tells nobody a second time."""
    parts = (changes(3, **FIRST), changes(4, **SECOND))
    for part in parts:
        store.accept(part)
        store.write()
    whole, news = seen(store), feed(store)
    with copy(store, tmp_path.parent / f"{tmp_path.name}-killed") as killed:
        assert seen(killed) == whole
        assert killed.announced() == store.announced()
        killed.repeat({"p": 0})
        assert killed.positions() == {"p": Position(0, 0)}
        assert seen(killed) == expected({})  # nothing of it was final
        for part in parts:
            killed.accept(part)
            killed.write()
        assert seen(killed) == whole
        assert feed(killed) == news
        killed.accept(changes(5, transitions=[moved("i", 2, 9)]))
        killed.write()
        assert feed(killed) == [*news, ("transition", "i", "2")]


def test_a_repeat_keeps_what_is_final_and_what_lies_before_it(store: LiveStore) -> None:
    """A restart reads the log from the snapshot on: what is older does not come again."""
    final = {
        "events": happened(0),
        "incidents": [live("old", settled=True, closed=1)],
        "incident_tenants": [hit("old", "acme")],
        "transitions": [moved("old", 0, settled=True)],
        "alerts": [alert("old.opened", "old", settled=True)],
    }
    store.accept(changes(1, **final))
    store.accept(changes(4, **SECOND))
    store.write()
    store.accept(changes(5, incidents=[live("lost")]))
    with reopened(store) as again:
        again.repeat({"p": 1})
        assert seen(again) == expected(final)


def test_what_was_announced_is_told(store: LiveStore) -> None:
    """After a restart an incident keeps the id that callers know already; also one that has become final since the
    snapshot that the restart goes on from."""
    store.accept(
        changes(1, incidents=[live("b", opened=2), live("a", opened=1), live("final", opened=3, settled=True)])
    )
    store.write()
    assert store.announced() == [
        (("default", "auth_failure", f"source of {name}"), int(t(opened).timestamp()) * 1_000_000, name)
        for name, opened in (("a", 1), ("b", 2), ("final", 3))
    ]


def test_active_incidents_are_counted_with_and_without_rows_in_memory(store: LiveStore) -> None:
    """Prometheus scrapes while nothing happens, too."""
    assert store.active() == {"Open": 0, "Recovering": 0}
    store.accept(changes(1, incidents=[live("a"), live("b") | {"status": "Recovering"}]))
    assert store.active() == {"Open": 1, "Recovering": 1}
    store.write()
    for _ in range(3):
        assert store.active() == {"Open": 1, "Recovering": 1}


def test_two_crashes_before_what_was_told_comes_again_tell_nothing_twice(store: LiveStore) -> None:
    """A follower is not called a second time about what it has heard."""

    def step(n: int) -> Changes:
        return changes(n, incidents=[live("i", n)], transitions=[moved("i", n - 1)])

    for n in (1, 2, 3):
        store.accept(step(n))
        store.write()
    told = feed(store)
    assert len(told) == 3
    for upto in (1, 3):
        store = reopened(store)
        store.repeat({"p": 0})
        for n in range(1, upto + 1):
            store.accept(step(n))
            store.write()
    assert feed(store) == told
    store.close()


# ---------------------------------------------------------------- the feed


def test_the_feed_tells_what_happened_in_its_order(store: LiveStore) -> None:
    """A follower hears of the opening before the alert about it, however they came."""
    store.accept(
        changes(
            3,
            incidents=[live("i"), live("j")],
            transitions=[moved("i", 1, 5), moved("j", 0, 2), moved("i", 0, 1)],
            alerts=[alert("i.resolved", "i", 5), alert("i.opened", "i", 1)],
        )
    )
    store.accept(changes(4, transitions=[moved("i", 2, 3)]))
    assert (feed(store), store.feed_end) == ([], 0)  # told once it is written
    store.write()
    first = [
        ("transition", "i", "0"),
        ("alert", "i", "i.opened"),
        ("transition", "j", "0"),
        ("transition", "i", "2"),
        ("transition", "i", "1"),
        ("alert", "i", "i.resolved"),
    ]
    assert (feed(store), store.feed_end) == (first, 6)
    store.accept(changes(5, incidents=[live("h")], transitions=[moved("h", 0, 0)]))
    store.write()
    assert (feed(store), store.feed_end) == ([*first, ("transition", "h", "0")], 7)
    with reopened(store) as again:
        assert again.feed_end == 7


def test_an_entry_of_the_feed_is_the_row(store: LiveStore) -> None:
    """Who follows needs no second question: workspace, time and everything that the timeline would say."""
    store.accept(changes(1, incidents=[live("i")], transitions=[moved("i", 0, 1)]))
    store.write()
    sql = 'SELECT seq, workspace, epoch_us("at"), body FROM feed'
    [(seq, workspace, at, body)] = store.cursor().execute(sql).fetchall()
    assert (seq, workspace, at) == (1, "default", int(t(1).timestamp()) * 1_000_000)
    row = json.loads(body)
    assert (row["incident_id"], row["n"], row["to_status"], row["reason"]) == ("i", 0, "Open", "a reason")
    assert row["at"] == "2025-03-26T08:01:00.000000Z"


def test_what_is_no_news_is_not_told(store: LiveStore) -> None:
    """A step that becomes final is rewritten, but a follower has heard of it."""
    store.accept(changes(1, incidents=[live("i")], transitions=[moved("i", 0)]))
    store.accept(changes(2, transitions=[moved("i", 0, settled=True)], news=False))
    store.write()
    assert feed(store) == [("transition", "i", "0")]


def test_what_went_before_it_was_told_is_not_told(store: LiveStore) -> None:
    """A follower must not hear of an alert that never was."""
    store.accept(changes(1, incidents=[live("i")], alerts=[alert("void", "i"), alert("holds", "i")]))
    store.accept(changes(2, gone=Gone(alerts=("void",))))
    assert feed(store) == [("alert", "i", "holds")]


def test_old_news_go_and_numbers_go_on(store: LiveStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed stays small; who comes back after that long can tell that something is missing."""
    monkeypatch.setattr(live_store, "FEED_ROWS", 2)
    store.accept(changes(1, incidents=[live("i")], transitions=[moved("i", n, n) for n in range(5)]))
    store.write()
    store.maintain(0)
    assert store.cursor().execute("SELECT seq FROM feed ORDER BY seq").fetchall() == [(4,), (5,)]
    with reopened(store) as again:
        assert again.feed_end == 5


# ---------------------------------------------------------------- what is over


def halves(store: LiveStore) -> dict[str, tuple[int, int]]:
    """How many rows of each table still change, and how many are past."""
    con = store.cursor()

    def size(table: str) -> int:
        [(number,)] = con.execute(f"SELECT count(*) FROM {table}").fetchall()
        return int(number)

    return {name: (size(f"live_{name}"), size(f"past_{name}")) for name in LIVE}


def over(id: str, closed: float = 5) -> Changes:
    """An incident that is final and closed, with all that belongs to it."""
    return changes(
        incidents=[live(id, settled=True, closed=closed)],
        incident_tenants=[hit(id, "acme"), hit(id, "beta")],
        transitions=[moved(id, n, settled=True) for n in range(3)],
        alerts=[alert(f"{id}.opened", id, settled=True)],
    )


def test_what_is_over_moves_to_the_past_and_nobody_notices(store: LiveStore) -> None:
    """The tables that change stay small; a list meanwhile shows each incident once, never none, never two."""
    store.accept(changes(3, **FIRST))
    store.accept(over("a"))
    store.accept(over("b"))
    store.write()
    before = seen(store)
    at = int(t(5).timestamp()) * 1_000_000
    store.maintain(at)  # closed at this instant: a microsecond too early
    assert halves(store)["incidents"] == (4, 0)
    met = watched(store, lambda: store.maintain(at + 1))
    assert all(each == before for each in met)
    assert seen(store) == before
    assert halves(store) == {
        "incidents": (2, 2), "incident_tenants": (3, 4), "transitions": (2, 6), "alerts": (2, 2),
    }  # fmt: skip
    with reopened(store) as again:
        assert seen(again) == before
        again.repeat({"p": 0})
        assert [row[0] for row in seen(again)["incidents"]] == ["a", "b"]


@pytest.mark.parametrize("change", [{"settled": False}, {"status": "Open"}, {"status": "Recovering"}], ids=str)
def test_what_can_still_change_stays(store: LiveStore, change: dict[str, Any]) -> None:
    """What moved too early could never be reopened: there would be two rows of it."""
    store.accept(changes(1, incidents=[live("i", settled=True, closed=5) | change]))
    store.write()
    store.maintain(int(t(60).timestamp()) * 1_000_000)
    assert halves(store)["incidents"] == (1, 0)


def test_a_move_that_fails_anywhere_moves_nothing(store: LiveStore) -> None:
    """Half a move would lose a timeline, or show it twice."""
    store.accept(over("a"))
    store.write()
    before = seen(store)
    at = int(t(60).timestamp()) * 1_000_000
    for statement in count():
        try:
            with before_each_statement(store, crash_at(statement)):
                store.maintain(at)
        except Crash:
            assert seen(store) == before
        else:
            break
    assert (seen(store), halves(store)["incidents"]) == (before, (0, 1))


def test_events_are_seen_once_while_they_move_into_files(
    store: LiveStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Hot rows become files at a snapshot; a count must not change for it."""
    monkeypatch.setattr(live_store, "HOT_ROWS", 1)
    store.accept(changes(10, events=happened(*range(10))))
    store.write()
    before = seen(store)
    assert all(each == before for each in watched(store, lambda: store.maintain(0)))
    assert (seen(store), store.hot_rows) == (before, 0)
    assert list((tmp_path / "lake" / "events").rglob("*.parquet"))
