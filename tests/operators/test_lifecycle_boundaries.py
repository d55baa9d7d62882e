"""Every deadline of the lifecycle (S9): one microsecond before, exactly at, one after.

Each script is played through the engine in one batch and one by one, with and without restarts, and through the
oracle; `play` fails where any two differ.
"""

from __future__ import annotations

import pytest

from tests.harness import D, H, M, S, Story, event_count, instant, play, policy, told

FIRST = policy()  # opens on the first match; 5, 10 and 15 minutes


def at_edges(outcome: str, values: tuple[bool, bool, bool]) -> pytest.MarkDecorator:
    """One microsecond before a deadline, exactly at it, one after; and what each comes to."""
    return pytest.mark.parametrize(("edge", outcome), list(zip(("-1us", "", "+1us"), values, strict=True)))


def test_the_timeline_of_the_seed() -> None:
    """The example every user of the incidents surface has read."""
    story = play(
        """
        08:14:22 high tenant=acme-corp
        08:21:05 high tenant=beta-ltd
        08:36:05 end
        """,
        policy(event_count(1, 5 * M)),
    )
    assert story.timeline == told(
        """
        08:14:22 Open        Pattern matched: auth_failure
        08:19:22 Recovering  No events for 5 min
        08:21:05 Open        New event during recovery
        08:26:05 Recovering  No events for 5 min
        08:36:05 Closed      Stable for 10 min
        """
    )
    assert story.transitions[0]["from_status"] is None
    assert [row["from_status"] for row in story.transitions[1:]] == ["Open", "Recovering", "Open", "Recovering"]
    incident = story.incident
    assert (incident["status"], incident["opened_at"], incident["reopen_count"]) == ("Closed", instant("08:14:22"), 0)
    assert (incident["event_count"], incident["tenant_count"], incident["confidence"]) == (2, 2, "High")


@at_edges("recovered", (False, True, True))
def test_an_open_incident_recovers_after_five_minutes_of_silence(edge: str, recovered: bool) -> None:
    """An event at the deadline comes after it: the incident had recovered."""
    story = play(f"0s\n5m{edge}", FIRST)
    assert [status for _, status, _ in story.timeline] == (["Open", "Recovering", "Open"] if recovered else ["Open"])
    assert story.incident["event_count"] == 2


@at_edges("recovered", (False, True, True))
def test_a_timer_due_at_the_end_of_input_has_fired(edge: str, recovered: bool) -> None:
    story = play(f"0s\n5m{edge} end", FIRST)
    assert story.incident["status"] == ("Recovering" if recovered else "Open")
    assert story.incident["recovering_at"] == (instant("5m") if recovered else None)


@at_edges("reopened", (False, True, True))
def test_a_recovering_incident_closes_after_ten_stable_minutes(edge: str, reopened: bool) -> None:
    """Before the deadline the event ends the recovery; from the deadline on it reopens a closed incident."""
    story = play(f"0s\n15m{edge}", FIRST)
    reason = "New event within cooldown" if reopened else "New event during recovery"
    assert story.timeline[-1] == (instant(f"15m{edge}"), "Open", reason)
    assert story.incident["reopen_count"] == int(reopened)
    assert story.incident["reopened_at"] == (instant(f"15m{edge}") if reopened else None)


@at_edges("forgotten", (False, True, True))
def test_a_closed_incident_is_forgotten_after_fifteen_minutes(edge: str, forgotten: bool) -> None:
    """Within the cooldown it is the same incident, from its end on a new one."""
    story = play(f"0s\n30m{edge}", FIRST)
    assert len(story.incidents) == (2 if forgotten else 1)
    first = story.incidents[0]
    assert (first["status"], first["reopen_count"]) == (("Closed", 0) if forgotten else ("Open", 1))
    assert first["closed_at"] == (instant("15m") if forgotten else None)


def test_an_event_long_after_everything_finds_all_deadlines_fired_at_their_own_instants() -> None:
    """A year of silence is not stamped with the time of the event that ended it."""
    assert play("0s\n2d", FIRST).timeline == told(
        """
        0s  Open        Pattern matched: auth_failure
        5m  Recovering  No events for 5 min
        15m Closed      Stable for 10 min
        2d  Open        Pattern matched: auth_failure
        """
    )


def test_every_event_moves_the_deadline() -> None:
    story = play("0s\n4m\n8m\n12m\n17m end", FIRST)
    assert story.timeline[1:] == told("17m Recovering No events for 5 min")


def test_recovery_can_be_interrupted_again_and_again() -> None:
    """A flapping dependency is one incident with a long timeline, and no reopen is counted for it."""
    story = play("0s\n14m\n28m\n42m\n57m end", FIRST)
    assert [status for _, status, _ in story.timeline] == ["Open", "Recovering"] * 4 + ["Closed"]
    assert story.incident["reopen_count"] == 0


def test_an_incident_that_reopens_three_times_is_chronic() -> None:
    story = play("0s\n20m\n40m\n60m", FIRST)
    assert [reason for _, _, reason in story.timeline].count("New event within cooldown") == 3
    incident = story.incident
    assert incident["reopen_count"] == 3
    assert (incident["opened_at"], incident["reopened_at"]) == (instant("0s"), instant("60m"))
    assert incident["event_count"] == 4


def test_a_reopen_needs_one_event_whatever_the_threshold() -> None:
    """The threshold opens an incident; within cooldown any match brings it back."""
    story = play("0s x3\n20m\n23m", policy(event_count(3, M)))
    assert story.timeline[-1] == (instant("20m"), "Open", "New event within cooldown")
    assert story.incident["event_count"] == 5


def test_a_reopened_incident_runs_its_timers_anew() -> None:
    story = play("0s\n20m\n50m end", FIRST)
    assert story.timeline[3:] == told(
        """
        20m Open       New event within cooldown
        25m Recovering No events for 5 min
        35m Closed     Stable for 10 min
        """
    )
    assert story.incident["closed_at"] == instant("35m")
    assert story.incident["recovering_at"] is None


def test_a_forgotten_key_counts_from_nothing() -> None:
    """The events of the forgotten incident do not help to open the next one, however long the window."""
    story = play("0s x3\n30m\n31m\n32m", policy(event_count(3, 2 * H)))
    assert story.opened == [instant("0s"), instant("32m")]
    assert story.incidents[1]["first_event_at"] == instant("30m")
    assert [row["event_count"] for row in story.incidents] == [3, 3]


def test_a_match_at_the_instant_of_forgetting_counts_for_the_next_incident() -> None:
    assert play("0s x2\n30m x2", policy(event_count(2, 2 * H))).opened == [instant("0s"), instant("30m")]


def test_keys_do_not_see_each_other() -> None:
    story = play("0s key=a\n1m key=b\n5m key=a\n5m+30s key=b", FIRST)
    assert [row["event_count"] for row in story.incidents] == [2, 2]
    assert [status for _, status, _ in story.timeline].count("Recovering") == 1


def test_first_and_last_event_and_the_tenants_times() -> None:
    story = play(
        "0s tenant=a\n1m tenant=b\n2m\n3m tenant=a\n4m tenant=",
        policy(event_count(3, 10 * M)),
    )
    incident = story.incident
    assert (incident["first_event_at"], incident["opened_at"]) == (instant("0s"), instant("2m"))
    assert (incident["last_event_at"], incident["event_count"], incident["tenant_count"]) == (instant("4m"), 5, 2)
    assert [
        (row["tenant"], row["event_count"], row["first_seen_at"], row["last_seen_at"])
        for row in story.tables["incident_tenants"]
    ] == [("a", 2, instant("0s"), instant("3m")), ("b", 1, instant("1m"), instant("1m"))]


def test_an_incidents_confidence_is_the_highest_of_its_events() -> None:
    assert play("0s\n1s", FIRST).incident["confidence"] == "Medium"
    assert play("0s\n1s high\n2s", FIRST).incident["confidence"] == "High"
    assert play("0s high\n1s\n2s", policy(event_count(2, M))).incident["confidence"] == "High"


def test_an_incidents_severity_is_the_rules_else_the_worst_of_its_events() -> None:
    script = "0s\n1s severity=high\n2s severity=low"
    assert play(script, FIRST).incident["severity"] == "high"
    assert play(script, policy(severity="info")).incident["severity"] == "info"
    assert play("0s", FIRST).incident["severity"] is None


def test_the_source_of_an_incident_is_that_of_its_opening_event() -> None:
    story = play("0s source=a\n1s source=b\n2s source=c", policy(event_count(2, M)))
    assert story.incident["source"] == "b"


# ---------------------------------------------------------------- order (S6)


def test_events_at_the_same_instant_are_taken_by_partition_then_offset() -> None:
    """The opening event, and with it the incident's source, must not depend on which file was read first."""
    story = play(
        """
        0s partition=b source=third
        0s partition=a source=first
        0s partition=a source=second
        """,
        policy(event_count(2, M)),
    )
    assert story.incident["source"] == "second"


def test_a_resolve_and_an_event_at_the_same_instant_are_taken_in_order_of_the_log() -> None:
    before = play("0s\n1m\n1m resolve", FIRST)
    assert before.incident["status"] == "Closed"
    assert before.incident["event_count"] == 2
    after = play("0s\n1m resolve\n1m", FIRST)
    assert (after.incident["status"], after.incident["reopen_count"]) == ("Open", 1)


# ---------------------------------------------------------------- resolve


def test_resolve_closes_an_open_incident_at_its_own_instant() -> None:
    story = play("0s\n1m resolve", FIRST)
    assert story.timeline[1:] == told("1m Closed Resolved manually")
    assert story.transitions[1]["from_status"] == "Open"
    assert story.incident["closed_at"] == instant("1m")


def test_resolve_closes_a_recovering_incident() -> None:
    story = play("0s\n6m resolve", FIRST)
    assert [status for _, status, _ in story.timeline] == ["Open", "Recovering", "Closed"]
    assert story.transitions[2]["from_status"] == "Recovering"
    assert story.incident["closed_at"] == instant("6m")


@at_edges("forgotten", (False, True, True))
def test_the_cooldown_runs_from_the_resolve(edge: str, forgotten: bool) -> None:
    story = play(f"0s\n1m resolve\n16m{edge}", FIRST)
    assert len(story.incidents) == (2 if forgotten else 1)


@at_edges("manual", (True, False, False))
def test_a_deadline_fires_before_a_resolve_at_the_same_instant(edge: str, manual: bool) -> None:
    story = play(f"0s\n15m{edge} resolve", FIRST)
    assert story.timeline[-1][2] == ("Resolved manually" if manual else "Stable for 10 min")


@pytest.mark.parametrize("script", ["0s resolve", "0s\n16m resolve\n29m end", "0s\n1m resolve\n2m resolve"])
def test_resolving_what_is_not_open_has_no_effect(script: str) -> None:
    """Two people press the button; or one presses it a minute late."""
    story = play(script, FIRST)
    assert sum(status == "Closed" for _, status, _ in story.timeline) == len(story.incidents)


def test_a_second_resolve_does_not_prolong_the_cooldown() -> None:
    assert len(play("0s\n1m resolve\n10m resolve\n16m", FIRST).incidents) == 2


def test_a_resolve_does_not_count_as_an_event() -> None:
    story = play("0s\n1m resolve\n2m", policy(event_count(2, M)))
    assert story.incidents == []
    assert play("0s\n4m resolve\n14m", FIRST).incident["event_count"] == 2


def test_matches_before_a_resolve_of_nothing_still_count() -> None:
    """Resolving an incident that has not opened yet does not wipe the evidence."""
    assert play("0s\n1s resolve\n2s", policy(event_count(2, M))).opened == [instant("2s")]


# ---------------------------------------------------------------- counts on the timeline


def test_what_a_transition_says_about_counts() -> None:
    """`event_count` is the incident's so far; `window_count` what was in the window; timers count nothing."""
    story = play("0s\n1s\n2s\n8m\n8m+1s resolve\n9m", policy(event_count(3, 5 * M)))
    assert [(row["to_status"], row["event_count"], row["window_count"]) for row in story.transitions] == [
        ("Open", 3, 3),
        ("Recovering", 3, None),
        ("Open", 4, 1),
        ("Closed", 4, None),
        ("Open", 5, 2),
    ]


def test_a_reopening_counts_the_incidents_matches_in_its_window() -> None:
    story = play("0s x2\n4m\n10m", policy(event_count(2, 10 * M)))
    assert story.window_counts == [2, None, 2]
    story = play("0s x2\n4m\n10m", policy(event_count(2, 10 * M + 1)))
    assert story.window_counts == [2, None, 4]


# ---------------------------------------------------------------- a policy that changes midway (S13)


def test_deadlines_after_an_event_come_from_that_events_policy() -> None:
    rules = {"old": policy(), "new": policy(version="00000002", recovery=M, close=2 * M, cooldown=H)}
    story = play("0s\n1m policy=new\n1h end", rules)
    assert story.timeline[1:] == told("2m Recovering No events for 1 min\n4m Closed Stable for 2 min")
    assert [row["rule_version"] for row in story.transitions] == ["00000001", "00000002", "00000002"]
    assert story.incident["rule_version"] == "00000001"
    assert len(play("0s\n1m policy=new\n1h+4m-1us policy=new", rules).incidents) == 1
    assert len(play("0s\n1m policy=new\n1h+4m policy=new", rules).incidents) == 2


def test_a_configuration_does_not_move_the_deadline_of_what_came_before() -> None:
    """The new policy holds from the next event on; the old deadline still fires first."""
    rules = {"old": policy(), "new": policy(version="00000002", recovery=H)}
    assert play("0s\n5m policy=new", rules).timeline[1] == (instant("5m"), "Recovering", "No events for 5 min")


def test_the_threshold_checked_at_an_event_is_that_events() -> None:
    """Lowering a threshold in the middle of an outage does not begin the count again."""
    rules = {"strict": policy(event_count(5, H)), "lax": policy(event_count(2, H), version="00000002")}
    story = play("0s x3\n1m policy=lax", rules)
    assert story.opened == [instant("1m")]
    assert story.incident["event_count"] == 4
    assert story.incident["rule_version"] == "00000002"


def test_partitions_under_different_settings_count_together() -> None:
    """A `configure` reaches one partition; a key fed by two must not start its count anew with every event."""
    rules = {"old": policy(event_count(4, H)), "new": policy(event_count(4, 2 * H), version="00000002")}
    script = "0s partition=a\n1m partition=b policy=new\n2m partition=a\n3m partition=b policy=new"
    assert play(script, rules).opened == [instant("3m")]


@pytest.mark.parametrize(("script", "opened"), [("0s\n59s policy=long", True), ("0s\n1m policy=long", False)])
def test_a_longer_window_counts_what_the_shorter_one_still_held(script: str, opened: bool) -> None:
    """What a window has let go is gone, so that memory does not depend on configurations to come."""
    rules = {"short": policy(event_count(2, M)), "long": policy(event_count(2, H), version="00000002")}
    assert bool(play(script, rules).opened) is opened


def test_a_shorter_window_lets_go_for_good() -> None:
    rules = {"long": policy(event_count(3, H)), "short": policy(event_count(3, M), version="00000002")}
    assert play("0s\n2m policy=short\n3m", rules).opened == []
    assert play("0s\n30s policy=short\n50s", rules).opened == [instant("50s")]


@pytest.mark.parametrize(
    ("recovery", "text"),
    [(5 * M, "5 min"), (90 * S, "90 s"), (2 * H, "2 h"), (D, "1 d"), (36 * H, "36 h"), (S, "1 s"), (60 * M, "1 h")],
)
def test_reasons_name_the_policys_own_durations(recovery: int, text: str) -> None:
    """In the largest unit that divides it, as a person would say it."""
    story: Story = play("0s\n2d end", policy(recovery=recovery))
    assert story.timeline[1][2] == f"No events for {text}"
