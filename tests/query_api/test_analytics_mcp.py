"""Tool calls: every figure of a scripted day, sessions page by page, changes of settings, rollups on demand."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from connectors.pipeline import RolledUp, Unavailable
from query_api.configure import actor_of
from query_api.mcp_config_audit import CHANGES, flat, told
from query_api.mcp_sessions import MOST_CALLS
from query_api.mcp_tools import TYPES
from tests.query_api.analytics_day import (
    DAY,
    Event,
    World,
    close,
    counted,
    is_mean,
    nearest,
    refused,
    same_keys,
    send,
    stamp,
    within,
    world_of,
)
from tests.query_api.fakes import MINE, OTHERS, FakePipeline
from tests.query_api.service import Service, serving
from tests.stores import t

BASE = "/v1/mcp/analytics"

# As the description of the surface shows it.
SUMMARY = json.loads("""{
"from": "2026-04-30T00:00:00Z", "to": "2026-05-01T00:00:00Z",
"totals": {"tool_calls": 4123, "passed": 3812, "corrected": 264, "blocked": 47},
"by_verdict": {"passed": 0.925, "corrected": 0.064, "blocked": 0.011},
"top_tools": [{"tool": "stripe.create_refund", "calls": 412, "block_rate": 0.041},
{"tool": "postgres.query", "calls": 1840, "block_rate": 0.005}]}""")

WINDOWS = [
    DAY,
    {"from": "2026-04-30T07:13:21.5Z", "to": "2026-04-30T19:44:02Z"},
    {"from": "2026-04-30T05:00:00Z", "to": "2026-04-30T06:00:00Z"},  # nothing happened
    {"from": "2026-04-30T11:30:30Z", "to": "2026-04-30T11:31:01Z"},
]
FILTERS: list[tuple[dict[str, str], Callable[[Event], bool]]] = [
    ({}, lambda one: True),
    ({"guardian_id": "gov_pii"}, lambda one: one.guardian == "gov_pii"),
    ({"environment": "live"}, lambda one: one.environment == "live"),
    ({"tag": "support"}, lambda one: one.tag == "support"),
    (
        {"guardian_id": "gov_secrets", "environment": "test", "tag": "support"},
        lambda one: (one.guardian, one.environment, one.tag) == ("gov_secrets", "test", "support"),
    ),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_of(tmp_path_factory.mktemp("data")) as found:
        yield found


def by(events: Sequence[Event], key: Callable[[Event], str | None]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for one in events:
        found[key(one) or ""].append(one)
    return found


def rate(events: Sequence[Event], kind: str) -> float:
    return round(sum(one.type == kind for one in events) / len(events), 3)


@pytest.mark.parametrize(("given", "keep"), FILTERS)
@pytest.mark.parametrize("window", WINDOWS)
def test_the_summary_of_a_window(
    world: World, window: dict[str, str], given: dict[str, str], keep: Callable[[Event], bool]
) -> None:
    """Totals, parts that add up to 1, and the tools with most blocked calls."""
    mine = within(world.filtered(keep), window, "tool_call", TYPES)
    found = world.get(f"{BASE}/summary", **window, **given)
    counts = counted(mine, TYPES)
    assert found["totals"] == {"tool_calls": len(mine), **counts}
    parts = found["by_verdict"]
    if mine:
        assert sum(parts.values()) == pytest.approx(1)
        assert all(abs(parts[kind] - counts[kind] / len(mine)) < 1e-3 for kind in TYPES)
    else:
        assert parts == dict.fromkeys(TYPES)
    tools = by(mine, lambda one: one.source)
    ranked = sorted(tools, key=lambda name: (-counted(tools[name], TYPES)["blocked"], -len(tools[name]), name))
    assert found["top_tools"] == [
        {"tool": name, "calls": len(tools[name]), "block_rate": rate(tools[name], "blocked")} for name in ranked
    ]


def test_the_shape_is_that_of_the_description(world: World) -> None:
    """Member by member."""
    same_keys(world.get(f"{BASE}/summary", **DAY), SUMMARY)


def is_tool(found: dict[str, Any], events: Sequence[Event]) -> None:
    """What is said of a tool is what its calls say."""
    counts = counted(events, TYPES)
    expected = {"tool": events[0].source, "calls": len(events), **counts}
    expected |= {"correction_rate": rate(events, "corrected"), "block_rate": rate(events, "blocked")}
    latencies = ["avg_latency_ms", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms"]
    assert list(found) == [*expected, *latencies]
    assert {name: found[name] for name in expected} == expected
    assert is_mean(found["avg_latency_ms"], events)
    assert all(close(found[f"latency_p{rank}_ms"], nearest(events, rank / 100)) for rank in (50, 95, 99))


@pytest.mark.parametrize(("given", "keep"), FILTERS)
@pytest.mark.parametrize("window", WINDOWS)
def test_one_tool_beside_the_other(
    world: World, window: dict[str, str], given: dict[str, str], keep: Callable[[Event], bool]
) -> None:
    """The one that was called most first."""
    tools = by(within(world.filtered(keep), window, "tool_call", TYPES), lambda one: one.source)
    found = world.get(f"{BASE}/tools", **window, **given)
    assert list(found) == ["from", "to", "data"]
    assert [one["tool"] for one in found["data"]] == sorted(tools, key=lambda name: (-len(tools[name]), name))
    for one in found["data"]:
        is_tool(one, tools[one["tool"]])


# ------------------------------------------------------------ sessions


def expected_sessions(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Every session, by hand."""
    found = []
    for session, calls in by(events, lambda one: one.session).items():
        times = [one.time for one in calls]
        judges = Counter(one.guardian for one in calls)
        found.append(
            {
                "session_id": session,
                "first_seen_at": stamp(min(times)),
                "last_seen_at": stamp(max(times)),
                "calls": len(calls),
                **counted(calls, TYPES),
                "tools": len({one.source for one in calls}),
                "guardian_id": min(judges, key=lambda name: (-judges[name], name)),
                "_order": (-max(times).timestamp(), session),
            }
        )
    found.sort(key=lambda one: one["_order"])
    return [{name: value for name, value in one.items() if name != "_order"} for one in found]


@pytest.mark.parametrize("limit", [1, 7, 100])
@pytest.mark.parametrize(("given", "keep"), FILTERS)
@pytest.mark.parametrize("window", WINDOWS)
def test_sessions_page_by_page(
    world: World, window: dict[str, str], given: dict[str, str], keep: Callable[[Event], bool], limit: int
) -> None:
    """The one that was active last first; pages repeat nothing and miss nothing."""
    expected = expected_sessions(within(world.filtered(keep), window, "tool_call", TYPES))
    listed: list[dict[str, Any]] = []
    cursor = None
    while True:
        found = world.get(f"{BASE}/sessions", **window, **given, limit=limit, **({"cursor": cursor} if cursor else {}))
        assert list(found) == ["from", "to", "data", "page"]
        listed += found["data"]
        cursor = found["page"]["next_cursor"]
        assert found["page"] == {"next_cursor": cursor, "has_more": cursor is not None}
        if cursor is None:
            break
        assert len(found["data"]) == limit
    assert listed == expected


def test_sessions_of_one_minute_are_told_apart(world: World) -> None:
    """Many that were last seen within the same minute, some at the same instant, over several pages."""
    team = world.service.team("Crowd")
    events = [
        Event(3_600 + n % 7, "tool_call", "search", "passed", "g", 1.0, session=f"s{n:02}", number=n) for n in range(40)
    ]
    events += [Event(1_000, "tool_call", "search", "blocked", "g", 1.0, session=f"s{n:02}", number=100 + n) for n in
               range(50)]  # fmt: skip
    send(world.service, team, events)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        found = world.ask("GET", f"{BASE}/sessions", team, params={**DAY, "limit": 6, **cursor}).json()
        seen += [one["session_id"] for one in found["data"]]
        if not found["page"]["has_more"]:
            break
        cursor = {"cursor": found["page"]["next_cursor"]}
    assert seen == [one["session_id"] for one in expected_sessions(events)]
    assert len(seen) == 50


DETAIL = [
    "session_id", "from", "to", "first_seen_at", "last_seen_at", "guardian_id", "totals", "by_verdict",
    "avg_latency_ms", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "tools", "calls", "truncated",
]  # fmt: skip


def is_session(found: dict[str, Any], events: Sequence[Event]) -> None:
    """What is said of a session is what its calls say."""
    assert list(found) == DETAIL
    (listed,) = expected_sessions(events)
    for name in ("session_id", "first_seen_at", "last_seen_at", "guardian_id"):
        assert found[name] == listed[name]
    assert found["totals"] == {"tool_calls": len(events), **counted(events, TYPES)}
    assert sum(found["by_verdict"].values()) == pytest.approx(1)
    assert is_mean(found["avg_latency_ms"], events)
    assert all(close(found[f"latency_p{rank}_ms"], nearest(events, rank / 100)) for rank in (50, 95, 99))
    tools = by(events, lambda one: one.source)
    assert [one["tool"] for one in found["tools"]] == sorted(tools, key=lambda name: (-len(tools[name]), name))
    for one in found["tools"]:
        is_tool(one, tools[one["tool"]])
    calls = [
        {
            "call_id": f"e{one.number}",
            "timestamp": stamp(one.time),
            "tool": one.source,
            "verdict": one.type,
            "reason": one.code,
            "latency_ms": pytest.approx(one.value, rel=6e-4),
            "guardian_id": one.guardian,
            "environment": one.environment,
        }
        for one in sorted(events, key=lambda one: one.time)
    ]
    assert (found["calls"], found["truncated"]) == (calls, False)


@pytest.mark.parametrize("session", ["sess_00", "sess_17", "sess_early"])
def test_everything_about_a_session(world: World, session: str) -> None:
    """The whole session, whenever it was, without a window; within one, only what lies there."""
    mine = [one for one in world.events if one.session == session and one.type in TYPES]
    whole = world.get(f"{BASE}/sessions/{session}")
    is_session(whole, mine)
    assert whole["from"] == whole["first_seen_at"]
    assert whole["to"] > whole["last_seen_at"]
    if session != "sess_early":
        half = {"from": "2026-04-30T06:00:00Z", "to": "2026-04-30T15:30:01.5Z"}
        found = world.get(f"{BASE}/sessions/{session}", **half)
        is_session(found, within(mine, half, "tool_call", TYPES))
        assert (found["from"], found["to"]) == (half["from"], "2026-04-30T15:30:01.500000Z")
        live = [one for one in mine if one.environment == "live"]
        is_session(world.get(f"{BASE}/sessions/{session}", environment="live"), live)


def test_a_long_session_is_cut(world: World) -> None:
    """And says so; the totals are of all calls."""
    team = world.service.team("Long")
    many = [Event(n, "tool_call", "t", "passed", "g", 1.0, session="long", number=n) for n in range(MOST_CALLS + 1)]
    send(world.service, team, many)
    found = world.ask("GET", f"{BASE}/sessions/long", team).json()
    assert (found["totals"]["tool_calls"], len(found["calls"]), found["truncated"]) == (1_001, 1_000, True)
    assert found["calls"][0]["timestamp"] == DAY["from"]


def test_a_session_may_be_a_path(world: World) -> None:
    """As its producer calls it; escaped or not."""
    team = world.service.team("Paths")
    send(world.service, team, [Event(1, "tool_call", "t", "passed", "g", 1.0, session="chat/7", number=1)])
    for name in ("chat/7", "chat%2F7"):
        assert world.ask("GET", f"{BASE}/sessions/{name}", team).json()["session_id"] == "chat/7"


@pytest.mark.parametrize("session", ["nobody", "%F0%9F%92%A5", "a%00b", "x" * 400])
def test_an_unknown_session_is_404(world: World, session: str) -> None:
    """Whatever it is called."""
    refused(world.ask("GET", f"{BASE}/sessions/{session}"), 404, "not_found")


def test_a_session_of_another_workspace_is_404(world: World) -> None:
    """As if it were not there; one outside the window, too."""
    theirs = refused(world.ask("GET", f"{BASE}/sessions/sess_01", world.others), 404, "not_found")
    assert theirs == refused(world.ask("GET", f"{BASE}/sessions/nobody", world.others), 404, "not_found")
    later = {"from": "2026-05-03T00:00:00Z", "to": "2026-05-04T00:00:00Z"}
    refused(world.ask("GET", f"{BASE}/sessions/sess_01", params=later), 404, "not_found")
    listed = world.ask("GET", f"{BASE}/sessions", world.others, params={**DAY, "limit": 100}).json()["data"]
    assert "sess_01" not in {one["session_id"] for one in listed}
    assert "sess_02" in {one["session_id"] for one in listed}


def test_the_window_is_the_last_day_by_default(world: World) -> None:
    """What was called a moment ago is in it."""
    fresh = world.service.team("Fresh")
    event = {"stream": "tool_call", "source": "search", "type": "passed", "tenant": "now", "value": 1}
    assert world.service.post("/api/v1/events", headers=fresh.by_key, json=event).status_code == 200
    found = world.ask("GET", f"{BASE}/summary", fresh).json()
    start, end = (datetime.fromisoformat(found[name]) for name in ("from", "to"))
    assert (end - start, found["totals"]["tool_calls"]) == (timedelta(days=1), 1)
    for path in ("tools", "sessions"):
        assert len(world.ask("GET", f"{BASE}/{path}", fresh).json()["data"]) == 1
        assert world.get(f"{BASE}/{path}")["data"] == []


# ------------------------------------------------------------ changes of the configuration


def test_who_changed_what_and_when(world: World) -> None:
    """By a person and by a program; with what it was before; not another workspace's."""
    team = world.service.team("Changing")
    patch = ("PATCH", "/api/v1/patterns/webhook_failure_spike")
    for headers, change in (
        (team.by_key, {"thresholdCount": 20, "thresholdWindowSeconds": 300}),
        (team.by_token, {"thresholdCount": None, "thresholdWindowSeconds": None, "isEnabled": False}),
    ):
        assert world.service.ask(*patch, headers=headers, json=change).status_code == 200
    windows = {"recoveryWindowSeconds": 60, "name": "Changed"}
    answer = world.service.ask("PATCH", "/api/v1/workspaces/me", headers=team.by_token, json=windows)
    assert answer.status_code == 200

    found = world.ask("GET", f"{BASE}/config-audit", team).json()
    assert list(found) == ["from", "to", "data", "page"]
    assert found["page"] == {"next_cursor": None, "has_more": False}
    lifecycle, second, first = found["data"]
    spike = "rules.webhook_failure_spike"
    alert = {"count": 20, "window": "5m"}
    assert first["changes"] == [{"setting": f"{spike}.alert", "before": None, "after": alert}]
    assert second["changes"] == [
        {"setting": f"{spike}.enabled", "before": None, "after": False},
        {"setting": f"{spike}.alert", "before": alert, "after": None},
    ]
    assert lifecycle["changes"] == [{"setting": "lifecycle.recovery", "before": None, "after": "60s"}]
    assert first["actor"] == {"type": "api_key", "id": None}
    assert second["actor"]["type"] == "user"
    assert second["actor"] == lifecycle["actor"]
    assert second["actor"]["id"]
    for one in found["data"]:
        assert list(one) == ["change_id", "timestamp", "actor", "changes", "position"]
        assert one["change_id"].startswith("cfg_")
        assert found["from"] <= one["timestamp"] < found["to"]
        assert one["position"].startswith("log:")

    # Page by page, and in windows.
    pages, cursor = [], {}
    for _ in range(3):
        page = world.ask("GET", f"{BASE}/config-audit", team, params={"limit": 1, **cursor}).json()
        pages += page["data"]
        cursor = {"cursor": page["page"]["next_cursor"]}
    assert (pages, page["page"]["has_more"]) == (found["data"], False)
    only = {"from": second["timestamp"], "to": lifecycle["timestamp"]}
    assert world.ask("GET", f"{BASE}/config-audit", team, params=only).json()["data"] == [second]
    assert world.get(f"{BASE}/config-audit")["data"] == []


def test_old_records_say_no_more_than_they_know() -> None:
    """Without an id its position names it; without a source nobody did it."""
    rows = [(1_000_000, "log:4", None, None, '{"rules":{"a":{"lifecycle":{"close":"1m"},"severity":"low"}}}')]
    (change,) = told(rows)
    assert (change["change_id"], change["actor"]) == ("log:4", {"type": None, "id": None})
    assert [one["setting"] for one in change["changes"]] == ["rules.a.lifecycle.close", "rules.a.severity"]
    assert list(flat({})) == []
    assert actor_of("user:7") == {"type": "user", "id": "7"}
    assert actor_of("billing") == {"type": None, "id": None}


# ------------------------------------------------------------ rollups on demand

ROLLUP = {"from": "2026-05-01T00:00:00Z", "to": "2026-05-01T23:59:59Z"}


def test_a_rollup_from_the_question_to_the_answer(service: Service) -> None:
    """202 with an id in the shape of the description; then what it changed, by how much."""
    team = service.team()
    made = service.post(f"{BASE}/rollup", headers=team.by_key, json=ROLLUP)
    assert (made.status_code, list(made.json())) == (202, ["rollup_id", "status"])
    ident = made.json()["rollup_id"]
    assert (ident[:4], made.json()["status"]) == ("rlp_", "queued")

    def state() -> dict[str, Any]:
        found: dict[str, Any] = service.get(f"{BASE}/rollup/{ident}", headers=team.by_token).json()
        return found

    queued = state()
    assert {name: queued[name] for name in ("rollup_id", "status", "from", "to", "changed", "compared", "error")} == {
        "rollup_id": ident, "status": "queued", **ROLLUP, "changed": None, "compared": None, "error": None
    }  # fmt: skip
    service.pipeline.rolled_up = RolledUp(minutes=1_440, rows=70, changed=2, before=18_400, after=18_425)
    assert service.run_jobs() == 1
    midnight = 1_777_593_600_000_000
    assert service.pipeline.rolled == [(team.id, midnight, midnight + 86_400_000_000)], "whole hours"
    done = state()
    assert (done["status"], done["changed"], done["error"]) == ("succeeded", True, None)
    assert done["compared"] == {
        "minutes": 1_440, "rows": 70, "rows_changed": 2, "events_before": 18_400, "events_after": 18_425
    }  # fmt: skip
    assert all(first <= second for first, second in pairwise(done[f"{name}_at"] for name in
               ("requested", "started", "finished")))  # fmt: skip


def test_a_rollup_that_changed_nothing_says_so(service: Service) -> None:
    """As it should be."""
    team = service.team()
    ident = service.post(f"{BASE}/rollup", headers=team.by_key, json=ROLLUP).json()["rollup_id"]
    service.pipeline.rolled_up = RolledUp(minutes=1_440, rows=70, changed=0, before=5, after=5)
    service.run_jobs()
    found = service.get(f"{BASE}/rollup/{ident}", headers=team.by_key).json()
    assert (found["status"], found["changed"], found["compared"]["rows_changed"]) == ("succeeded", False, 0)


def test_a_rollup_that_failed_says_why(service: Service) -> None:
    """In a sentence."""
    team = service.team()
    ident = service.post(f"{BASE}/rollup", headers=team.by_key, json=ROLLUP).json()["rollup_id"]
    service.pipeline.rolled_up = Unavailable("The store is being opened again.")
    service.run_jobs()
    found = service.get(f"{BASE}/rollup/{ident}", headers=team.by_key).json()
    assert (found["status"], found["error"]) == ("failed", "The store is being opened again.")
    assert (found["changed"], found["compared"]) == (None, None)


def test_a_rollup_of_another_workspace_is_404(service: Service) -> None:
    """As one that is not there; a job of another kind is none, either."""
    mine, theirs = service.team("Mine"), service.team("Theirs")
    ident = service.post(f"{BASE}/rollup", headers=theirs.by_key, json=ROLLUP).json()["rollup_id"]
    other = service.control.jobs.create(mine.id, "something", {}).id
    messages = {
        refused(service.get(f"{BASE}/rollup/{one}", headers=mine.by_key), 404, "not_found")
        for one in (ident, "rlp_nothing", other, "%00")
    }
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "validation_error"),
        ({"from": ROLLUP["from"]}, 400, "validation_error"),
        ({"from": "yesterday", "to": ROLLUP["to"]}, 400, "validation_error"),
        ({"from": "", "to": ROLLUP["to"]}, 400, "validation_error"),
        ({"from": 5, "to": ROLLUP["to"]}, 400, "validation_error"),
        ({"from": ROLLUP["to"], "to": ROLLUP["from"]}, 400, "validation_error"),
        ({"from": ROLLUP["to"], "to": ROLLUP["to"]}, 400, "validation_error"),
        ([], 400, "validation_error"),
        ({"from": "2026-03-01T00:00:00Z", "to": "2026-05-01T00:00:00Z"}, 422, "unprocessable_entity"),
    ],
)
def test_a_rollup_that_cannot_be_meant(service: Service, body: Any, status: int, code: str) -> None:
    """Nothing is queued."""
    team = service.team()
    refused(service.post(f"{BASE}/rollup", headers=team.by_key, json=body), status, code)
    assert service.run_jobs() == 0


# ------------------------------------------------------------ errors

READS = [f"{BASE}/{path}" for path in ("summary", "tools", "sessions", "sessions/sess_01", "config-audit")]
FILTERED = [path for path in READS if not path.endswith("audit")]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize(
    "wrong", [{"from": "yesterday"}, {"to": "x"}, {"from": DAY["to"], "to": DAY["from"]}, {"from": DAY["to"], "to":
              DAY["to"]}]
)  # fmt: skip
def test_what_cannot_be_meant_is_400(world: World, path: str, wrong: dict[str, str]) -> None:
    """And says which parameter it is."""
    message = refused(world.ask("GET", path, params=wrong), 400, "validation_error")
    assert any(name in message for name in wrong)


@pytest.mark.parametrize("path", FILTERED)
def test_an_unknown_environment_is_400(world: World, path: str) -> None:
    """Rather than nothing, as if nothing had happened there."""
    wrong = {**DAY, "environment": "staging"}
    assert "environment" in refused(world.ask("GET", path, params=wrong), 400, "validation_error")


@pytest.mark.parametrize("path", [f"{BASE}/sessions", f"{BASE}/config-audit"])
@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 101}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "WzFd"}])
def test_a_page_that_cannot_be_meant_is_400(world: World, path: str, wrong: dict[str, Any]) -> None:
    """A made-up cursor among them."""
    refused(world.ask("GET", path, params={**DAY, **wrong}), 400, "validation_error")


@pytest.mark.parametrize("path", [path for path in READS if "sess_01" not in path])
def test_ten_years_are_enough(world: World, path: str) -> None:
    """Longer windows are understood, and not looked at."""
    wrong = {"from": "1990-01-01T00:00:00Z", "to": DAY["to"]}
    refused(world.ask("GET", path, params=wrong), 422, "unprocessable_entity")


@pytest.mark.parametrize("path", [*READS, f"{BASE}/rollup", f"{BASE}/rollup/rlp_x"])
def test_who_may_not_ask(world: World, path: str) -> None:
    """401 without a credential or with a wrong one, 403 with a key for something else; the right scope is enough."""
    method = "POST" if path.endswith("/rollup") else "GET"
    asked = {"json": ROLLUP} if method == "POST" else {"params": DAY if "rlp_x" not in path else {}}
    ask = world.service.ask
    refused(ask(method, path, **asked), 401, "unauthenticated")
    refused(ask(method, path, headers={"X-Api-Key": "sg_" + "0" * 48}, **asked), 401, "unauthenticated")
    refused(ask(method, path, headers={"Authorization": "Bearer x.y.z"}, **asked), 401, "unauthenticated")
    refused(ask(method, path, headers=world.scoped("logs:read"), **asked), 403, "forbidden")
    for headers in (world.scoped("mcp:read"), world.mine.by_token):
        assert ask(method, path, headers=headers, **asked).status_code in (200, 202, 404)


@pytest.mark.parametrize("path", [*READS, f"{BASE}/rollup", f"{BASE}/rollup/rlp_x"])
def test_too_many_requests_are_429(tmp_path: Any, path: str) -> None:
    """With when to try again."""
    with serving(tmp_path, requests_per_minute=1) as service:
        team = service.team()
        service.get("/api/v1/workspaces/me", headers=team.by_key)
        method = "POST" if path.endswith("/rollup") else "GET"
        body = ROLLUP if method == "POST" else None
        answer = service.ask(method, path, headers=team.by_key, json=body)
        refused(answer, 429, "rate_limited")
        assert int(answer.headers["Retry-After"]) >= 1


def test_a_change_that_is_in_all_partitions_is_shown_once(pipeline: FakePipeline) -> None:
    """A cluster's log has it in each; the same change made twice is two."""
    base = {"workspace": MINE, "at": t(0), "actor": "api_key", "settings": '{"lifecycle":{"close":"1m"}}'}
    for n in range(3):
        place = {"partition": f"log-{n}"}
        pipeline.add(
            "configurations",
            base | place | {"offset": 10 + n, "time": t(1), "id": "cfg_a"},
            base | place | {"offset": 20 + n, "time": t(1), "id": "cfg_b"},
            base | place | {"offset": 30 + n, "time": t(2)},  # older records have no id
            base | place | {"offset": 40 + n, "time": t(0), "id": "cfg_c", "workspace": OTHERS},
        )
    with pipeline.reading() as con:
        found = con.execute(CHANGES, {"workspace": MINE, "end": 1 << 60}).fetchall()
    assert [(ident, position) for _, position, ident, _, _ in found] == [
        (None, "log-0:30"),
        ("cfg_b", "log-0:20"),
        ("cfg_a", "log-0:10"),
    ]
