"""A workspace's own settings, as `configure` records bring them: overrides of rules, and lifecycle durations.

For example `{"rules": {"auth_failure": {"alert": {"count": 20, "window": "5m"}}}, "lifecycle": {"recovery": "10m"}}`.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from operators.rule_fields import Flag, Model, Severity
from operators.rule_yaml import field_path
from operators.rules import AlertThreshold, Lifecycle, Threshold, explain

M = TypeVar("M", bound=Model)


class SettingsError(ValueError):
    """A `configure` record that makes no sense; the text says where and why, in one line."""


class RuleSettings(Model):
    """What a workspace wants different about one rule. Null: as in the rule file."""

    enabled: Flag | None = None
    alert: AlertThreshold | None = None
    threshold: Threshold | None = None
    lifecycle: Lifecycle = Lifecycle()
    severity: Severity | None = None


_NO_OVERRIDE = RuleSettings()


class Settings(Model):
    """The settings of one workspace. Merging remembers what each record said, so that a null takes back an override."""

    rules: Mapping[str, RuleSettings] = {}
    lifecycle: Lifecycle = Lifecycle()

    @staticmethod
    def parse(text: str | None) -> "Settings":
        """Return the settings of a `configure` record's JSON text. Raises SettingsError."""
        try:
            body = json.loads(text or "")
        except ValueError:
            raise SettingsError("configure: the body is not JSON") from None
        if not isinstance(body, dict):
            raise SettingsError("configure: the body must be an object with `rules` and `lifecycle`")
        try:
            return Settings.model_validate(body)
        except ValidationError as wrong:
            problems = [f"{field_path(path)}: {message}" for path, message in explain(wrong, Settings)]
            raise SettingsError(f"configure: {'; '.join(problems)}") from None

    def merge(self, newer: "Settings") -> "Settings":
        """Return these settings with every field that `newer` names replaced; a field it sets to null is cleared."""
        rules = dict(self.rules)
        for rule_id, change in newer.rules.items():
            rules[rule_id] = _merged(rules.get(rule_id, _NO_OVERRIDE), change)
        return Settings(rules=rules, lifecycle=_merged(self.lifecycle, newer.lifecycle))

    def override(self, rule_id: str) -> RuleSettings:
        """Return what this workspace wants different about a rule."""
        return self.rules.get(rule_id, _NO_OVERRIDE)


NO_SETTINGS = Settings()


def _merged(old: M, newer: M) -> M:
    update: dict[str, Any] = {}
    for name in newer.model_fields_set:
        value = getattr(newer, name)
        update[name] = _merged(getattr(old, name), value) if isinstance(value, Lifecycle) else value
    return old.model_copy(update=update)
