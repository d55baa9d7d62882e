"""The detect step: keys keep their shard, the end comes once, and a snapshot holds everything."""

from __future__ import annotations

from zlib import crc32

import pytest
from bytewax.operators import StatefulBatchLogic
from hypothesis import given
from hypothesis import strategies as st

from flows import detect
from flows.detect import Detect, ShardInput, by_shard
from operators.clock import NEVER
from operators.matches import Matches
from operators.output import Output
from operators.shard import FOREVER
from tests.harness import START, M, Row, Store, event_count, matches, policy
from tests.oracle import Match

POLICY = policy()
SPIKE = policy(event_count(3, 5 * M), rule="timeout_spike")
PARTITIONS = ("p", "q")


def match(minute: float, offset: int, **fields: object) -> Match:
    return Match(at=START + int(minute * M), **({"partition": "p", "offset": offset, "policy": POLICY} | fields))  # type: ignore[arg-type]


def news(partition: str, minute: float, *items: Match, ended: bool = False) -> ShardInput:
    """What a shard hears of a partition: its watermark, and matches."""
    found = by_shard(matches(items), 1).get(0) if items else None
    last = max((item.at for item in items), default=NEVER)
    return ShardInput(partition, START + int(minute * M), last, ended, found)


def run(logic: Detect, *inputs: ShardInput) -> dict[str, list[Row]]:
    """What the store holds after some news, one at a time."""
    store = Store()
    for each in inputs:
        write(store, logic, each)
    return store.contents()


def write(store: Store, logic: Detect, *inputs: ShardInput) -> None:
    outputs, discard = logic.on_batch(list(inputs))
    assert discard is StatefulBatchLogic.RETAIN, "a shard that is thrown away would begin anew"
    for output in outputs:
        assert isinstance(output, Output)
        store.write(output)


# ---------------------------------------------------------------- shards

keys = st.tuples(
    st.sampled_from(("default", "acme", "ACME", "")), st.sampled_from((POLICY, SPIKE)), st.text(max_size=6)
)


@given(st.lists(keys, max_size=30), st.integers(1, 9))
def test_every_match_goes_to_the_shard_of_its_key(found: list[tuple], shards: int) -> None:
    """A key in two shards would have two incidents at once. Its shard follows from its name alone, by a hash that is
    the same in every process and every version: snapshots of last week lie by it."""
    items = [
        match(n, n, workspace=workspace, policy=rule, group_key=group)
        for n, (workspace, rule, group) in enumerate(found)
    ]
    parts = by_shard(matches(items), shards)
    assert set(parts) <= set(range(shards))
    seen = {}
    for shard, part in parts.items():
        offsets = part.frame["offset"].to_list()
        assert offsets == sorted(offsets), "in the order of the log"
        seen |= dict.fromkeys(offsets, shard)
        assert sum(len(each) for each in parts.values()) == len(items)
    for n, (workspace, rule, group) in enumerate(found):
        assert seen[n] == crc32(f"{workspace}\0{rule.rule_id}\0{group}".encode()) % shards


def test_settings_do_not_move_a_key() -> None:
    """A workspace changes a threshold at noon: the open incident must not be forgotten."""
    changed = policy(event_count(7, M), version="00000002")
    one, other = (by_shard(matches([match(0, 0, policy=each)]), 64) for each in (POLICY, changed))
    assert one.keys() == other.keys()


def test_no_matches_go_nowhere() -> None:
    """Most batches of a quiet log."""
    assert by_shard(Matches.empty(), 4) == {}


# ---------------------------------------------------------------- the end

OPENING = (match(0, 0), match(1, 1))


def test_nothing_is_final_before_every_partition_has_ended() -> None:
    """The other file may still hold an earlier event."""
    logic = Detect(PARTITIONS, None, False, None)
    assert run(logic, news("p", 1, *OPENING, ended=True))["incidents"] == []
    assert run(logic, news("q", 0, match(0.5, 0, partition="q")))["incidents"] == []
    [incident] = run(logic, news("q", 0, ended=True))["incidents"]
    assert (incident["event_count"], incident["opened_at"]) == (3, START)


def test_the_end_comes_once() -> None:
    """A resumed run may hear of the end again; a second incident or transition would be a lie."""
    logic = Detect(["p"], None, False, None)
    store = Store()
    write(store, logic, news("p", 1, *OPENING, ended=True))
    once = store.contents()
    write(store, logic, news("p", 1, ended=True))
    assert store.contents() == once
    assert len(once["incidents"]) == 1


def test_partitions_without_matches_end_too() -> None:
    """A file of heartbeats must not keep the others' incidents from being written."""
    logic = Detect(PARTITIONS, None, False, None)
    [incident] = run(logic, news("q", 9, ended=True), news("p", 1, *OPENING, ended=True))["incidents"]
    assert incident["event_count"] == 2


@pytest.mark.parametrize(
    ("last", "status"), [(4.999, "Open"), (5, "Recovering"), (14.999, "Recovering"), (15, "Closed")]
)
def test_timers_run_up_to_the_last_at_of_any_partition(last: float, status: str) -> None:
    """S14: an incident is as old as the log, not as its own file: exactly at its deadline, and just before."""
    logic = Detect(PARTITIONS, None, False, None)
    other = match(last, 0, partition="q", group_key="other")
    result = run(logic, news("p", 0, match(0, 0), ended=True), news("q", last - 0.5, other, ended=True))
    assert next(row for row in result["incidents"] if row["group_key"] == "api")["status"] == status


def test_drain_lets_all_timers_run_out() -> None:
    """`--drain`: what would have become of it if nothing else had happened."""
    logic = Detect(["p"], None, True, None)
    result = run(logic, news("p", 0, match(0, 0), ended=True))
    assert result["incidents"][0]["status"] == "Closed"
    assert [row["at"] - START for row in result["transitions"]] == [0, 5 * M, 15 * M]


@pytest.mark.parametrize(
    ("until", "events", "status"),
    [(0, 1, "Open"), (1, 2, "Open"), (2, 2, "Open"), (5, 2, "Open"), (6, 2, "Recovering"), (16, 2, "Closed"),
     (29.9, 2, "Closed"), (30, 3, "Open")],
)  # fmt: skip
def test_until_settles_no_further(until: float, events: int, status: str) -> None:
    """`--until`: the state of affairs at 14:30, the events of that very instant included and nothing later."""
    logic = Detect(PARTITIONS, START + int(until * M), False, None)
    result = run(
        logic,
        news("p", 30, *OPENING, match(30, 2), ended=True),
        news("q", 50, match(50, 0, partition="q", group_key="other")),
        news("q", 50, ended=True),
    )
    [incident] = result["incidents"]
    assert (incident["event_count"], incident["status"]) == (events, status)


def test_until_after_the_log() -> None:
    """Timers go on to the instant asked for."""
    logic = Detect(["p"], START + 5 * M, False, None)
    [incident] = run(logic, news("p", 0, match(0, 0), ended=True))["incidents"]
    assert incident["status"] == "Recovering"


# ---------------------------------------------------------------- settling and snapshots


def script() -> list[ShardInput]:
    """Two partitions, two rules, an incident that closes and comes back."""
    told = []
    for n in range(60):
        partition = PARTITIONS[n % 2]
        rule = SPIKE if n % 3 else POLICY
        minute = n * 0.7 + (17 if n > 30 else 0)
        items = [match(minute - back, 3 * n + k, partition=partition, policy=rule, tenant=f"t{n % 5}",
                       group_key=f"g{n % 4}") for k, back in enumerate((0.4, 0.0, 0.2))]  # fmt: skip
        told.append(news(partition, minute - 0.5, *items))
    return [*told, news("p", 60, ended=True), news("q", 60, ended=True)]


@pytest.fixture(scope="module")
def straight() -> dict[str, list[Row]]:
    """All of the script without a stop, settled at the end only."""
    return run(Detect(PARTITIONS, None, False, None), *script())


def test_settling_on_the_way_changes_nothing(straight: dict[str, list[Row]], monkeypatch: pytest.MonkeyPatch) -> None:
    """When the engine finds the time to settle depends on the machine; what it says must not."""
    for settle in (1, 7, 40):
        monkeypatch.setattr(detect, "SETTLE", settle)
        assert run(Detect(PARTITIONS, None, False, None), *script()) == straight
    assert len(straight["incidents"]) > 4
    assert any(row["reopen_count"] for row in straight["incidents"])


def test_several_news_at_once(straight: dict[str, list[Row]]) -> None:
    """Bytewax hands over what has gathered: one, or all of it."""
    store = Store()
    write(store, Detect(PARTITIONS, None, False, None), *script())
    assert store.contents() == straight


@pytest.mark.parametrize("settle", [1, 20, 50_000])
def test_a_snapshot_after_every_step(
    settle: int, straight: dict[str, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed anywhere, the restored shard goes on as if nothing had been: pending matches, timers, ends and all."""
    monkeypatch.setattr(detect, "SETTLE", settle)
    store, logic = Store(), Detect(PARTITIONS, None, False, None)
    for each in script():
        write(store, logic, each)
        logic = Detect((), None, False, logic.snapshot())
    assert store.contents() == straight


def test_a_snapshot_is_of_its_moment(straight: dict[str, list[Row]]) -> None:
    """Bytewax writes it later, while the shard already goes on."""
    told = script()
    logic = Detect(PARTITIONS, None, False, None)
    run(logic, *told[:20])
    snapshot = logic.snapshot()
    run(logic, *told[20:])
    assert run(Detect((), None, False, snapshot), *told[20:]) == straight


def test_forever_is_beyond_every_time() -> None:
    """A partition that has ended is treated as being there."""
    assert FOREVER > START * 1_000
