"""The live store against plain dicts: any sequence of changes, writes, maintenance, failures and crashes.

Readers that began somewhere in between keep what they saw. TOCSIN_CHAOS_ROUNDS=20 for many examples.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import live_store
from connectors.live_store import LiveStore
from operators.live import Gone
from tests.connectors.changes import (
    Contents,
    Crash,
    Row,
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

EXAMPLES = 30 * int(os.environ.get("TOCSIN_CHAOS_ROUNDS", "0")) or 40
KEYS = {
    "events": ("partition", "offset"),
    "incidents": ("id",),
    "incident_tenants": ("incident_id", "tenant"),
    "transitions": ("incident_id", "n"),
    "alerts": ("id",),
    "settings": ("workspace",),
}
IDS = st.sampled_from(["a", "b", "c"])
COUNTS = st.integers(1, 99)
STEPS = st.integers(0, 2)
CLOSED = st.sampled_from([None, None, 1, 3])


def few(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, max_size=3)


# What somebody does, as the arguments of the method of `Played` with that name.
ROWS = st.fixed_dictionaries(
    {
        "events": st.integers(0, 2),
        "incidents": few(st.tuples(IDS, COUNTS, st.booleans(), CLOSED)),
        "incident_tenants": few(st.tuples(IDS, st.sampled_from(["acme", "beta"]), COUNTS)),
        "transitions": few(st.tuples(IDS, STEPS, COUNTS, st.booleans())),
        "alerts": few(st.tuples(IDS, STEPS, COUNTS, st.booleans())),
        "settings": st.dictionaries(st.sampled_from(["acme", "beta"]), st.sampled_from(["one", "two"]), max_size=1),
    }
)
NOT_GONE = st.just(Gone())
GONE = st.builds(
    Gone,
    incidents=few(IDS).map(tuple),
    steps=few(st.tuples(IDS, STEPS)).map(tuple),
    alerts=few(st.builds("{}.{}".format, IDS, STEPS)).map(tuple),
    tenants=few(IDS).map(tuple),
)
DEED = st.one_of(
    st.tuples(st.just("write")),
    st.tuples(st.just("fail"), st.integers(0, 20)),
    st.tuples(st.just("maintain"), st.sampled_from([0, 2, 4])),
    st.tuples(st.just("crash")),
    st.tuples(st.just("look")),
)
# Something is accepted, and then whatever may happen before the next time.
DEEDS = st.tuples(st.tuples(st.just("accept"), ROWS, NOT_GONE | GONE), st.lists(DEED, max_size=2))


@dataclass
class Model:
    """Rows by table and key. past: incidents of which nothing changes any more; final: keys of rows that do not."""

    tables: dict[str, dict[Any, Row]] = field(default_factory=lambda: {name: {} for name in KEYS})
    past: frozenset[str] = frozenset()
    final: frozenset[tuple[Any, ...]] = frozenset()
    upto: int = 0

    def copied(self) -> Model:
        return Model({name: dict(table) for name, table in self.tables.items()}, self.past, self.final, self.upto)

    def contents(self) -> Contents:
        return expected({name: table.values() for name, table in self.tables.items()})

    def drop(self, name: str, void: Any) -> None:
        self.tables[name] = {key: row for key, row in self.tables[name].items() if not void(row)}

    def go(self, gone: Gone) -> None:
        first = dict(sorted(gone.steps, reverse=True))  # the lowest of an incident
        self.drop("incidents", lambda row: row["id"] in gone.incidents)
        for name in ("incident_tenants", "transitions", "alerts"):
            self.drop(name, lambda row: row["incident_id"] in gone.incidents)
        self.drop("incident_tenants", lambda row: row["incident_id"] in gone.tenants)
        self.drop("transitions", lambda row: row["n"] >= first.get(row["incident_id"], 99))
        self.drop("alerts", lambda row: row["id"] in gone.alerts)

    def put(self, name: str, rows: list[Row]) -> None:
        for row in rows:
            self.tables[name][tuple(row[column] for column in KEYS[name])] = row

    def repeat(self, upto: int) -> None:
        """What is final, or before the position, stays."""
        open_ones = {row["id"] for row in self.tables["incidents"].values() if not row["settled"]}
        self.drop("events", lambda row: row["offset"] >= upto)
        self.drop("incident_tenants", lambda row: row["incident_id"] in open_ones)
        for name in ("transitions", "alerts"):
            self.drop(name, lambda row: not row["settled"] and row["incident_id"] not in self.past)
        self.drop("incidents", lambda row: not row["settled"])
        self.upto = upto


class Played:
    """A store and its model. written: what survives a crash; began: the position that a restart begins at."""

    def __init__(self, store: LiveStore, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.model, self.written, self.began = Model(), Model(), 0
        self.readers = ExitStack()
        self.held: list[tuple[duckdb.DuckDBPyConnection, Contents]] = []

    def accept(self, rows: Mapping[str, Any], gone: Gone) -> None:
        """Rows of incidents that there are, and are not past."""
        model = self.model
        stays = model.past | {key[0].partition(".")[0] for key in model.final}
        gone = Gone(
            tuple(each for each in gone.incidents if each not in stays),
            tuple(each for each in gone.steps if each[0] not in stays),
            tuple(each for each in gone.alerts if each.partition(".")[0] not in stays),
            tuple(each for each in gone.tenants if each not in model.past),
        )
        model.go(gone)
        tables: dict[str, list[Row]] = {"events": happened(*range(model.upto, model.upto + rows["events"]))}
        tables["incidents"] = [
            live(id, events, settled=settled, closed=closed)
            for id, events, settled, closed in rows["incidents"]
            if id not in model.past
        ]
        model.put("incidents", tables["incidents"])
        there = {row["id"] for row in model.tables["incidents"].values()} - model.past
        tables["incident_tenants"] = [hit(*each) for each in rows["incident_tenants"] if each[0] in there]
        tables["transitions"] = [
            moved(id, n, settled=settled, events=events)
            for id, n, events, settled in rows["transitions"]
            if id in there and (id, n) not in model.final
        ]
        tables["alerts"] = [
            alert(f"{id}.{n}", id, minute, settled=settled) for id, n, minute, settled in rows["alerts"] if id in there
        ]
        for name in ("events", "incident_tenants", "transitions", "alerts"):
            model.put(name, tables[name])
        model.put("settings", [{"workspace": name, "body": body} for name, body in rows["settings"].items()])
        model.upto += rows["events"]
        self.store.accept(changes(model.upto, gone=gone, settings=rows["settings"], **tables))
        if gone:
            self.written = model.copied()

    def write(self) -> None:
        self.store.write()
        self.written = self.model.copied()

    def fail(self, statement: int) -> None:
        """A write that fails at a statement, where it has as many."""
        try:
            with before_each_statement(self.store, crash_at(statement)):
                self.write()
        except Crash:
            note("a write fails")

    def maintain(self, minute: int) -> None:
        """As at a snapshot, which is where a restart begins."""
        self.store.write()
        self.store.maintain(int(t(minute).timestamp()) * 1_000_000, {})
        self.began = self.model.upto
        over = {
            row["id"]
            for row in self.model.tables["incidents"].values()
            if row["settled"] and row["closed_at"] is not None and row["closed_at"] < t(minute)
        }
        self.model.past |= over
        self.model.final |= {
            key
            for name in ("transitions", "alerts")
            for key, row in self.model.tables[name].items()
            if row["settled"] and row["at"] < t(minute)
        }
        self.written = self.model.copied()

    def look(self) -> None:
        """A reader that stays."""
        con = self.readers.enter_context(self.store.reading())
        self.held.append((con, self.model.contents()))

    def crash(self) -> None:
        """`kill -9`: the next process has the files as they are."""
        self.leave()
        self.folder = self.folder.with_name(f"{self.folder.name}+")
        shutil.copytree(self.store.data, self.folder)
        self.store.close()
        self.store = LiveStore.open(self.folder / "store.duckdb")
        assert seen(self.store) == self.written.contents()
        self.store.repeat({"p": self.began})
        self.model = self.written.copied()
        self.model.repeat(self.began)
        self.written = self.model.copied()

    def leave(self) -> None:
        """The readers have seen one instant all the time."""
        for con, contents in self.held:
            assert told(con) == contents
        self.held.clear()
        self.readers.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to start with."""
    folder = tmp_path_factory.mktemp("empty")
    LiveStore.create(folder / "store.duckdb", shards=1).close()
    return folder


@contextmanager
def played(empty: Path) -> Iterator[Played]:
    with tempfile.TemporaryDirectory() as outer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_store, "HOT_ROWS", 2)
        folder = shutil.copytree(empty, Path(outer) / "data")
        found = Played(LiveStore.open(folder / "store.duckdb"), folder)
        try:
            yield found
        finally:
            found.readers.close()
            found.store.close()


@given(deeds=st.lists(DEEDS, min_size=1, max_size=8))
@settings(max_examples=EXAMPLES)
def test_a_reader_sees_what_plain_dicts_hold(
    empty: Path, deeds: list[tuple[tuple[Any, ...], list[tuple[Any, ...]]]]
) -> None:
    """Whatever happened before, and wherever rows lie: each is there once, the last one, and nothing that went."""
    with played(empty) as it:
        for name, *values in [deed for accepted, others in deeds for deed in (accepted, *others)]:
            getattr(it, name)(*values)
            assert seen(it.store) == it.model.contents(), name
        it.leave()
        it.write()
        it.crash()
        assert seen(it.store) == it.model.contents()
