"""Which rules was the log read with, and in which version?"""

from datetime import datetime

from duckdb import DuckDBPyConnection

from operators.durations import format_duration
from operators.rules import (
    Anomaly,
    EventCount,
    Ratio,
    Rule,
    ThresholdSpec,
    ValueAvg,
    ValueCount,
    ValuePercentile,
    ValueSum,
)
from query_api.fetch import QueryError, fetch

_VERSION = "SELECT version, definition FROM rules WHERE rule_id = $rule AND ($version IS NULL OR version = $version)"
# The version in effect is the one of the last incident before; a rule whose settings never changed has one version.
_IN_EFFECT = """
    SELECT rule_version FROM incidents WHERE rule_id = $rule AND workspace = $workspace AND opened_at <= $at
    ORDER BY opened_at DESC LIMIT 1
"""
_KNOWN = "SELECT DISTINCT rule_id FROM rules ORDER BY rule_id"


def stored_rule(con: DuckDBPyConnection, rule_id: str, version: str | None = None) -> tuple[str, Rule]:
    """Return a version of a rule that the log was read with; any, where none is named. Raises QueryError."""
    rows = fetch(con, _VERSION, rule=rule_id, version=version)
    if rows.is_empty():
        known = ", ".join(fetch(con, _KNOWN)["rule_id"]) or "none"
        named = f"{rule_id} version {version}" if version else rule_id
        raise QueryError(f"the store knows no rule {named}; it knows {known}")
    return str(rows["version"][0]), Rule.model_validate_json(rows["definition"][0])


def rule_in_effect(con: DuckDBPyConnection, rule_id: str, workspace: str, at: datetime) -> tuple[str, Rule]:
    """Return the version of a rule that most likely held in a workspace at an instant. Raises QueryError."""
    rows = fetch(con, _IN_EFFECT, rule=rule_id, workspace=workspace, at=at)
    return stored_rule(con, rule_id, None if rows.is_empty() else str(rows["rule_version"][0]))


def threshold_text(spec: ThresholdSpec | None) -> str:
    """Return a threshold in words."""
    if spec is None:
        return "the first match"
    within = f"within {format_duration(spec.window)}"
    match spec:
        case EventCount():
            return f"{spec.gte} events {within}"
        case ValueCount():
            return f"{spec.gte} distinct values of {spec.field} {within}"
        case ValueSum():
            return f"a sum of {spec.field} of {spec.gte:g} {within}"
        case ValueAvg():
            return f"a mean of {spec.field} of {spec.gte:g} over {spec.min_events} or more events {within}"
        case ValuePercentile():
            return f"a {spec.percentile:g}th percentile of {spec.field} of {spec.gte:g} {within}"
        case Ratio():
            return f"a share of {spec.gte:g} of {spec.min_volume} or more events {within}"
        case Anomaly():
            many = f"{spec.min_events} or more events within {format_duration(spec.bucket)}"
            return f"{many}, of a probability of {spec.level:g} at most by the last {format_duration(spec.window)}"
