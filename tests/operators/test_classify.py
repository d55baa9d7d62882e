"""S7: the columnar classification claims what the plain event-at-a-time one in `scalar.py` claims."""

import json
import pickle
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.rulefiles import builtin
from operators.classify import Classified, Classifier
from operators.events import DECODED, TIMESTAMP
from operators.matches import MATCHES, RESOLVE
from operators.policy import policy_of
from operators.rules import Rule
from operators.settings import Settings
from tests.operators import scalar

TYPES, CODES = ["a", "b", "c", "A"], ["401", "Econn", "x"]
TEXTS = ["a", "B", "10.0.0.7", "192.168.1.1", "2001:db8::5", "a*b", 'q"\\\n', "5", "-2.5", "", "é", "ß x"]
FIELDS = ["source", "code", "tenant", "message", "attributes.k", "attributes.k.n", "attributes.list"]


def event(**given: Any) -> dict[str, Any]:
    plain = dict.fromkeys(DECODED) | {"workspace": "w", "stream": "integration", "source": "s", "type": "none"}
    return plain | {"at": 0, "offset": 0} | given


def frame_of(events: list[dict[str, Any]]) -> pl.DataFrame:
    schema = DECODED | {"at": pl.Int64()}
    return pl.DataFrame(events, schema=schema, orient="row").with_columns(pl.col("at").cast(TIMESTAMP))


def rule(**given: Any) -> Rule:
    return Rule.model_validate({"id": "r", "match": {"type": ["a"]}} | given)


def classify(rules: list[Rule], events: list[dict[str, Any]], **settings: Settings) -> Classified:
    return Classifier(rules).classify(frame_of(events), settings)


def rows(classified: Classified) -> list[dict[str, Any]]:
    matches = classified.matches
    assert matches.frame.schema == MATCHES
    return [row | {"policy": matches.policies[row["policy"]]} for row in matches.frame.iter_rows(named=True)]


def _joined(entries: list[Any]) -> dict[str, Any]:
    return {field: value for entry in entries for field, value in entry.items()}


# Random rules and events.
scalars = st.sampled_from([*TEXTS, "*", "1?2", "a\\*b", 5, -2.5, True])
lists = st.lists(scalars, min_size=1, max_size=3)
attributes = st.one_of(
    st.none(),
    st.sampled_from(["{}", '{"k.n":7}']),
    st.fixed_dictionaries(
        {},
        optional={"k": st.sampled_from([*TEXTS, 5, -2.5, True, None, {"n": "a"}, {"n": 3}]), "list": st.just([1, "a"])},
    ).map(lambda body: json.dumps(body, ensure_ascii=False)),
)
events = st.lists(
    st.fixed_dictionaries(
        {
            "workspace": st.sampled_from(["w", "v", "u"]),
            "stream": st.sampled_from(["integration", "log"]),
            "source": st.sampled_from(["s", "t", 'q"\\\n']),
            "type": st.sampled_from(TYPES),
            "code": st.sampled_from([None, *CODES, "ECONN", "X", "200"]),
            "tenant": st.sampled_from([None, "a", "b"]),
            "severity": st.sampled_from([None, "info", "critical"]),
            "message": st.none() | st.sampled_from(TEXTS),
            "value": st.none() | st.sampled_from([0.0, 5.0, -2.5, float("nan"), float("inf")]),
            "attributes": attributes,
        }
    ),
    max_size=25,
).map(lambda rows: [event(**row) | {"offset": i, "at": 7 * i} for i, row in enumerate(rows)])


def entries(field: str) -> st.SearchStrategy[dict[str, Any]]:
    number = st.sampled_from([5, 0, -2.5])
    return st.one_of(
        scalars.map(lambda v: {field: v}),
        st.just({field: None}),
        st.tuples(st.sampled_from(["", "|contains", "|startswith", "|endswith", "|contains|all"]), lists).map(
            lambda p: {field + p[0]: p[1]}
        ),
        st.sampled_from(["^a", "[0-9]+", "b$", "(?i)B"]).map(lambda v: {f"{field}|re": v}),
        st.sampled_from(["10.0.0.0/8", "0.0.0.0/0", "192.168.1.1", "2001:db8::/32"]).map(
            lambda v: {f"{field}|cidr": v}
        ),
        st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), number).map(lambda p: {f"{field}|{p[0]}": p[1]}),
    )


values = st.sampled_from([{"value|gt": 0}, {"value|lte": 5}, {"value": [5, 0]}, {"value": None}])
entry = st.sampled_from(FIELDS).flatmap(entries) | values
where = st.recursive(
    st.lists(entry, min_size=1, max_size=2).map(_joined),
    lambda inner: inner.map(lambda w: {"not": w}) | st.lists(inner, min_size=1, max_size=2),
    max_leaves=4,
)
match = st.fixed_dictionaries(
    {},
    optional={
        "type": st.lists(st.sampled_from(TYPES), min_size=1, max_size=2),
        "code": st.lists(st.sampled_from(CODES), min_size=1, max_size=2),
        "where": where,
    },
)
threshold = st.one_of(
    st.none(),
    st.sampled_from(
        [
            {"event_count": {"gte": 1, "window": "1m"}},
            {"event_count": {"gte": 2, "window": "1m"}},
            {"value_count": {"field": "tenant", "gte": 2, "window": "1m"}},
            {"value_count": {"field": "attributes.k", "gte": 2, "window": "1m"}},
            {"value_sum": {"gte": 10, "window": "1m"}},
            {"value_avg": {"field": "attributes.k", "gte": 10, "window": "1m"}},
            {"value_percentile": {"percentile": 95, "gte": 1, "window": "1m"}},
            {"anomaly": {"bucket": "1m", "window": "1h"}},
        ]
    ),
    match.map(lambda of: {"ratio": {"of": of, "gte": 0.5, "min_volume": 2, "window": "1m"}}),
)


@st.composite
def rule_sets(draw: st.DrawFn) -> list[Rule]:
    found = []
    for i in range(draw(st.integers(0, 6))):
        raw: dict[str, Any] = {"id": f"r{i}", "match": draw(match)}
        raw["stream"] = draw(st.sampled_from(["integration", "log", ["log", "integration"], "*"]))
        raw["group_by"] = draw(
            st.sampled_from([["source"], ["tenant"], ["source", "tenant"], ["attributes.k", "type"]])
        )
        raw["enabled"] = draw(st.sampled_from([True, True, False]))
        if draw(st.booleans()):
            raw |= {"exclusive": True, "priority": draw(st.integers(0, 2)) * 100 + i}
        if chosen := draw(threshold):
            raw["threshold"] = chosen
        found.append(Rule.model_validate(raw))
    return found


overrides = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "severity": st.just("low"),
        "threshold": threshold.filter(bool),
        "lifecycle": st.just({"recovery": "1m"}),
    },
)
workspace_settings = st.dictionaries(
    st.sampled_from(["v", "u"]),
    st.dictionaries(st.sampled_from(["r0", "r1", "r2"]), overrides, max_size=2).map(
        lambda rules: Settings.parse(json.dumps({"rules": rules}))
    ),
)


@given(rule_sets(), events, workspace_settings, st.integers(0, 25))
@settings(max_examples=150, deadline=None)
def test_equals_the_event_at_a_time_classifier(
    rules: list[Rule], events: list[dict[str, Any]], chosen: dict[str, Settings], cut: int
) -> None:
    """A user's rules mean what docs/rules.md says, whatever the combination, and however the frames are cut."""
    expected = scalar.classify(rules, events, chosen)
    classifier = Classifier(rules)
    whole = classifier.classify(frame_of(events), chosen)
    assert _same(rows(whole), expected)
    parts = [classifier.classify(frame_of(part), chosen) for part in (events[:cut], events[cut:])]
    assert _same([row for part in parts for row in rows(part)], expected)
    assert _same(_recorded(whole), [_summary(row) for row in expected if row["kind"] == 0])


def _same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    assert repr(found) == repr(expected)  # repr, because NaN is not equal to itself
    return True


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "offset": row["offset"],
        "workspace": row["workspace"],
        "rule_id": row["policy"].rule_id,
        "group_key": row["group_key"],
        "confidence": {1: "Medium", 2: "High"}[row["confidence"]],
    }


def _recorded(classified: Classified) -> list[dict[str, Any]]:
    """Return the claims as stored: on the event and in the table of further claims."""
    first = classified.events.filter(pl.col("rule_id").is_not_null()).select(classified.claims.columns)
    both = pl.concat([first, classified.claims]).sort("offset", maintain_order=True)
    return list(both.iter_rows(named=True))


def test_first_match_wins_among_exclusive_rules() -> None:
    """server_error_spike shadows service_unavailable, as the pattern table's priorities say."""
    got = classify(list(builtin()), [event(type="service_unavailable"), event(type="x", code="503", offset=1)])
    assert got.events["rule_id"].to_list() == ["server_error_spike"] * 2
    assert got.events["confidence"].to_list() == ["Medium", "Medium"]


@pytest.mark.parametrize(
    ("given", "rule_id", "confidence"),
    [
        ({"type": "token_refresh_failed", "code": "401"}, "auth_failure", "High"),
        ({"type": "auth_failed", "code": "500"}, "auth_failure", "Medium"),
        ({"type": "other", "code": "INVALID_GRANT"}, "auth_failure", "Medium"),
        ({"type": "webhook_failed", "code": "503"}, "webhook_failure_spike", "High"),
        ({"type": "connected", "code": "ECONNREFUSED"}, "connection_failure", "High"),
        ({"type": "Auth_Failed"}, None, None),
        ({"type": "auth_failed", "stream": "log"}, None, None),
    ],
)
def test_built_in_patterns(given: dict[str, Any], rule_id: str | None, confidence: str | None) -> None:
    """Types compare exactly, codes in any case, only on their stream; a spike is always High."""
    row = classify(list(builtin()), [event(**given)]).events.row(0, named=True)
    assert (row["rule_id"], row["confidence"]) == (rule_id, confidence)


def test_a_disabled_rule_leaves_the_event_to_the_next() -> None:
    """Switching a pattern off in one workspace must not lose the event, nor touch other workspaces."""
    off = Settings.parse('{"rules": {"server_error_spike": {"enabled": false}}}')
    got = classify(list(builtin()), [event(code="503"), event(code="503", workspace="v", offset=1)], v=off)
    assert got.events["rule_id"].to_list() == ["server_error_spike", "service_unavailable"]


def test_every_other_rule_claims_too() -> None:
    """A custom rule sees an event that a built-in pattern has; the event itself shows the exclusive one."""
    custom = [rule(id="z"), rule(id="b"), rule(id="x", exclusive=True, priority=9)]
    got = classify(custom, [event(type="a")])
    assert got.events["rule_id"].to_list() == ["x"]
    assert got.claims["rule_id"].to_list() == ["b", "z"]


def test_more_rules_than_a_machine_word_has_bits() -> None:
    """Nothing special happens at the 65th rule."""
    many = [rule(id=f"r{i:03}", match={"type": [f"t{i}"]}) for i in range(200)] + [rule(id="all", match={})]
    got = classify(many, [event(type=f"t{i}", offset=i) for i in range(200)])
    assert got.claims["rule_id"].to_list() == [f"r{i:03}" for i in range(200)]
    assert got.events["rule_id"].unique().to_list() == ["all"]


def test_many_lists_fall_back_to_sorting() -> None:
    """Thousands of rules with types and codes of their own need no table of all combinations."""
    many = [rule(id=f"r{i}", match={"type": [f"t{i}"], "code": [f"c{i}"]}) for i in range(2100)]
    got = classify(many, [event(type="t7", code="c7"), event(type="t8", code="c9", offset=1)])
    assert [(r["policy"].rule_id, r["confidence"]) for r in rows(got)] == [("r7", 2), ("r8", 1), ("r9", 1)]


def test_group_key_of_several_fields_is_json() -> None:
    """Values that contain the separator, quotes or control characters cannot run into each other."""
    given = event(type="a", source='x"\\\n\x01é', tenant=None)
    got = classify([rule(group_by=["source", "tenant"])], [given])
    assert got.events["group_key"].to_list() == [
        json.dumps(['x"\\\n\x01é', None], ensure_ascii=False, separators=(",", ":"))
    ]


def test_resolve_takes_the_policy_of_its_workspace() -> None:
    """A command closes the key it names, under the settings in effect, in the order of the log."""
    body = '{"rule_id": "r", "group_key": "s"}'
    quick = Settings.parse('{"rules": {"r": {"lifecycle": {"cooldown": "1m"}}}}')
    log = [
        event(type="a", offset=3, workspace="v"),
        event(record="resolve", attributes=body, offset=4, workspace="v"),
        event(type="a", offset=5, workspace="v"),
    ]
    got = classify([rule()], log, v=quick)
    assert [(row["offset"], row["kind"]) for row in rows(got)] == [(3, 0), (4, RESOLVE), (5, 0)]
    assert {row["policy"] for row in rows(got)} == {policy_of(rule(), quick)}
    assert got.events["offset"].to_list() == [3, 5]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (None, "expected an object"),
        ("[1]", "expected an object"),
        ('{"rule_id": "r"}', "must be text"),
        ('{"rule_id": "q", "group_key": ""}', 'there is no rule "q"'),
    ],
)
def test_a_resolve_that_names_no_key_is_rejected(body: str | None, said: str) -> None:
    """A typo in a command shows up as a dead letter instead of doing nothing."""
    got = classify([rule()], [event(record="resolve", attributes=body, offset=9)])
    assert got.rejects["offset"].to_list() == [9]
    assert said in got.rejects["error"][0]
    assert len(got.matches) == 0


def test_reads_only_what_the_rules_need() -> None:
    """Decoding may leave out payloads when no rule looks at them; columns that are not there count as null."""
    assert "attributes" not in Classifier(builtin()).columns
    assert {"message", "attributes"} <= Classifier([rule(match={"where": {"message": "x", "attributes.k": 1}})]).columns
    bare = frame_of([event(type="a")]).select("offset", "at", "workspace", "stream", "source", "type", "code")
    assert Classifier([rule(group_by=["tenant"])]).classify(bare, {}).events["group_key"].to_list() == [""]


def test_without_overrides_the_policies_stay_the_same_object() -> None:
    """The engine may remember what it made of them, batch after batch; and state that holds them can be saved."""
    classifier = Classifier(builtin())
    first, second = (classifier.classify(frame_of([event(type=t)]), {}).matches for t in ("auth_failed", "x"))
    assert first.policies is second.policies
    assert pickle.loads(pickle.dumps(first.policies)) == first.policies


def test_the_input_is_left_alone_and_need_not_be_recorded() -> None:
    """A run that stores no events saves the work of describing them."""
    frame = frame_of([event(type="a")])
    got = Classifier([rule(id="b"), rule()]).classify(frame, {}, record=False)
    assert got.events.columns == frame.columns
    assert (len(got.matches), got.claims.height) == (2, 0)
