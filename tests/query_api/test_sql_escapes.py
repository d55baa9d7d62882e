"""Attempts to get out of one's own rows by SQL: each is refused with a reason, or finds nothing that is not one's own.

Every row of the other workspace has SECRET in it; no answer ever may.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.query_api.sql_world import SECRET, SqlWorld, sql_world

READS = "only statements that read are possible"
FILES = "file system operations are disabled"
LOCKED = "read-only mode"
NOTHING = "does not exist"
FUNCTION = "Function with name"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlWorld]:
    with sql_world(tmp_path_factory.mktemp("escapes")) as found:
        yield found


# What changes something, or another place.
STATEMENTS = [
    "ATTACH 'store.duckdb'",
    "ATTACH ':memory:' AS other",
    "ATTACH 'https://example.com/x.duckdb' AS other",
    "DETACH memory",
    "USE memory",
    "COPY events TO 'x.csv'",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "COPY incidents FROM '/etc/passwd'",
    "EXPORT DATABASE 'x'",
    "IMPORT DATABASE 'x'",
    "INSTALL httpfs",
    "FORCE INSTALL httpfs FROM 'https://example.com'",
    "LOAD httpfs",
    "LOAD '/tmp/x.duckdb_extension'",
    "PRAGMA memory_limit = '10GB'",
    "PRAGMA database_list",
    "PRAGMA table_info('events')",
    "PRAGMA enable_profiling",
    "SET threads = 64",
    "SET memory_limit = '10GB'",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET VARIABLE tocsin_data = '/'",
    "SET search_path = 'unfiled'",
    "RESET memory_limit",
    "RESET enable_external_access",
    "CALL pragma_version()",
    "CALL force_checkpoint()",
    "CREATE TABLE x (i INTEGER)",
    "CREATE TEMP TABLE x (i INTEGER)",
    "CREATE VIEW x AS FROM events",
    "CREATE OR REPLACE VIEW events AS SELECT 1",
    "CREATE MACRO x(a) AS a",
    "CREATE FUNCTION x(a) AS TABLE FROM events",
    "CREATE SECRET x (TYPE s3)",
    "CREATE SCHEMA x",
    "CREATE SEQUENCE x",
    "DROP TABLE incidents",
    "DROP VIEW events",
    "ALTER TABLE incidents ADD COLUMN x INTEGER",
    "COMMENT ON TABLE incidents IS 'x'",
    "INSERT INTO incidents (id) VALUES ('x')",
    "UPDATE incidents SET status = 'Closed'",
    "DELETE FROM incidents",
    "TRUNCATE incidents",
    "MERGE INTO incidents i USING (SELECT 'x' AS id) s USING (id) WHEN MATCHED THEN DELETE",
    "PREPARE x AS FROM events",
    "EXECUTE x",
    "DEALLOCATE x",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "CONNECT 'x'",
    "UPDATE EXTENSIONS",
]
# Several at once, and what hides behind a comment or another statement.
STACKED = [
    ("SELECT 1; SELECT 2", "expected one SQL statement, got 2"),
    ("SELECT 1;\n--\n;DROP TABLE incidents", "expected one SQL statement"),
    ("/* SELECT */ DROP TABLE incidents -- SELECT 1", READS),
    ("COMMIT; SET lock_configuration = false; FROM events", "expected one SQL statement"),
    ("", "must have at least 1 character"),
    (";", "expected one SQL statement, got 0"),
    ("-- nothing", "expected one SQL statement, got 0"),
    ("PIVOT events ON type USING count(*)", "PIVOT"),
    ("EXPLAIN ANALYZE DELETE FROM incidents", LOCKED),
    ("EXPLAIN ANALYZE CREATE TABLE x AS FROM events", LOCKED),
    ("EXPLAIN ANALYZE COPY events TO 'x.csv'", FILES),
    ("EXPLAIN ANALYZE ATTACH 'x.duckdb'", "rror"),
    ("EXPLAIN ANALYZE SET memory_limit = '10GB'", "rror"),
    ("WITH x AS (INSERT INTO incidents (id) VALUES ('x') RETURNING id) FROM x", LOCKED),
    ("WITH x AS (DELETE FROM incidents RETURNING id) FROM x", LOCKED),
    ("SELECT * FROM (DELETE FROM incidents)", "rror"),
    ("SELECT 1)) UNION (SELECT (2", "syntax error"),
    ("SELECT " + "(" * 20_000 + "1" + ")" * 20_000, "depth"),
    ("SELECT " + "+".join(["1"] * 20_000), "depth"),
]
# What reads files, or asks over the network.
OUTSIDE = [
    *(f"FROM {function}('/etc/passwd')" for function in (
        "read_text", "read_blob", "read_csv", "read_csv_auto", "read_json", "read_json_auto", "read_json_objects",
        "read_ndjson", "read_ndjson_objects", "read_parquet", "parquet_scan", "parquet_metadata", "parquet_schema",
        "parquet_file_metadata", "parquet_kv_metadata", "sniff_csv", "glob", "read_duckdb",
    )),
    "FROM glob('/**')",
    "FROM read_text(['/etc/passwd', '/proc/self/environ'])",
    "FROM read_csv('https://example.com/x.csv')",
    "FROM read_parquet('s3://bucket/x.parquet')",
    "FROM read_text('file:///etc/passwd')",
    "FROM 'x.csv'",
    "FROM '/tmp/x.parquet'",
    "FROM 'x.json'",
    "FROM \"x.duckdb\"",
    "FROM 'https://example.com/x.csv'",
    "FROM 's3://bucket/x.parquet'",
    "FROM query('SELECT * FROM read_text(''/etc/passwd'')')",
    "FROM query_table('/etc/passwd.csv')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH x AS (FROM read_csv('/etc/passwd')) FROM x",
    "DESCRIBE FROM '/tmp/x.parquet'",
    "SUMMARIZE 'x.csv'",
    "EXPLAIN FROM read_text('/etc/passwd')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
    "FROM duckdb_extensions()",
]  # fmt: skip
# What is not there at all: other names, our variables, the environment, the service's own tables.
ELSEWHERE = [
    "FROM '/etc/passwd'",
    "FROM dead_letters",
    "FROM meta",
    "FROM positions",
    "FROM event_files",
    "FROM hot_events",
    "FROM mem_events",
    "FROM live_incidents",
    "FROM past_incidents",
    "FROM feed",
    "FROM settings",
    "FROM users",
    "FROM control.main.users",
    "FROM store.main.incidents",
    "FROM store.incidents",
    "FROM system.main.incidents",
    "FROM temp.main.incidents",
    "FROM incoming",
    "FROM question",
    "FROM rows",
    "FROM con",
    "FROM files",
    "FROM os.environ",
    "SELECT getenv('HOME')",
    "FROM secret_function()",
    "SELECT nextval('x')",
    "SELECT currval('x')",
    "FROM query('FROM store.main.incidents')",
    "FROM query_table('store.main.incidents')",
    "FROM query_table(['incidents', 'dead_letters'])",
    "FROM arrow_scan(1, 2, 3)",
    "FROM arrow_scan(1::POINTER, 2::POINTER, 3::POINTER)",
    "FROM arrow_scan_dumb(1::POINTER, 2::POINTER, 3::POINTER)",
    "FROM python_arrow_scan(1)",
    "FROM pandas_scan(1::POINTER)",
    "FROM python_map_function((FROM events))",
    "FROM seq_scan('incidents')",
    "FROM query('ATTACH ''x.duckdb''')",
    "FROM query('SELECT 1; SELECT 2')",
    "FROM enable_logging()",
    "FROM sqlite_scan('control.sqlite', 'users')",
    "FROM postgres_scan('', '', '')",
    "FROM iceberg_scan('x')",
    "SELECT http_get('https://example.com')",
    "SELECT shell('id')",
]
# What is answered, and must not know of anybody else.
HARMLESS = [
    "FROM events UNION ALL FROM events",
    "SELECT * FROM events a FULL JOIN events b ON true",
    "SELECT * FROM events, incidents, transitions, alerts",
    "FROM events WHERE workspace <> $me",
    "FROM events WHERE workspace <> $me OR true",
    "SELECT * FROM events WHERE workspace IN (SELECT workspace FROM events UNION SELECT workspace FROM alerts)",
    "SELECT DISTINCT workspace FROM events",
    "SELECT count(*) FILTER (WHERE workspace <> $me), min(message), max(message), list(message) FROM events",
    "SELECT approx_top_k(message, 100), histogram(source), string_agg(tenant, ',') FROM events",
    "SELECT * FROM incidents WHERE id LIKE 'inc_%'",
    "SELECT * FROM transitions ANTI JOIN incidents ON incidents.id = transitions.incident_id",
    "SELECT * FROM incident_tenants WHERE incident_id NOT IN (SELECT id FROM incidents)",
    "FROM claims",
    "FROM rules",
    "SUMMARIZE events",
    "SUMMARIZE rules",
    "FROM memory.main.incidents",
    "FROM memory.main.events",
    "FROM unfiled.events",
    "FROM memory.unfiled.events",
    "SHOW ALL TABLES",
    "SHOW DATABASES",
    "FROM information_schema.tables",
    "FROM information_schema.columns",
    "FROM information_schema.schemata",
    "FROM pg_catalog.pg_class",
    "FROM pg_catalog.pg_tables",
    "FROM sqlite_master",
    "FROM duckdb_tables()",
    "FROM duckdb_views()",
    "FROM duckdb_columns()",
    "FROM duckdb_databases()",
    "FROM duckdb_schemas()",
    "FROM duckdb_settings()",
    "FROM duckdb_functions() WHERE schema_name = 'main' LIMIT 10",
    "FROM duckdb_memory()",
    "FROM duckdb_variables()",
    "FROM duckdb_temporary_files()",
    "FROM duckdb_prepared_statements()",
    "FROM duckdb_logs",
    "FROM pragma_storage_info('incidents')",
    "FROM pragma_table_info('events')",
    "FROM pragma_database_size()",
    "SELECT current_setting('allowed_directories'), current_setting('home_directory')",
    "SELECT current_setting('secret_directory'), current_setting('extension_directory')",
    "SELECT getvariable('tocsin_data')",
    "SELECT current_database(), current_schema(), current_user, version()",
    "SELECT current_query()",
    "FROM query('FROM events')",
    "FROM query_table('events')",
    "FROM query_table(['events', 'unfiled.events'])",
    "EXPLAIN FROM events",
    "EXPLAIN ANALYZE SELECT count(*) FROM events WHERE workspace <> $me",
    "SELECT json_serialize_plan('FROM events')",
    "SELECT json_serialize_sql('FROM read_text(''/etc/passwd'')')",
    "SELECT write_log('x')",
]


def refused(world: SqlWorld, sql: str, *reasons: str) -> None:
    """It is a bad request, for one of these reasons, and the next question is answered as before."""
    answer = world.ask(sql)
    assert answer.status_code == 400, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert any(reason in detail for reason in reasons), detail
    nothing_of_theirs(world, sql, answer.text)
    assert world.told("SELECT count(*), (SELECT count(*) FROM incidents) FROM events") == [[6, 3]]


def nothing_of_theirs(world: SqlWorld, sql: str, text: str) -> None:
    """Neither their rows nor their name, nor where our files are, nor what the service knows."""
    for hidden in (SECRET, world.theirs.id, world.theirs.key, str(world.service.directory), "root:", os.getcwd()):
        assert hidden not in text or hidden in sql, hidden


@pytest.mark.parametrize("sql", STATEMENTS)
def test_statements_that_do_something(world: SqlWorld, sql: str) -> None:
    """None of them is even tried."""
    refused(world, sql, READS, "syntax error")


@pytest.mark.parametrize(("sql", "reason"), STACKED, ids=lambda value: value[:60])
def test_statements_that_hide_another(world: SqlWorld, sql: str, reason: str) -> None:
    """Behind a semicolon, a comment, an EXPLAIN or a WITH."""
    refused(world, sql, reason)


@pytest.mark.parametrize("sql", OUTSIDE)
def test_files_and_the_network(world: SqlWorld, sql: str) -> None:
    """Through whichever function or name."""
    refused(world, sql, FILES, NOTHING)


@pytest.mark.parametrize("sql", ELSEWHERE)
def test_what_is_not_there(world: SqlWorld, sql: str) -> None:
    """The service's own tables and variables, other databases, functions that would take an address."""
    refused(world, sql, NOTHING, "not in the catalog", "No function matches", "requires a subquery", "single SELECT",
            "has been locked", "is a table function", "requires a callable")  # fmt: skip


def test_event_files_cannot_be_named(world: SqlWorld) -> None:
    """Somebody who knows where they are gets nothing."""
    file = next((world.service.directory / "lake/events").rglob("*.parquet"))
    store = world.service.directory / "store.duckdb"
    for sql in (f"FROM '{file}'", f"FROM read_parquet('{file}')", f"FROM parquet_metadata('{file}')",
                f"FROM read_blob('{file}')", f"FROM glob('{file.parent}/*')", f"FROM '{store}'"):  # fmt: skip
        refused(world, sql, FILES, NOTHING)


@pytest.mark.parametrize("sql", HARMLESS)
@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/vnd.apache.arrow.stream"])
def test_nothing_of_theirs_is_in_any_answer(world: SqlWorld, sql: str, accept: str) -> None:
    """However the rows are put together, and whatever is asked of the catalogue."""
    parameters = {"me": world.mine.id} if "$me" in sql else {}
    answer = world.ask(sql, accept, parameters=parameters)
    assert answer.status_code == 200, answer.text
    assert SECRET.encode() not in answer.content
    assert world.theirs.id.encode() not in answer.content
    assert str(world.service.directory).encode() not in answer.content
    if accept == "application/json":
        json.loads(answer.content)
        nothing_of_theirs(world, sql, answer.text)


def test_their_secrets_are_there_for_them(world: SqlWorld) -> None:
    """Else the tests above would prove nothing."""
    for table in ("events", "claims", "incidents", "incident_tenants", "transitions", "alerts", "rules"):
        assert SECRET in world.ask(f"FROM {table}", by=world.theirs).text, table


def test_one_question_leaves_nothing_for_the_next(world: SqlWorld) -> None:
    """Of somebody else, in the same process."""
    for _ in range(3):
        assert SECRET in world.ask("FROM events", by=world.theirs).text
        assert SECRET not in world.ask("FROM events").text
        assert world.told("SELECT count(*) FROM events") == [[6]]


def test_a_parameter_is_no_sql(world: SqlWorld) -> None:
    """Whatever it says."""
    evil = "x' UNION ALL SELECT content FROM read_text('/etc/passwd') --"
    assert world.told("SELECT $a", parameters={"a": evil}) == [[evil]]
    assert world.told("SELECT count(*) FROM events WHERE source = $a", parameters={"a": evil}) == [[0]]
    assert world.ask("FROM query($a)", parameters={"a": "FROM read_text('/etc/passwd')"}).status_code == 400


def test_nothing_is_written_anywhere(world: SqlWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what would not fit into memory."""
    before = sorted(str(path) for path in world.service.directory.rglob("*"))
    world.ask("SELECT * FROM range(50_000_000) a ORDER BY hash(range) LIMIT 10 OFFSET 40_000_000")
    assert sorted(str(path) for path in world.service.directory.rglob("*")) == before
    assert not list(Path("/").glob("*.tmp"))


def test_the_log_has_no_statement(world: SqlWorld) -> None:
    """People put into them what nobody else should read."""
    world.ask("SELECT 'hunter2-in-sql' FROM events")
    world.ask("SELEC 'hunter2-in-sql'")
    assert "hunter2-in-sql" not in world.service.logged.getvalue()
    assert '"/v1/sql"' in world.service.logged.getvalue()
