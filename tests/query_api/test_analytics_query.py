"""GET /v1/analytics/query over the running service: events that were sent, against plain Python over the same."""

import io
import math
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import httpx
import polars as pl
import pyarrow as pa
import pytest

from flows.live import LivePipeline
from query_api import reading
from query_api.accept import preferred
from query_api.analytics_question import PARAMETERS
from query_api.pipeline import Health
from query_api.settings import ServiceSettings
from tests.query_api.service import Service, Team

PATH = "/v1/analytics/query"
ARROW = "application/vnd.apache.arrow.stream"
NOW = datetime.now(UTC).replace(microsecond=0)
LAST = (NOW - timedelta(minutes=5)).replace(minute=0, second=0)  # events lie in the days before
RANDOM = random.Random(20260501)


def sent() -> list[dict[str, Any]]:
    """Three days of verdicts, tool calls, identities and events of integrations."""
    found = []
    for n in range(600):
        when = LAST - timedelta(seconds=RANDOM.randrange(1, 3 * 86_400))
        stream = RANDOM.choice(["integration", "verdict", "tool_call", "identity"])
        common = {"time": when.isoformat(), "stream": stream, "id": f"e{n}"}
        of = {
            "integration": {"source": RANDOM.choice(["payments", "orders", "mail"]), "tenant": "acme",
                            "type": RANDOM.choice(["ok", "error"]), "code": RANDOM.choice([None, "200", "503"])},
            "verdict": {"source": RANDOM.choice(["gov_1", "gov_2"]), "type": RANDOM.choice(["passed", "blocked"]),
                        "attributes": {"guardian_name": "PII", "environment": RANDOM.choice(["live", "test"])}},
            "tool_call": {"source": RANDOM.choice(["stripe.refund", "postgres.query"]), "tenant": f"s{n % 7}",
                          "type": RANDOM.choice(["passed", "corrected"]), "attributes": {"guardian_id": "gov_1"}},
            "identity": {"source": RANDOM.choice(["nhi_1", "nhi_2"]), "type": "token", "attributes": {"tag": "ci"}},
        }[stream]  # fmt: skip
        found.append(common | of | {"value": round(RANDOM.lognormvariate(3, 1.5), 3)})
    return found


EVENTS = sent()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("data")
    pipeline = LivePipeline.start(directory)
    service = Service(directory, ServiceSettings(sign_ins_per_minute=10_000), pipeline)
    yield service
    service.close()
    reading.close(pipeline)
    pipeline.stop()


@pytest.fixture(scope="module")
def team(running: Service) -> Team:
    """A workspace with the events, and beside it one with others."""
    mine, theirs = running.team("Mine"), running.team("Theirs")
    for team, events in ((mine, EVENTS), (theirs, [one | {"value": 1e9} for one in EVENTS[:50]])):
        answer = running.post("/api/v1/events/batch", headers=team.by_key, json=events)
        assert answer.json()["data"]["accepted"] == len(events), answer.text
    until = time.monotonic() + 30
    while found(running, mine, bucket="none")["complete_through"] != f"{LAST:%Y-%m-%dT%H:%M:%SZ}":
        assert time.monotonic() < until, "how far it is complete is written a moment later"
        time.sleep(0.1)
    return mine


def asked(running: Service, team: Team, accept: str = "", **params: Any) -> httpx.Response:
    window = {"from": (LAST - timedelta(days=3)).isoformat(), "to": LAST.isoformat()}
    names = {name.rstrip("_"): value for name, value in params.items()}
    return running.get(PATH, params={**window, **names}, headers=team.by_key | ({"Accept": accept} if accept else {}))


def found(running: Service, team: Team, **params: Any) -> dict[str, Any]:
    answer = asked(running, team, **params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def time_of(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])


def nearest_rank(values: list[float], rank: float) -> float:
    return sorted(values)[math.ceil(rank * len(values)) - 1]


def test_everything_over_time(running: Service, team: Team) -> None:
    """Counts by hour, to the event; percentiles within 1 % of the exact ones."""
    body = found(running, team, measure=["count", "p95", "sum", "avg", "rate"])
    (series,) = body["series"]
    assert (body["bucket"], body["groups"], len(body["buckets"])) == ("1h", 1, 72)
    assert body["buckets"][0] == body["from"] == f"{LAST - timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}"
    for at, start in enumerate(map(datetime.fromisoformat, body["buckets"])):
        values = [one["value"] for one in EVENTS if start <= time_of(one) < start + timedelta(hours=1)]
        assert series["values"]["count"][at] == len(values)
        assert series["values"]["sum"][at] == pytest.approx(sum(values))
        assert series["values"]["rate"][at] == pytest.approx(len(values) / 3600)
        if values:
            assert series["values"]["p95"][at] == pytest.approx(nearest_rank(values, 0.95), rel=0.0101)
            assert series["values"]["avg"][at] == pytest.approx(sum(values) / len(values))
        else:
            assert series["values"]["p95"][at] is series["values"]["avg"][at] is None
    assert series["total"]["count"] == len(EVENTS)


def test_days_of_a_zone(running: Service, team: Team) -> None:
    """From midnight to midnight of Kathmandu, 5:45 ahead."""
    body = found(running, team, bucket="1d", timezone="Asia/Kathmandu")
    zone = ZoneInfo("Asia/Kathmandu")
    days = [datetime.fromisoformat(start).astimezone(zone) for start in body["buckets"]]
    assert {(day.hour, day.minute) for day in days} == {(0, 0)}
    expected = [sum(time_of(one).astimezone(zone).date() == day.date() for one in EVENTS) for day in days]
    assert body["series"][0]["values"]["count"] == expected


def test_groups_filters_and_other(running: Service, team: Team) -> None:
    """The largest by the first measure, then by name; the others as one."""
    of = [one for one in EVENTS if one["stream"] == "integration" and one["type"] == "error"]
    body = found(running, team, stream="integration", type="error", group_by="source", measure="count,p90", limit=1,
                 bucket="none")  # fmt: skip
    sizes = {name: sum(one["source"] == name for one in of) for name in {one["source"] for one in of}}
    first = min(sizes, key=lambda name: (-sizes[name], name))
    one, other = body["series"]
    assert (one["key"], one["other"], one["total"]["count"]) == ({"source": first}, False, sizes[first])
    assert (other["key"], other["other"], other["total"]["count"]) == ({}, True, len(of) - sizes[first])
    rest = [one["value"] for one in of if one["source"] != first]
    assert other["total"]["p90"] == pytest.approx(nearest_rank(rest, 0.9), rel=0.0101)
    assert (body["buckets"], one["values"], body["groups"], body["truncated"]) == (None, None, 3, False)


@pytest.mark.parametrize(
    ("params", "holds"),
    [
        ({"source": ["payments", "mail"]}, lambda one: one["source"] in ("payments", "mail")),
        ({"code": "503"}, lambda one: one.get("code") == "503"),
        ({"without": "code"}, lambda one: one.get("code") is None),
        ({"without": "code", "code": "200"}, lambda one: one.get("code") in (None, "200")),
        ({"verdict": "passed"}, lambda one: one["stream"] == "verdict" and one["type"] == "passed"),
        ({"verdict": "passed", "stream": "verdict,tool_call"}, lambda one: one["type"] == "passed"),
        ({"tool": "stripe.refund"}, lambda one: one["source"] == "stripe.refund"),
        ({"tool": "stripe.refund", "verdict": "corrected"},
         lambda one: one["source"] == "stripe.refund" and one["type"] == "corrected"),
        ({"identity": "nhi_1"}, lambda one: one["source"] == "nhi_1"),
        ({"session": ["s1", "s2"]}, lambda one: one["stream"] == "tool_call" and one["tenant"] in ("s1", "s2")),
        ({"guardian": "gov_1"}, lambda one: one["stream"] == "tool_call" or one["source"] == "gov_1"),
        ({"guardian_id": "gov_1", "stream": "verdict"}, lambda one: one["source"] == "gov_1"),
        ({"environment": "live"}, lambda one: one.get("attributes", {}).get("environment") == "live"),
        ({"tag": "ci"}, lambda one: one["stream"] == "identity"),
        ({"tag": ""}, lambda one: True),
        ({"source": "nobody"}, lambda one: False),
    ],
)  # fmt: skip
def test_filters(running: Service, team: Team, params: dict[str, Any], holds: Any) -> None:
    """By every dimension, by its other name, and by its absence."""
    body = found(running, team, bucket="none", **params)
    assert body["series"][0]["total"]["count"] == sum(map(holds, EVENTS))


def test_different_values(running: Service, team: Team) -> None:
    """Exactly as many as there are, in each day and over all."""
    body = found(running, team, measure=["distinct:source", "distinct:session", "distinct:verdict"], stream="tool_call",
                 bucket="1d")  # fmt: skip
    calls = [one for one in EVENTS if one["stream"] == "tool_call"]
    assert body["series"][0]["total"] == {"distinct:source": 2, "distinct:session": 7, "distinct:verdict": 2}
    for at, start in enumerate(map(datetime.fromisoformat, body["buckets"])):
        of = {one["tenant"] for one in calls if time_of(one).date() == start.date()}
        assert body["series"][0]["values"]["distinct:session"][at] == len(of)


def test_groups_have_labels(running: Service, team: Team) -> None:
    """A guardian's name beside its id."""
    body = found(running, team, stream="verdict", group_by="guardian", bucket="none")
    assert {(one["key"]["guardian"], one["label"]) for one in body["series"]} == {("gov_1", "PII"), ("gov_2", "PII")}


def test_the_period_before(running: Service, team: Team) -> None:
    """Beside each other, with the change; the same as two questions."""
    day = {"from": (LAST - timedelta(days=1)).isoformat(), "to": LAST.isoformat()}
    before = {"from": (LAST - timedelta(days=2)).isoformat(), "to": day["from"]}
    both = found(running, team, group_by="stream", compare="previous", measure=["count", "p50"], **day)
    alone = found(running, team, group_by="stream", measure=["count", "p50"], **before)
    assert both["previous"] == {"from": alone["from"], "to": alone["to"], "buckets": alone["buckets"]}
    of = {one["key"]["stream"]: one for one in alone["series"]}
    for one in both["series"]:
        previous, other = one["previous"], of[one["key"]["stream"]]
        assert (previous["total"], previous["values"]) == (other["total"], other["values"])
        change = one["total"]["count"] / other["total"]["count"] - 1
        assert previous["change"]["count"] == pytest.approx(change)


def test_csv_and_arrow_are_the_same_table(running: Service, team: Team) -> None:
    """Polars, DuckDB and a spreadsheet read what JSON says."""
    params = {"group_by": "source", "measure": ["count", "p99.9"], "bucket": "1d", "limit": 2}
    body = found(running, team, **params)
    csv, arrow = asked(running, team, "text/csv", **params), asked(running, team, ARROW, **params)
    assert csv.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert arrow.headers["Content-Type"] == ARROW
    frame = pl.read_ipc_stream(io.BytesIO(arrow.content))
    assert frame.columns == ["bucket", "source", "other", "count", "p99.9"]
    assert frame.rows() == pl.read_csv(csv.content, schema_overrides=frame.schema).rows()
    table = pa.ipc.open_stream(arrow.content).read_all()
    with duckdb.connect() as con:
        con.register("answer", table)
        total = con.execute("SELECT sum(count), count(*) FILTER (other) FROM answer").fetchone()
    assert total == (len(EVENTS), len(body["buckets"]))
    for at, series in enumerate(body["series"]):
        assert frame["count"].to_list()[at :: len(body["series"])] == series["values"]["count"]
    assert csv.headers["X-Truncated"] == "false"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("text/*;q=0.5, application/json;q=0.4", "text/csv"),
        ("application/*", "application/json"),
        ("application/json;q=0, */*", "text/csv"),
        (f"TEXT/CSV;q=0.1, {ARROW}", ARROW),
        ("image/png", "application/json"),
        ("text/csv;q=x", "application/json"),
        (";;,=,q", "application/json"),
    ],
)
def test_the_format_that_is_liked_best(accept: str, kind: str) -> None:
    """JSON where nothing else is."""
    assert preferred(accept, ("application/json", "text/csv", ARROW)) == kind


def test_what_one_has_is_not_sent_again(running: Service, team: Team) -> None:
    """The same question of a settled window has the same ETag; other formats have others; news changes it."""
    first, again = asked(running, team), asked(running, team)
    tag = first.headers["ETag"]
    assert again.headers["ETag"] == tag
    assert first.headers["Cache-Control"] == "private, max-age=300"
    assert first.headers["Vary"] == "Accept, Authorization, X-Api-Key"
    assert asked(running, team, "text/csv").headers["ETag"] != tag
    window = {"from": first.json()["from"], "to": first.json()["to"]}
    for known in (tag, f'"x", W/{tag}', "*"):
        answer = running.get(PATH, params=window, headers=team.by_key | {"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
        assert answer.headers["Cache-Control"] == "private, max-age=300"
    late = {"integrationKey": "late", "eventType": "ok", "tenantId": "acme", "stream": "log",
            "time": (LAST - timedelta(hours=1)).isoformat()}  # fmt: skip
    filtered = {"stream": "log"}
    before = asked(running, team, **filtered).headers["ETag"]
    assert running.post("/api/v1/events", headers=team.by_key, json=late).status_code in (200, 202)
    answer = asked(running, team, **filtered)
    assert answer.headers["ETag"] != before
    assert answer.json()["series"][0]["total"]["count"] == 1


def test_it_says_how_far_it_is_complete(running: Service, team: Team) -> None:
    """To the end of what is settled, and never beyond the watermark, thirty seconds behind."""
    settled = found(running, team)
    assert settled["complete_through"] == settled["to"]
    running_window = {"from": LAST.isoformat(), "to": (NOW + timedelta(hours=1)).isoformat()}
    answer = asked(running, team, **running_window)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    complete = datetime.fromisoformat(answer.json()["complete_through"])
    assert complete <= datetime.now(UTC) - timedelta(seconds=30)
    assert answer.headers["X-Complete-Through"] == answer.json()["complete_through"]


def test_while_it_catches_up_nothing_is_complete(running: Service, team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was shown before a restart may be missing for a moment."""
    pipeline = running.app.state.services.pipeline
    monkeypatch.setattr(pipeline, "health", lambda: Health(None, None, None, 3, 0.1, catching_up=3))
    answer = asked(running, team)
    assert (answer.json()["complete_through"], answer.headers["Cache-Control"]) == (None, "private, no-cache")


def test_without_a_window_it_is_the_last_day(running: Service, team: Team) -> None:
    """Up to the end of this minute, so that what was sent just now is there, and the question stays the same."""
    event = {"source": "fresh", "type": "ok", "stream": "deploy"}
    assert running.post("/api/v1/events", headers=team.by_key, json=event).status_code == 200
    body = running.get(PATH, params={"stream": "deploy"}, headers=team.by_key).json()
    start, end = datetime.fromisoformat(body["from"]), datetime.fromisoformat(body["to"])
    assert (end - start, end.second, end.microsecond) == (timedelta(days=1), 0, 0)
    assert timedelta(seconds=-10) <= end - datetime.now(UTC) <= timedelta(minutes=1)
    assert body["series"][0]["total"]["count"] == 1


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"nonsense": "1"}, "There is no parameter 'nonsense'; there are measure, stream, from,"),
        ({"measure": "p42"}, "measure: there is no 'p42'; there are count,"),
        ({"measure": "distinct:colour"}, "measure: there is no 'distinct:colour'"),
        ({"group_by": "colour"}, "group_by: there is no 'colour'; there are stream,"),
        ({"group_by": "tool,source"}, "group_by: names the same dimension twice"),
        ({"group_by": "tool", "stream": "log"}, "tool is of the stream tool_call"),
        ({"group_by": "tool", "identity": "x"}, "No stream has all of these"),
        ({"group_by": "stream,source,type,code,tag"}, "group_by: at most 4 at once."),
        ({"stream": "logs"}, "stream: there is no 'logs'; there are integration,"),
        ({"without": "stream"}, "without: there is no 'stream'"),
        ({"bucket": "2h"}, "bucket must be '1m', '5m', '15m', '1h', '1d', 'auto' or 'none'."),
        ({"timezone": "Mars/Olympus"}, "timezone: expected an IANA name such as Europe/Berlin"),
        ({"timezone": "../../etc/passwd"}, "timezone: expected"),
        ({"timezone": "Europe"}, "timezone: expected"),
        ({"fill": "x"}, "fill must be"),
        ({"compare": "next"}, "compare must be"),
        ({"limit": "0"}, "limit must be"),
        ({"limit": "101"}, "limit must be"),
        ({"other": "perhaps"}, "other must be"),
        ({"from": "yesterday"}, "from: expected an RFC 3339 time"),
        ({"from": "2026-05-02T00:00:00Z", "to": "2026-05-02T00:00:00Z"}, "from must lie before to."),
        ({"from": "0001-01-01T00:00:00Z"}, "from and to must lie between"),
        ({"source": ["x"] * 101}, "source must have at most 100"),
    ],
)
def test_what_cannot_be_meant_is_400(running: Service, team: Team, params: dict[str, Any], says: str) -> None:
    """With a sentence that lists what is possible."""
    answer = running.get(PATH, params=params, headers=team.by_key)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["detail"].startswith(says)


@pytest.mark.parametrize(
    ("bucket", "days", "status"),
    [("1m", 7, 200), ("1m", 30, 422), ("5m", 32, 422), ("15m", 93, 422), ("1h", 366, 200), ("1h", 367, 422),
     ("1d", 3_660, 200), ("1d", 3_661, 422), ("none", 3_661, 422), ("auto", 3_660, 200), ("auto", 3_661, 422)],
)  # fmt: skip
def test_a_window_too_large_for_its_bucket_is_422(
    running: Service, team: Team, bucket: str, days: int, status: int
) -> None:
    """It says which bucket would do."""
    window = {"from": (LAST - timedelta(days=days)).isoformat(), "to": LAST.isoformat()}
    answer = asked(running, team, bucket=bucket, **window)
    assert answer.status_code == status, answer.text
    if (bucket, days) == ("1m", 30):
        assert answer.json()["detail"].endswith("in buckets of 1m it may have 7 days at most; bucket=5m would do.")
    if status == 200:
        assert answer.json()["series"][0]["total"]["count"] >= len(EVENTS)


@pytest.mark.parametrize(
    ("scopes", "params", "streams"),
    [
        (["logs:read"], {}, ["integration", "log", "detection", "verdict", "alert", "deploy"]),
        (["mcp:read"], {}, ["tool_call"]),
        (["nhi:read"], {"stream": "identity"}, ["identity"]),
        (["nhi:read", "mcp:read"], {"group_by": "tool"}, ["tool_call"]),
        (["logs:read"], {"stream": "tool_call"}, None),
        (["logs:read"], {"stream": "log,identity"}, None),
        (["nhi:read"], {"verdict": "passed"}, None),
        (["mcp:read"], {"stream": "log"}, None),
        (["events:write"], {}, None),
    ],
)
def test_a_limited_key_sees_its_streams(
    running: Service, team: Team, scopes: list[str], params: dict[str, Any], streams: list[str] | None
) -> None:
    """Where none is named, those it may; what it names and may not is 403."""
    key = running.control.access_keys.create(team.id, f"{scopes} {params}", scopes).key
    window = {"from": (LAST - timedelta(days=3)).isoformat(), "to": LAST.isoformat()}
    answer = running.get(PATH, params=window | params | {"bucket": "none"}, headers={"X-Api-Key": key})
    if streams is None:
        assert (answer.status_code, "scope" in answer.json()["detail"]) == (403, True)
        return
    assert answer.json()["streams"] == streams
    expected = sum(one["stream"] in streams for one in EVENTS)
    assert sum(one["total"]["count"] for one in answer.json()["series"]) >= expected > 0


def test_nobody_gets_in_without_a_key(running: Service, team: Team) -> None:
    """Also not with nonsense in the question."""
    assert running.get(PATH).status_code == 401
    assert running.get(f"{PATH}?nonsense=1").status_code == 401
    assert running.get(PATH, headers=team.by_token).status_code == 200


def test_the_document_names_all_parameters(running: Service) -> None:
    """And both formats beside JSON."""
    operation = running.get("/openapi.json").json()["paths"][PATH]["get"]
    assert {one["name"] for one in operation["parameters"]} == set(PARAMETERS)
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/csv", ARROW}
    assert {"304", "400", "401", "403", "422", "429"} <= operation["responses"].keys()
