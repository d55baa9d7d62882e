"""The rules as they hold in every workspace at one moment: policies, and a compiled plan for each different set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from operators.claim_plan import Bools, Candidate, ClaimPlan, Claims, Ints
from operators.fields import column_of
from operators.matches import WITNESS
from operators.policy import Policy, effective, policy_of
from operators.rules import Ratio, Rule, ThresholdSpec, ValueAvg, ValueCount, ValuePercentile, ValueSum
from operators.settings import NO_SETTINGS, Settings

_MEASURED = ValueSum | ValueAvg | ValuePercentile


@dataclass(frozen=True, slots=True)
class _Held:
    """The rules in one workspace."""

    settings: Settings
    policies: tuple[Policy, ...]
    plan: ClaimPlan


@dataclass(slots=True)
class Compiler:
    """Makes rulebooks, and makes nothing twice: most workspaces differ in nothing that changes who claims what."""

    rules: tuple[Rule, ...]
    _plans: dict[tuple[Candidate, ...], ClaimPlan] = field(default_factory=dict)
    _held: dict[str | None, _Held] = field(default_factory=dict)

    def rulebook(self, settings: Mapping[str, Settings]) -> "Rulebook":
        """Return the rules as they hold with these settings, by workspace."""
        own = {workspace: chosen for workspace, chosen in settings.items() if chosen != NO_SETTINGS}
        everyone = self._hold(None, NO_SETTINGS)
        return Rulebook(self.rules, tuple(own), (everyone, *(self._hold(name, chosen) for name, chosen in own.items())))

    def _hold(self, workspace: str | None, settings: Settings) -> _Held:
        known = self._held.get(workspace)
        if known is not None and known.settings == settings:
            return known
        candidates = _candidates(self.rules, settings)
        if candidates not in self._plans:
            self._plans[candidates] = ClaimPlan(candidates)
        policies = tuple(policy_of(rule, settings) for rule in self.rules)
        held = self._held[workspace] = _Held(settings, policies, self._plans[candidates])
        return held


class Rulebook:
    """`held[0]` is what holds in general, `held[i]` in workspace `own[i - 1]`; `policies` are theirs, one by one."""

    def __init__(self, rules: tuple[Rule, ...], own: tuple[str, ...], held: tuple[_Held, ...]) -> None:
        self.rules = rules
        self.policies = tuple(policy for one in held for policy in one.policies)
        self.spike: Bools = np.array([policy.is_spike for policy in self.policies], dtype=np.bool_)
        self.thresholds: tuple[ThresholdSpec | None, ...] = tuple(policy.threshold for policy in self.policies)
        self.measures: Bools = np.array([isinstance(spec, _MEASURED) for spec in self.thresholds], dtype=np.bool_)
        self.items: Bools = np.array([isinstance(spec, ValueCount) for spec in self.thresholds], dtype=np.bool_)
        self.is_shared = not own
        self._own = own
        self._plans = [one.plan for one in held]
        self._index = {workspace: i for i, workspace in enumerate(own, start=1)}
        fields = [field for rule in rules for field in rule.group_by]
        self.columns = frozenset(map(column_of, [*fields, *filter(None, map(threshold_field, self.thresholds))]))

    def policy(self, workspace: str, rule: int) -> int:
        """Return the index in `policies` of a rule in a workspace."""
        return self._index.get(workspace, 0) * len(self.rules) + rule

    def claims(self, frame: pl.DataFrame) -> tuple[Claims, Ints]:
        """Return the claims on `frame` and the index in `policies` of each."""
        if self.is_shared:
            claims = self._plans[0].claims(frame)
            return claims, claims.rule
        names = list(self._own)
        places = frame["workspace"].replace_strict(names, range(1, len(names) + 1), default=0, return_dtype=pl.Int64)
        held = places.fill_null(0).to_numpy()
        found = []
        for plan in dict.fromkeys(self._plans[i] for i in np.unique(held).tolist()):
            its = np.array([other is plan for other in self._plans])
            rows = np.flatnonzero(its[held])
            claims = plan.claims(frame[rows])
            found.append(Claims(rows[claims.row], claims.rule, claims.kind, claims.both))
        claims = Claims.merge(found)
        return claims, held[claims.row] * len(self.rules) + claims.rule


def columns_read(rules: Sequence[Rule]) -> frozenset[str]:
    """Return the event columns that the rules look at, beyond those of every claim."""
    found: set[str] = set()
    for rule in rules:
        spec = rule.threshold.spec if rule.threshold else None
        for match in (rule.match, *([spec.of] if isinstance(spec, Ratio) else [])):
            found |= match.where.columns() if match.where else set()
        found |= {column_of(name) for name in (*rule.group_by, threshold_field(spec)) if name}
    return frozenset(found)


def threshold_field(spec: ThresholdSpec | None) -> str | None:
    """Return the field that a threshold looks at, where it looks at one."""
    return spec.field if isinstance(spec, ValueCount | ValueSum | ValueAvg | ValuePercentile) else None


def _candidates(rules: Sequence[Rule], settings: Settings) -> tuple[Candidate, ...]:
    held = [(i, rule) for i, rule in enumerate(effective(rule, settings) for rule in rules) if rule.enabled]
    matches = [Candidate(i, rule.stream, rule.match, rule.exclusive) for i, rule in held]
    volumes = [(i, rule, rule.threshold.spec) for i, rule in held if rule.threshold]
    witnesses = [
        Candidate(i, rule.stream, spec.of, kind=WITNESS) for i, rule, spec in volumes if isinstance(spec, Ratio)
    ]
    return (*matches, *witnesses)
