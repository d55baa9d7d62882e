"""Classification one event at a time, in plain Python: what the columnar one must equal."""

import ipaddress
import json
import math
import operator
import re
from typing import Any

from operators.conditions import Comparison, Group, Where
from operators.policy import effective, is_spike, policy_of
from operators.rules import Match, Ratio, Rule, ThresholdSpec, ValueAvg, ValueCount, ValuePercentile, ValueSum
from operators.settings import NO_SETTINGS, Settings

Event = dict[str, Any]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_COMPARE: dict[str, Any] = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def text(event: Event, field: str) -> Any:
    column, _, path = field.partition(".")
    if not path:
        return event[column]
    try:
        body = json.loads(event["attributes"] or "null")
    except ValueError:
        return None
    found: Any = body
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if found is None and isinstance(body, dict):
        found = body.get(path)
    if found is None or isinstance(found, str):
        return found
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)


def number(event: Event, field: str) -> Any:
    if field == "value":
        return event["value"]
    found = text(event, field)
    return float(found) if found is not None and _NUMBER.fullmatch(found) else None


def holds(where: Where | Group | Comparison | None, event: Event) -> bool:
    match where:
        case None:
            return True
        case Where():
            return holds(where.root, event)
        case Group(kind, parts):
            results = [holds(part, event) for part in parts]
            return all(results) if kind == "all" else any(results) == (kind == "any")
        case Comparison(field, op, values, every):
            results = [_compare(event, field, op, value) for value in values]
            return all(results) if every else any(results)


def _compare(event: Event, field: str, op: str, value: Any) -> bool:
    if value is None:
        return (event["value"] if field == "value" else text(event, field)) is None
    if op in _COMPARE or (op == "is" and isinstance(value, int | float) and not isinstance(value, bool)):
        found = number(event, field)
        if found is None or math.isnan(found):
            return False
        return bool(_COMPARE.get(op, operator.eq)(found, value))
    held = text(event, field)
    if held is None:
        return False
    if op == "re":
        return re.search(value, held) is not None
    if op == "cidr":
        try:
            address = ipaddress.ip_address(held)
        except ValueError:
            return False
        network = ipaddress.ip_network(value)
        return address.version == network.version and address in network
    said = _wildcards(value.lower() if isinstance(value, str) else json.dumps(value))
    form = {"is": said, "contains": f".*{said}.*", "startswith": f"{said}.*", "endswith": f".*{said}"}[op]
    return re.fullmatch(form, held.lower(), re.DOTALL) is not None


def _wildcards(value: str) -> str:
    form, i = "", 0
    while i < len(value):
        if value[i] == "\\" and value[i + 1 : i + 2] in ("*", "?", "\\"):
            i += 1
            form += re.escape(value[i])
        else:
            form += {"*": ".*", "?": "."}.get(value[i]) or re.escape(value[i])
        i += 1
    return form


def listed(match: Match, event: Event) -> tuple[bool, bool]:
    by_type = match.type is not None and event["type"] in match.type
    by_code = match.code is not None and event["code"] is not None and event["code"].lower() in match.code
    return by_type, by_code


def matches(match: Match, event: Event) -> bool:
    neither = match.type is None and match.code is None
    return (neither or any(listed(match, event))) and holds(match.where, event)


def group_key(rule: Rule, event: Event) -> str:
    values = [text(event, field) for field in rule.group_by]
    return (values[0] or "") if len(values) == 1 else json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def classify(rules: list[Rule], events: list[Event], settings: dict[str, Settings]) -> list[dict[str, Any]]:
    """Return every claim of every event, in order: the columns of MATCHES, the policy itself in `policy`."""
    ordered = sorted(rules, key=lambda rule: (not rule.exclusive, rule.priority or 0, rule.id))
    return [
        claim for event in events for claim in _claims(ordered, event, settings.get(event["workspace"], NO_SETTINGS))
    ]


def _claims(rules: list[Rule], event: Event, settings: Settings) -> list[dict[str, Any]]:
    found, witnesses, taken = [], [], False
    for rule in (effective(rule, settings) for rule in rules):
        if not rule.enabled or ("*" not in rule.stream and event["stream"] not in rule.stream):
            continue
        spec = rule.threshold.spec if rule.threshold else None
        claims = matches(rule.match, event) and not (rule.exclusive and taken)
        if claims:
            taken = taken or rule.exclusive
            high = all(listed(rule.match, event)) or is_spike(spec)
            found.append(_row(rule, settings, event, spec, 2 if high else 1, 0))
        elif isinstance(spec, Ratio) and matches(spec.of, event):
            witnesses.append(_row(rule, settings, event, spec, 1, 1))
    return found + witnesses


def _row(
    rule: Rule, settings: Settings, event: Event, spec: ThresholdSpec | None, confidence: int, kind: int
) -> dict[str, Any]:
    severities = ["info", "low", "medium", "high", "critical"]
    return {
        "at": event["at"],
        "offset": event["offset"],
        "policy": policy_of(rule, settings),
        "workspace": event["workspace"],
        "group_key": group_key(rule, event),
        "source": event["source"],
        "tenant": event["tenant"],
        "confidence": confidence,
        "severity": severities.index(event["severity"]) if event["severity"] else -1,
        "measure": number(event, spec.field) if isinstance(spec, ValueSum | ValueAvg | ValuePercentile) else None,
        "item": text(event, spec.field) if isinstance(spec, ValueCount) else None,
        "kind": kind,
    }
