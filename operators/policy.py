"""A rule as it holds in one workspace, reduced to what the engine needs to run its keys."""

import hashlib
import json
from dataclasses import dataclass

from operators.events import MINUTE
from operators.rules import EventCount, Rule, ThresholdSpec
from operators.settings import NO_SETTINGS, Settings

RECOVERY, CLOSE, COOLDOWN = 5 * MINUTE, 10 * MINUTE, 15 * MINUTE

# What a rule says about itself without changing what it does: no part of its version.
_PROSE = {"name", "description", "enabled"}


@dataclass(frozen=True, slots=True)
class Policy:
    """The effective rule of a key. Durations in microseconds; hashable, equal where everything is equal."""

    rule_id: str
    version: str  # 8 hex digits of the content hash of the effective rule
    stream: str  # "*" for a rule that listens to several
    threshold: ThresholdSpec | None  # None: opens on the first match
    recovery: int = RECOVERY
    close: int = CLOSE
    cooldown: int = COOLDOWN
    alert_count: int | None = None
    alert_window: int | None = None
    severity: str | None = None

    @property
    def is_spike(self) -> bool:
        """True where one event cannot open an incident; its matches have High confidence."""
        return is_spike(self.threshold)


def is_spike(threshold: ThresholdSpec | None) -> bool:
    """Tell whether `threshold` asks for more than a single event."""
    return threshold is not None and not (isinstance(threshold, EventCount) and threshold.gte == 1)


def effective(rule: Rule, settings: Settings = NO_SETTINGS) -> Rule:
    """Return `rule` with the workspace's overrides applied and every lifecycle duration filled in.

    For a duration the first of these that says something holds: the workspace's setting of this rule, the rule file,
    the workspace's lifecycle, the default.
    """
    own = settings.override(rule.id)
    layers = [own.lifecycle, rule.lifecycle, settings.lifecycle]

    def duration(field: str, default: int) -> int:
        return next((value for layer in layers if layer and (value := getattr(layer, field)) is not None), default)

    lifecycle = rule.lifecycle.model_copy(
        update={
            "recovery": duration("recovery", RECOVERY),
            "close": duration("close", CLOSE),
            "cooldown": duration("cooldown", COOLDOWN),
        }
    )
    update: dict[str, object] = {"lifecycle": lifecycle}
    for field in ("enabled", "threshold", "alert", "severity"):
        if (value := getattr(own, field)) is not None:
            update[field] = value
    return rule.model_copy(update=update)


def definition(rule: Rule) -> str:
    """Return `rule` as canonical JSON text: sorted keys, durations as text, nothing that is null."""
    return _canonical(rule.model_dump(mode="json", exclude_none=True))


def policy_of(rule: Rule, settings: Settings = NO_SETTINGS) -> Policy:
    """Return the policy of `rule` in a workspace with these settings."""
    held = effective(rule, settings)
    body = held.model_dump(mode="json", exclude_none=True, exclude=_PROSE)
    return Policy(
        rule_id=held.id,
        version=hashlib.blake2b(_canonical(body).encode(), digest_size=4).hexdigest(),
        stream=held.stream[0] if len(held.stream) == 1 else "*",
        threshold=held.threshold.spec if held.threshold else None,
        recovery=held.lifecycle.recovery or RECOVERY,
        close=held.lifecycle.close or CLOSE,
        cooldown=held.lifecycle.cooldown or COOLDOWN,
        alert_count=held.alert.count if held.alert else None,
        alert_window=held.alert.window if held.alert else None,
        severity=held.severity,
    )


def _canonical(body: dict[str, object]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
