"""The patterns as they hold in one workspace: the rules the service runs with, and the workspace's own settings."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from duckdb import DuckDBPyConnection

from operators.events import SECOND
from operators.policy import effective
from operators.rules import EventCount, Rule
from operators.settings import NO_SETTINGS, Settings
from query_api.services import Services

_SETTINGS = "SELECT body FROM settings WHERE workspace = $workspace"


def rules_of(services: Services) -> Mapping[str, Rule]:
    """Return the rules by id, in the order they are tried."""
    return {rule.id: rule for rule in services.rules}


def pattern_name(rules: Mapping[str, Rule], rule_id: str) -> str:
    """Return what people call a pattern; its id where the rule is gone."""
    rule = rules.get(rule_id)
    return rule.name if rule else rule_id


def settings_of(con: DuckDBPyConnection, workspace: str) -> Settings:
    """Return the settings in effect in a workspace, as of the last flush."""
    row = con.execute(_SETTINGS, {"workspace": workspace}).fetchone()
    return _parsed(row[0]) if row else NO_SETTINGS


def pattern(rule: Rule, settings: Settings) -> dict[str, Any]:
    """Return a pattern as it holds with these settings: the fields of `integrations_schema.Pattern`."""
    held = effective(rule, settings)
    spec = held.threshold.spec if held.threshold else None
    opens: dict[str, Any] = {"count": 1, "windowSeconds": None}
    if spec is not None:
        opens = {
            "count": spec.gte if isinstance(spec, EventCount) else None,
            "windowSeconds": _seconds(spec.window),
        }
    return {
        "patternId": held.id,
        "name": held.name,
        "priority": held.priority,
        "triggers": {"eventTypes": list(held.match.type or ()), "errorCodes": list(held.match.code or ())},
        "isEnabled": held.enabled,
        "thresholdCount": held.alert.count if held.alert else None,
        "thresholdWindowSeconds": _seconds(held.alert.window) if held.alert else None,
        "openThreshold": opens,
        "severity": held.severity,
    }


def _seconds(micros: int) -> int | float:
    return micros / SECOND if micros % SECOND else micros // SECOND


@lru_cache(maxsize=4_096)
def _parsed(text: str) -> Settings:
    return Settings.parse(text)
