"""Rollups in the store: what they say depends on the events alone, not on what came with what, or came again."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import lake
from connectors.rolled import VIEWS
from connectors.store import Position, Store
from tests.operators.test_rollup import START, events, frame

PARTITIONS = ("p", "q", "r")
Shown = dict[str, pl.DataFrame]


@contextmanager
def opened() -> Iterator[Store]:
    """An empty store of a replay."""
    with tempfile.TemporaryDirectory() as folder, Store.create(Path(folder) / "store.duckdb", 1) as store:
        yield store


def shown(con: Any) -> Shown:
    """All rows of both views, in order."""
    return {name: con.sql(f"FROM {name} ORDER BY ALL").pl() for name in VIEWS}


def assert_same(one: Shown, other: Shown) -> None:
    """To the last digit."""
    for name, rows in one.items():
        assert rows.equals(other[name]), (name, rows, other[name])


# Of both ends of what is a time, the last moment before 1970, and days later than all others.
TIMES = st.sampled_from(
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        START - timedelta(days=9),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]
)
# Sums stay within what is exact, or leave it in one direction.
HUGE = st.sampled_from([math.inf, 1e300, 9e12, 4.6e12, 1e12, 0.1, math.nan])


@st.composite
def logs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Events of several partitions, in any order."""
    found = draw(events(most=30))
    ends = dict.fromkeys(PARTITIONS, 0)
    for row in found:
        partition = draw(st.sampled_from(PARTITIONS))
        row |= {"partition": partition, "offset": ends[partition], "at": START, "ingested_at": START, "late": False}
        ends[partition] += 1
        if draw(st.integers(0, 3)) == 0:
            row |= {"time": draw(TIMES), "source": draw(st.sampled_from(["s1", "", "a\x1fb"])), "code": ""}
        if draw(st.integers(0, 5)) == 0:
            row |= {"value": draw(HUGE), "source": "huge"}
    return found


@settings(max_examples=20)
@given(logs(), st.data())
def test_neither_flushes_nor_crashes_show(log: list[dict[str, Any]], data: st.DataObject) -> None:
    """Flushes hold what several partitions brought; a run that was killed goes on from its last snapshot, or from the
    beginning, and its partitions come again in another order to each other."""
    with opened() as once:
        once.flush({"events": frame(log)}, {})
        expected = shown(once.cursor())
    with opened() as store:
        rows = {name: [row for row in log if row["partition"] == name] for name in PARTITIONS}
        reached, snapshot = dict.fromkeys(PARTITIONS, 0), dict.fromkeys(PARTITIONS, 0)
        for _ in range(data.draw(st.integers(0, 8))):
            deed = data.draw(st.sampled_from(["flush", "flush", "snapshot", "crash", "fold", "publish"]))
            if deed == "flush":
                upto = {name: data.draw(st.integers(reached[name], len(rows[name]))) for name in PARTITIONS}
                flush(store, [row for name in PARTITIONS for row in rows[name][reached[name] : upto[name]]], upto)
                reached = upto
            elif deed == "snapshot":
                snapshot = dict(reached)
            elif deed == "fold":  # what no snapshot takes back
                store.fold(snapshot, least=1)
            elif deed == "publish":
                lake.publish(store, store.data)
            else:
                store.resume(snapshot)
                reached = dict(snapshot)
        flush(store, [row for name in PARTITIONS for row in rows[name][reached[name] :]], {})
        assert_same(shown(store.cursor()), expected)
        store.fold(least=1)
        assert_same(shown(store.cursor()), expected)
        lake.publish(store, store.data)
        with lake.connect(store.data) as con:
            assert_same(shown(con), expected)


def flush(store: Store, rows: list[dict[str, Any]], upto: dict[str, int]) -> None:
    store.flush({"events": frame(rows)}, {name: Position(offset) for name, offset in upto.items()})


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_that_are_too_large_are_the_same_before_and_after_folding(sign: int) -> None:
    """What cannot be said exactly is at least always the same number."""
    row = {"time": START, "workspace": "w", "stream": "log", "source": "s", "type": "t", "partition": "p"}
    row |= {"at": START, "ingested_at": START, "late": False, "value": sign * 1e300}
    with opened() as store:
        for offset in range(3):
            flush(store, [row | {"offset": offset}], {"p": offset + 1})
        before = shown(store.cursor())
        assert before["rollup_1m"]["value_sum"].to_list() == [sign * 9e12]
        store.fold(least=1)
        assert_same(shown(store.cursor()), before)
