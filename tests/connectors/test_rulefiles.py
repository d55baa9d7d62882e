"""Rule files on disk: the built-in ones are the pattern table, a user's own are found and checked."""

from pathlib import Path

import pytest

from connectors.rulefiles import builtin, load
from operators.events import MINUTE
from operators.policy import policy_of
from operators.rule_errors import RuleError
from operators.rules import EventCount

RULE = "- {{id: {0}, match: {{type: {0}}}}}\n"


def test_the_twelve_built_in_patterns() -> None:
    """Names, order and thresholds are an interface: callers know the patterns by them."""
    rules = builtin()
    assert [(rule.priority, rule.id) for rule in rules] == [
        (1, "auth_failure"),
        (2, "webhook_failure_spike"),
        (3, "rate_limit_exceeded"),
        (4, "timeout_spike"),
        (5, "task_canceled_spike"),
        (6, "validation_failure_spike"),
        (7, "server_error_spike"),
        (8, "connection_failure"),
        (9, "service_unavailable"),
        (10, "data_sync_failure"),
        (11, "ssl_certificate_error"),
        (12, "quota_exceeded"),
    ]
    assert all(rule.exclusive and rule.description and rule.severity for rule in rules)
    spikes = {rule.id: policy_of(rule).threshold for rule in rules if rule.threshold}
    found = {name: (spec.gte, spec.window // MINUTE) for name, spec in spikes.items() if isinstance(spec, EventCount)}
    assert found == {
        "webhook_failure_spike": (10, 5),
        "timeout_spike": (5, 3),
        "task_canceled_spike": (5, 3),
        "connection_failure": (3, 2),
    }


def test_directories_and_files(tmp_path: Path) -> None:
    """A directory stands for the rule files in it, by name; other files are left alone."""
    (tmp_path / "b.yaml").write_text(RULE.format("b"))
    (tmp_path / "a.yml").write_text("\ufeff" + RULE.format("a"), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not a rule")
    assert [rule.id for rule in load([tmp_path])] == ["a", "b"]
    assert [rule.id for rule in load([str(tmp_path / "b.yaml")])] == ["b"]
    assert len(load([tmp_path], with_builtin=True)) == 14


def test_problems_of_all_files_together(tmp_path: Path) -> None:
    """A missing file does not hide what is wrong in the others."""
    (tmp_path / "a.yaml").write_text("- {id: auth_failure, match: {}}")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()
    names = ["a.yaml", "b.yaml", "missing.yaml", "empty"]
    with pytest.raises(RuleError) as caught:
        load([tmp_path / name for name in names], with_builtin=True)
    said = {Path(problem.filename).name: problem.message for problem in caught.value.problems}
    assert said["missing.yaml"] == "cannot read it: No such file or directory"
    assert said["b.yaml"] == "cannot read it: not UTF-8 text"
    assert said["empty"] == "cannot read it: no *.yaml or *.yml in this directory"
    assert 'there is a rule "auth_failure" already' in said["a.yaml"]
