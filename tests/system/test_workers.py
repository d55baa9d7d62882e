"""Whole processes over the same log: how the work is shared out and cut into pieces must not show in the result."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from connectors.reader import open_reader
from query_api.export import export_table
from tests.system.runs import COMPARED, assert_same, counts, query, replay, tables
from tests.system.world import write, write_rules
from tocsin import app

EVENTS = 10_000


@pytest.fixture(scope="module")
def small_log(tmp_path_factory: pytest.TempPathFactory) -> list[Path | str]:
    """The arguments that all replays share."""
    folder = tmp_path_factory.mktemp("log")
    return [write(folder / "in", EVENTS), "--rules", write_rules(folder / "rules.yaml")]


@pytest.fixture(scope="module")
def one(small_log: list[Path | str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, as most people run it."""
    return replay(tmp_path_factory.mktemp("one") / "data", *small_log)


def test_the_log_has_everything_in_it(one: Path) -> None:
    """Otherwise the comparisons below would say little."""
    numbers = counts(one)
    assert numbers["events"] > EVENTS
    assert all(numbers[name] > 20 for name in ("matches", "late", "duplicates", "dead_letters")), numbers
    assert all(frame.height for frame in tables(one).values())
    assert query(one, "SELECT count(DISTINCT rule_id) > 6 FROM incidents") == [(True,)]
    assert query(one, "SELECT count(*) > 0 FROM transitions WHERE reason = 'Resolved manually'") == [(True,)]
    assert query(one, "SELECT count(*) > 0 FROM transitions WHERE reason = 'No events for 2 min'") == [(True,)]
    assert query(one, "SELECT count(*) > 0 FROM incidents WHERE reopen_count > 0") == [(True,)]


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_tables(
    workers: int, one: Path, small_log: list[Path | str], tmp_path: Path
) -> None:
    """Somebody with more cores would get other incidents than a colleague."""
    many = replay(tmp_path / "data", *small_log, "--workers", str(workers))
    assert_same(tables(many), tables(one))
    assert counts(many) == counts(one)


def test_more_workers_than_files(tmp_path: Path) -> None:
    """`--workers 4` on one file must not wait for work that never comes."""
    small = write(tmp_path / "in", 300, partitions=1)
    assert CliRunner().invoke(app, ["replay", str(small), "--data", str(tmp_path / "b")]).exit_code == 0
    assert_same(tables(replay(tmp_path / "a", small, "--workers", "2")), tables(tmp_path / "b"))


def test_shards_and_snapshots_do_not_show(one: Path, small_log: list[Path | str], tmp_path: Path) -> None:
    """Tuning for speed must not change what happened; nor may the order in which shards write."""
    other = replay(tmp_path / "data", *small_log, "--shards", "7", "--epoch", "0.05")
    assert_same(tables(other), tables(one))


def test_without_events_the_incidents_are_the_same(one: Path, small_log: list[Path | str], tmp_path: Path) -> None:
    """`--no-events` reads fewer columns; a rule that needs one of the others would silently never match."""
    other = replay(tmp_path / "data", *small_log, "--no-events")
    # Claims and rollups belong to stored events.
    kept = [name for name in COMPARED if name not in ("events", "claims", "rollup_1m", "histogram_1m")]
    assert_same(tables(other, names=kept), tables(one, names=kept))
    assert query(other, "SELECT count(*) FROM events") == [(0,)]


def test_without_events_a_configured_threshold_still_sees_its_field(tmp_path: Path) -> None:
    """A `configure` record turns a rule to a column that no rule file reads: with or without events, it opens."""
    times = [f"2025-03-26T08:00:{second:02}Z" for second in range(3)]
    threshold = {"value_sum": {"field": "value", "gte": 10, "window": "5m"}}
    body = {"rules": {"auth_failure": {"threshold": threshold}}}
    change = {"time": times[0], "record": "configure", "workspace": "w", "attributes": body}
    event = {"workspace": "w", "source": "s", "type": "auth_failed", "value": 6}
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(r) + "\n" for r in (change, *({"time": t, **event} for t in times[1:]))))
    found = [
        query(replay(tmp_path / name, log, *options), "SELECT status, event_count FROM incidents")
        for name, options in (("with", ()), ("without", ("--no-events",)))
    ]
    assert found == [[("Open", 2)], [("Open", 2)]]


def test_the_same_log_gives_the_same_bytes(one: Path, small_log: list[Path | str], tmp_path: Path) -> None:
    """Two people who replay the same log can compare checksums, however their runs were cut into flushes."""
    again = replay(tmp_path / "data", *small_log, "--shards", "1", "--epoch", "0.1")
    assert_same(tables(again), tables(one))
    for table in COMPARED:
        for ending in ("csv", "parquet"):
            files = [_sorted(data, table, tmp_path / f"{n}-{table}.{ending}") for n, data in enumerate((one, again))]
            assert files[0].read_bytes() == files[1].read_bytes(), table
    for table in ("events", "incidents", "transitions"):  # what `tocsin export` puts in order itself
        con, more = (open_reader(data, writes_files=True).connection for data in (one, again))
        first = export_table(con, table, tmp_path / "one" / f"{table}.parquet")
        second = export_table(more, table, tmp_path / "again" / f"{table}.parquet")
        assert first.read_bytes() == second.read_bytes(), table


def _sorted(data: Path, table: str, file: Path) -> Path:
    with duckdb.connect(str(data / "store.duckdb"), read_only=True) as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute(f"COPY (FROM \"{table}\" ORDER BY ALL) TO '{file}'")
    return file


def test_the_published_lake_says_what_the_store_says(one: Path) -> None:
    """Analysts read the lake, the command line the store: nobody could explain a difference."""
    assert_same(tables(one, "analyst.duckdb"), tables(one))
