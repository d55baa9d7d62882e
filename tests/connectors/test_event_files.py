"""Events as files: which rows go where, and which small files become a large one."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from connectors import event_files as files
from connectors.event_catalogue import mergeable
from operators.events import EVENTS
from tests.stores import START, event, rows

MIDNIGHT = datetime(2025, 3, 27, tzinfo=UTC)


def at(offset: int, when: datetime, **more: object) -> dict[str, object]:
    return {**event(offset, 0, "a", "x"), "at": when, **more}


def test_a_day_ends_at_midnight_utc() -> None:
    """An analyst who reads one directory expects exactly that day."""
    microsecond = timedelta(microseconds=1)
    found = files.by_day(rows("events", *(at(n, MIDNIGHT + n * microsecond) for n in (1, -1, 0))))
    assert [(day, rest["offset"].to_list()) for day, rest in found] == [
        (date(2025, 3, 26), [-1]),
        (date(2025, 3, 27), [1, 0]),
    ]


def test_a_time_before_1970_has_its_day() -> None:
    """A device without a clock says 1969; dividing towards zero would make two days one."""
    before = datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert [day for day, _ in files.by_day(rows("events", at(0, before)))] == [date(1969, 12, 31)]


def test_days_with_few_rows_are_not_worth_a_file() -> None:
    """Ten years of history in one flush must not become four thousand files."""
    events = rows("events", *(at(n, MIDNIGHT + timedelta(hours=n)) for n in range(-3, 2)))
    large, small = files.split(events, 3)
    assert [(day, frame.height) for day, frame in large] == [(date(2025, 3, 26), 3)]
    assert [frame.height for frame in small] == [2]
    assert files.split(events.clear(), 3) == ([], [])


def test_a_file_is_described_by_what_is_in_it(tmp_path: Path) -> None:
    """A resumed run decides by this which files to keep."""
    events = rows("events", *(at(n, START + timedelta(seconds=n), partition="pq"[n % 2]) for n in range(5, 10)))
    file = files.write(tmp_path, date(2025, 3, 26), events, 12)
    assert file.path == "lake/events/date=2025-03-26/part-000012.parquet"
    assert (file.rows, file.bytes) == (5, (tmp_path / file.path).stat().st_size)
    first = int(START.timestamp() * 1e6)
    assert (file.first_at, file.last_at) == (first + 5_000_000, first + 9_000_000)
    assert file.spans == (files.Span("p", 2, 6, 8), files.Span("q", 3, 5, 9))
    assert files.read(tmp_path, [file.path]).equals(events)
    assert pl.read_parquet_schema(tmp_path / file.path) == EVENTS
    assert files.number_of(file.path) == 12


def test_a_reader_can_skip_rows_by_time_source_and_rule(tmp_path: Path) -> None:
    """Without statistics a question about an hour would read the whole archive."""
    duckdb = pytest.importorskip("duckdb")
    events = rows("events", *(event(n, n, "orders", "x", "timeout_spike") for n in range(3)))
    path = tmp_path / files.write(tmp_path, date(2025, 3, 26), events, 1).path
    known = duckdb.sql(
        f"SELECT path_in_schema FROM parquet_metadata('{path}') WHERE stats_min_value IS NOT NULL"
    ).fetchall()
    assert {("at",), ("workspace",), ("source",), ("rule_id",), ("offset",)} <= set(known)


@pytest.mark.parametrize(
    ("sizes", "least", "groups"),
    [
        ([5] * 7, 8, []),
        ([5] * 8, 8, [8]),
        ([40, *[5] * 8], 8, [9]),  # 40 is half of it
        ([41, *[5] * 8], 8, [8]),  # rewritten too often, were it one of them
        ([5, 100, *[5] * 7], 8, []),
        ([900, 5, 5, 5], 2, [3]),  # what is large already stays
        ([5], 2, []),
        ([300, 300, 300, 300], 2, [3]),  # no more than 1,000 rows in one
        ([100, 5], 2, [2]),
    ],
)
def test_small_neighbours_are_merged(sizes: list[int], least: int, groups: list[int]) -> None:
    """A live service makes a file a minute: weeks of it must not be ten thousand files, nor rewritten each minute."""
    named = [(f"d/part-{n}.parquet", rows) for n, rows in enumerate(sizes)]
    assert [len(group) for group in mergeable(named, least, 1_000)] == groups


def test_files_of_different_days_are_never_merged() -> None:
    """They lie in different directories."""
    named = [(f"date={n // 2}/part-{n}.parquet", 5) for n in range(4)]
    assert mergeable(named, 2, 1_000) == [[path for path, _ in named[:2]], [path for path, _ in named[2:]]]


def test_every_row_is_rewritten_a_few_times_at_most() -> None:
    """A year of a file a minute: the work grows with its logarithm."""
    held: list[tuple[str, int]] = []
    rewritten = 0
    for n in range(5_000):
        held.append((f"d/part-{n}.parquet", 10))
        for group in mergeable(held, 8, 1_000_000):
            total = sum(rows for path, rows in held if path in group)
            rewritten += total
            held = [(path, rows) for path, rows in held if path not in group] + [(f"d/part-{n}m.parquet", total)]
    assert rewritten < 50_000 * 8
    assert len(held) < 50
