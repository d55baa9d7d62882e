"""Rule files: what they may say, and the errors where they say something else."""

import json
from typing import Any

import pytest

from operators.events import HOUR, MINUTE, SECOND
from operators.policy import CLOSE, COOLDOWN, definition, effective, policy_of
from operators.rule_errors import RuleError
from operators.rules import Anomaly, EventCount, Ratio, Rule, ValueCount, ValuePercentile, load_rule_texts, load_rules
from operators.settings import NO_SETTINGS, Settings, SettingsError

FULL = """
rules:
  - id: checkout_errors
    name: Checkout errors
    description: One in ten checkouts fails.
    stream: [integration, log]
    match:
      type: checkout_failed
      code: [500, EPIPE]
      where: {attributes.region: [eu, us], value|gt: 1}
    group_by: [source, attributes.region]
    threshold:
      ratio:
        of: {type: [checkout_failed, checkout_done]}
        gte: 0.1
        min_volume: 20
        window: 5m
    lifecycle: {recovery: 90s, close: 1h}
    severity: high
    alert: {count: 5, window: 10m}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(RuleError) as caught:
        load_rules(text, "f.yaml")
    return [str(problem) for problem in caught.value.problems]


def one(fields: str) -> str:
    return "rules:\n  - id: r\n    match: {type: a}\n" + "".join(f"    {line}\n" for line in fields.splitlines())


def test_reads_every_field() -> None:
    """What a rule file says is what the rule holds."""
    (rule,) = load_rules(FULL, "f.yaml")
    assert rule.stream == ("integration", "log")
    assert (rule.match.type, rule.match.code) == (("checkout_failed",), ("500", "epipe"))
    assert rule.group_by == ("source", "attributes.region")
    assert rule.threshold is not None
    spec = rule.threshold.spec
    assert isinstance(spec, Ratio)
    assert (spec.of.type, spec.gte, spec.window) == (("checkout_failed", "checkout_done"), 0.1, 5 * MINUTE)
    assert (rule.lifecycle.recovery, rule.lifecycle.close, rule.lifecycle.cooldown) == (90 * SECOND, HOUR, None)
    assert Rule.model_validate(json.loads(definition(rule))) == rule


def test_defaults() -> None:
    """The shortest rule: every event of one type, by source, opened by the first."""
    (rule,) = load_rules("- id: r\n  match: {type: a}", "f.yaml")
    assert (rule.name, rule.stream, rule.group_by, rule.exclusive) == ("r", ("integration",), ("source",), False)
    assert rule.threshold is None


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        ("event_count: {gte: 3, window: 2m}", EventCount(gte=3, window="2m")),  # type: ignore[arg-type]
        ("value_count: {field: tenant, gte: 3, window: 60}", ValueCount(field="tenant", gte=3, window="1m")),  # type: ignore[arg-type]
        (
            "value_percentile: {percentile: 99, gte: 250, window: 5m, min_events: 20}",
            ValuePercentile(field="value", percentile=99, gte=250, window="5m", min_events=20),  # type: ignore[arg-type]
        ),
        (
            "anomaly: {bucket: 5m, window: 1d}",
            Anomaly(bucket="5m", window="1d", level=0.001, min_history=24, min_events=5),  # type: ignore[arg-type]
        ),
    ],
)
def test_thresholds(threshold: str, expected: object) -> None:
    """Each threshold is named by its key; a plain integer is seconds."""
    (rule,) = load_rules(one(f"threshold: {{{threshold}}}"), "f.yaml")
    assert rule.threshold is not None
    assert rule.threshold.spec == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f.yaml:1: expected `rules:` and a list of rules under it"),
        ("rules: []", "f.yaml:1: rules: expected `rules:` and a list of rules under it"),
        ("rule: [{}]", 'f.yaml:1: rule: unknown field "rule"; did you mean "rules"? allowed: rules'),
        ("rules:\n  - {id: r", "f.yaml:2: not valid YAML: while parsing a flow mapping"),
        ("rules: [&a [*a]]", "alias that contains itself"),
        (
            one("priorty: 1"),
            'f.yaml:4: rules[0].priorty: unknown field "priorty"; did you mean "priority"? allowed: id,',
        ),
        (one("id: s"), "f.yaml:4: rules[0].id: given twice, first in line 2"),
        (one("severity: hihg"), "rules[0].severity: expected one of info, low, medium, high, critical, got 'hihg'"),
        (one("severity: [high]"), "rules[0].severity: expected one of"),
        (one("stream: logs"), 'rules[0].stream[0]: unknown stream "logs"; did you mean "log"?'),
        (one("stream: ['*', log]"), '"*" means every stream'),
        (one("group_by: tenat"), "rules[0].group_by[0]: unknown field 'tenat'; did you mean \"tenant\"?"),
        (one("group_by: value"), "rules[0].group_by[0]: unknown field 'value'"),
        (one("threshold:"), "rules[0].threshold: has no value"),
        (one("threshold: {}"), "expected exactly one of event_count,"),
        (one("threshold: {event_cont: {gte: 1}}"), 'did you mean "event_count"?'),
        (one("threshold: {anomaly: {bucket: 5m, window: 1h}}"), "window must be 26 buckets or longer"),
        (one("threshold: {anomaly: {bucket: 1s, window: 1d}}"), "window must be at most 10000 buckets long"),
        (one("threshold: {anomaly: {bucket: 5m, window: 1d, level: 1.0}}"), "less than or equal to 0.5, got 1.0"),
        (one("threshold: {event_count: {gte: 1}}"), "rules[0].threshold.event_count.window: is missing"),
        (one("threshold: {event_count: {gte: 0, window: 5m}}"), "greater than or equal to 1, got 0"),
        (one("threshold: {event_count: {gte: '3', window: 5m}}"), "should be a valid integer, got '3'"),
        (one("threshold: {event_count: {gte: 3, window: 5 min}}"), "expected a duration like 90s, 5m"),
        (
            one("threshold:\n  value_sum:\n    field: source\n    gte: 3\n    window: 5m"),
            "f.yaml:6: rules[0].threshold.value",
        ),
        (one("threshold: {ratio: {of: {typ: x}, gte: 0.5, min_volume: 1, window: 1m}}"), 'did you mean "type"?'),
        (one("exclusive: true"), "an exclusive rule needs a priority"),
        (one("priority: 1"), "priority orders exclusive rules"),
        (one("enabled: yes"), "should be a valid boolean, got 'yes'"),
        ("- match: {}", "f.yaml:1: [0].id: is missing"),
        ("- {id: a b, match: {}}", "[0].id: should match pattern".replace("should", "String should")),
        (
            "- id: r\n  match:\n    where:\n      message|re: '('",
            "f.yaml:4: [0].match.where.message|re: invalid regular",
        ),
        ("- id: r\n  match: {code: }", "f.yaml:2: [0].match.code: has no value"),
        ("- 5", "f.yaml:1: [0]: expected fields with values, got 5"),
    ],
)
def test_errors_name_file_line_field_and_what_is_allowed(text: str, said: str) -> None:
    """Someone who edits a rule at night sees at once what to change, and where."""
    assert any(said in problem for problem in problems(text)), problems(text)


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    """A file is put right in one go, not error by error."""
    found = problems(one("severity: bad\nstream: bad") + "  - {id: r2, match: {typ: a}}\n  - {id: r2}\n")
    assert [problem.split(":")[1] for problem in found] == ["4", "5", "6", "7"]


def test_rules_that_cannot_work_together() -> None:
    """Two rules with one id, or with one priority on the same stream, would make the result a matter of luck."""
    rule = "- {{id: {}, match: {{}}, exclusive: true, priority: 1, stream: {}}}\n"
    first, second = rule.format("a", "log"), rule.format("b", "'*'") + rule.format("a", "deploy")
    with pytest.raises(RuleError) as caught:
        load_rule_texts([("1.yaml", first), ("2.yaml", second)])
    assert [str(problem) for problem in caught.value.problems] == [
        '2.yaml:1: [0].priority: priority 1 on the same stream is that of rule "a", at 1.yaml:1',
        '2.yaml:2: [1].id: there is a rule "a" already, at 1.yaml:1',
        '2.yaml:2: [1].priority: priority 1 on the same stream is that of rule "b", at 2.yaml:1',
    ]
    assert len(load_rule_texts([("1.yaml", first), ("2.yaml", rule.format("b", "deploy"))])) == 2


def test_plain_words_and_numbers_stay_what_they_look_like() -> None:
    """YAML 1.1 would read these codes as 263, 5400, false and a date."""
    (rule,) = load_rules("- {id: r, match: {code: [0407, 1:30, no, 2024-01-01, 401]}}", "f.yaml")
    assert rule.match.code == ("0407", "1:30", "no", "2024-01-01", "401")


def policy_rule(**given: Any) -> Rule:
    return Rule.model_validate({"id": "r", "match": {"type": ["a"]}} | given)


def test_version_changes_with_what_the_rule_does_only() -> None:
    """A timeline's rule version tells whether another rule was in force, not whether its prose was edited."""
    version = policy_of(policy_rule()).version
    assert len(version) == 8
    assert policy_of(policy_rule(name="other", description="words")).version == version
    assert policy_of(policy_rule(lifecycle={"recovery": "5m"})).version == version
    for change in ({"severity": "low"}, {"lifecycle": {"recovery": "6m"}}, {"group_by": ["tenant"]}, {"stream": "log"}):
        assert policy_of(policy_rule(**change)).version != version


def test_lifecycle_precedence() -> None:
    """The workspace's setting of a rule, then the rule file, then the workspace, then the default."""
    rule = policy_rule(lifecycle={"recovery": "2m", "close": "2m"})
    chosen = Settings.parse(
        '{"rules": {"r": {"lifecycle": {"recovery": "1m"}}},'
        ' "lifecycle": {"recovery": "3m", "close": "3m", "cooldown": "3m"}}'
    )
    policy = policy_of(rule, chosen)
    assert (policy.recovery, policy.close, policy.cooldown) == (1 * MINUTE, 2 * MINUTE, 3 * MINUTE)
    assert (policy_of(policy_rule()).close, policy_of(policy_rule()).cooldown) == (CLOSE, COOLDOWN)


def test_overrides() -> None:
    """A configure record changes what it names and nothing else."""
    own = {"alert": {"count": 20, "window": 300}, "threshold": {"event_count": {"gte": 7, "window": "1m"}}}
    text = json.dumps({"rules": {"r": own}})
    policy = policy_of(policy_rule(severity="low"), Settings.parse(text))
    assert (policy.alert_count, policy.alert_window, policy.severity) == (20, 5 * MINUTE, "low")
    assert policy.threshold == EventCount(gte=7, window="1m")  # type: ignore[arg-type]
    assert policy.is_spike
    assert not policy_of(policy_rule()).is_spike
    assert not effective(policy_rule(), Settings.parse('{"rules": {"r": {"enabled": false}}}')).enabled


def test_merging_settings_takes_the_later_field_by_field() -> None:
    """Two changes to one workspace add up; null takes an override back."""
    first = Settings.parse(
        '{"rules": {"r": {"severity": "low", "lifecycle": {"close": "1m"}}}, "lifecycle": {"close": "2m"}}'
    )
    second = Settings.parse(
        '{"rules": {"r": {"enabled": false, "lifecycle": {"recovery": "3m"}}, "q": {"enabled": true}}}'
    )
    merged = first.merge(second)
    own = merged.override("r")
    assert (own.severity, own.enabled, own.lifecycle.close, own.lifecycle.recovery) == (
        "low",
        False,
        MINUTE,
        3 * MINUTE,
    )
    assert merged.lifecycle.close == 2 * MINUTE
    assert merged.merge(Settings.parse('{"rules": {"r": {"severity": null}}}')).override("r").severity is None
    assert NO_SETTINGS.merge(first) == first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "not JSON"),
        ("[]", "must be an object"),
        ('{"rule": {}}', 'unknown field "rule"; did you mean "rules"?'),
        ('{"rules": {"r": {"enable": true}}}', 'rules.r.enable: unknown field "enable"'),
        ('{"lifecycle": {"close": "soon"}}', "lifecycle.close: expected a duration"),
    ],
)
def test_nonsense_in_settings_is_refused_in_one_line(text: str | None, said: str) -> None:
    """A broken configure record becomes a dead letter whose reason can be read."""
    with pytest.raises(SettingsError) as caught:
        Settings.parse(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
