"""Alerts (S10): what is announced, when, and that nothing is announced twice."""

from __future__ import annotations

import pytest

from tests.harness import H, M, event_count, instant, play, policy, told

FIRST = policy()
LOUD_AT_3 = policy(alert_count=3, alert_window=2 * M)


def test_an_incident_announces_its_opening_and_its_end() -> None:
    story = play("0s\n15m end", FIRST)
    assert story.alerts == told("0s opened -\n15m resolved -")
    assert story.incident["alerted_at"] == instant("0s")


def test_recovering_is_not_announced() -> None:
    assert play("0s\n14m end", FIRST).alerts == told("0s opened -")


def test_a_flapping_incident_announces_reopened_once_per_cycle() -> None:
    """Nobody is paged every six minutes by the same flapping dependency."""
    story = play("0s\n6m\n12m\n18m\n33m end", FIRST)
    assert story.alerts == told("0s opened -\n6m reopened -\n33m resolved -")


def test_a_reopen_from_closed_begins_a_new_cycle() -> None:
    story = play("0s\n20m\n35m end", FIRST)
    assert story.alerts == told("0s opened -\n15m resolved -\n20m reopened -\n35m resolved -")
    assert [row["cycle"] for row in sorted(story.tables["alerts"], key=lambda r: r["at"])] == [0, 0, 1, 1]


def test_flapping_in_a_later_cycle_was_announced_by_its_reopen() -> None:
    """The cycle's `reopened` has one id: the flap within it repeats nothing."""
    story = play("0s\n20m\n26m", FIRST)
    assert story.alerts == told("0s opened -\n15m resolved -\n20m reopened -")


def test_a_manual_resolve_is_announced() -> None:
    assert play("0s\n1m resolve", FIRST).alerts == told("0s opened -\n1m resolved -")


def test_a_forgotten_key_announces_opened_again() -> None:
    story = play("0s\n30m", FIRST)
    assert story.alerts == told("0s opened -\n15m resolved -\n30m opened -")
    assert len({row["incident_id"] for row in story.tables["alerts"]}) == 2


# ---------------------------------------------------------------- blast radius


def test_a_tenant_that_joins_expands_the_blast_radius_once() -> None:
    story = play("0s tenant=a\n1m tenant=b\n2m tenant=a\n3m tenant=b", FIRST)
    assert story.alerts == told("0s opened -\n1m blast_radius_expanded b")


def test_the_tenants_counted_at_the_opening_do_not_expand() -> None:
    """`opened` already names everybody who was affected by then."""
    story = play("0s tenant=a\n1s tenant=b\n2s tenant=c\n3s tenant=a\n4s tenant=d", policy(event_count(3, M)))
    assert story.alerts == told("2s opened -\n4s blast_radius_expanded d")


def test_an_event_without_a_tenant_expands_nothing() -> None:
    assert play("0s tenant=a\n1m", FIRST).alerts == told("0s opened -")


def test_a_new_cycle_begins_with_the_reopening_tenant_alone() -> None:
    story = play("0s tenant=a\n1m tenant=b\n20m tenant=b\n21m tenant=a\n22m tenant=b", FIRST)
    assert story.alerts == told(
        """
        0s  opened -
        1m  blast_radius_expanded b
        16m resolved -
        20m reopened -
        21m blast_radius_expanded a
        """
    )


def test_recovering_does_not_begin_a_cycle() -> None:
    story = play("0s tenant=a\n6m tenant=a\n7m tenant=b\n13m tenant=b", FIRST)
    assert story.alerts == told("0s opened -\n6m reopened -\n7m blast_radius_expanded b")


def test_a_new_tenant_that_ends_the_recovery_is_both() -> None:
    story = play("0s tenant=a\n6m tenant=b", FIRST)
    assert story.alerts == told("0s opened -\n6m blast_radius_expanded b\n6m reopened -")


# ---------------------------------------------------------------- a silent opening


def test_an_incident_below_its_alert_threshold_says_nothing_at_all() -> None:
    """Not even that it is over, and nothing of tenants."""
    story = play("0s tenant=a\n1m tenant=b\n20m tenant=b\n40m end", LOUD_AT_3)
    assert story.alerts == []
    assert (story.incident["status"], story.incident["alerted_at"]) == ("Closed", None)
    assert len(story.timeline) == 6


def test_it_is_announced_at_the_event_that_reaches_the_count() -> None:
    story = play("0s\n1m\n1m+30s\n16m+30s end", LOUD_AT_3)
    assert story.alerts == told("1m+30s opened -\n16m+30s resolved -")
    assert story.incident["alerted_at"] == instant("1m+30s")
    assert story.incident["opened_at"] == instant("0s")


@pytest.mark.parametrize(("edge", "loud"), [("-1us", True), ("", False), ("+1us", False)])
def test_the_alert_window_is_open_on_the_left(edge: str, loud: bool) -> None:
    assert bool(play(f"0s\n1m\n2m{edge}", LOUD_AT_3).alerts) is loud


def test_the_events_counted_at_the_opening_count_for_the_alert_too() -> None:
    story = play("0s\n1s\n2s", policy(event_count(3, M), alert_count=3, alert_window=M))
    assert story.alerts == told("2s opened -")


def test_events_before_the_incident_do_not_count_for_the_alert() -> None:
    """What fell out of the rule's window is not part of the incident, however long the alert's window."""
    story = play("0s\n5m x2", policy(event_count(2, M), alert_count=3, alert_window=H))
    assert story.alerts == []


def test_a_flap_before_the_announcement_is_silent_and_after_it_is_not() -> None:
    story = play("0s\n6m\n6m+1s x2\n12m", LOUD_AT_3)
    assert story.alerts == told("6m+1s opened -\n12m reopened -")


def test_the_announcing_event_may_end_a_recovery() -> None:
    """It is `opened`, once: the caller has never heard of it before."""
    story = play("0s\n1s\n6m", policy(alert_count=3, alert_window=10 * M))
    assert story.alerts == told("6m opened -")


def test_tenants_of_a_silent_incident_are_known_when_it_is_announced() -> None:
    story = play("0s tenant=a\n1s tenant=b\n2s tenant=c\n3s tenant=b\n4s tenant=d", LOUD_AT_3)
    assert story.alerts == told("2s opened -\n4s blast_radius_expanded d")


def test_a_second_cycle_is_announced_as_reopened_once_it_is_loud() -> None:
    story = play("0s x3\n20m\n20m+1s\n20m+2s\n35m+2s end", LOUD_AT_3)
    assert story.alerts == told("0s opened -\n15m resolved -\n20m+2s reopened -\n35m+2s resolved -")
    assert story.incident["alerted_at"] == instant("0s")


def test_a_silent_second_cycle_is_not_resolved_aloud() -> None:
    assert play("0s x3\n20m\n40m end", LOUD_AT_3).alerts == told("0s opened -\n15m resolved -")


def test_an_incident_first_announced_in_its_second_cycle_is_opened() -> None:
    story = play("0s\n20m x3\n36m end", LOUD_AT_3)
    assert story.alerts == told("20m opened -\n35m resolved -")
    assert [row["cycle"] for row in story.tables["alerts"]] == [1, 1]
    assert story.incident["alerted_at"] == instant("20m")


def test_matches_of_the_cycle_before_count_where_the_alert_window_reaches_them() -> None:
    """The count is the incident's within the window, whatever happened in between."""
    story = play("0s x2\n20m", policy(alert_count=3, alert_window=H))
    assert story.alerts == told("20m opened -")


def test_removing_the_alert_threshold_announces_at_the_next_event() -> None:
    rules = {"silent": LOUD_AT_3, "loud": policy(version="00000002")}
    assert play("0s\n1m policy=loud", rules).alerts == told("1m opened -")


def test_alert_rows_carry_their_workspace_and_incident() -> None:
    story = play("0s tenant=a\n1m tenant=b", FIRST)
    assert {row["incident_id"] for row in story.tables["alerts"]} == {story.incident["id"]}
    assert {row["workspace"] for row in story.tables["alerts"]} == {"default"}
