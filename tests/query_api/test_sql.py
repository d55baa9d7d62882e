"""A person's own SQL reads and does nothing else; exports can be read again."""

import json
from pathlib import Path

import polars as pl
import pytest
from duckdb import DuckDBPyConnection

from connectors.reader import open_reader
from query_api.export import export_table
from query_api.fetch import QueryError
from query_api.sql import run_sql
from tests.stores import EVENTS


@pytest.mark.parametrize(
    "query",
    ["SELECT count(*) FROM events", "FROM incidents", "DESCRIBE events", "SUMMARIZE alerts", "EXPLAIN FROM events",
     "SHOW TABLES", "WITH a AS (SELECT 1) FROM a;"],
)  # fmt: skip
def test_statements_that_ask(con: DuckDBPyConnection, query: str) -> None:
    """What an analyst types first."""
    assert run_sql(con, query).height > 0


@pytest.mark.parametrize(
    "query",
    ["DROP TABLE events", "DELETE FROM events", "INSERT INTO meta VALUES ('a', 'b')",
     "SET enable_external_access = true",
     "SELECT 1; DROP TABLE events", "COPY events TO 'x.csv'", "ATTACH 'x.duckdb'", "INSTALL httpfs", "",
     "EXPLAIN ANALYZE DELETE FROM events", "FROM read_text('/etc/passwd')", "SELEC 1", "FROM nowhere"],
)  # fmt: skip
def test_everything_else_is_refused_with_a_reason(con: DuckDBPyConnection, query: str) -> None:
    """Pasting a query from a chat must be safe."""
    with pytest.raises(QueryError):
        run_sql(con, query)
    assert run_sql(con, "SELECT count(*) AS n FROM events")["n"][0] == len(EVENTS)


def test_exports_hold_the_table(data: Path, tmp_path: Path) -> None:
    """Each format read by somebody else's reader."""
    con = open_reader(data, writes_files=True).connection
    parquet = export_table(con, "events", tmp_path / "it's here")
    assert parquet.name == "events.parquet"
    assert pl.read_parquet(parquet)["offset"].to_list() == pl.DataFrame(EVENTS).sort("at", "offset")["offset"].to_list()
    lines = export_table(con, "events", tmp_path / "e.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert (first["time"], first["attributes"], first["offset"]) == ("2025-03-26T08:00:00.000000Z", {"n": 1}, 0)
    assert len(lines) == len(EVENTS)
    csv = export_table(con, "incidents", tmp_path / "i.csv").read_text().splitlines()
    assert csv[0].startswith("id,workspace,rule_id,")
    assert not list(tmp_path.rglob("*.new"))


@pytest.mark.parametrize(
    ("table", "target"), [("nope", "x.csv"), ("events; DROP TABLE x", "x.csv"), ("events", "x.xls")]
)
def test_an_unknown_table_or_format_is_told(data: Path, tmp_path: Path, table: str, target: str) -> None:
    """And nothing is written."""
    with pytest.raises(QueryError):
        export_table(open_reader(data, writes_files=True).connection, table, tmp_path / target)
    assert not list(tmp_path.iterdir())


def test_an_interval_is_text(con: DuckDBPyConnection) -> None:
    """How long were incidents open? The README's question subtracts two times; Polars knows no such type."""
    rows = run_sql(con, 'SELECT INTERVAL 90 MINUTE AS spent, 1 AS "n""x"')
    assert rows.to_dicts() == [{"spent": "01:30:00", 'n"x': 1}]
