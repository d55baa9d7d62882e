"""The columnar engine equals the oracle, however its input is cut, interleaved, sharded, settled and restarted.

The oracle (`tests/oracle.py`, `tests/oracle_clock.py`) takes one record after the other and says what DESIGN section 4
says; the streams (`tests/strategies.py`) gather around its deadlines.
"""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from operators.clock import PartitionClock
from operators.dedup import Deduplicator
from operators.shard import Shard
from tests import oracle
from tests.harness import (
    START,
    D,
    H,
    M,
    Plant,
    S,
    anomaly,
    event_count,
    expected,
    frame,
    matches,
    policy,
    ratio,
    restart,
    rows,
    value_avg,
    value_count,
    value_percentile,
    value_sum,
)
from tests.oracle import Match
from tests.strategies import WALL, Scenario, arrivals, scenarios


def feed(plant: Plant, scenario: Scenario, data: st.DataObject) -> list[Match]:
    """Bring a scenario in, settling and restarting where the drawn steps say so. Returns what was brought."""
    brought: list[Match] = []
    for step in data.draw(arrivals(scenario)):
        items = scenario.claimed(step.partition, step.rows)
        brought += items
        plant.add(step.partition, step.watermark, items)
        if step.settle:
            plant.settle()
        if step.restart:
            plant.restart()
    return brought


@given(st.data(), scenarios(), st.integers(1, 3))
def test_settled_tables_equal_the_oracle(data: st.DataObject, scenario: Scenario, shards: int) -> None:
    """Promise 1: incidents and timelines are a function of the log, and of nothing else."""
    plant = Plant(scenario.records, shards)
    feed(plant, scenario, data)
    assert plant.finish(scenario.end) == expected(oracle.run(scenario.matches, scenario.end))


@given(scenarios(), st.sampled_from([-H, -1, 0, 1, 5 * M, H, 400 * D]))
def test_the_end_can_be_moved(scenario: Scenario, by: int) -> None:
    """`--until` stops earlier and `--drain` later; timers due by then have fired and no others (S14)."""
    until = scenario.end + by
    plant = Plant(scenario.records)
    for name in scenario.records:
        plant.add(name, -(2**62), scenario.claimed(name, scenario.stamped(name)))
    assert plant.finish(until) == expected(oracle.run(scenario.matches, until))


@given(st.data(), scenarios(size=20, ids=True), st.booleans())
def test_clock_dedup_and_shard_together_equal_the_oracle(
    data: st.DataObject, scenario: Scenario, restarts: bool
) -> None:
    """From decoded records to tables, with outliers held back, duplicates and late events, across restarts."""
    names = list(scenario.records)
    clocks = {name: PartitionClock(scenario.lateness) for name in names}
    dedups = {name: Deduplicator() for name in names}
    plant = Plant(names)
    for step in data.draw(arrivals(scenario, stamped=False)):
        name = step.partition
        kept = dedups[name].filter(clocks[name].stamp(frame(step.rows), WALL).frame)
        plant.add(name, clocks[name].watermark, scenario.claimed(name, rows(kept)))
        if step.settle:
            plant.settle()
        if restarts:
            clocks[name], dedups[name] = restart(clocks[name]), restart(dedups[name])
            plant.restart()
    for name in names:
        rest = clocks[name].finish().frame
        if rest.height:
            plant.add(name, clocks[name].watermark, scenario.claimed(name, rows(dedups[name].filter(rest))))
    assert plant.finish(scenario.end) == expected(oracle.run(scenario.matches, scenario.end))


# ---------------------------------------------------------------- long streams of many keys


LIFECYCLES = [
    {"recovery": 5 * M, "close": 10 * M, "cooldown": 15 * M},
    {"recovery": 10 * S, "close": 20 * S, "cooldown": 5 * S},
    {"recovery": H, "close": M, "cooldown": M},
]
THRESHOLDS = [
    None,
    event_count(3, M),
    event_count(5, 3 * H),
    value_count(3, 2 * M),
    value_sum(20, M),
    value_avg(4.5, 2 * M, 3),
    value_percentile(90, 9, 5 * M, 4),
    ratio(0.4, 5, 3 * M),
    anomaly(10 * S, 3 * M, 0.05, 4, 3),
]


def crowd(seed: int, size: int) -> list[Match]:
    """Bursts and silences of 40 keys under all threshold types, with a few commands and version changes."""
    dice = random.Random(seed)
    versions = []
    for n, threshold in enumerate(THRESHOLDS):
        alert = {"alert_count": 3, "alert_window": 2 * M} if n % 2 else {}
        for version in range(2):
            lifecycle: Any = LIFECYCLES[(n + version * (seed % 2)) % 3]
            versions.append(policy(threshold, f"r{n}", f"{version:08x}", **lifecycle, **alert))
    out, now = [], START
    for offset in range(size):
        now += dice.choice([0, 0, 1, S, 2 * S, 5 * S, 20 * S] + [5 * M, 10 * M, 40 * M] * (dice.random() < 0.1))
        rule = dice.randrange(len(THRESHOLDS))
        out.append(
            Match(
                at=now,
                partition=dice.choice("abc"),
                offset=offset,
                policy=versions[2 * rule + (offset > size // 2)],
                group_key=str(int(dice.paretovariate(1)) % 5),
                tenant=dice.choice([None, "a", "b", "c", "d"]),
                confidence=dice.choice([1, 1, 2]),
                severity=dice.randrange(-1, 5),
                measure=dice.choice([None, 1.0, 2.5, 9.0, 10.0]),
                item=dice.choice([None, "x", "a", "b"]),
                kind=dice.choice([0] * 20 + [1] * (10 if rule == 7 else 0) + [2]),
            )
        )
    return out


@pytest.mark.parametrize(
    ("batch", "size", "seed"),
    [(1, 150, 0), (1, 150, 1), (37, 1500, 2), (37, 1500, 3), (5000, 4000, 4), (5000, 4000, 5)],
)
def test_long_streams_of_many_keys_equal_the_oracle(batch: int, size: int, seed: int) -> None:
    """What short streams cannot show: slots reused, many keys in one batch, thousands of matches in a window."""
    stream = crowd(seed, size)
    dice = random.Random(seed)
    plant = Plant("abc", shards=2)
    for begin in range(0, size, batch):
        part = stream[begin : begin + batch]
        for name in dice.sample("abc", 3):
            plant.add(name, part[-1].at, [m for m in part if m.partition == name])
        if dice.random() < 0.5:
            plant.settle()
        if dice.random() < 0.1:
            plant.restart()
    assert plant.finish(stream[-1].at) == expected(oracle.run(stream, stream[-1].at))


# ---------------------------------------------------------------- bounded state


@given(st.data(), scenarios())
def test_a_forgotten_key_leaves_nothing_behind(data: st.DataObject, scenario: Scenario) -> None:
    """Memory is bounded by what is alive, not by what has ever been (issue 2: 1.5 GiB however long the input)."""
    assume(scenario.matches)
    plant = Plant(scenario.records)
    feed(plant, scenario, data)
    for name in scenario.records:
        plant.add(name, scenario.end + 400 * D, [])
    plant.settle()
    assert plant.shards[0].live_keys == 0
    assert plant.store.contents() == expected(oracle.run(scenario.matches, scenario.end + 400 * D))


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
def test_state_does_not_grow_with_the_number_of_keys_ever_seen(threshold: Any) -> None:
    """A year of one-off keys leaves a shard as small as a day of them."""
    shard, sizes = Shard(["p"]), []
    rule = policy(threshold)
    for day in range(12):
        begin = START + day * D
        items = [
            Match(begin + n * S, "p", day * 500 + n, rule, group_key=f"{day}/{n}", measure=1.0, item="x", tenant="t")
            for n in range(500)
        ]
        shard.add("p", items[-1].at, matches(items))
        shard.settle()
        sizes.append(size_of(shard))
    assert max(sizes[1:]) < 1.5 * sizes[1]


def size_of(shard: Shard) -> int:
    return len(pickle.dumps(shard))
