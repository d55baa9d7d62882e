"""Which versions of which rules were in effect: what `explain` reads a decision back from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from operators.frames import empty
from operators.policy import definition, effective, policy_of
from operators.rules import Rule
from operators.settings import NO_SETTINGS, Settings

RULES: dict[str, pl.DataType] = {"rule_id": pl.String(), "version": pl.String(), "definition": pl.String()}


class RuleVersions:
    """Tells each version of a rule once, as rows of the table `rules`."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._told: set[tuple[str, str]] = set()
        self._settings: list[Settings] = []

    def told(self, settings: Mapping[str, Settings]) -> pl.DataFrame:
        """The versions that these workspaces' settings make and that were not told before; the rules' own, too."""
        rows: list[tuple[str, str, str]] = []
        for held in (NO_SETTINGS, *settings.values()):
            if any(held == known for known in self._settings):
                continue
            self._settings.append(held)
            for rule in self._rules:
                version = policy_of(rule, held).version
                if (rule.id, version) not in self._told:
                    self._told.add((rule.id, version))
                    rows.append((rule.id, version, definition(effective(rule, held))))
        return pl.DataFrame(rows, schema=RULES, orient="row") if rows else empty(RULES)
