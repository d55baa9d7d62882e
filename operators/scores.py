"""Scores of non-human identities, from what was observed: how risky one is, and how well it is governed.

Risk is likelihood × impact (NIST SP 800-30 r1, appendices G to I). The likelihood joins signs of misuse, each of a
strength in [0, 1], by a noisy-or (Pearl 1988): independent causes, each of which suffices with its weight.

    likelihood = 1 − Π (1 − weight · strength)        risk = likelihood · impact(tier)

The weights are the representative values of NIST's semi-quantitative levels: high 0.8, moderate 0.5, low 0.2. The signs
are those of the OWASP Non-Human Identities Top 10 (2025) that a log of events can show. `docs/scores.md` has examples.

- E. B. Wilson (1927), Probable inference, the law of succession, and statistical inference, JASA 22
- J. Pearl (1988), Probabilistic Reasoning in Intelligent Systems, section 4.3
- OECD/JRC (2008), Handbook on Constructing Composite Indicators: equal weights where nothing speaks for others
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp2, isfinite, log1p, prod, sqrt

from operators.events import DAY

# What came before a window: the baseline of spend, and how far back silence is looked for. Whole weeks, so that each
# day of the week counts alike.
LOOKBACK = 28 * DAY
RECENT = 7 * DAY  # shorter silence is a weekend or a weekly job; a federation verified within it is fresh
HALF_LIFE = DAY  # of what an anomaly says about now
ANOMALY_REACH = 7 * DAY  # older ones have lost 99 % of it
FEWEST_SPENDS = 20  # below, a baseline says nothing
TIERS = 5  # 0 to 4
_Z = 1.959963984540054  # of a standard normal, two-sided at 5 %

WEIGHTS: Mapping[str, float] = {
    "anomalies": 0.8,
    "denied_attempts": 0.5,
    "spend_burst": 0.5,
    "federation": 0.5,
    "dormancy": 0.2,
}
# What one anomaly says by itself; what has another severity counts as medium.
SEVERITIES: Mapping[str, float] = {"critical": 1.0, "high": 0.8, "medium": 0.5, "low": 0.2, "info": 0.0}
# How far the word of an identity's issuer can be relied on. No word, or an unknown one, is in the middle.
FEDERATION: Mapping[str, float] = {
    "verified": 1.0,
    "pending": 0.5,
    "expired": 0.25,
    "untrusted": 0.0,
    "revoked": 0.0,
    "failed": 0.0,
}
UNKNOWN = 0.5

Evidence = Mapping[str, float | int | str | bool | None]


@dataclass(frozen=True, slots=True)
class Spend:
    """What an identity spent, in USD: the 99th percentile of single spends and the most within an hour.

    Each in the window and in the baseline before it; None where there is none. known: spends in the baseline.
    """

    p99: float | None = None
    hour: float | None = None
    baseline_p99: float | None = None
    baseline_hour: float | None = None
    known: int = 0


@dataclass(frozen=True, slots=True)
class Federation:
    """What an identity's issuer was last said to be: the code of the event and its age in µs."""

    code: str
    age: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """An anomaly that nobody has acknowledged: its severity and its age in µs."""

    severity: str
    age: int


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of an identity in a window. silence: the longest, in µs; known: also before the window.

    attempts: of tools, those neither allowed nor denied included. tier: what it may do, from 0 (least) to 4.
    """

    attempts: int = 0
    denied: int = 0
    spend: Spend = Spend()
    silence: int = 0
    known: bool = True
    federation: Federation | None = None
    anomalies: Sequence[Sighting] = ()
    tier: float | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """One sign. value: its strength in [0, 1]; contribution: its share of the score, the shares add up to it.

    signal: it in a word, None where it is absent. evidence: the numbers it was computed from.
    """

    name: str
    value: float
    weight: float
    contribution: float
    signal: str | None
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Risk:
    """A risk score in [0, 1] and all it was made of; components: the largest contribution first."""

    score: float
    likelihood: float
    impact: float
    components: tuple[Component, ...]

    @property
    def signals(self) -> list[str]:
        """The signs that are there, in a word each."""
        return [one.signal for one in self.components if one.signal is not None]


@dataclass(frozen=True, slots=True)
class Posture:
    """How well an identity is governed, in [0, 1], and the parts it is the mean of."""

    score: float
    guardian_coverage: float
    tier_compliance: float
    federation_status: float
    safety: float


def risk(seen: Observed) -> Risk:
    """Return the risk of an identity of which this was seen.

    It never falls when a sign grows stronger or the tier higher.
    """
    signs = {
        "anomalies": (anomaly_strength(seen.anomalies), _anomaly_signal(seen), _anomaly_evidence(seen)),
        "denied_attempts": (
            denied_strength(seen.denied, seen.attempts),
            f"tool_attempt:denied:{seen.denied}",
            {
                "denied": seen.denied,
                "attempts": seen.attempts,
                "share_at_least": wilson_lower(seen.denied, seen.attempts),
            },
        ),
        "spend_burst": (spend_strength(seen.spend), _spend_signal(seen.spend), _spend_evidence(seen.spend)),
        "federation": (
            federation_strength(seen.federation),
            f"federation:{seen.federation.code if seen.federation else None}",
            {
                "status": seen.federation.code if seen.federation else None,
                "age_days": seen.federation.age / DAY if seen.federation else None,
                "federation_status": federation_status(seen.federation),
            },
        ),
        "dormancy": (
            dormancy_strength(seen.silence),
            f"dormancy:{seen.silence // DAY}d" if seen.known else "new_identity",
            {"silent_days": seen.silence / DAY, "known_before": seen.known},
        ),
    }
    chances = {name: WEIGHTS[name] * value for name, (value, _, _) in signs.items()}
    likelihood, effect = noisy_or(list(chances.values())), impact(seen.tier)
    shares = contributions(chances, likelihood * effect)
    parts = (
        Component(name, value, WEIGHTS[name], shares[name], signal if value > 0 else None, evidence)
        for name, (value, signal, evidence) in signs.items()
    )
    ordered = tuple(sorted(parts, key=lambda part: (-part.contribution, part.name)))
    return Risk(likelihood * effect, likelihood, effect, ordered)


def posture(covered: int, activity: int, denied: int, attempts: int, issuer: Federation | None, risk: float) -> Posture:
    """Return how well an identity is governed: the mean of four parts, of equal weight.

    covered: of `activity` events, those that name a guardian; denied: of `attempts`. Where there were none, none went
    wrong. risk: its score.
    """
    coverage = _share(covered, activity)
    compliance = _share(attempts - denied, attempts)
    status, safety = federation_status(issuer), 1 - _unit(risk)
    return Posture((coverage + compliance + status + safety) / 4, coverage, compliance, status, safety)


# ------------------------------------------------------------ the signs, each in [0, 1]


def denied_strength(denied: int, attempts: int) -> float:
    """Return 1 where certainly half of the attempts or more were denied, in proportion below.

    OWASP NHI5:2025, overprivileged: what asks for what it may not do. Three of four denied say less than 30 of 40: what
    counts is the lower end of the share's 95 % interval.
    """
    return min(1.0, 2 * wilson_lower(denied, attempts))


def spend_strength(spend: Spend) -> float:
    """Return how far spend is beyond twice the identity's own baseline, of single spends or of hours: the larger.

    OWASP NHI2:2025, secret leakage: who has a stolen key uses it. A baseline of few spends says nothing: 0.
    """
    if spend.known < FEWEST_SPENDS:
        return 0.0
    return max(burst(spend.p99, spend.baseline_p99), burst(spend.hour, spend.baseline_hour))


def burst(value: float | None, baseline: float | None) -> float:
    """Return how far a value is beyond twice its baseline: 0 at twice, 1/2 at four times, towards 1."""
    if value is None or baseline is None or value <= 0:
        return 0.0
    return max(0.0, 1 - 2 * max(baseline, 0.0) / value)


def dormancy_strength(silence: int) -> float:
    """Return 0 up to 7 days of silence, 1 from 28 on. silence: µs.

    OWASP NHI1:2025, improper offboarding: what was forgotten and is used again. What was never seen is like that.
    """
    return min(1.0, max(0.0, (silence - RECENT) / (LOOKBACK - RECENT)))


def federation_strength(last: Federation | None) -> float:
    """Return how far the status is below the middle: 1 for an issuer that is not trusted, 1/2 for an expired one.

    OWASP NHI4:2025, insecure authentication. Not to be federated is no sign of misuse: 0.
    """
    return max(0.0, 1 - 2 * federation_status(last))


def anomaly_strength(anomalies: Sequence[Sighting]) -> float:
    """Return the noisy-or of the anomalies, each worth its severity, half as much with every day."""
    return noisy_or([_sighted(one) for one in anomalies])


# ------------------------------------------------------------ what they are made of


def impact(tier: float | None) -> float:
    """Return what misuse would cost: in fifths, from tier 0 to 4; without a tier all of it, as nothing limits it."""
    if tier is None or not isfinite(tier):
        return 1.0
    return (1 + min(max(tier, 0.0), TIERS - 1.0)) / TIERS


def federation_status(last: Federation | None) -> float:
    """Return how far an identity's issuer can be relied on, as it was last said.

    "verified" counts in full for 7 days, then falls to that of no word at all at 28 days; what is bad stays so.
    """
    if last is None:
        return UNKNOWN
    said = FEDERATION.get(last.code.lower(), UNKNOWN)
    if said <= UNKNOWN:
        return said
    return UNKNOWN + (said - UNKNOWN) * (1 - dormancy_strength(last.age))


def wilson_lower(successes: int, trials: int) -> float:
    """Return the lower end of Wilson's score interval at 95 % (Wilson 1927); 0 where there are no trials."""
    if trials <= 0:
        return 0.0
    share, spread = min(max(successes / trials, 0.0), 1.0), _Z * _Z / trials
    middle, margin = share + spread / 2, _Z * sqrt(share * (1 - share) / trials + spread / (4 * trials))
    return max(0.0, (middle - margin) / (1 + spread)) if successes > 0 else 0.0


def noisy_or(chances: Sequence[float]) -> float:
    """Return the probability that at least one of some independent causes is at work (Pearl 1988)."""
    return 1.0 - prod(1 - _unit(chance) for chance in chances)


def contributions(chances: Mapping[str, float], score: float) -> dict[str, float]:
    """Return the share of each chance in the score of their noisy-or, in proportion to −ln(1 − chance): they add up."""
    parts = {name: -log1p(-min(_unit(chance), 1 - 1e-12)) for name, chance in chances.items()}
    total = sum(parts.values())
    return {name: score * part / total if total else 0.0 for name, part in parts.items()}


def _sighted(one: Sighting) -> float:
    return SEVERITIES.get(one.severity, SEVERITIES["medium"]) * exp2(-max(one.age, 0) / HALF_LIFE)


def _share(part: int, whole: int) -> float:
    return _unit(part / whole) if whole > 0 else 1.0


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))


# ------------------------------------------------------------ in words and numbers


def _anomaly_signal(seen: Observed) -> str:
    return f"anomalies:{len(seen.anomalies)}"


def _anomaly_evidence(seen: Observed) -> Evidence:
    ages = [one.age / DAY for one in seen.anomalies]
    return {"open": len(ages), "newest_age_days": min(ages, default=None)}


def _spend_signal(spend: Spend) -> str:
    single, hourly = burst(spend.p99, spend.baseline_p99), burst(spend.hour, spend.baseline_hour)
    return "spend_burst:p99" if single >= hourly else "spend_burst:hour"


def _spend_evidence(spend: Spend) -> Evidence:
    return {
        "p99_spend_usd": spend.p99,
        "p99_baseline_usd": spend.baseline_p99,
        "hour_spend_usd": spend.hour,
        "hour_baseline_usd": spend.baseline_hour,
        "baseline_spends": spend.known,
    }
