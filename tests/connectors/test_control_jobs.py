"""Jobs in the control database: taken once whoever asks, held while somebody works on them, ended once."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.control import Control, Full, Job, Missing
from connectors.control import jobs as jobs_
from connectors.control.jobs import ATTEMPTS
from tests.connectors.control_databases import at_once, workspace_of

KINDS = ("rollup", "detect_anomalies")


class Clock:
    """A time that tests move, in seconds since 1970."""

    now = 1_769_848_200.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Time stands unless a test says otherwise."""
    return Clock()


@pytest.fixture
def control(url: str, tmp_path: Path, clock: Clock) -> Iterator[Control]:
    """Control over a database of each kind."""
    opened = Control.open(url, tmp_path / "secret.key", clock)
    yield opened
    opened.close()


def take(control: Control, seconds: float = 30.0) -> Job:
    """Take a job, which is there."""
    job = control.jobs.take(KINDS, seconds)
    assert job is not None
    return job


def test_a_job_from_its_request_to_its_result(control: Control, clock: Clock) -> None:
    """Everything that is asked and told comes back as it went in."""
    workspace = workspace_of(control)
    request = {"from": "2026-01-01T00:00:00Z", "text": "späße \0 👋", "n": 1.5, "none": None}
    made = control.jobs.create(workspace, "detect_anomalies", request, by="ada")
    at = datetime.fromtimestamp(clock.now, UTC)
    assert control.jobs.get(workspace, made.id) == made
    assert (made.status, made.request, made.created_at, made.requested_by) == ("queued", request, at, "ada")
    assert made.id.startswith("job_")
    assert control.jobs.create(workspace, "rollup", {}).id.startswith("rlp_")
    clock.now += 1
    taken = take(control)
    assert (taken.id, taken.status, taken.started_at) == (made.id, "running", datetime.fromtimestamp(clock.now, UTC))
    clock.now += 1
    assert control.jobs.finish(taken, {"found": 3, "text": "\0"})
    done = control.jobs.get(workspace, made.id)
    assert done is not None
    assert (done.status, done.result, done.error) == ("succeeded", {"found": 3, "text": "\0"}, None)
    assert done.finished_at == datetime.fromtimestamp(clock.now, UTC)


def test_a_job_fails_with_a_sentence(control: Control) -> None:
    """For who asked."""
    workspace = workspace_of(control)
    job = control.jobs.create(workspace, "rollup", {})
    assert control.jobs.fail(take(control), "It was too much.")
    failed = control.jobs.get(workspace, job.id)
    assert failed is not None
    assert (failed.status, failed.error, failed.result) == ("failed", "It was too much.", None)


@pytest.mark.parametrize("ident", ["nothing", "", "a\0b", "x" * 5_000, "späße"])
def test_nobodys_job_is_none(control: Control, ident: str) -> None:
    """Whatever is asked for; and another workspace's is nobody's."""
    mine, theirs = workspace_of(control), workspace_of(control)
    job = control.jobs.create(theirs, "rollup", {})
    assert control.jobs.get(mine, ident) is None
    assert control.jobs.get(mine, job.id) is None
    with pytest.raises(Missing):
        control.jobs.create("00000000-0000-0000-0000-000000000000", "rollup", {})


def test_each_job_is_taken_once(control: Control) -> None:
    """Eight that ask at the same time, for twenty jobs."""
    workspace = workspace_of(control)
    made = [control.jobs.create(workspace, "rollup", {"n": n}).id for n in range(20)]

    def take_all(_: int) -> list[str]:
        taken = []
        while (job := control.jobs.take(KINDS, 30)) is not None:
            assert control.jobs.finish(job, {})
            taken.append(job.id)
        return taken

    assert Counter(one for some in at_once(8, take_all) for one in some) == Counter(made)


def test_each_node_takes_its_own(url: str, tmp_path: Path) -> None:
    """Several processes over one database."""
    nodes = [Control.open(url, tmp_path / "secret.key") for _ in range(4)]
    workspace = workspace_of(nodes[0])
    nodes[0].jobs.create(workspace, "rollup", {})
    taken = at_once(4, lambda n: nodes[n].jobs.take(KINDS, 30))
    assert sum(job is not None for job in taken) == 1
    for node in nodes:
        node.close()


def test_a_node_takes_only_what_it_knows(control: Control) -> None:
    """While a cluster is updated, older nodes leave new kinds to newer ones."""
    workspace = workspace_of(control)
    job = control.jobs.create(workspace, "something_new", {})
    assert control.jobs.take(KINDS, 30) is None
    assert control.jobs.take([], 30) is None
    found = control.jobs.take(["something_new"], 30)
    assert found is not None
    assert found.id == job.id


def test_workspaces_take_turns(control: Control, clock: Clock) -> None:
    """A hundred jobs of one must not keep another one waiting; within one the oldest comes first."""
    busy, other = workspace_of(control), workspace_of(control)
    for owner, n in [*((busy, n) for n in range(4)), (other, 0), (other, 1)]:
        control.jobs.create(owner, "rollup", {"n": n})
        clock.now += 1
    order = []
    for _ in range(6):
        job = take(control)
        control.jobs.finish(job, {})
        order.append((job.workspace, job.request["n"]))
        clock.now += 1
    assert order == [(busy, 0), (other, 0), (busy, 1), (other, 1), (busy, 2), (busy, 3)]


def test_a_dead_nodes_job_is_taken_again_once_its_claim_ran_out(control: Control, clock: Clock) -> None:
    """To the second; and the dead one, should it wake up, ends nothing."""
    workspace = workspace_of(control)
    control.jobs.create(workspace, "rollup", {})
    dead = take(control)
    clock.now += 29.9
    assert control.jobs.take(KINDS, 30) is None
    assert control.jobs.renew(dead, 30)
    clock.now += 29.9
    assert control.jobs.take(KINDS, 30) is None
    clock.now += 0.1
    job = take(control)
    assert job.id == dead.id
    assert not control.jobs.renew(dead, 30)
    assert not control.jobs.finish(dead, {})
    assert not control.jobs.fail(dead, "x")
    assert not control.jobs.release(dead)
    assert control.jobs.finish(job, {"by": "the living"})
    assert not control.jobs.finish(job, {"by": "it again"})
    done = control.jobs.get(workspace, job.id)
    assert done is not None
    assert done.result == {"by": "the living"}


def test_a_job_that_kills_its_runner_is_given_up(control: Control, clock: Clock) -> None:
    """Else every node would die of it, one after the other, for ever."""
    workspace = workspace_of(control)
    job = control.jobs.create(workspace, "rollup", {})
    for _ in range(ATTEMPTS):
        take(control)
        clock.now += 30
    assert control.jobs.take(KINDS, 30) is None
    failed = control.jobs.get(workspace, job.id)
    assert failed is not None
    assert (failed.status, failed.error) == ("failed", "The job was begun several times and never came to its end.")


def test_a_released_job_is_as_if_it_had_not_begun(control: Control) -> None:
    """However often the service is stopped and started."""
    workspace = workspace_of(control)
    job = control.jobs.create(workspace, "rollup", {})
    for _ in range(ATTEMPTS + 2):
        assert control.jobs.release(take(control))
        assert control.jobs.get(workspace, job.id) == job
    assert take(control).id == job.id


def test_after_a_crash_only_a_lone_process_takes_back_what_ran(control: Control, url: str) -> None:
    """Over PostgreSQL another node may be running it."""
    workspace = workspace_of(control)
    job = control.jobs.create(workspace, "rollup", {})
    take(control)
    control.jobs.recover()
    again = control.jobs.take(KINDS, 30)
    assert (again.id if again else None) == (job.id if url.startswith("sqlite") else None)


def test_old_jobs_are_forgotten_and_waiting_ones_are_not(
    control: Control, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dashboard that asks every minute must not fill the disk."""
    monkeypatch.setattr(jobs_, "KEPT", 3)
    workspace, other = workspace_of(control), workspace_of(control)
    theirs = control.jobs.create(other, "detect_anomalies", {})
    waiting = control.jobs.create(workspace, "detect_anomalies", {})
    made = []
    for _ in range(6):
        clock.now += 1
        made.append(control.jobs.create(workspace, "rollup", {}).id)
        job = control.jobs.take(["rollup"], 30)
        assert job is not None
        control.jobs.finish(job, {})
    last = control.jobs.create(workspace, "rollup", {})
    left = [one for one in made if control.jobs.get(workspace, one) is not None]
    assert left == made[-3:]
    assert control.jobs.get(workspace, waiting.id) == waiting
    assert control.jobs.get(workspace, last.id) == last
    assert control.jobs.get(other, theirs.id) == theirs


def test_not_everything_at_once(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what to do; done ones make room."""
    monkeypatch.setattr(jobs_, "WAITING", 2)
    workspace = workspace_of(control)
    for _ in range(2):
        control.jobs.create(workspace, "rollup", {})
    with pytest.raises(Full, match=r"Try again when some of them are done\.$"):
        control.jobs.create(workspace, "rollup", {})
    control.jobs.finish(take(control), {})
    control.jobs.create(workspace, "rollup", {})


@pytest.mark.parametrize("value", [object(), {1, 2}, {1: 2}])
def test_what_json_cannot_say_is_no_request(control: Control, value: Any) -> None:
    """Told at once, where the mistake is."""
    workspace = workspace_of(control)
    with pytest.raises(TypeError):
        control.jobs.create(workspace, "rollup", {"x": value})
    assert control.jobs.take(KINDS, 30) is None


def test_looking_for_work_locks_nobody_out(tmp_path: Path) -> None:
    """An idle node asks every few seconds; while somebody writes, too."""
    control = Control.open(f"sqlite:///{tmp_path}/control.sqlite", tmp_path / "secret.key")
    with sqlite3.connect(tmp_path / "control.sqlite", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert control.jobs.take(KINDS, 30) is None
        writer.execute("ROLLBACK")
    control.close()
