"""How the endpoints of identities say scores, money and evidence."""

from collections.abc import Mapping
from typing import Any

from operators.scores import Risk
from query_api.nhi_reading import Profile


def score(value: float) -> float:
    """Return a score or a part of 1 with four decimals."""
    return round(value, 4)


def money(value: float | None) -> float | None:
    """Return an amount with four significant digits."""
    return None if value is None else float(f"{value:.4g}")


def evidence(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return evidence, fractions with four significant digits."""
    return {name: money(value) if isinstance(value, float) else value for name, value in said.items()}


def identity(one: Profile) -> dict[str, Any]:
    """Return who it is."""
    return {"nhi_id": one.nhi, "nhi_label": one.label, "tier": one.tier_number}


def parts(risk: Risk) -> dict[str, float]:
    """Return what a risk score is made of, in a fixed order."""
    strengths = sorted((part.name, score(part.value)) for part in risk.components)
    return {"likelihood": score(risk.likelihood), "impact": score(risk.impact), **dict(strengths)}
