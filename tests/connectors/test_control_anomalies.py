"""Anomalies in the control database: recorded once however often they are found, acknowledged once, listed in order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.control import Anomaly, Control, Found, Refused
from tests.connectors.control_databases import at_once, workspace_of

START = datetime(2026, 1, 31, 8, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def found(n: int, **more: Any) -> Found:
    """What a detection finds, `n` hours after the start."""
    name = f"anom_{n:026}"
    one = Found(name, f"nhi_{n % 2}", "ci-runner", "spend_burst", "high", START + n * HOUR, 0.5 + n, {"usd": 12.4})
    return replace(one, **more)


def every(control: Control, workspace: str, **filters: Any) -> list[str]:
    """The ids of all pages of three."""
    seen: list[Anomaly] = []
    more = True
    while more:
        after = (seen[-1].detected_at, seen[-1].id) if seen else None
        page, more = control.anomalies.page(workspace, limit=3, after=after, **filters)
        assert page or not more
        seen += page
    return [one.id for one in seen]


def test_what_was_found_comes_back(control: Control) -> None:
    """To the microsecond, in every alphabet."""
    workspace = workspace_of(control)
    one = found(
        1, nhi_id="späße " + "x" * 5_000, nhi_label=None, evidence={"a": {"b": [1, "\0"]}},
        detected_at=START + timedelta(microseconds=1), score=1e-300,
    )  # fmt: skip
    assert control.anomalies.record(workspace, [one]) == 1
    kept = control.anomalies.get(workspace, one.id)
    assert kept == Anomaly(
        one.id, one.nhi_id, None, one.type, one.severity, one.detected_at, one.score, {"a": {"b": [1, "\0"]}},
        "open", None, None, None,
    )  # fmt: skip


def test_foreign_text_is_taken_by_every_database(control: Control) -> None:
    """Producers name sources as they like; one name must not stop the detection."""
    workspace = workspace_of(control)
    control.anomalies.record(workspace, [found(1, nhi_id="a\0b", nhi_label="\0", type="\0")])
    assert every(control, workspace, nhi="a\0b", type="\0") == [found(1).id]


def test_finding_it_again_leaves_what_people_did(control: Control) -> None:
    """Status and note stay; severity, score and evidence are the newest."""
    workspace = workspace_of(control)
    assert control.anomalies.record(workspace, [found(1), found(2)]) == 2
    seen = control.anomalies.acknowledge(workspace, found(1).id, "Known release.", "ada")
    again = found(1, severity="low", score=9.0, evidence={"usd": 1}, nhi_label="renamed", detected_at=START)
    assert control.anomalies.record(workspace, [again, found(2), found(3), found(3)]) == 1
    assert seen is not None
    kept = control.anomalies.get(workspace, found(1).id)
    assert kept == replace(seen, severity="low", score=9.0, evidence={"usd": 1}, nhi_label="renamed")
    assert control.anomalies.record(workspace, []) == 0


def test_recording_at_once_is_recording_once(control: Control) -> None:
    """Two nodes that look at the same hour."""
    workspace = workspace_of(control)
    many = [found(n) for n in range(1_200)]  # more than one statement takes
    at_once(4, lambda n: control.anomalies.record(workspace, many if n % 2 else many[::-1]))
    assert sum(control.anomalies.counts(workspace, START, START + 2_000 * HOUR).values()) == 1_200


def test_the_latest_comes_first_page_by_page(control: Control) -> None:
    """Each once, also those of the same instant; nothing of others."""
    workspace, other = workspace_of(control), workspace_of(control)
    at = START + 2 * HOUR
    control.anomalies.record(workspace, [found(n, detected_at=at) if n < 7 else found(n) for n in range(10)])
    control.anomalies.record(other, [found(n) for n in range(10)])
    assert every(control, workspace) == [found(n).id for n in (9, 8, 7, 0, 1, 2, 3, 4, 5, 6)]


def test_filters_go_together(control: Control) -> None:
    """From is inclusive, to is exclusive."""
    workspace = workspace_of(control)
    control.anomalies.record(workspace, [found(n, type="spend_burst" if n < 4 else "new_tool") for n in range(8)])
    control.anomalies.acknowledge(workspace, found(3).id, None, None)

    def hours(**filters: Any) -> list[int]:
        return [int(one.removeprefix("anom_")) for one in every(control, workspace, **filters)]

    assert hours(status="acknowledged") == [3]
    assert hours(status="open", nhi="nhi_1") == [7, 5, 1]
    assert hours(type="spend_burst") == [3, 2, 1, 0]
    assert hours(start=START + 2 * HOUR, end=START + 5 * HOUR) == [4, 3, 2]
    assert hours(start=START + 2 * HOUR, end=START + 5 * HOUR, nhi="nhi_0", type="new_tool", status="open") == [4]
    assert hours(nhi="nobody") == []


def test_acknowledging_twice_is_acknowledging_once(control: Control) -> None:
    """Who was first and when stays; a later note replaces an earlier one, no note leaves it."""
    workspace = workspace_of(control)
    control.anomalies.record(workspace, [found(1)])
    first = control.anomalies.acknowledge(workspace, found(1).id, "  Reviewed by SRE:\n\tknown release event. ", "ada")
    assert first is not None
    assert (first.status, first.acknowledged_by) == ("acknowledged", "ada")
    assert first.note == "Reviewed by SRE:\n\tknown release event."
    assert first.acknowledged_at is not None
    assert control.anomalies.acknowledge(workspace, found(1).id, None, "bob") == first
    assert control.anomalies.acknowledge(workspace, found(1).id, " ", "bob") == first
    second = control.anomalies.acknowledge(workspace, found(1).id, "Not known after all.", "bob")
    assert second == replace(first, note="Not known after all.")
    assert control.anomalies.get(workspace, found(1).id) == second


@pytest.mark.parametrize("ident", ["nothing", "", "a\0b", "x" * 5_000])
def test_nobodys_anomaly_is_none(control: Control, ident: str) -> None:
    """And another workspace's is nobody's."""
    mine, theirs = workspace_of(control), workspace_of(control)
    control.anomalies.record(theirs, [found(1)])
    for wanted in (ident, found(1).id):
        assert control.anomalies.get(mine, wanted) is None
        assert control.anomalies.acknowledge(mine, wanted, "mine", "me") is None
    untouched = control.anomalies.get(theirs, found(1).id)
    assert untouched is not None
    assert untouched.status == "open"


def test_the_same_id_in_two_workspaces_is_two_anomalies(control: Control) -> None:
    """Ids are derived from what was found; nobody may overwrite another's by finding the same."""
    mine, theirs = workspace_of(control), workspace_of(control)
    assert control.anomalies.record(theirs, [found(1)]) == 1
    assert control.anomalies.record(mine, [found(1, severity="low")]) == 1
    untouched = control.anomalies.get(theirs, found(1).id)
    assert untouched is not None
    assert untouched.severity == "high"


@pytest.mark.parametrize("note", ["x" * 2_001, "a\0b", "\x1b[31m"])
def test_what_cannot_be_a_note_is_refused(control: Control, note: str) -> None:
    """With a sentence, and nothing is changed."""
    workspace = workspace_of(control)
    control.anomalies.record(workspace, [found(1)])
    with pytest.raises(Refused, match=r"^note must"):
        control.anomalies.acknowledge(workspace, found(1).id, note, None)
    kept = control.anomalies.get(workspace, found(1).id)
    assert kept is not None
    assert kept.status == "open"


def test_identities_are_counted_over_a_span(control: Control) -> None:
    """For the posture's `anomaly_count_7d`."""
    workspace = workspace_of(control)
    control.anomalies.record(workspace, [found(n) for n in range(9)])
    control.anomalies.acknowledge(workspace, found(2).id, None, None)
    start, end = START + HOUR, START + 6 * HOUR
    assert control.anomalies.counts(workspace, start, end) == {"nhi_1": 3, "nhi_0": 2}
    assert control.anomalies.counts(workspace, start, end, status="open") == {"nhi_1": 3, "nhi_0": 1}
    assert control.anomalies.counts(workspace, START, START) == {}
