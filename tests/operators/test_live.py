"""A live shard: what a reader sees at any moment is what all matches so far come to (S11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.outcomes import of_commit
from operators.live import LiveShard, merged
from operators.shard import FOREVER
from tests import oracle
from tests.harness import START, D, LivePlant, M, S, event_count, expected, matches, policy, unnamed
from tests.oracle import RESOLVE, Match
from tests.strategies import Scenario, arrivals, scenarios


@given(st.data(), scenarios(size=20), st.integers(1, 2), st.booleans())
def test_a_reader_sees_the_oracle_of_what_has_arrived(
    data: st.DataObject, scenario: Scenario, shards: int, eager: bool
) -> None:
    """An answer is immediate and right, whatever was settled before and however often somebody restarted."""
    plant = LivePlant(scenario.records, shards, eager=eager)
    until = follow(data, scenario, plant, plant.restart)
    # Once every watermark has passed everything, all of it is final.
    end = max(until, scenario.end) + 1
    for name in scenario.records:
        plant.add(name, end, [])
    assert unnamed(plant.ask(end, settle=True)) == unnamed(expected(oracle.run(scenario.matches, end)))


def follow(data: st.DataObject, scenario: Scenario, plant: LivePlant, restart: Callable[[], None]) -> int:
    """Bring the scenario step by step; whoever asks sees what has arrived. The instant, µs, of the last question."""
    brought: list[Match] = []
    until = START
    for step in data.draw(arrivals(scenario)):
        items = scenario.claimed(step.partition, step.rows)
        brought += items
        plant.add(step.partition, step.watermark, items)
        if step.restart:
            restart()
        if step.ask is not None or step.settle:
            until = max(until, latest(brought, plant)) + max(0, (step.ask or 0) - 1)
            seen = plant.ask(until, settle=step.settle)
            assert unnamed(seen) == unnamed(expected(oracle.run(brought, until)))
    return until


def latest(brought: list[Match], plant: LivePlant) -> int:
    """The earliest instant, µs, at which somebody may ask: no watermark is ahead of the log's time."""
    watermark = max(shard.watermark for shard in plant.shards)
    return max([START, *(m.at for m in brought), *([watermark] if watermark < FOREVER else [])])


def at(seconds: int, offset: int, **fields: Any) -> Match:
    return Match(START + seconds * S, "p", offset, fields.pop("policy", policy()), **fields)


def test_an_announced_incident_keeps_its_id_when_a_late_event_moves_its_opening() -> None:
    """Alerts and callers already know it (S12); a store made by replay alone has the id of the settled opening."""
    plant = LivePlant(["p"])
    plant.add("p", START, [at(5, 0)])
    announced = plant.ask(START + 5 * S)["incidents"][0]["id"]
    plant.add("p", START, [at(3, 1)])
    (moved,) = plant.ask(START + 5 * S)["incidents"]
    assert (moved["id"], moved["opened_at"], moved["event_count"]) == (announced, START + 3 * S, 2)
    plant.add("p", START + 9 * S, [])
    (settled,) = plant.ask(START + 9 * S, settle=True)["incidents"]
    assert (settled["id"], settled["opened_at"]) == (announced, START + 3 * S)


def test_an_incident_that_a_late_event_prevents_disappears() -> None:
    """What was shown is replaced by what is true now: here by a longer first incident and nothing else."""
    plant = LivePlant(["p"])
    plant.add("p", START, [at(0, 0), at(1800, 1)])
    assert len(plant.ask(START + 1800 * S)["incidents"]) == 2
    plant.add("p", START, [at(1000, 2)])
    (only,) = plant.ask(START + 1800 * S)["incidents"]
    assert only["event_count"] == 3


def test_two_incidents_of_a_key_never_share_an_id() -> None:
    """A late event may open an incident of its own before the announced one: that one keeps its id."""
    plant = LivePlant(["p"])
    plant.add("p", START, [at(7200, 0)])
    announced = plant.ask(START + 7200 * S)["incidents"][0]["id"]
    plant.add("p", START, [at(0, 1)])
    named = {row["opened_at"]: row["id"] for row in plant.ask(START + 7200 * S)["incidents"]}
    assert named[START + 7200 * S] == announced
    assert named[START] != announced
    plant.add("p", START + 9000 * S, [])
    assert {row["id"] for row in plant.ask(START + 9000 * S, settle=True)["incidents"]} == set(named.values())


def test_a_late_event_takes_back_a_step_that_time_made() -> None:
    """Recovering was true of what had arrived; the timeline must not keep it when it no longer is."""
    plant = LivePlant(["p"])
    plant.add("p", START + S, [at(0, 0)])
    assert len(plant.ask(START + 301 * S, settle=True)["transitions"]) == 2
    plant.add("p", START + S, [at(290, 1)])
    view = plant.ask(START + 301 * S)
    assert [row["to_status"] for row in view["transitions"]] == ["Open"]
    assert view["incidents"][0]["status"] == "Open"


def test_time_alone_moves_what_nobody_touches() -> None:
    """Nobody sends anything any more: the incident recovers and closes all the same, at its deadlines."""
    plant = LivePlant(["p"])
    plant.add("p", START, [at(0, 0)])
    seen = []
    for minute in range(0, 17):
        plant.add("p", START + (minute * 60 - 30) * S, [])
        seen.append(plant.ask(START + minute * 60 * S, settle=True)["incidents"][0]["status"])
    assert seen == ["Open"] * 5 + ["Recovering"] * 10 + ["Closed"] * 2


def test_an_event_ahead_of_the_clock_is_answered_at_once() -> None:
    """A producer whose clock is ten seconds fast still learns its incident; nobody else's timers run early."""
    plant = LivePlant(["p"])
    plant.add("p", START, [at(10, 0)])
    (incident,) = plant.ask(START)["incidents"]
    assert (incident["status"], incident["opened_at"]) == ("Open", START + 10 * S)


def test_a_resolve_that_comes_between_moves_tenants_to_the_later_incident() -> None:
    """The first incident must not keep a tenant whose only event now belongs to the next one."""
    quick = policy(recovery=S, close=S, cooldown=S)
    plant = LivePlant(["p"])
    plant.add("p", START, [at(0, 0, tenant="a", policy=quick), at(1, 1, tenant="b", policy=quick)])
    assert len(plant.ask(START + S)["incident_tenants"]) == 2
    late = [at(0, 2, policy=quick, kind=RESOLVE)]
    plant.add("p", START, late)
    brought = [at(0, 0, tenant="a", policy=quick), at(1, 1, tenant="b", policy=quick), *late]
    assert unnamed(plant.ask(START + S)) == unnamed(expected(oracle.run(brought, START + S)))


def test_who_opened_it_and_who_belongs_to_it() -> None:
    """The third event's caller learns that it opened the incident, the next one of it; those before learned of none."""
    plant = LivePlant(["p"])
    rule = policy(event_count(3, M))
    (shard,) = plant.shards
    assert isinstance(shard, LiveShard)
    shard.add("p", START, matches([at(n, n, policy=rule) for n in range(2)]))
    assert shard.publish(START + S).members.height == 0
    shard.add("p", START, matches([at(n, n, policy=rule) for n in range(2, 4)]))
    members = shard.publish(START + 3 * S).members
    assert members.sort("offset").select("offset", "opened").rows() == [(2, True), (3, False)]
    assert members["rule_id"].unique().to_list() == ["auth_failure"]


@pytest.mark.parametrize("shown", [1, 3])
def test_a_restarted_shard_keeps_the_ids_a_store_showed(shown: int) -> None:
    """Announced after the last snapshot, then killed: when a late event moves the opening, the id must not change."""
    before = LivePlant(["p"])
    before.add("p", START, [at(5 + n, n) for n in range(shown)])
    (announced,) = before.ask(START + 9 * S)["incidents"]
    after = LivePlant(["p"])
    name = (announced["workspace"], announced["rule_id"], announced["group_key"])
    after.live.show_again([(name, announced["opened_at"], announced["id"])])
    # The log is read again in two steps; in the first there is nothing of that incident.
    after.add("p", START, [at(1, 9, group_key="other")])
    after.ask(START + 9 * S)
    after.add("p", START, [at(3, 10), *(at(5 + n, 11 + n) for n in range(shown))])
    again = next(row for row in after.ask(START + 9 * S)["incidents"] if row["group_key"] == name[2])
    after.live.forget_announced()
    assert (again["id"], again["opened_at"]) == (announced["id"], START + 3 * S)


def test_what_was_announced_last_counts_and_not_what_the_snapshot_knows() -> None:
    """A late event moved the opening after the snapshot. Else the id would go to the later incident, with the alerts
    that the earlier one has had."""
    brief = policy(cooldown=S)
    plant = LivePlant(["p"])
    plant.add("p", START, [at(50, 0, policy=brief)])
    (announced,) = plant.ask(START + 50 * S)["incidents"]
    name = (announced["workspace"], announced["rule_id"], announced["group_key"])
    plant.restart()
    plant.live.show_again([(name, START + 3 * S, announced["id"])])
    plant.add("p", START, [at(3, 1, policy=brief), at(10, 2, policy=brief, kind=RESOLVE)])
    first, second = sorted(plant.ask(START + 50 * S)["incidents"], key=lambda row: int(row["opened_at"]))
    assert (first["id"], first["opened_at"]) == (announced["id"], START + 3 * S)
    assert second["id"] != announced["id"]


@given(st.data(), scenarios(size=20), st.booleans())
def test_what_is_not_final_can_be_thrown_away_and_shown_again(
    data: st.DataObject, scenario: Scenario, eager: bool
) -> None:
    """As a store does that starts again from a snapshot: what is final stays, all else must come anew, and the same."""
    plant = LivePlant(scenario.records, eager=eager)
    follow(data, scenario, plant, plant.throw_away)


def test_an_incident_whose_cooldown_passes_at_a_restart_stays() -> None:
    """Its end became final with the first step, and that nothing can reopen it any more is nothing to take back."""
    plant = LivePlant(["p"])
    plant.add("p", START, [at(0, 0), at(100, 1)])
    plant.ask(START + 100 * S)
    plant.add("p", START + 70 * S, [])
    plant.ask(START + 100 * S, settle=True)
    plant.throw_away()
    plant.add("p", START + 1890 * S, [])
    brought = [at(0, 0), at(100, 1)]
    assert unnamed(plant.ask(START + 1920 * S, settle=True)) == unnamed(expected(oracle.run(brought, START + 1920 * S)))


def test_an_incident_that_ends_while_the_next_one_waits_stays() -> None:
    """Matches of the key's next incident wait for their watermark when the first one becomes final: a restart after
    that must not lose it."""
    plant = LivePlant(["p"])
    brought = [at(0, 0), at(2000, 1)]
    plant.add("p", START + 100 * S, brought)
    plant.ask(START + 2000 * S)
    for seconds in (1000, 1900):
        plant.add("p", START + seconds * S, [])
        plant.ask(START + 2000 * S, settle=True)
    plant.throw_away()
    assert unnamed(plant.ask(START + 2000 * S)) == unnamed(expected(oracle.run(brought, START + 2000 * S)))


def test_news_are_told_once() -> None:
    """A feed's reader gets each step and each alert once, however often they are computed, settled and shown again."""
    plant = LivePlant(["p"])
    (shard,) = plant.shards
    assert isinstance(shard, LiveShard)
    told: list[tuple[str, int]] = []
    alerts: list[str] = []

    def step(until: int) -> None:
        news = shard.publish(START + until * S).news
        told.extend((to, n) for to, n in news.transitions.select("to_status", "n").iter_rows())
        alerts.extend(news.alerts["kind"].to_list())

    shard.add("p", START, matches([at(5, 0, tenant="a")]))
    step(5)
    shard.add("p", START + 2 * S, matches([at(6, 1, tenant="b")]))
    step(6)
    for second in (40, 290, 306, 340, 700, 906, 940, 2000):
        shard.add("p", START + (second - 30) * S)
        step(second)
    assert told == [("Open", 0), ("Recovering", 1), ("Closed", 2)]
    assert alerts == ["opened", "blast_radius_expanded", "resolved"]
    assert not shard.publish(START + 2001 * S).news.transitions.height


def test_what_is_forgotten_in_silence_is_not_taken_back() -> None:
    """A closed incident's cooldown passes while a later match of its key waits: it is final, and must stay."""
    quick = policy(recovery=S, close=S, cooldown=S)
    plant = LivePlant(["p"])
    matches_so_far = [at(0, 0, policy=quick)]
    plant.add("p", START + 2500 * S // 1000, matches_so_far)
    plant.ask(START + 3 * S, settle=True)
    for offset, (watermark, now) in enumerate([(2.6, 20), (10, 21), (10.1, 22), (30, 40)], 1):
        matches_so_far.append(at(now, offset, policy=quick))
        plant.add("p", START + int(watermark * S), matches_so_far[-1:])
        seen = plant.ask(START + now * S, settle=True)
        assert unnamed(seen) == unnamed(expected(oracle.run(matches_so_far, START + now * S))), now


def test_what_is_gone_before_it_was_told_is_never_told() -> None:
    """Two steps are written together: of an incident that the second takes back, a feed's reader must not hear."""
    plant = LivePlant(["p"])
    (shard,) = plant.shards
    assert isinstance(shard, LiveShard)
    shard.add("p", START, matches([at(0, 0), at(1800, 1)]))
    first = shard.publish(START + 1800 * S)
    shard.add("p", START, matches([at(1000, 2)]))
    both = merged([first, shard.publish(START + 1800 * S)])
    assert len(first.news.transitions["incident_id"].unique()) == 2
    (only,) = both.output.incidents["id"].unique()
    assert both.news.transitions["incident_id"].unique().to_list() == [only]
    assert both.news.alerts["incident_id"].unique().to_list() == [only]


def test_a_late_event_that_is_final_at_once_counts_beside_one_that_is_not() -> None:
    """It comes just before its watermark passes, with an incident shown that later events opened: its tenant must be
    on the list of those who were hit."""
    plant = LivePlant(["p"])
    plant.add("p", START, [at(30, 0, tenant="a")])
    plant.ask(START + 30 * S)
    late = at(1, 1, tenant="b")
    plant.add("p", START + 2 * S, [late])
    seen = plant.ask(START + 31 * S, settle=True)
    assert unnamed(seen) == unnamed(expected(oracle.run([at(30, 0, tenant="a"), late], START + 31 * S)))


def test_a_pause_longer_than_the_lateness_settles_what_nobody_was_shown() -> None:
    """The machine slept for six minutes: it recovers all the same, and wakes up by itself to close."""
    plant = LivePlant(["p"])
    (shard,) = plant.shards
    assert isinstance(shard, LiveShard)
    plant.add("p", START - 30 * S, [at(0, 0)])
    plant.ask(START)
    for minute, status, due in ((6, "Recovering", 15), (16, "Closed", None)):
        plant.add("p", START + (minute * 60 - 30) * S, [])
        publication = shard.publish(START + minute * 60 * S, settle=True)
        assert not publication.gone
        plant.store.publish(publication)
        assert [row["status"] for row in plant.store.contents()["incidents"]] == [status]
        assert shard.next_due == (FOREVER if due is None else START + due * 60 * S)


def test_a_late_event_holds_what_runs_ahead_back_only_once() -> None:
    """One producer with a slow clock must not make every step of everybody run all that waits, for ever."""
    plant = LivePlant(["p"])
    for second in range(20):
        late = [at(second - 3, 100 + second)] if second == 5 else []
        plant.add("p", START + (second - 30) * S, [at(second, second), *late])
        plant.ask(START + second * S)
    assert plant.live._ahead.until >= START + 16 * S


def test_timers_that_were_put_off_do_not_pile_up() -> None:
    """A key that is hit ten times a second, and closes in a year, is remembered once."""
    plant = LivePlant(["p"])
    slow = policy(recovery=365 * D)
    for n in range(3_000):
        plant.live.add("p", START - 30 * S, matches([at(0, n, policy=slow, group_key=str(n % 3))]))
        plant.live.publish(START)
    assert len(plant.live._deadlines) < 2_000


def test_a_long_cooldown_does_not_keep_what_others_are_done_with() -> None:
    """A workspace asks for a cooldown of a year and takes it back: what closes afterwards can be put away."""
    plant = LivePlant(["p"])
    plant.add("p", START, [at(0, 0, policy=policy(recovery=1, close=1, cooldown=365 * D))])
    plant.ask(START)
    plant.add("p", START + 400 * D, [])
    plant.ask(START + 400 * D, settle=True)
    assert plant.live.over == START + 400 * D


def test_an_answer_names_no_incident_that_was_taken_back_at_once() -> None:
    """Two steps shown together: the second joins what the first had told apart, and its id was never to be found."""
    shard = LiveShard(["p"])
    shard.add("p", START, matches([at(0, 0), at(1800, 1)]))
    first = shard.publish(START + 1800 * S)
    shard.add("p", START, matches([at(1000, 2)]))
    both = merged([first, shard.publish(START + 1800 * S)])
    columns = {"offset": [0, 1, 2], "id": ["a", "b", "c"], "rule_id": ["auth_failure"] * 3, "confidence": ["High"] * 3}
    found = of_commit([(0, 3)], [pl.DataFrame(columns)], [], both)
    assert set(found) == {0, 2}
    assert {outcome.incident_id for outcome in found.values()} == set(both.output.incidents["id"].to_list())


def test_a_restarted_shard_knows_when_time_alone_will_change_something() -> None:
    """What was to recover while nobody ran does so without waiting for the next event."""
    plant = LivePlant(["p"])
    plant.add("p", START, [at(0, 0)])
    plant.ask(START)
    plant.add("p", START + 1 * S, [])
    plant.ask(START + 31 * S, settle=True)
    plant.throw_away()
    plant.ask(START + 31 * S)
    assert plant.live.next_due == START + 300 * S
