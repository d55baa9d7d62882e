"""`kill -9` in the middle of a replay, then `--resume`: nothing is lost, nothing counted twice.

A round kills at a seeded amount of records read, and a seeded moment later; most resumed runs are killed again. A short
form by default; TOCSIN_CHAOS_ROUNDS=50 (`make chaos`) for a night.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from flows.plan import PLAN_FILE
from flows.replay import BOARD_FILE
from tests.system.runs import (
    assert_same,
    counts,
    ended,
    partitions_ended,
    query,
    records_read,
    rows_stored,
    running,
    tables,
    tocsin,
    until,
    workers_of,
)

pytestmark = pytest.mark.chaos

ROUNDS = int(os.environ.get("TOCSIN_CHAOS_ROUNDS", "0"))
SINGLE = ROUNDS or 3
CLUSTER = ROUNDS or 1
KILLS = 2 if ROUNDS == 0 else 4  # at most, in a round


def interrupted(data: Path) -> bool:
    """Did the kill hit a run that could have gone on, with something of it in the store already?"""
    finished = query(data, "SELECT value FROM meta WHERE key = 'finished'")
    return not finished and rows_stored(data) > 0


def publish_often(data: Path) -> None:
    """Let the resumed run publish the lake with every snapshot, so that kills hit publications, too."""
    plan = data / "recovery" / PLAN_FILE
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"publish_every": 0.0}))


def assert_undisturbed(data: Path, undisturbed: Path, hint: str) -> None:
    """Every table, what the summary says, and what was published."""
    assert_same(tables(data), tables(undisturbed), hint)
    assert counts(data) == counts(undisturbed), hint
    assert_same(tables(data, "analyst.duckdb"), tables(undisturbed), f"{hint} published")


def wait_for_middle(data: Path, process: subprocess.Popen[str], rng: random.Random, total: int) -> None:
    """Until a seeded share of the records has been read, and a moment longer."""
    goal = max(1, int(total * rng.uniform(0.05, 0.9)))
    until(lambda: process.poll() is not None or records_read(data) >= goal)
    time.sleep(rng.random() * 0.3)  # not to wait for anything: the moment is to be anywhere in a batch or a flush


def forget_progress(data: Path) -> None:
    """The board of the run before would be taken for that of the next one."""
    (data / "recovery" / BOARD_FILE).unlink()


def finish(data: Path) -> None:
    """Resume to the end; fine, too, where only the last word was missing."""
    done = tocsin("replay", "--resume", "--data", data)
    assert done.returncode == 0 or "is complete" in done.stderr, done.stdout + done.stderr


@pytest.fixture(scope="module")
def hits() -> dict[int, int]:
    """Kills that really interrupted a run, by round."""
    return {}


@pytest.mark.parametrize("seed", range(SINGLE))
def test_a_killed_replay_resumes_to_the_same_tables(
    seed: int, log: list[Path | str], undisturbed: Path, hits: dict[int, int], tmp_path: Path
) -> None:
    """The machine was switched off in the middle of a year's replay: hours of work would be lost, or wrong."""
    rng, total, data = random.Random(seed), counts(undisturbed)["records"], tmp_path / "data"
    hits[seed] = 0
    for kill in range(rng.randint(1, KILLS)):
        with running(*(log if kill == 0 else ["--resume"]), data=data) as process:
            wait_for_middle(data, process, rng, total)
            process.kill()
            code, out, err = ended(process)
        assert code in (-signal.SIGKILL, 0) or "is complete" in err, out + err
        if code == 0 or "is complete" in err:
            break
        hits[seed] += interrupted(data)
        publish_often(data)
        forget_progress(data)
    finish(data)
    assert_undisturbed(data, undisturbed, f"seed {seed}:")


def test_kills_did_hit_runs_in_the_middle(hits: dict[int, int]) -> None:
    """Otherwise the rounds above prove nothing."""
    assert sum(hits.values()) >= 1, hits


def test_a_partition_that_had_ended_does_not_hold_up_the_others(
    log: list[Path | str], undisturbed: Path, tmp_path: Path
) -> None:
    """Killed after a short file had been read to its end, a resumed replay would wait for it for ever."""
    data = tmp_path / "data"
    with running(*log, data=data) as process:
        assert until(lambda: partitions_ended(data) > 0 or process.poll() is not None)
        read = records_read(data)
        until(lambda: process.poll() is not None or records_read(data) > read)
        time.sleep(0.25)  # an epoch: likely there is a snapshot with that end in it
        process.kill()
        ended(process)
    finish(data)
    assert_undisturbed(data, undisturbed, "after the end of a partition:")


@pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="finds a cluster's workers in /proc, which is not here"
)
@pytest.mark.parametrize("seed", range(CLUSTER))
def test_a_killed_cluster_resumes_to_the_same_tables(
    seed: int, log: list[Path | str], undisturbed: Path, tmp_path: Path
) -> None:
    """One of several processes runs out of memory, or the terminal they were started from is gone: nobody is left
    over holding the store, and the run can go on."""
    rng, total, data = random.Random(1_000 + seed), counts(undisturbed)["records"], tmp_path / "data"
    hit = 0
    for victim in ("worker", "parent") if rng.random() < 0.5 else ("parent", "worker"):
        begin = ["--resume"] if (data / "recovery" / PLAN_FILE).exists() else [*log, "--workers", "2"]
        with running(*begin, data=data) as process:
            wait_for_middle(data, process, rng, total)
            workers = workers_of(data)
            if victim == "worker" and workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
            else:
                process.kill()
            code, out, err = ended(process)
            assert until(lambda: not workers_of(data), 30), "workers outlive their parent"
        if victim == "worker" and code != 0:
            assert code == 2, out + err
            assert err.splitlines()[-1].startswith("tocsin: a worker"), err
            assert "--resume" in err.splitlines()[-1], err
        if code == 0 or "is complete" in err:
            break
        hit += interrupted(data)
        forget_progress(data)
    assert hit, "no kill hit a run"
    finish(data)
    assert_undisturbed(data, undisturbed, f"cluster, seed {seed}:")
