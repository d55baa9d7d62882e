"""Identities: every figure of a scripted day and its weeks before, as somebody would count it by hand."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from operators.anomaly import detect
from query_api import nhi_schema
from query_api.nhi_detection import LEVEL, LOOKED_AT, REST
from tests.query_api.nhi_days import (
    BACK,
    BOT,
    CI,
    DAY,
    GONE,
    LABELS,
    NEW,
    ROGUE,
    START,
    WEEK,
    Event,
    World,
    score,
    send,
    stamp,
    status,
    strengths,
    tally,
    world_of,
)
from tests.query_api.service import serving

BASE = "/v1/analytics"
LISTED = {CI, BOT, BACK, NEW, ROGUE}

# As the description of the surface shows them.
RISK = json.loads("""{
"from": "2026-04-24T00:00:00Z", "to": "2026-05-01T00:00:00Z",
"data": [{"nhi_id": "nhi_01JF8RNHI1A2B3C4D5E6F7G8H9", "nhi_label": "ci-runner-prod", "tier": 2, "risk_score": 0.21,
"risk_signals": ["spend_burst:p99", "tool_attempt:denied:3"], "last_seen_at": "2026-05-01T11:42:08Z"}]}""")
POSTURE = json.loads("""{
"data": [{"nhi_id": "nhi_01JF8RNHI1A2B3C4D5E6F7G8H9", "posture_score": 0.86, "components": {
"guardian_coverage": 1.0, "tier_compliance": 0.95, "federation_status": 0.80, "anomaly_count_7d": 2}}]}""")
QUEUED = json.loads("""{ "job_id": "job_01JF8RAJ1A2B3C4D5E6F7G8H9I", "status": "queued" }""")
ANOMALIES = json.loads("""{
"data": [{"anomaly_id": "anom_01JF8RAN1A2B3C4D5E6F7G8H9I", "nhi_id": "nhi_01JF8RNHI1A2B3C4D5E6F7G8H9",
"type": "spend_burst", "severity": "high", "detected_at": "2026-05-01T08:14:00Z",
"evidence": {"p99_spend_usd_24h": 12.40, "rolling_baseline": 0.83}, "status": "open"}],
"page": {"next_cursor": null, "has_more": false}}""")
NOTE = json.loads("""{ "note": "Reviewed by SRE — known release event." }""")

WINDOWS = [
    DAY,
    WEEK,
    {"from": "2026-04-29T13:20:30Z", "to": "2026-04-30T13:20:30Z"},
    {"from": "2026-04-30T08:10:00Z", "to": "2026-04-30T08:20:00Z"},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Nobody has looked for anomalies here."""
    with world_of(tmp_path_factory.mktemp("data")) as found:
        yield found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Here somebody does."""
    with world_of(tmp_path_factory.mktemp("data")) as found:
        yield found


def has_keys(found: Any, example: Any, beside: dict[str, set[str]], place: str = "") -> None:
    """The members of the example, in their order and of their kinds, and beside them only those that are named."""
    if isinstance(example, dict):
        assert [name for name in found if name in example] == list(example), place
        assert set(found) - set(example) == beside.get(place, set()), place
        for name, each in example.items():
            has_keys(found[name], each, beside, f"{place}.{name}")
    elif isinstance(example, list):
        assert found, place
        for each in found:
            has_keys(each, example[0], beside, f"{place}[]") if example else None
    elif isinstance(example, float | int) and not isinstance(example, bool):
        assert isinstance(found, float | int), place
        assert not isinstance(found, bool), place
    elif example is not None:
        assert isinstance(found, type(example)), place


@pytest.mark.parametrize("window", WINDOWS)
def test_the_risk_of_a_window(world: World, window: dict[str, str]) -> None:
    """Every identity that did something, the riskiest first, with what its score is made of."""
    found = world.get(f"{BASE}/nhi-risk", **window)
    assert {name: found[name] for name in ("from", "to")} == window
    seen = {nhi: tally(world.events, nhi, window) for nhi in {one.nhi for one in world.events}}
    rows = {row["nhi_id"]: row for row in found["data"]}
    assert set(rows) == {nhi for nhi, its in seen.items() if its.events}
    assert [row["risk_score"] for row in found["data"]] == sorted(
        (r["risk_score"] for r in rows.values()), reverse=True
    )
    for nhi, row in rows.items():
        its = seen[nhi]
        assert row["nhi_label"] == LABELS.get(nhi, nhi)
        assert row["tier"] == its.tier
        assert row["last_seen_at"] == stamp(max(one.time for one in its.events))
        for name, value in strengths(its).items():
            assert row["components"][name] == pytest.approx(value, abs=0.011 if name == "spend_burst" else 6e-5), name
        assert row["risk_score"] == pytest.approx(score(its), abs=0.006)
        assert row["components"]["impact"] == (1 if its.tier is None else (1 + its.tier) / 5)
        assert row["risk_score"] == pytest.approx(
            row["components"]["likelihood"] * row["components"]["impact"], abs=1e-4
        )


def test_the_signs_of_the_day(world: World) -> None:
    """In the description's words, the strongest first."""
    rows = {row["nhi_id"]: row for row in world.get(f"{BASE}/nhi-risk", **DAY)["data"]}
    assert set(rows) == LISTED
    assert rows[CI]["risk_signals"] == ["spend_burst:hour", "tool_attempt:denied:3"]
    assert rows[BOT]["risk_signals"] == []
    assert (rows[BOT]["tier"], rows[BOT]["risk_score"]) == (None, 0)
    assert rows[BACK]["risk_signals"] == ["dormancy:13d"]
    assert rows[NEW]["risk_signals"] == ["new_identity"]
    assert rows[ROGUE]["risk_signals"] == ["tool_attempt:denied:24", "federation:untrusted"]
    hour = {"from": "2026-04-30T08:00:00Z", "to": "2026-04-30T08:30:00Z"}
    [ci] = [row for row in world.get(f"{BASE}/nhi-risk", **hour)["data"] if row["nhi_id"] == CI]
    assert set(ci["risk_signals"]) == {"spend_burst:hour", "tool_attempt:denied:3"}


def test_the_shapes_are_those_of_the_description(watched: World) -> None:
    """Member by member; what is there beside them, each score's components, is named here."""
    has_keys(watched.get(f"{BASE}/nhi-risk", **DAY, guardian_id="gov_a"), RISK, {".data[]": {"components"}})
    beside = {".data[].components": {"risk_score"}}
    has_keys(watched.get(f"{BASE}/nhi-posture", **DAY), POSTURE, beside)
    queued = watched.ask("POST", f"{BASE}/nhi-risk/detect-anomalies", json=DAY)
    assert queued.status_code == 202
    has_keys(queued.json(), QUEUED, {})
    assert queued.json()["job_id"].startswith("job_")
    watched.service.run_jobs()
    numbers = {".data[].evidence": {"spend_usd_1h", "expected_usd_1h", "p_value"}}
    has_keys(watched.get(f"{BASE}/nhi-anomalies", type="spend_burst"), ANOMALIES, numbers)


def _models() -> list[type[BaseModel]]:
    found = (one for one in vars(nhi_schema).values() if isinstance(one, type) and issubclass(one, BaseModel))
    return [one for one in found if one.model_config.get("json_schema_extra")]


@pytest.mark.parametrize("model", _models(), ids=lambda model: model.__name__)
def test_the_examples_of_the_document_are_answers(model: type[BaseModel]) -> None:
    """What /docs shows is what comes."""
    for example in model.model_json_schema()["examples"]:
        model.model_validate(example)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_assessment_says_why(world: World, window: dict[str, str]) -> None:
    """With the numbers that each strength was computed from; its score is that of the list."""
    listed = {row["nhi_id"]: row for row in world.get(f"{BASE}/nhi-risk", **window)["data"]}
    for nhi in (*LISTED, GONE):
        its = tally(world.events, nhi, window)
        found = world.get(f"{BASE}/nhi-risk-assessment/{nhi}", **window)
        if nhi in listed:
            same = ("nhi_id", "nhi_label", "tier", "risk_score", "risk_signals", "last_seen_at")
            assert {name: found[name] for name in same} == {name: listed[nhi][name] for name in same}
        parts = {part["name"]: part for part in found["components"]}
        assert sum(part["contribution"] for part in parts.values()) == pytest.approx(found["risk_score"], abs=3e-4)
        assert found["risk_signals"] == [part["signal"] for part in found["components"] if part["signal"]]
        assert [part["contribution"] for part in found["components"]] == sorted(
            (part["contribution"] for part in found["components"]), reverse=True
        )
        denied = parts["denied_attempts"]["evidence"]
        assert (denied["denied"], denied["attempts"]) == (its.denied, its.attempts)
        spend = parts["spend_burst"]["evidence"]
        assert spend["baseline_spends"] == its.known
        for name, value, off in (
            ("p99_spend_usd", its.p99, 0.0105),
            ("p99_baseline_usd", its.baseline_p99, 0.0105),
            ("hour_spend_usd", its.hour, 6e-4),
            ("hour_baseline_usd", its.baseline_hour, 6e-4),
        ):
            assert spend[name] == (None if value is None else pytest.approx(value, rel=off)), name
        silent = parts["dormancy"]["evidence"]
        assert silent == {"silent_days": pytest.approx(its.silence, rel=6e-4), "known_before": its.seen_before}
        issuer = parts["federation"]["evidence"]
        assert issuer["status"] == its.federation
        assert issuer["age_days"] == (None if its.age is None else pytest.approx(its.age, rel=6e-4))
        assert issuer["federation_status"] == pytest.approx(status(its), rel=6e-4)


def test_the_assessment_of_who_is_not_there_any_more(world: World) -> None:
    """Known, so it is found: silent since, and last seen before the window."""
    found = world.get(f"{BASE}/nhi-risk-assessment/{GONE}", **DAY)
    assert (found["last_seen_at"], found["risk_signals"]) == ("2026-04-27T16:00:00Z", [])
    early = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    assert world.get(f"{BASE}/nhi-risk-assessment/{GONE}", **early)["last_seen_at"] is None


@pytest.mark.parametrize("bucket", ["15m", "1h", "1d"])
@pytest.mark.parametrize("nhi", [CI, ROGUE, NEW])
def test_the_history_is_what_the_list_said_then(world: World, nhi: str, bucket: str) -> None:
    """At the end of each bucket, of the 24 hours before."""
    window = WEEK if bucket == "1d" else DAY
    found = world.get(f"{BASE}/nhi-risk-assessment/{nhi}/history", **window, bucket=bucket)
    assert {name: found[name] for name in ("nhi_id", "bucket", "from", "to")} == {
        "nhi_id": nhi,
        "bucket": bucket,
        **window,
    }
    length = {"15m": timedelta(minutes=15), "1h": timedelta(hours=1), "1d": timedelta(days=1)}[bucket]
    start, end = (datetime.fromisoformat(window[name]) for name in ("from", "to"))
    assert [one["timestamp"] for one in found["series"]] == [
        stamp(start + n * length) for n in range((end - start) // length)
    ]
    for one in found["series"][:: 7 if bucket == "15m" else 3]:
        upto = datetime.fromisoformat(one["timestamp"]) + length
        then = {"from": stamp(upto - timedelta(days=1)), "to": stamp(upto)}
        its = world.get(f"{BASE}/nhi-risk-assessment/{nhi}", **then)
        assert (one["risk_score"], one["risk_signals"]) == (its["risk_score"], its["risk_signals"]), one["timestamp"]
        assert one["components"] == {
            "likelihood": its["likelihood"],
            "impact": its["impact"],
            **{part["name"]: part["value"] for part in sorted(its["components"], key=lambda part: str(part["name"]))},
        }


def test_an_identity_may_be_a_path(world: World) -> None:
    """As SPIFFE calls them; escaped or not."""
    team, nhi = world.service.team("Paths"), "spiffe://acme.org/ns/ci"
    send(world.service, team, [Event(5, nhi, "tool_attempt", "denied", number=1)])
    for name in (nhi, nhi.replace("/", "%2F")):
        found = world.ask("GET", f"{BASE}/nhi-risk-assessment/{name}", team, params=DAY)
        assert (found.status_code, found.json()["nhi_id"]) == (200, nhi)
        past = world.ask("GET", f"{BASE}/nhi-risk-assessment/{name}/history", team, params=DAY)
        assert (past.json()["nhi_id"], len(past.json()["series"])) == (nhi, 24)


def test_a_history_of_one_bucket(world: World) -> None:
    """Its day begins between two hours, too."""
    span = {"from": "2026-04-30T08:00:00Z", "to": "2026-04-30T08:05:00Z"}
    [point] = world.get(f"{BASE}/nhi-risk-assessment/{CI}/history", **span, bucket="5m")["series"]
    then = {"from": "2026-04-29T08:05:00Z", "to": "2026-04-30T08:05:00Z"}
    its = world.get(f"{BASE}/nhi-risk-assessment/{CI}", **then)
    assert its["risk_signals"] == ["tool_attempt:denied:2"]
    assert (point["risk_score"], point["risk_signals"]) == (its["risk_score"], its["risk_signals"])


@pytest.mark.parametrize("window", WINDOWS)
def test_the_posture_of_a_window(world: World, window: dict[str, str]) -> None:
    """The mean of what is counted by hand, the worst governed identity first."""
    risks = {row["nhi_id"]: row["risk_score"] for row in world.get(f"{BASE}/nhi-risk", **window)["data"]}
    found = world.get(f"{BASE}/nhi-posture", **window)["data"]
    assert {row["nhi_id"] for row in found} == set(risks)
    assert [row["posture_score"] for row in found] == sorted(row["posture_score"] for row in found)
    for row in found:
        its, parts = tally(world.events, row["nhi_id"], window), row["components"]
        assert parts["guardian_coverage"] == pytest.approx(its.coverage, abs=6e-5)
        assert parts["tier_compliance"] == pytest.approx(1 - its.denied / its.attempts if its.attempts else 1, abs=6e-5)
        assert parts["federation_status"] == pytest.approx(status(its), abs=6e-5)
        assert parts["risk_score"] == risks[row["nhi_id"]]
        assert parts["anomaly_count_7d"] == 0
        mean = (
            parts["guardian_coverage"] + parts["tier_compliance"] + parts["federation_status"] + 1 - parts["risk_score"]
        ) / 4
        assert row["posture_score"] == pytest.approx(mean, abs=1.1e-4)


@pytest.mark.parametrize("window", WINDOWS)
def test_what_they_did(world: World, window: dict[str, str]) -> None:
    """In total, by hour and by identity, to the cent."""
    found = world.get(f"{BASE}/nhi-observability", **window)
    seen = {nhi: tally(world.events, nhi, window) for nhi in {one.nhi for one in world.events}}
    seen = {nhi: its for nhi, its in seen.items() if its.events}
    totals = {
        "identities": len(seen),
        "events": sum(len(its.events) for its in seen.values()),
        "tool_attempts": sum(its.attempts for its in seen.values()),
        "allowed": sum(its.allowed for its in seen.values()),
        "denied": sum(its.denied for its in seen.values()),
        "spend_usd": pytest.approx(sum(its.spent for its in seen.values())),
    }
    assert found["totals"] == totals
    for name in list(totals)[1:]:
        assert sum(one[name] for one in found["series"]) == pytest.approx(found["totals"][name]), name
        assert sum(one[name] for one in found["data"]) == pytest.approx(found["totals"][name]), name
    start = datetime.fromisoformat(window["from"])
    for n, one in enumerate(found["series"]):
        first = start.replace(minute=0, second=0) + n * timedelta(hours=1)
        assert one["timestamp"] == stamp(first)
        end = min(first + timedelta(hours=1), datetime.fromisoformat(window["to"]))
        active = [e for e in world.events if max(first, start) <= e.time < end]
        assert (one["events"], one["identities"]) == (len(active), len({e.nhi for e in active}))
    assert {row["nhi_id"] for row in found["data"]} == set(seen)
    for row in found["data"]:
        its = seen[row["nhi_id"]]
        assert (row["events"], row["tool_attempts"], row["denied"]) == (len(its.events), its.attempts, its.denied)
        assert row["denied_rate"] == (pytest.approx(its.denied / its.attempts, abs=6e-5) if its.attempts else None)
        assert row["p99_spend_usd"] == (None if its.p99 is None else pytest.approx(its.p99, rel=0.0105))
        assert row["guardian_coverage"] == pytest.approx(its.coverage, abs=6e-5)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"guardian_id": "gov_a"}, {CI}),
        ({"guardian_id": "gov_b"}, {BOT}),
        ({"environment": "live"}, {CI, BOT}),
        ({"environment": "dev"}, {BACK, NEW}),
        ({"environment": "dev", "tag": "x"}, {NEW}),
        ({"tag": "payments"}, {CI}),
        ({"guardian_id": "gov_a", "environment": "dev"}, set()),
        ({"guardian_id": "", "tag": ""}, LISTED),
    ],
)
def test_a_filter_chooses_identities_and_changes_no_score(
    world: World, filters: dict[str, str], expected: set[str]
) -> None:
    """Else a guardian's bot would be covered wherever one looks at its guardian."""
    for endpoint in ("nhi-risk", "nhi-posture", "nhi-observability"):
        every = {row["nhi_id"]: row for row in world.get(f"{BASE}/{endpoint}", **DAY)["data"]}
        found = world.get(f"{BASE}/{endpoint}", **DAY, **filters)
        assert {row["nhi_id"]: row for row in found["data"]} == {nhi: every[nhi] for nhi in expected}, endpoint
        if "totals" in found:
            assert found["totals"]["events"] == sum(row["events"] for row in found["data"])


def test_the_default_window_is_a_day_up_to_now(world: World) -> None:
    """Nothing happened since."""
    found = world.get(f"{BASE}/nhi-risk")
    assert found["data"] == []
    span = datetime.fromisoformat(found["to"]) - datetime.fromisoformat(found["from"])
    assert span == timedelta(days=1)
    assert found["to"] > stamp(START)


# ------------------------------------------------------------ anomalies


def test_anomalies_from_the_first_look_to_the_acknowledgement(watched: World) -> None:
    """The burst and the denied attempts of the day; found again they are the same, and stay acknowledged."""
    first = watched.detect(**DAY)
    listed = watched.get(f"{BASE}/nhi-anomalies", nhi_id=CI)["data"]
    kinds = {one["type"]: one for one in listed}
    assert {"spend_burst", "denied_attempts"} <= set(kinds)
    assert first["identities"] == 6
    burst = kinds["spend_burst"]
    its = tally(watched.events, CI, {"from": "2026-04-29T09:00:00Z", "to": "2026-04-30T09:00:00Z"})
    assert (burst["nhi_id"], burst["status"], burst["detected_at"]) == (CI, "open", "2026-04-30T09:00:00Z")
    assert burst["evidence"]["p99_spend_usd_24h"] == pytest.approx(its.p99, rel=0.0105)
    assert burst["evidence"]["rolling_baseline"] == pytest.approx(its.baseline_p99, rel=0.0105)
    assert burst["evidence"]["spend_usd_1h"] == pytest.approx(its.hour, rel=6e-4)
    denied = kinds["denied_attempts"]["evidence"]
    assert (denied["denied_1h"], denied["denied_24h"], denied["rolling_baseline"]) == (3, 3, 0)
    assert burst["severity"] in ("low", "medium", "high", "critical")

    open_risk = _row(watched, "nhi-risk", CI)
    assert open_risk["components"]["anomalies"] > 0
    assert any(signal.startswith("anomalies:") for signal in open_risk["risk_signals"])
    count = _row(watched, "nhi-posture", CI)["components"]["anomaly_count_7d"]
    assert count == len(listed)

    done = watched.ask("POST", f"{BASE}/nhi-anomalies/{burst['anomaly_id']}/ack", json=NOTE)
    assert done.status_code == 200
    assert done.json() == burst | {
        "status": "acknowledged",
        "note": NOTE["note"],
        "acknowledged_at": done.json()["acknowledged_at"],
    }
    after = _row(watched, "nhi-risk", CI)
    assert (after["risk_score"], after["components"]["anomalies"]) < (open_risk["risk_score"], 1)
    again = watched.ask("POST", f"{BASE}/nhi-anomalies/{burst['anomaly_id']}/ack")
    assert again.json() == done.json(), "without a note the one there is stays"

    assert watched.detect(**DAY) == first | {"new": 0}
    assert watched.get(f"{BASE}/nhi-anomalies", nhi_id=CI)["data"] == [one for one in listed if one != burst]
    acknowledged = watched.get(f"{BASE}/nhi-anomalies", status="acknowledged")["data"]
    assert acknowledged == [done.json()]
    everything = watched.get(f"{BASE}/nhi-anomalies", status="all", nhi_id=CI)["data"]
    assert {one["anomaly_id"] for one in everything} == {one["anomaly_id"] for one in listed}
    assert _row(watched, "nhi-posture", CI)["components"]["anomaly_count_7d"] == count


def test_anomalies_come_in_pages(watched: World) -> None:
    """The latest first, none twice, none left out."""
    watched.detect(**WEEK)
    every = watched.get(f"{BASE}/nhi-anomalies", status="all", limit=100)
    assert every["page"] == {"next_cursor": None, "has_more": False}
    times = [one["detected_at"] for one in every["data"]]
    assert times == sorted(times, reverse=True)
    found: list[Any] = []
    cursor = None
    while True:
        page = watched.get(f"{BASE}/nhi-anomalies", status="all", limit=1, **({"cursor": cursor} if cursor else {}))
        found += page["data"]
        cursor = page["page"]["next_cursor"]
        assert page["page"]["has_more"] is (cursor is not None)
        if cursor is None:
            break
    assert found == every["data"]
    assert len(found) >= 2


def test_anomalies_of_a_time(watched: World) -> None:
    """From inclusive, to exclusive, about when they were detected; without any it is all of time."""
    watched.detect(**DAY)
    first, last = "2026-04-30T09:00:00Z", "2026-04-30T09:00:01Z"
    every = watched.get(f"{BASE}/nhi-anomalies", status="all", nhi_id=CI, limit=100)["data"]
    then = [one for one in every if one["detected_at"] == first]
    assert then
    assert watched.get(f"{BASE}/nhi-anomalies", status="all", nhi_id=CI, **{"from": first, "to": last})["data"] == then
    assert watched.get(f"{BASE}/nhi-anomalies", status="all", nhi_id=CI, to=first, type="denied_attempts")["data"] == []
    assert watched.get(f"{BASE}/nhi-anomalies", status="all", **{"from": last})["data"] == []


def test_the_history_knows_an_anomaly_from_when_it_was_detected(watched: World) -> None:
    """Not before; and it fades."""
    watched.detect(**DAY)
    series = watched.get(f"{BASE}/nhi-risk-assessment/{CI}/history", **DAY)["series"]
    before, after = series[7]["components"], series[9]["components"]
    assert after["anomalies"] > before["anomalies"]
    assert after["anomalies"] > series[20]["components"]["anomalies"] > 0


def test_who_was_not_there_yet_did_not_keep_silent(watched: World) -> None:
    """A new identity's first event is no anomaly: there is nothing to compare it with."""
    watched.detect(**DAY)
    every = watched.get(f"{BASE}/nhi-anomalies", status="all", limit=100)["data"]
    assert not [one for one in every if one["nhi_id"] == NEW]


def test_false_alarms_are_few() -> None:
    """Of ten identities in which nothing changes, in four weeks: the documentation says one in two months."""
    alarms = 0
    for seed in range(10):
        chance = np.random.default_rng(seed)
        usual = {
            "denied_attempts": (chance.random(1_344) < 0.02) * 1.0,
            "rate": chance.poisson(4, 1_344) * 1.0,
            "silence": chance.poisson(4, 1_344) * 1.0,
            "spend_burst": chance.lognormal(0, 0.5, 1_344),
        }
        for kind, _ in LOOKED_AT:
            alarms += len(detect(usual[kind.name], kind, since=672, level=LEVEL, rest=REST))
    assert alarms <= 10 * 28 / 40


def test_an_hour_that_is_not_over_is_not_judged(watched: World) -> None:
    """Half an hour always looks like silence. Nor is a window that ends before it begins to count."""
    assert watched.detect(**{"from": "2026-04-30T08:10:00Z", "to": "2026-04-30T08:50:00Z"}) == {
        "identities": 0,
        "anomalies": 0,
        "new": 0,
    }


def _row(world: World, endpoint: str, nhi: str) -> Any:
    [row] = [row for row in world.get(f"{BASE}/{endpoint}", **DAY)["data"] if row["nhi_id"] == nhi]
    return row


# ------------------------------------------------------------ who may, and what is refused

READING = (
    "nhi-risk",
    "nhi-observability",
    "nhi-posture",
    f"nhi-risk-assessment/{CI}",
    f"nhi-risk-assessment/{CI}/history",
)


@pytest.mark.parametrize("path", READING)
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"from": "yesterday"}, 400),
        ({"to": "2026-13-01"}, 400),
        ({"from": "2026-05-01T00:00:00Z", "to": "2026-04-30T00:00:00Z"}, 400),
        ({"from": "0001-01-01T00:00:00Z", "to": "0001-01-02T00:00:00Z"}, 400),
        ({"from": "9999-12-30T00:00:00Z", "to": "9999-12-31T23:59:59Z"}, 400),
        ({"from": "1999-05-01T00:00:00Z"}, 422),
    ],
)
def test_a_window_that_makes_no_sense(world: World, path: str, parameters: dict[str, str], expected: int) -> None:
    """In the description's words."""
    _refused(world.ask("GET", f"{BASE}/{path}", params=parameters), expected)


@pytest.mark.parametrize("path", ["nhi-observability", f"nhi-risk-assessment/{CI}/history"])
def test_buckets(world: World, path: str) -> None:
    """An unknown one, and minutes over a month."""
    _refused(world.ask("GET", f"{BASE}/{path}", params={"bucket": "1w"}), 400)
    month = {"from": "2026-04-01T00:00:00Z", "to": "2026-05-01T00:00:00Z", "bucket": "1m"}
    _refused(world.ask("GET", f"{BASE}/{path}", params=month), 422)


def test_a_history_has_no_more_points_than_can_be_computed_in_time(world: World) -> None:
    """Each looks at the day before it, whatever the size of the buckets."""
    days = {"from": "2026-04-01T00:00:00Z", "to": "2026-04-03T00:00:00Z", "bucket": "1m"}
    _refused(world.ask("GET", f"{BASE}/nhi-risk-assessment/{CI}/history", params=days), 422)


@pytest.mark.parametrize(
    ("method", "path", "request_", "expected"),
    [
        ("GET", "nhi-risk-assessment/nhi_nobody", {}, 404),
        ("GET", "nhi-risk-assessment/nhi_nobody/history", {}, 404),
        ("POST", "nhi-anomalies/anom_nothing/ack", {}, 404),
        ("GET", "nhi-risk/detect-anomalies/job_nothing", {}, 404),
        ("GET", "nhi-risk", {"params": {"environment": "moon"}}, 400),
        ("GET", "nhi-anomalies", {"params": {"status": "closed"}}, 400),
        ("GET", "nhi-anomalies", {"params": {"limit": 0}}, 400),
        ("GET", "nhi-anomalies", {"params": {"from": "x"}}, 400),
        ("GET", "nhi-anomalies", {"params": {"from": "2026-05-01T00:00:00Z", "to": "2026-05-01T00:00:00Z"}}, 400),
        ("GET", "nhi-anomalies", {"params": {"cursor": "x"}}, 400),
        ("POST", "nhi-anomalies/anom_nothing/ack", {"json": {"note": 5}}, 400),
        ("POST", "nhi-anomalies/anom_nothing/ack", {"json": {"note": "x" * 2_001}}, 400),
        ("POST", "nhi-risk/detect-anomalies", {"json": {"from": "x"}}, 400),
        ("POST", "nhi-risk/detect-anomalies", {"json": {"from": 5}}, 400),
        ("POST", "nhi-risk/detect-anomalies", {"json": {"from": "0001-01-01", "to": "0001-01-02"}}, 400),
        ("POST", "nhi-risk/detect-anomalies", {"json": [1]}, 400),
        ("POST", "nhi-risk/detect-anomalies", {"json": {"from": "2020-01-01T00:00:00Z"}}, 422),
        ("DELETE", "nhi-risk", {}, 405),
    ],
)
def test_what_is_refused(world: World, method: str, path: str, request_: dict[str, Any], expected: int) -> None:
    """With the code of the description's table."""
    _refused(world.ask(method, f"{BASE}/{path}", **request_), expected)


OPERATIONS = [
    *(("GET", path) for path in READING),
    ("GET", "nhi-anomalies"),
    ("POST", "nhi-anomalies/anom_nothing/ack"),
    ("POST", "nhi-risk/detect-anomalies"),
    ("GET", "nhi-risk/detect-anomalies/job_nothing"),
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_it_takes_a_key_for_identities(world: World, method: str, path: str) -> None:
    """None: 401; one for something else: 403; `nhi:read` is enough for all of it."""
    where = f"{BASE}/{path}"
    _refused(world.service.ask(method, where), 401)
    _refused(world.service.ask(method, where, headers={"X-Api-Key": "sg_" + "0" * 48}), 401)
    keys = {}
    for scope in ("logs:read", "nhi:read"):
        made = world.ask("POST", "/v1/keys", json={"name": f"{scope} {method} {path}", "scopes": [scope]})
        keys[scope] = {"Authorization": f"Bearer {made.json()['key']}"}
    _refused(world.service.ask(method, where, headers=keys["logs:read"]), 403)
    assert world.service.ask(method, where, headers=keys["nhi:read"]).status_code in (200, 202, 404)
    world.service.run_jobs()


def test_too_many_requests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In this surface's shape."""
    with serving(tmp_path_factory.mktemp("limits"), requests_per_minute=1) as service:
        team = service.team()
        answers = [service.get(f"{BASE}/nhi-anomalies", headers=team.by_key) for _ in range(2)]
    _refused(answers[-1], 429)
    assert answers[-1].headers["Retry-After"]


_CODES = {
    400: "validation_error",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    422: "unprocessable_entity",
    429: "rate_limited",
}


def _refused(answer: Any, expected: int) -> None:
    assert answer.status_code == expected, answer.text
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"code", "message"}
    assert answer.json()["error"]["code"] == _CODES[expected]


# ------------------------------------------------------------ isolation


def test_identities_of_others_are_not_seen(watched: World) -> None:
    """Not even where they have the same name."""
    for endpoint in ("nhi-risk", "nhi-observability", "nhi-posture"):
        theirs = watched.ask("GET", f"{BASE}/{endpoint}", watched.others, params=DAY).json()["data"]
        assert {row["nhi_id"] for row in theirs} == {CI, "nhi_theirs"}
        mine = watched.get(f"{BASE}/{endpoint}", **DAY)["data"]
        assert {row["nhi_id"] for row in mine} == LISTED
    for path in ("nhi-risk-assessment/nhi_theirs", "nhi-risk-assessment/nhi_theirs/history"):
        _refused(watched.ask("GET", f"{BASE}/{path}", params=DAY), 404)
        assert watched.ask("GET", f"{BASE}/{path}", watched.others, params=DAY).status_code == 200
    theirs = watched.ask("GET", f"{BASE}/nhi-risk-assessment/{CI}", watched.others, params=DAY).json()
    [denied] = [part for part in theirs["components"] if part["name"] == "denied_attempts"]
    assert (denied["evidence"]["attempts"], theirs["tier"]) == (1, None)


def test_anomalies_and_jobs_of_others_are_not_found(watched: World) -> None:
    """Nor acknowledged."""
    watched.detect(**DAY)
    every = watched.get(f"{BASE}/nhi-anomalies", status="all", limit=100)["data"]
    seen = watched.ask("GET", f"{BASE}/nhi-anomalies", watched.others, params={"status": "all"}).json()
    assert seen["data"] == []
    for one in every:
        _refused(watched.ask("POST", f"{BASE}/nhi-anomalies/{one['anomaly_id']}/ack", watched.others), 404)
    assert watched.get(f"{BASE}/nhi-anomalies", status="all", limit=100)["data"] == every
    job = watched.ask("POST", f"{BASE}/nhi-risk/detect-anomalies", json=DAY).json()["job_id"]
    _refused(watched.ask("GET", f"{BASE}/nhi-risk/detect-anomalies/{job}", watched.others), 404)
    watched.service.run_jobs()
