"""Scores of identities: bounded, monotone in every sign, and as the documentation works them out."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.events import DAY
from operators.scores import (
    FEDERATION,
    LOOKBACK,
    SEVERITIES,
    WEIGHTS,
    Federation,
    Observed,
    Sighting,
    Spend,
    burst,
    contributions,
    denied_strength,
    dormancy_strength,
    federation_status,
    federation_strength,
    impact,
    noisy_or,
    posture,
    risk,
    spend_strength,
    wilson_lower,
)

ages = st.integers(0, 60 * DAY)
amounts = st.none() | st.floats(-1e9, 1e9)
spends = st.builds(Spend, amounts, amounts, amounts, amounts, st.integers(0, 100))
federations = st.none() | st.builds(Federation, st.sampled_from([*FEDERATION, "else", ""]), ages)
sightings = st.builds(Sighting, st.sampled_from([*SEVERITIES, "odd"]), ages)
tiers = st.none() | st.floats()


@st.composite
def observed(draw: st.DrawFn) -> Observed:
    """Anything that may be seen."""
    attempts = draw(st.integers(0, 10_000))
    return Observed(
        attempts, draw(st.integers(0, attempts)), draw(spends), draw(st.integers(0, LOOKBACK)), draw(st.booleans()),
        draw(federations), draw(st.lists(sightings, max_size=5)), draw(tiers),
    )  # fmt: skip


@given(observed())
def test_a_risk_is_part_of_one_and_the_sum_of_its_contributions(seen: Observed) -> None:
    """Nothing observed makes it NaN, and what is shown adds up to the score."""
    found = risk(seen)
    assert 0 <= found.score <= found.likelihood <= 1
    assert found.score == found.likelihood * found.impact
    assert sum(part.contribution for part in found.components) == pytest.approx(found.score)
    assert found.likelihood == pytest.approx(1 - math.prod(1 - one.weight * one.value for one in found.components))
    assert {part.name for part in found.components} == set(WEIGHTS)
    for part in found.components:
        assert 0 <= part.value <= 1
        assert (part.signal is None) == (part.value == 0)
    assert len(found.signals) == sum(part.value > 0 for part in found.components)
    assert found == risk(seen), "the same twice"


@given(observed(), st.data())
def test_a_stronger_sign_never_lowers_the_risk(seen: Observed, data: st.DataObject) -> None:
    """One denied attempt more, longer silence, an anomaly more, more spend, a higher tier, a worse issuer."""
    spend = seen.spend
    more = data.draw(st.floats(0, 1e6))
    worse = [
        replace(seen, attempts=seen.attempts + 1, denied=seen.denied + 1),
        replace(seen, silence=min(LOOKBACK, seen.silence + DAY)),
        replace(seen, anomalies=[*seen.anomalies, data.draw(sightings)]),
        replace(seen, spend=replace(spend, p99=None if spend.p99 is None else spend.p99 + more)),
        replace(seen, spend=replace(spend, hour=None if spend.hour is None else spend.hour + more)),
        replace(seen, federation=Federation("untrusted", 0)),
    ]
    if seen.tier is not None and math.isfinite(seen.tier):
        worse.append(replace(seen, tier=seen.tier + 1))
        worse.append(replace(seen, tier=None))
    if seen.denied < seen.attempts:
        worse.append(replace(seen, denied=seen.denied + 1))
    if spend.baseline_p99 is not None:
        worse.append(replace(seen, spend=replace(spend, baseline_p99=spend.baseline_p99 - more)))
    before = risk(seen).score
    for one in worse:
        assert risk(one).score >= before - 1e-12, one


def test_nothing_observed_is_no_risk() -> None:
    """An identity that did nothing wrong has nothing to explain, whatever it may do."""
    found = risk(Observed(attempts=100, tier=4))
    assert (found.score, found.signals) == (0, [])
    assert all(part.contribution == 0 for part in found.components)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(0, 0, 0), (0, 10, 0), (1, 1, 0.2065), (3, 10, 0.1078), (10, 10, 0.7225), (50, 100, 0.4038), (1, 29, 0.0061)],
)
def test_wilson(successes: int, trials: int, expected: float) -> None:
    """Values of the literature (R: `prop.test(correct = FALSE)`)."""
    assert wilson_lower(successes, trials) == pytest.approx(expected, abs=5e-5)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 10))
def test_the_same_share_of_more_says_more(denied: int, allowed: int, times: int) -> None:
    """Three of four may be chance, thirty of forty are not."""
    few, many = denied_strength(denied, denied + allowed), denied_strength(times * denied, times * (denied + allowed))
    assert 0 <= few <= many + 1e-12 <= 1 + 1e-12


def test_known_strengths() -> None:
    """The corners that the documentation names."""
    assert [burst(value, 1.0) for value in (0.5, 2, 4, 8)] == [0, 0, 0.5, 0.75]
    assert (burst(1.0, 0.0), burst(0.0, 0.0), burst(None, 1.0), burst(1.0, None), burst(-3.0, -1.0)) == (1, 0, 0, 0, 0)
    assert spend_strength(Spend(8.0, 1.0, 1.0, 1.0, known=19)) == 0, "a baseline of 19 spends"
    assert spend_strength(Spend(8.0, 1.0, 1.0, 1.0, known=20)) == 0.75
    assert [dormancy_strength(days * DAY) for days in (0, 7, 17.5, 28)] == [0, 0, 0.5, 1]  # type: ignore[arg-type]
    assert [impact(tier) for tier in (None, -3.0, 0, 1, 2, 3, 4, 9)] == [1, 0.2, 0.2, 0.4, 0.6, 0.8, 1, 1]
    assert impact(math.nan) == impact(math.inf) == 1
    assert federation_status(None) == federation_status(Federation("whatever", 0)) == 0.5
    assert [federation_status(Federation("Verified", days * DAY)) for days in (0, 7, 28, 99)] == [1, 1, 0.5, 0.5]
    assert [federation_strength(Federation(code, 9 * DAY)) for code in FEDERATION] == [0, 0, 0.5, 1, 1, 1]
    assert federation_strength(None) == 0
    assert noisy_or([]) == 0
    assert noisy_or([0.5, 0.5]) == 0.75


@given(st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1)))
def test_contributions_add_up(chances: dict[str, float]) -> None:
    """Also where one of them is certain."""
    score = noisy_or(list(chances.values()))
    shares = contributions(chances, score)
    assert sum(shares.values()) == pytest.approx(
        score if any(-math.log1p(-min(c, 0.5)) > 0 for c in chances.values()) else 0
    )
    assert all(share >= 0 for share in shares.values())


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), federations, st.floats(0, 1))
def test_posture_is_a_mean_of_parts_of_one(a: int, b: int, c: int, d: int, issuer: Federation | None, r: float) -> None:
    """Better coverage, fewer denied and less risk never lower it."""
    covered, activity, denied, attempts = min(a, b), max(a, b), min(c, d), max(c, d)
    found = posture(covered, activity, denied, attempts, issuer, r)
    parts = (found.guardian_coverage, found.tier_compliance, found.federation_status, found.safety)
    assert all(0 <= part <= 1 for part in parts)
    assert found.score == pytest.approx(sum(parts) / 4)
    assert posture(activity, activity, denied, attempts, issuer, r).score >= found.score
    assert posture(covered, activity, 0, attempts, issuer, r).score >= found.score
    assert posture(covered, activity, denied, attempts, issuer, 0).score >= found.score


def test_nothing_done_is_nothing_done_wrong() -> None:
    """No division by zero: an identity without attempts has kept to its tier."""
    found = posture(0, 0, 0, 0, None, 0)
    assert (found.guardian_coverage, found.tier_compliance, found.federation_status, found.score) == (1, 1, 0.5, 0.875)


# ------------------------------------------------------------ the documentation

DOCUMENT = Path(__file__).parents[2] / "docs" / "scores.md"
EXAMPLE = Observed(
    attempts=20,
    denied=3,
    spend=Spend(p99=4.15, hour=6.2, baseline_p99=0.83, baseline_hour=4.1, known=1_204),
    silence=DAY,
    federation=Federation("verified", int(15.4 * DAY)),
    tier=2,
)


def test_the_worked_example_of_the_documentation() -> None:
    """Who follows it with a pocket calculator gets what we get."""
    text = DOCUMENT.read_text()
    found = risk(EXAMPLE)
    for name, value in (
        ("wilson", wilson_lower(3, 20)),
        ("denied_attempts", denied_strength(3, 20)),
        ("spend_burst", spend_strength(EXAMPLE.spend)),
        ("likelihood", found.likelihood),
        ("impact", found.impact),
        ("risk_score", found.score),
        ("contribution of spend_burst", found.components[0].contribution),
        ("contribution of denied_attempts", found.components[1].contribution),
        ("federation_status", federation_status(EXAMPLE.federation)),
        ("posture_score", posture(412, 412, 1, 20, EXAMPLE.federation, 0.31).score),
    ):
        said = re.search(rf"\| {name} \|.*\| ([0-9.]+) \|", text)
        assert said is not None, name
        assert float(said[1]) == pytest.approx(value, abs=5e-5), name
    assert found.signals == ["spend_burst:p99", "tool_attempt:denied:3"]


def test_the_documentation_names_every_constant() -> None:
    """Weights, severities and states of federation as they are."""
    text = DOCUMENT.read_text()
    for table in (WEIGHTS, SEVERITIES, FEDERATION):
        for name, value in table.items():
            assert re.search(rf"\| `{name}` \| {value:g} \|", text), name
