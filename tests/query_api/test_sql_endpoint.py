"""POST /v1/sql answers what the store holds of a workspace, in three forms, and within its limits."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from connectors import lake, workspace_rows
from connectors.reader import open_reader
from connectors.schema import TABLES
from connectors.store import Store
from connectors.workspace_rows import LEFT_OUT, SHARES
from query_api.fetch import QueryError
from query_api.sandbox import places
from query_api.sandbox.messages import Question
from query_api.sandbox.process import Process, Refused
from query_api.sql import ask
from query_api.sql_endpoint import wanted
from tests.connectors.changes import changes
from tests.query_api.sql_world import SECRET, SqlWorld, sql_world
from tests.stores import event, incident, make_store, rows

ARROW = "application/vnd.apache.arrow.stream"
# The block of statements in docs/sql.md.
PAGE = Path(__file__).resolve().parents[2] / "docs/sql.md"
EXAMPLES = PAGE.read_text().split("```sql\n")[1].split("```")[0]
ENDLESS = "SELECT count(*) FROM range(10_000_000) a, range(10_000_000) b WHERE a.range * b.range % 7 = 3"
# One call of one function: nothing inside DuckDB can stop it.
STUBBORN = "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlWorld]:
    with sql_world(tmp_path_factory.mktemp("sql")) as found:
        yield found


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlWorld]:
    """With little time and little memory."""
    limits = {"sql_seconds": 1.5, "sql_memory": "100MB", "sql_rows": 50}
    with sql_world(tmp_path_factory.mktemp("sql"), **limits) as found:
        yield found


def frame(body: bytes) -> pl.DataFrame:
    """An Arrow stream as a frame."""
    found = pl.from_arrow(pa.ipc.open_stream(body).read_all())
    assert isinstance(found, pl.DataFrame)
    return found


# ------------------------------------------------------------ what is there


def test_every_table_is_shared_or_left_out_for_a_reason() -> None:
    """Whoever adds a table decides whose its rows are; forgotten, they would be nobody's."""
    assert set(SHARES) | set(LEFT_OUT) == set(TABLES)
    assert not set(SHARES) & set(LEFT_OUT)
    assert all(LEFT_OUT.values())


@pytest.mark.parametrize("table", SHARES)
@pytest.mark.parametrize("who", ["mine", "theirs"])
def test_a_workspace_sees_its_rows_and_no_others(world: SqlWorld, table: str, who: str) -> None:
    """In files, written and not written yet; each once, as it is now."""
    team = getattr(world, who)
    answer = world.ask(f"FROM {table}", ARROW, by=team)
    found = frame(answer.content).cast(dict(TABLES[table].columns)).sort(pl.all())
    assert found.height == {"rules": 1, "events": 6, "rollup_1m": 6}.get(table, 3)
    # Exactly, but for what stands for a bin: a power, of which two libraries may differ in the last digit.
    assert_frame_equal(found, world.expected(team, table), check_dtypes=False, rel_tol=1e-14, abs_tol=0)


@pytest.mark.parametrize("table", LEFT_OUT)
def test_what_is_left_out_is_not_there(world: SqlWorld, table: str) -> None:
    """And it is said so."""
    answer = world.ask(f"FROM {table}")
    assert (answer.status_code, "does not exist" in answer.json()["detail"]) == (400, True)


def test_an_answer_is_that_of_now(tmp_path: Path) -> None:
    """An event that was just accepted counts, though nothing of it is written."""
    with sql_world(tmp_path) as world:
        before = world.told("SELECT count(*) FROM events")[0][0]
        world.store.accept(changes(100, events=[event(99, 5, "s", "login", workspace=world.mine.id)]))
        assert world.told("SELECT count(*) FROM events") == [[before + 1]]
        world.store.write()
        world.store.roll()
        assert world.told("SELECT count(*) FROM events") == [[before + 1]]


def test_rollups_are_those_of_now(tmp_path: Path) -> None:
    """Events in memory add to what is written of their minute, and a dashboard shows one row of it."""
    with sql_world(tmp_path) as world:
        before = {name: world.told(f"FROM {name} ORDER BY ALL") for name in ("rollup_1m", "histogram_1m")}
        more = {"workspace": world.mine.id, "value": 1.5, "attributes": None, "source": "source of mine"}
        world.store.accept(changes(100, events=[event(99, 0.9, kind="login", **more)]))
        at_it = 'WHERE "minute" = $at::TIMESTAMPTZ ORDER BY ALL'
        sql = f"SELECT type, count, value_count, value_sum FROM rollup_1m {at_it}"
        bins = f'SELECT "value", count FROM histogram_1m {at_it}'
        for write in (False, True):
            if write:
                world.store.write()
            at = {"at": "2025-03-26T08:00:00Z"}
            assert world.told(sql, parameters=at) == [["auth_failed", 1, 0, 0.0], ["login", 2, 2, 3.0]]
            [[value, count]] = world.told(bins, parameters=at)
            assert (value, count) == (pytest.approx(1.5, rel=0.01), 2)
            for name, rows in before.items():
                assert world.told(f"FROM {name} ORDER BY ALL", by=world.theirs) != rows
                assert world.told(f"SELECT count(*) FROM {name}") == [[len(rows)]]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT count(*) FROM events WHERE \"at\" < TIMESTAMPTZ '2025-03-26T08:00:20Z'", [[1]]),
        ("SELECT count(*) FROM events WHERE \"at\" >= TIMESTAMPTZ '2025-03-26T08:02:00Z'", [[2]]),
        ("SELECT count(*) FROM events WHERE type = 'login' AND value > 1", [[3]]),
        ("SELECT id FROM events WHERE id = 'p:1'", [["p:1"]]),
        ("SELECT attributes->>'$.who' AS who, count(*) FROM events GROUP BY ALL", [["mine", 6]]),
        ("SELECT count(*) FROM events e JOIN incidents i ON e.source = i.source", [[18]]),
        ("SELECT count(*) FROM events a, events b", [[36]]),
        ("SELECT count(*) FROM transitions JOIN alerts USING (incident_id)", [[3]]),
        ("SELECT max(event_count) FROM incidents", [[77]]),
        ("SELECT DISTINCT definition->>'$.by' FROM rules", [["mine"]]),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n", [[15]]),
        ("PIVOT (SELECT type FROM events) ON type IN ('login', 'auth_failed') USING count(*)", [[3, 3]]),
        ("SELECT 1; -- done;", [[1]]),
        ("VALUES (1, 'a')", [[1, "a"]]),
        ("SHOW TABLES", [[name] for name in sorted(SHARES)]),
    ],
)  # fmt: skip
def test_questions(world: SqlWorld, sql: str, expected: list[list[Any]]) -> None:
    """Conditions that files can be passed by for, joins, JSON, and what else analysts type."""
    assert world.told(sql) == expected


def test_statements_that_describe(world: SqlWorld) -> None:
    """How one finds one's way."""
    assert [row[0] for row in world.told("DESCRIBE events")] == list(TABLES["events"].columns)
    assert len(world.told("SUMMARIZE alerts")) == len(TABLES["alerts"].columns)
    assert "Arrow Scan" in world.told("EXPLAIN SELECT count(*) FROM events WHERE type = 'x'")[0][1]
    assert world.told("EXPLAIN ANALYZE FROM events")


def test_parameters(world: SqlWorld) -> None:
    """Values never become a part of the statement."""
    sql = "SELECT $a || 'x', $b + 1, $c, $d, $e::TIMESTAMPTZ;"
    values = {"a": "'; DROP", "b": 1.5, "c": None, "d": True, "e": "2025-03-26T08:00:00+02:00"}
    assert world.told(sql, parameters=values) == [["'; DROPx", 2.5, None, True, "2025-03-26T06:00:00.000000Z"]]
    for sql, given in (("SELECT $a", {}), ("SELECT 1", {"a": 1}), ("SELECT $a", {"b": 1})):
        answer = world.ask(sql, parameters=given)
        assert (answer.status_code, "arameter" in answer.json()["detail"]) == (400, True), sql


@pytest.mark.parametrize("sql", [one.strip() for one in EXAMPLES.split(";") if one.strip()], ids=lambda sql: sql[:40])
def test_the_examples_of_the_documentation(world: SqlWorld, sql: str) -> None:
    """People paste them."""
    assert world.ask(sql).status_code == 200


# ------------------------------------------------------------ how it is told


@pytest.mark.parametrize(
    ("sql", "kind", "expected"),
    [
        ("TIMESTAMPTZ '2025-03-26 08:14:22.5Z'", "TIMESTAMP WITH TIME ZONE", "2025-03-26T08:14:22.500000Z"),
        ("TIMESTAMP '2025-03-26 08:14:22'", "TIMESTAMP", "2025-03-26T08:14:22.000000"),
        ("TIMESTAMPTZ 'infinity'", "TIMESTAMP WITH TIME ZONE", "infinity"),
        ("TIMESTAMPTZ '20000-01-01 00:00:00Z'", "TIMESTAMP WITH TIME ZONE", "20000-01-01T00:00:00.000000Z"),
        ("DATE '2025-03-26'", "DATE", "2025-03-26"),
        ("TIME '08:14:22'", "TIME", "08:14:22"),
        ("INTERVAL 90 MINUTE", "INTERVAL", "01:30:00"),
        ("INTERVAL 1 MONTH", "INTERVAL", "1 month"),
        ("1::HUGEINT << 100", "HUGEINT", 1 << 100),
        ("18446744073709551615::UBIGINT", "UBIGINT", 2**64 - 1),
        ("1.50::DECIMAL(10, 2)", "DECIMAL(10,2)", 1.5),
        ("0.1::DOUBLE", "DOUBLE", 0.1),
        ("'nan'::DOUBLE", "DOUBLE", None),
        ("'-inf'::DOUBLE", "DOUBLE", None),
        ("true", "BOOLEAN", True),
        ("NULL", '"NULL"', None),
        ("'a\"\\u00e9\n'", "VARCHAR", 'a"\\u00e9\n'),
        ("'\\x00\\xFF'::BLOB", "BLOB", "AP8="),
        ("'101'::BIT", "BIT", "101"),
        ("'b'::ENUM('a', 'b')", "ENUM('a', 'b')", "b"),
        ("'00000000-0000-0000-0000-000000000001'::UUID", "UUID", "00000000-0000-0000-0000-000000000001"),
        ("'{\"a\": [1, null]}'::JSON", "JSON", {"a": [1, None]}),
        ("[1, NULL]", "INTEGER[]", [1, None]),
        ("[1, 2]::INTEGER[2]", "INTEGER[2]", [1, 2]),
        ("['nan'::DOUBLE, 1]", "DOUBLE[]", [None, 1.0]),
        ("[1::HUGEINT << 100]", "HUGEINT[]", [1 << 100]),
        ("[TIMESTAMPTZ '2025-03-26 08:14:22Z', NULL]", None, ["2025-03-26T08:14:22.000000Z", None]),
        ("{'a b': TIMESTAMPTZ '2025-03-26 08:14:22Z', 'c': ['x'::BLOB]}", None,
         {"a b": "2025-03-26T08:14:22.000000Z", "c": ["eA=="]}),
        ("MAP {'k': 1}", "MAP(VARCHAR, INTEGER)", {"k": 1}),
        ("union_value(a := 1)", "UNION(a INTEGER)", None),
    ],
)  # fmt: skip
def test_values_in_json(world: SqlWorld, sql: str, kind: str | None, expected: Any) -> None:
    """Each type as what JSON has for it, and nothing that is not JSON."""
    answer = world.ask(f"SELECT {sql} AS x")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    if kind is not None:
        assert body["columns"] == [{"name": "x", "type": kind}]
    if "union_value" not in sql:
        assert body["rows"] == [[expected]]


def test_the_three_forms_say_the_same(world: SqlWorld) -> None:
    """Whatever reads it, the numbers are equal."""
    sql = 'SELECT "offset", "at", message, value, NULL AS nothing FROM events ORDER BY "offset"'
    body = world.ask(sql).json()
    assert body.keys() == {"columns", "rows", "row_count", "truncated", "elapsed_ms"}
    assert (body["row_count"], body["truncated"], len(body["rows"])) == (6, False, 6)
    text = world.ask(sql, "text/csv")
    assert text.headers["Content-Type"].startswith("text/csv")
    told = list(csv.reader(io.StringIO(text.text)))
    assert told[0] == [column["name"] for column in body["columns"]]
    assert told[1:] == [["" if value is None else str(value) for value in row] for row in body["rows"]]
    arrow = world.ask(sql, ARROW)
    assert arrow.headers["Content-Type"] == ARROW
    found = frame(arrow.content)
    assert found["offset"].to_list() == [row[0] for row in body["rows"]]
    assert found["at"].dtype == TABLES["events"].columns["at"]


@pytest.mark.parametrize(
    ("accept", "form"),
    [("", "json"), ("*/*", "json"), ("text/csv", "csv"), (f"text/html, {ARROW};q=0.9", "arrow"),
     ("application/json, text/csv", "json"), ("TEXT/CSV; charset=utf-8", "csv"), ("image/png", "json"),
     ("application/json;q=0.1, text/csv", "csv"), (f"text/csv;q=0.5, {ARROW};q=0.6", "arrow")],
)  # fmt: skip
def test_the_form_is_the_one_that_is_liked_best(accept: str, form: str) -> None:
    """As clients say it."""
    assert wanted(accept) == form


@pytest.mark.parametrize("accept", ["application/json", "text/csv", ARROW])
@pytest.mark.parametrize(("limit", "truncated"), [(4, True), (5, False), (6, False)])
def test_rows_are_capped_and_it_is_said(world: SqlWorld, accept: str, limit: int, truncated: bool) -> None:
    """At the cap, one below and one beyond; in every form."""
    answer = world.ask("SELECT * FROM range(5)", accept, limit=limit)
    assert answer.headers["X-Truncated"] == str(truncated).lower()
    if accept == ARROW:
        count = frame(answer.content).height
    else:
        count = answer.json()["row_count"] if accept.endswith("json") else len(answer.text.splitlines()) - 1
    assert count == min(limit, 5)


def test_nobody_gets_more_rows_than_the_setting(hasty: SqlWorld) -> None:
    """Asked for more, or for none in particular: of a thousand million rows the first."""
    for more in ({}, {"limit": 1_000_000}):
        body = hasty.ask("SELECT * FROM range(1_000_000_000)", **more).json()
        assert (body["row_count"], body["truncated"], body["rows"][-1]) == (50, True, [49])


# ------------------------------------------------------------ what it may take


@pytest.mark.parametrize(
    "sql",
    [ENDLESS, STUBBORN, "SELECT count(*) FROM range(1_000_000_000_000)",
     "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
     "SELECT count(*) FROM events a, events b, events c, events d, events e, events f, events g, range(1000000)",
     "SELECT sleep_ms(100000) FROM range(1000)"],
)  # fmt: skip
def test_what_takes_too_long_is_ended(hasty: SqlWorld, sql: str) -> None:
    """The caller hears so in time; afterwards nothing runs any more, and the next question is answered."""
    began = time.monotonic()
    answer = hasty.ask(sql)
    if "sleep" not in sql or answer.status_code != 200:
        assert (answer.status_code, "1.5 s" in answer.json()["detail"]) == (504, True)
    assert time.monotonic() - began < 4
    goes_on(hasty)


def goes_on(world: SqlWorld) -> None:
    """The next statement is answered; a new process may take longer to start than this world lets a statement take."""
    for _ in range(20):
        answer = world.ask("SELECT 1")
        if answer.status_code == 200:
            assert answer.json()["rows"] == [[1]]
            return
        assert answer.status_code == 504
    pytest.fail("no statement is answered any more")


@pytest.mark.parametrize(
    "sql",
    ["SELECT range, count(*) FROM range(1_000_000_000) GROUP BY 1",
     "SELECT list(range) FROM range(10_000_000_000)",
     "SELECT string_agg(range::VARCHAR, ',') FROM range(10_000_000_000)",
     "SELECT len(range(300_000_000))",
     "SELECT repeat('x', 100_000_000) FROM range(100)",
     "SELECT damerau_levenshtein(repeat('a', 100000), repeat('b', 100000))",
     "WITH RECURSIVE n(t) AS (SELECT repeat('x', 1_000_000) UNION ALL SELECT t || t FROM n) SELECT count(*) FROM n"],
)  # fmt: skip
def test_what_takes_too_much_memory_is_ended(hasty: SqlWorld, sql: str) -> None:
    """Also what DuckDB does not count. The service itself grows by nothing."""
    answer = hasty.ask(sql)
    assert answer.status_code in (422, 504), answer.text[:200]
    detail = answer.json()["detail"]
    assert "100MB of memory" in detail or "larger than 32 MB" in detail or "1.5 s" in detail
    goes_on(hasty)


@pytest.mark.parametrize("sql", ["SELECT repeat('x', 10000000000)", "SELECT len(range(10_000_000_000))"])
def test_what_cannot_be_is_refused_at_once(hasty: SqlWorld, sql: str) -> None:
    """With DuckDB's reason."""
    assert hasty.ask(sql).status_code == 400


def test_an_answer_is_not_endlessly_wide(hasty: SqlWorld) -> None:
    """Fifty rows may still be a gigabyte."""
    for accept in ("application/json", "text/csv", ARROW):
        answer = hasty.ask("SELECT repeat('x', 5_000_000) AS x FROM range(10)", accept)
        assert (answer.status_code, "larger than 32 MB" in answer.json()["detail"]) == (422, True)


def test_the_general_deadline_holds_too(tmp_path: Path) -> None:
    """Whichever is shorter, the sentence is this endpoint's."""
    with sql_world(tmp_path, deadline_seconds=2, sql_seconds=100) as world:
        answer = world.ask(ENDLESS)
        assert (answer.status_code, "1.9 s" in answer.json()["detail"]) == (504, True)


def test_a_workspace_has_one_place_and_another_one_still_finds_one(hasty: SqlWorld) -> None:
    """Who asks much waits for itself; nobody else does."""
    service = hasty.service

    async def post(headers: dict[str, str], sql: str) -> Any:
        return await service.client.post("/v1/sql", headers=headers, json={"sql": sql})

    async def all_at_once() -> list[Any]:
        slow = [asyncio.create_task(post(hasty.mine.by_key, ENDLESS)) for _ in range(3)]
        await asyncio.sleep(0.2)
        began = time.monotonic()
        theirs = await post(hasty.theirs.by_key, "SELECT 1")
        assert time.monotonic() - began < 1.5
        return [theirs, *await asyncio.gather(*slow)]

    theirs, *mine = service.runner.run(all_at_once())
    assert theirs.status_code == 200
    assert sorted(answer.status_code for answer in mine) == [503, 503, 504]
    refused = next(answer for answer in mine if answer.status_code == 503)
    assert refused.headers["Retry-After"] == "1"
    assert "of this workspace" in refused.json()["detail"]
    goes_on(hasty)


def test_all_places_taken_is_503(hasty: SqlWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than one after the other, for ever."""
    monkeypatch.setattr(places, "WAIT", 0.1)
    third = hasty.service.team("Third")

    async def ask_all() -> list[int]:
        posts = [hasty.service.client.post("/v1/sql", headers=team.by_key, json={"sql": ENDLESS})
                 for team in (hasty.mine, hasty.theirs, third)]  # fmt: skip
        return sorted(answer.status_code for answer in await asyncio.gather(*posts))

    assert hasty.service.runner.run(ask_all()) == [503, 504, 504]


@pytest.mark.parametrize("how", ["cancelled", "disconnected"])
def test_who_goes_away_leaves_nothing_running(hasty: SqlWorld, how: str) -> None:
    """A browser that is closed must not keep a core busy, nor its workspace's place."""
    body = json.dumps({"sql": STUBBORN}).encode()
    headers = [(b"x-api-key", hasty.mine.key.encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
             "path": "/v1/sql", "raw_path": b"/v1/sql", "query_string": b"", "root_path": "", "headers": headers,
             "client": ("192.0.2.1", 4711), "server": ("service", 80)}  # fmt: skip
    gone, sent = asyncio.Event(), []

    async def receive() -> dict[str, Any]:
        nonlocal body
        if body:
            now, body = body, b""
            return {"type": "http.request", "body": now, "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def leave() -> None:
        asking = asyncio.create_task(hasty.service.app(scope, receive, send))
        await asyncio.sleep(0.9)
        before = pids(hasty)
        began = time.monotonic()
        asking.cancel() if how == "cancelled" else gone.set()
        await asyncio.gather(asking, return_exceptions=True)
        assert time.monotonic() - began < 0.3
        await asyncio.sleep(0.3)
        ended = before - pids(hasty)
        assert len(ended) == 1
        assert not any(Path(f"/proc/{pid}").exists() for pid in ended)

    hasty.service.runner.run(leave())
    assert not sent
    goes_on(hasty)


def pids(world: SqlWorld) -> set[int]:
    """The processes there are."""
    return {one._process.pid for one in world.service.app.state.services.places._all if one._process}


# ------------------------------------------------------------ who may, and what is no question


def test_only_who_has_a_key_asks(world: SqlWorld) -> None:
    """With a key or with a person's token for the workspace."""
    body = {"sql": "SELECT count(*) FROM events"}
    assert world.service.post("/v1/sql", json=body).status_code == 401
    assert world.service.post("/v1/sql", json=body, headers={"X-Api-Key": "sg_" + "0" * 48}).status_code == 401
    by_token = world.service.post("/v1/sql", json=body, headers=world.mine.by_token)
    assert by_token.json()["rows"] == [[6]]
    session = world.service.post(
        "/api/v1/auth/register", json={"email": "nobody@example.com", "password": "correct horse battery"}
    ).json()["data"]
    nobody = world.service.post("/v1/sql", json=body, headers={"Authorization": f"Bearer {session['token']}"})
    assert (nobody.status_code, nobody.headers["Content-Type"]) == (403, "application/problem+json")


def test_questions_count_as_requests(tmp_path: Path) -> None:
    """One may not ask for ever."""
    with sql_world(tmp_path, requests_per_minute=2) as world:
        found = [world.ask("SELECT 1") for _ in range(3)]
        assert [answer.status_code for answer in found] == [200, 200, 429]
        assert found[-1].headers["Retry-After"]


@pytest.mark.parametrize(
    ("body", "says"),
    [({}, "sql is required."), ({"sql": ""}, "sql must have at least 1 character."), ({"sql": 1}, "sql must be"),
     ({"sql": "SELECT 1", "limit": 0}, "limit must be"), ({"sql": "SELECT 1", "parameters": [1]}, "parameters must be"),
     ({"sql": "SELECT 1", "workspace": "x"}, "workspace"),
     ({"sql": "SELECT $a", "parameters": {"a": 1 << 70}}, "64 bits"),
     ({"sql": "SELECT $a", "parameters": {"a": [1]}}, "parameters.a"),
     ({"sql": "SELECT '\ud800'"}, "sql"),
     ({"sql": "SELECT $a", "parameters": {"a": "\ud800"}}, "Unicode"),
     ({"sql": "SELECT $a", "parameters": {"\ud800": 1}}, "parameters"),
     ({"sql": "SELECT " + "1" * 100_000}, "sql must have at most"),
     ([], "JSON object")],
)  # fmt: skip
def test_a_body_that_makes_no_sense(world: SqlWorld, body: Any, says: str) -> None:
    """Says which member."""
    headers = world.mine.by_key | {"Content-Type": "application/json"}
    answer = world.service.post("/v1/sql", content=json.dumps(body), headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert says in answer.json()["detail"]


def test_a_body_that_is_too_large(world: SqlWorld) -> None:
    """As everywhere."""
    headers = world.mine.by_key | {"Content-Type": "application/json"}
    assert world.service.post("/v1/sql", content=b" " * (33 << 20), headers=headers).status_code == 413


def test_files_that_have_gone_are_503(tmp_path: Path) -> None:
    """Merged and swept while somebody asked: the next question sees the new ones. Nobody learns where files are."""
    with sql_world(tmp_path) as world:
        world.store.write()
        world.store.roll()
        for file in sorted((tmp_path / "lake/events").rglob("*.parquet")):
            aside = file.rename(tmp_path / "aside")
            for content in (None, b"PAR1 nonsense PAR1"):
                if content is not None:
                    file.write_bytes(content)
                answer = world.ask("SELECT count(*), max(message) FROM events")
                assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "1"), answer.text
                assert str(tmp_path) not in answer.text
            aside.rename(file)
            assert world.told("SELECT count(*) FROM events") == [[6]]


# ------------------------------------------------------------ the process


QUESTION = Question("SELECT 1", {}, 10, "json", "100MB", 10.0)


def test_a_process_that_ended_while_nobody_asked_is_started_again() -> None:
    """Killed by an administrator, or by the kernel."""
    process = Process()
    try:
        for _ in range(2):
            assert process.begin(QUESTION) == []
            assert b'"rows":[[1]]' in process.finish().body
            assert process._process is not None
            process._process.kill()
            process._process.wait()
    finally:
        process.close()


def test_a_process_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is its own, whatever the service was told in its."""
    monkeypatch.setenv("TOCSIN_CONTROL_URL", "postgresql://user:hunter2@db/tocsin")
    process = Process()
    try:
        process.begin(QUESTION)
        process.finish()
        assert process._process is not None
        environment = Path(f"/proc/{process._process.pid}/environ")
        if environment.exists():
            assert b"hunter2" not in environment.read_bytes()
    finally:
        process.close()


def test_a_process_ends_with_its_service() -> None:
    """Its standard input ends, and that is that."""
    process = Process()
    process.begin(QUESTION)
    process.finish()
    running = process._process
    assert running is not None
    assert running.stdin is not None
    running.stdin.close()
    assert running.wait(10) == 0


def test_a_busy_process_ends_with_its_service() -> None:
    """Killed without a chance to tell it: nobody would ever end a statement that computes for an hour."""
    service = """
import dataclasses, os, time
from query_api.sandbox.process import Process
from tests.query_api.test_sql_endpoint import QUESTION, STUBBORN
process = Process()
process.begin(dataclasses.replace(QUESTION, sql=STUBBORN, seconds=3600.0))
print(process._process.pid, flush=True)
time.sleep(0.5)
os._exit(9)
"""
    told = subprocess.run([sys.executable, "-c", service], cwd=PAGE.parents[1], capture_output=True, text=True)
    assert told.returncode == 9, told.stderr
    process = Path(f"/proc/{int(told.stdout)}")
    until = time.monotonic() + 5
    while process.exists() and "(zombie)" not in (process / "status").read_text() and time.monotonic() < until:
        time.sleep(0.1)
    assert time.monotonic() < until


def test_a_killed_process_stays_dead() -> None:
    """Who gave up must not find it running again."""
    process = Process()
    process.begin(replace(QUESTION, sql=STUBBORN))
    process.kill()
    with pytest.raises(Refused):
        process.finish()
    assert not process.clean
    process.close()


# ------------------------------------------------------------ the command line's side


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of a replay with two workspaces, published."""
    data = make_store(tmp_path_factory.mktemp("two"))
    with Store.open(data / "store.duckdb") as store:
        happened = event(100, 1, "x", SECRET, workspace="theirs")
        opened = incident("inc_" + SECRET, "r", "x", 0, 1, 1, workspace="theirs")
        store.flush({"events": rows("events", happened), "incidents": rows("incidents", opened)}, {})
        lake.publish(store, data)
    return data


@pytest.mark.parametrize("origin", ["store", "lake"])
def test_one_workspace_on_the_command_line(two: Path, origin: str) -> None:
    """From the store, or from the lake while a service writes."""
    con = open_reader(two).connection if origin == "store" else lake.connect(two)
    for workspace, count, incidents in (("default", 14, 3), ("theirs", 1, 1), ("nobody", 0, 0)):
        sql = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM incidents)"
        assert ask(con, sql, workspace, None, 30.0).rows.row(0) == (count, incidents)
    found = ask(con, "SELECT id FROM events ORDER BY id", "default", 3, None)
    assert (found.rows.height, found.truncated) == (3, True)
    con.close()


@pytest.mark.parametrize("workspace", [None, "default"])
def test_limits_of_the_command_line(two: Path, workspace: str | None) -> None:
    """Rows, time, and DuckDB's reason."""
    con = open_reader(two).connection
    found = ask(con, "FROM range(10)", workspace, 4, None)
    assert (found.rows["range"].to_list(), found.truncated) == ([0, 1, 2, 3], True)
    assert not ask(con, "FROM range(4)", workspace, 4, None).truncated
    with pytest.raises(QueryError, match=r"longer than 0\.5 s"):
        ask(con, ENDLESS, workspace, None, 0.5)
    with pytest.raises(QueryError, match="nowhere"):
        ask(con, "FROM nowhere", workspace, None, None)
    assert ask(con, "SELECT INTERVAL 1 HOUR AS x", workspace, None, None).rows["x"].to_list() == ["01:00:00"]
    con.close()


def test_definitions_have_the_columns_of_the_store() -> None:
    """What is described is what is there."""
    assert set(workspace_rows.definitions()) == set(SHARES)
