"""Verdicts of guardians: every figure of a scripted day, as somebody would count it by hand."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from query_api.analytics_numbers import milliseconds, shares
from query_api.governance import TYPES
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
    stamp,
    within,
    world_of,
)
from tests.query_api.service import serving

BASE = "/v1/analytics/governance"

# As the description of the surface shows them.
SUMMARY = json.loads("""{
"from": "2026-04-30T00:00:00Z", "to": "2026-05-01T00:00:00Z",
"totals": {"requests": 14302, "passed": 12907, "corrected": 1208, "blocked": 87, "errors": 100},
"rates": {"pass_rate": 0.9024, "correction_rate": 0.0845, "block_rate": 0.0061},
"latency_p50_ms": 122, "latency_p95_ms": 187, "latency_p99_ms": 244}""")
TIMESERIES = json.loads("""{
"metric": "verdicts", "bucket": "1h", "from": "2026-05-01T00:00:00Z", "to": "2026-05-02T00:00:00Z",
"series": [{"timestamp": "2026-05-01T00:00:00Z", "passed": 540, "corrected": 51, "blocked": 4, "errors": 2},
{"timestamp": "2026-05-01T01:00:00Z", "passed": 612, "corrected": 47, "blocked": 6, "errors": 1}]}""")
BY_GUARDIAN = json.loads("""{
"from": "2026-04-30T00:00:00Z", "to": "2026-05-01T00:00:00Z",
"data": [{"guardian_id": "gov_01JF8R3M3X4N5Q6T7V8W9Y0Z1A", "guardian_name": "PII-Redactor", "requests": 8201,
"passed": 7411, "corrected": 720, "blocked": 60, "avg_latency_ms": 142, "top_violation_types": [
{"type": "pii_exposure", "count": 720}, {"type": "credential_leak", "count": 60}]}]}""")

WINDOWS = [
    DAY,
    {"from": "2026-04-30T07:13:21.5Z", "to": "2026-04-30T19:44:02Z"},
    {"from": "2026-04-30T05:00:00Z", "to": "2026-04-30T06:00:00Z"},  # nothing happened
    {"from": "2026-04-30T11:30:30Z", "to": "2026-04-30T11:30:31Z"},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_of(tmp_path_factory.mktemp("data")) as found:
        yield found


@pytest.mark.parametrize("window", WINDOWS)
def test_the_summary_of_a_window(world: World, window: dict[str, str]) -> None:
    """Counts to the last verdict, whatever the window cuts."""
    mine = within(world.events, window, "verdict", TYPES)
    found = world.get(f"{BASE}/summary", **window)
    assert [datetime.fromisoformat(found[name]) for name in window] == list(
        map(datetime.fromisoformat, window.values())
    )
    counts = counted(mine, TYPES)
    assert found["totals"] == {"requests": len(mine), **counts}
    for name, count in (("pass", "passed"), ("correction", "corrected"), ("block", "blocked")):
        rate = found["rates"][f"{name}_rate"]
        assert rate is None if not mine else rate == pytest.approx(counts[count] / len(mine), abs=1e-4)
    for rank in (50, 95, 99):
        assert close(found[f"latency_p{rank}_ms"], nearest(mine, rank / 100)), rank


def test_the_shapes_are_those_of_the_description(world: World) -> None:
    """Member by member."""
    same_keys(world.get(f"{BASE}/summary", **DAY), SUMMARY)
    same_keys(world.get(f"{BASE}/timeseries", **DAY), TIMESERIES)
    found = world.get(f"{BASE}/by-guardian", **DAY)
    named = [one for one in found["data"] if one["guardian_name"]]
    same_keys(found | {"data": named}, BY_GUARDIAN)


def test_shares_are_those_of_the_description() -> None:
    """Rounded on their own the four would be 1.0001 together; the description's are not."""
    totals = SUMMARY["totals"]
    rates = shares([totals[name] for name in ("passed", "corrected", "blocked", "errors")], 4)
    assert rates[:3] == list(SUMMARY["rates"].values())
    assert sum(rate or 0 for rate in rates) == pytest.approx(1)
    assert shares([3812, 264, 47], 3) == [0.925, 0.064, 0.011]
    assert shares([0, 0], 3) == [None, None]
    assert shares([1, 1, 1], 3) == [0.334, 0.333, 0.333]


@pytest.mark.parametrize(
    ("value", "said"), [(122.04, 122), (121.96, 122), (38.412, 38.41), (0.04213, 0.04213), (0.0, 0), (12345.6, 12350)]
)
def test_milliseconds_have_four_digits(value: float, said: float) -> None:
    """Whole where they are whole, as the description shows them."""
    found = milliseconds(value)
    assert (found, type(found)) == (said, type(said))
    assert milliseconds(float("nan")) is None


FILTERS: list[tuple[dict[str, str], Callable[[Event], bool]]] = [
    ({"guardian_id": "gov_pii"}, lambda one: one.guardian == "gov_pii"),
    ({"environment": "live"}, lambda one: one.environment == "live"),
    ({"tag": "payments"}, lambda one: one.tag == "payments"),
    ({"guardian_id": ""}, lambda one: True),
    ({"guardian_id": "nobody"}, lambda one: False),
    (
        {"guardian_id": "gov_secrets", "environment": "test", "tag": "support"},
        lambda one: (one.guardian, one.environment, one.tag) == ("gov_secrets", "test", "support"),
    ),
]


@pytest.mark.parametrize(("given", "keep"), FILTERS)
def test_filters(world: World, given: dict[str, str], keep: Callable[[Event], bool]) -> None:
    """Of all three endpoints, one by one and together."""
    mine = within(world.filtered(keep), DAY, "verdict", TYPES)
    assert world.get(f"{BASE}/summary", **DAY, **given)["totals"]["requests"] == len(mine)
    series = world.get(f"{BASE}/timeseries", **DAY, **given)["series"]
    assert sum(sum(one.values()) for one in map(_numbers, series)) == len(mine)
    found = world.get(f"{BASE}/by-guardian", **DAY, **given)["data"]
    assert {one["guardian_id"]: one["requests"] for one in found} == Counter(one.guardian for one in mine)


def _numbers(bucket: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in bucket.items() if name != "timestamp"}


SIZES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "1d": 1440}


def _buckets(window: dict[str, str], bucket: str) -> list[datetime]:
    size = timedelta(minutes=SIZES[bucket])
    start, end = (datetime.fromisoformat(window[name]) for name in ("from", "to"))
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight + (start - midnight) // size * size
    return [first + n * size for n in range(-(-(end - first) // size))]


@pytest.mark.parametrize("bucket", SIZES)
@pytest.mark.parametrize("window", WINDOWS)
def test_every_bucket_of_a_window_is_there(world: World, window: dict[str, str], bucket: str) -> None:
    """From the one the window begins in on; each counts only what lies within the window."""
    mine = within(world.events, window, "verdict", TYPES)
    size = timedelta(minutes=SIZES[bucket])
    begins = _buckets(window, bucket)
    parts = [[one for one in mine if begin <= one.time < begin + size] for begin in begins]
    asked = {**window, "bucket": bucket}
    found = world.get(f"{BASE}/timeseries", metric="verdicts", **asked)
    assert (found["metric"], found["bucket"]) == ("verdicts", bucket)
    expected = [{"timestamp": stamp(begin)} | counted(part, TYPES) for begin, part in zip(begins, parts, strict=True)]
    assert found["series"] == expected
    assert sum(map(len, parts)) == len(mine)

    corrections = world.get(f"{BASE}/timeseries", metric="corrections", **asked)["series"]
    for one, begin, part in zip(corrections, begins, parts, strict=True):
        corrected = sum(each.type == "corrected" for each in part)
        rate = round(corrected / len(part), 4) if part else None
        shown = {"timestamp": stamp(begin), "requests": len(part), "corrected": corrected, "correction_rate": rate}
        assert one == shown

    violations = world.get(f"{BASE}/timeseries", metric="violations", **asked)["series"]
    for one, begin, part in zip(violations, begins, parts, strict=True):
        by_type = _violations(part)
        shown = {"timestamp": stamp(begin), "violations": sum(by_type.values()), "by_type": _ranked(by_type)}
        assert one == shown

    latency = world.get(f"{BASE}/timeseries", metric="latency", **asked)["series"]
    for one, begin, part in zip(latency, begins, parts, strict=True):
        assert list(one) == [
            "timestamp", "requests", "avg_latency_ms", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms",
        ]  # fmt: skip
        assert (one["timestamp"], one["requests"]) == (stamp(begin), len(part))
        assert is_mean(one["avg_latency_ms"], part)
        assert all(close(one[f"latency_p{rank}_ms"], nearest(part, rank / 100)) for rank in (50, 95, 99))


def _violations(events: Sequence[Event]) -> Counter[str]:
    return Counter(one.code for one in events if one.type in ("corrected", "blocked") and one.code)


def _ranked(counts: Counter[str]) -> list[dict[str, Any]]:
    return [{"type": kind, "count": n} for kind, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


@pytest.mark.parametrize("window", WINDOWS)
def test_one_guardian_beside_the_other(world: World, window: dict[str, str]) -> None:
    """The busiest first, under its latest name."""
    mine: dict[str, list[Event]] = defaultdict(list)
    for one in within(world.events, window, "verdict", TYPES):
        mine[one.guardian].append(one)
    found = world.get(f"{BASE}/by-guardian", **window)["data"]
    assert [one["guardian_id"] for one in found] == sorted(mine, key=lambda name: (-len(mine[name]), name))
    for one in found:
        events = mine[one["guardian_id"]]
        counts = counted(events, TYPES)
        assert one["requests"] == len(events)
        assert {name: one[name] for name in ("passed", "corrected", "blocked")} == {
            name: counts[name] for name in ("passed", "corrected", "blocked")
        }
        assert is_mean(one["avg_latency_ms"], events)
        assert one["top_violation_types"] == _ranked(_violations(events))[:5]
        named = sorted((each for each in events if each.label), key=lambda each: each.time)
        assert one["guardian_name"] == (named[-1].label if named else None)


def test_the_window_is_the_last_day_by_default(world: World) -> None:
    """What was sent a moment ago is in it; the scripted day is not."""
    fresh = world.service.team("Fresh")
    event = {"stream": "verdict", "source": "gov_new", "type": "passed", "value": 12.5}
    assert world.service.post("/api/v1/events", headers=fresh.by_key, json=event).status_code == 200
    found = world.ask("GET", f"{BASE}/summary", fresh).json()
    start, end = (datetime.fromisoformat(found[name]) for name in ("from", "to"))
    assert end - start == timedelta(days=1)
    assert end.microsecond == 0
    assert (found["totals"]["requests"], found["rates"]["pass_rate"]) == (1, 1.0)
    assert len(world.ask("GET", f"{BASE}/timeseries", fresh).json()["series"]) in (24, 25)
    assert world.get(f"{BASE}/summary")["totals"]["requests"] == 0


def test_nothing_of_another_workspace_counts(world: World) -> None:
    """The same guardians on the same day, and other figures."""
    mine = world.get(f"{BASE}/summary", **DAY)
    theirs = world.ask("GET", f"{BASE}/summary", world.others, params=DAY).json()
    assert mine["totals"] != theirs["totals"]
    nobody = world.service.team("Nobody")
    for path in ("summary", "by-guardian", "timeseries"):
        found = world.ask("GET", f"{BASE}/{path}", nobody, params=DAY).json()
        assert not found.get("data")
        assert not found.get("totals", {}).get("requests")
        assert not any(sum(_numbers(one).values()) for one in found.get("series", ()))


# ------------------------------------------------------------ errors

ENDPOINTS = [f"{BASE}/summary", f"{BASE}/timeseries", f"{BASE}/by-guardian"]
WRONG: list[dict[str, str]] = [
    {"from": "yesterday"},
    {"to": "2026-13-01T00:00:00Z"},
    {"from": DAY["to"], "to": DAY["from"]},
    {"from": DAY["to"], "to": DAY["to"]},
    {"from": "2126-01-01T00:00:00Z"},
    {"to": "2001-01-01T00:00:00Z"},  # before the default of `from`
    {"from": "0001-01-01T00:00:00Z", "to": "0001-01-02T00:00:00Z"},
    {"from": "9999-12-30T00:00:00Z", "to": "9999-12-31T23:59:59Z"},
    {"environment": "staging"},
]


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_meant_is_400(world: World, path: str, wrong: dict[str, str]) -> None:
    """And says which parameter it is."""
    message = refused(world.ask("GET", path, params=wrong), 400, "validation_error")
    assert any(name in message for name in ("from", "to", "environment"))


@pytest.mark.parametrize("wrong", [{"metric": "joy"}, {"bucket": "2h"}, {"bucket": ""}])
def test_an_unknown_metric_or_bucket_is_400(world: World, wrong: dict[str, str]) -> None:
    """Rather than the default's figures under another name."""
    answer = world.ask("GET", f"{BASE}/timeseries", params={**DAY, **wrong})
    assert next(iter(wrong)) in refused(answer, 400, "validation_error")


@pytest.mark.parametrize(
    ("bucket", "days", "status"),
    [("1m", 7, 200), ("1m", 8, 422), ("1m", 30, 422), ("5m", 31, 200), ("5m", 32, 422), ("15m", 92, 200),
     ("15m", 93, 422), ("1h", 366, 200), ("1h", 367, 422), ("1d", 3_660, 200), ("1d", 3_661, 422)],
)  # fmt: skip
def test_a_window_too_large_for_its_bucket_is_422(world: World, bucket: str, days: int, status: int) -> None:
    """A minute's buckets over thirty days, for one."""
    end = datetime(2026, 5, 1)
    asked = {"from": stamp(end - timedelta(days=days)), "to": stamp(end), "bucket": bucket}
    answer = world.ask("GET", f"{BASE}/timeseries", params=asked)
    if status == 200:
        assert (answer.status_code, len(answer.json()["series"])) == (200, days * 1440 // SIZES[bucket])
    else:
        refused(answer, 422, "unprocessable_entity")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_who_may_not_ask(world: World, path: str) -> None:
    """401 without a credential or with a wrong one, 403 with a key for something else; the right scope is enough."""
    refused(world.service.get(path), 401, "unauthenticated")
    refused(world.service.get(path, headers={"X-Api-Key": "sg_" + "0" * 48}), 401, "unauthenticated")
    refused(world.service.get(path, headers={"Authorization": "Bearer x.y.z"}), 401, "unauthenticated")
    keys = {scope: world.scoped(scope) for scope in ("logs:read", "mcp:read")}
    refused(world.service.get(path, headers=keys["mcp:read"]), 403, "forbidden")
    assert world.service.get(path, headers=keys["logs:read"], params=DAY).status_code == 200
    assert world.service.get(path, headers=world.mine.by_token, params=DAY).status_code == 200


def test_too_many_requests_are_429(tmp_path: Any) -> None:
    """With when to try again."""
    with serving(tmp_path, requests_per_minute=1) as service:
        team = service.team()
        for path in ENDPOINTS:
            service.get("/api/v1/workspaces/me", headers=team.by_key)
            answer = service.get(path, headers=team.by_key)
            refused(answer, 429, "rate_limited")
            assert int(answer.headers["Retry-After"]) >= 1
