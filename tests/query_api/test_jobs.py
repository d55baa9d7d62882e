"""Jobs in the background: done once, put back when the service stops, and never the reason that it does."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.concurrency import run_in_threadpool

from connectors.control import ControlUnavailable, Full, Job, Refused
from connectors.control.jobs import ATTEMPTS, WAITING
from query_api.caller import Caller
from query_api.envelope import ApiError, ErrorCode
from query_api.jobs import Handler, JobRunner
from query_api.pipeline import Unavailable
from query_api.services import Services
from tests.query_api.service import Service, Team, serving

KIND = "rollup"


@pytest.fixture
def team(service: Service) -> Team:
    """A workspace."""
    return service.team()


def parts(service: Service) -> Services:
    """What handlers work with."""
    found: Services = service.app.state.services
    return found


def queue(service: Service, team: Team, **request: Any) -> Job:
    """Queue a job, as an endpoint does."""
    added: Job = service.runner.run(parts(service).jobs.add(Caller(team.id, "My Team", "ada"), KIND, request))
    return added


def now(service: Service, team: Team, job: Job) -> Job:
    """The job as it is."""
    found = service.control.jobs.get(team.id, job.id)
    assert found is not None
    return found


def runner(service: Service, handler: Handler, **more: float) -> JobRunner:
    """A runner with one handler."""
    return JobRunner(parts(service), {KIND: handler}, **more)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for it."""
    give_up = time.monotonic() + seconds
    while not await run_in_threadpool(condition):
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


async def echo(services: Services, job: Job) -> Mapping[str, Any]:
    """A handler that says what it was asked."""
    return {"asked": job.request, "workspace": job.workspace}


def test_a_job_is_queued_done_and_told(service: Service, team: Team) -> None:
    """From the answer with its id to its result."""
    job = queue(service, team, hours=3)
    assert (job.status, job.requested_by, job.id[:4], len(job.id)) == ("queued", "ada", "rlp_", 30)
    assert service.runner.run(runner(service, echo).run_queued()) == 1
    done = now(service, team, job)
    assert (done.status, done.error) == ("succeeded", None)
    assert done.result == {"asked": {"hours": 3}, "workspace": team.id}
    assert done.finished_at is not None
    line = service.lines()[-1]
    assert (line["event"], line["id"], line["ended"], line["workspace"]) == ("job", job.id, "succeeded", team.id)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (ApiError(ErrorCode.TIMEOUT, "The answer took longer than 5 s."), "The answer took longer than 5 s."),
        (Refused("from must be before to."), "from must be before to."),
        (Unavailable("The log is full."), "The log is full."),
        (RuntimeError("insides"), "Something went wrong on our side; the log has it under the job's id."),
        (TimeoutError(), "Something went wrong on our side; the log has it under the job's id."),
    ],
)
def test_what_goes_wrong_is_one_sentence(service: Service, team: Team, wrong: Exception, sentence: str) -> None:
    """Never a traceback; that is in the log, with the job's id."""

    async def fail(services: Services, job: Job) -> Mapping[str, Any]:
        raise wrong

    job = queue(service, team)
    service.runner.run(runner(service, fail).run_queued())
    failed = now(service, team, job)
    assert (failed.status, failed.error, failed.result) == ("failed", sentence, None)
    errors = [line for line in service.lines() if line["level"] == "error"]
    assert [line["id"] for line in errors] == ([job.id] if "our side" in sentence else [])


@pytest.mark.parametrize("result", [{"at": object()}, {1: 2}, [("x",)]])
def test_a_result_that_cannot_be_told_is_a_failure(service: Service, team: Team, result: Any) -> None:
    """Not a runner that stops."""

    async def strange(services: Services, job: Job) -> Mapping[str, Any]:
        found: Mapping[str, Any] = result
        return found

    job = queue(service, team)
    service.runner.run(runner(service, strange).run_queued())
    assert now(service, team, job).status == "failed"


def test_a_job_that_takes_too_long_is_stopped(service: Service, team: Team) -> None:
    """It would keep its place for ever."""

    async def slow(services: Services, job: Job) -> Mapping[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError

    job = queue(service, team)
    service.runner.run(runner(service, slow, longest=0.05).run_queued())
    assert now(service, team, job).error == "It took longer than 0.05 s."


def test_a_running_service_does_jobs_as_they_come_two_at_a_time(service: Service, team: Team) -> None:
    """Woken by each, not by the clock; the third waits for its turn."""
    under_way, most = 0, 0

    async def slow(services: Services, job: Job) -> Mapping[str, Any]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.1)
        under_way -= 1
        return {}

    async def live() -> None:
        async with runner(service, slow, poll=60).running():
            await asyncio.sleep(0.1)  # both wait
            add = parts(service).jobs.add
            jobs = [await add(Caller(team.id, "My Team"), KIND, {}) for _ in range(5)]
            await until(lambda: all(now(service, team, job).status == "succeeded" for job in jobs))

    service.runner.run(live())
    assert most == 2


def test_stopping_puts_back_what_is_under_way(service: Service, team: Team) -> None:
    """The next start does it, at once; it does not count as a try."""
    begun = 0

    async def endless(services: Services, job: Job) -> Mapping[str, Any]:
        nonlocal begun
        begun += 1
        await asyncio.sleep(60)
        raise AssertionError

    async def live() -> None:
        async with runner(service, endless).running():
            await until(lambda: now(service, team, job).status == "running")

    job = queue(service, team)
    for n in range(ATTEMPTS + 1):
        service.runner.run(live())
        assert (now(service, team, job).status, begun) == ("queued", n + 1)
    assert service.runner.run(runner(service, echo).run_queued()) == 1
    assert now(service, team, job).status == "succeeded"


def test_what_ran_when_the_process_died_is_done_at_the_next_start(service: Service, team: Team) -> None:
    """Without waiting for a claim to run out: nobody else can hold one."""
    job = queue(service, team)
    assert service.control.jobs.take([KIND], 3600) is not None

    async def live() -> None:
        async with runner(service, echo).running():
            await until(lambda: now(service, team, job).status == "succeeded")

    assert service.runner.run(runner(service, echo).run_queued()) == 0
    service.runner.run(live())


def test_a_claim_is_renewed_while_the_work_goes_on(service: Service, team: Team) -> None:
    """A long job must not be done twice."""

    async def slow(services: Services, job: Job) -> Mapping[str, Any]:
        for _ in range(8):
            service.now += 0.1
            await asyncio.sleep(0.1)
            assert await run_in_threadpool(services.control.jobs.take, [KIND], 1.0) is None
        return {}

    job = queue(service, team)
    service.runner.run(runner(service, slow, claim=0.3).run_queued())
    assert now(service, team, job).status == "succeeded"


def test_who_lost_a_job_stops(service: Service, team: Team) -> None:
    """Another node has it: two must not write."""
    stopped = False

    async def paused(services: Services, job: Job) -> Mapping[str, Any]:
        nonlocal stopped
        service.now += 3600  # the machine slept
        assert await run_in_threadpool(services.control.jobs.take, [KIND], 3600.0) is not None
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped = True
            raise
        raise AssertionError

    job = queue(service, team)
    service.runner.run(runner(service, paused, claim=0.1).run_queued())
    assert stopped
    assert now(service, team, job).status == "running"
    assert service.lines()[-1]["ended"] == "lost"


def test_a_database_that_does_not_answer_stops_no_runner(
    service: Service, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on when the database does."""
    job = queue(service, team)
    take = service.control.jobs.take
    asked = 0

    def down(*given: Any) -> Job | None:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise ControlUnavailable("The control database does not answer.")
        return take(*given)

    monkeypatch.setattr(service.control.jobs, "take", down)

    async def live() -> None:
        async with runner(service, echo, poll=0.05).running():
            await until(lambda: now(service, team, job).status == "succeeded")

    service.runner.run(live())
    assert "jobs wait" in [line["event"] for line in service.lines()]


def test_too_many_jobs_are_429(service: Service, team: Team) -> None:
    """Nobody fills the queue for everybody else; other workspaces are not concerned."""
    for _ in range(WAITING):
        service.control.jobs.create(team.id, KIND, {})
    with pytest.raises(Full):
        queue(service, team)
    queue(service, service.team("Other"))


def test_the_application_runs_its_jobs_in_its_lifespan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting the application is all that an operator does."""
    from query_api import app

    monkeypatch.setattr(app, "HANDLERS", {KIND: echo})
    with serving(tmp_path) as service:
        team = service.team()

        async def live() -> None:
            async with service.app.router.lifespan_context(service.app):
                job = await parts(service).jobs.add(Caller(team.id, "My Team"), KIND, {})
                await until(lambda: now(service, team, job).status == "succeeded")

        service.runner.run(live())
        job = queue(service, team)
        assert service.run_jobs() == 1
        assert now(service, team, job).status == "succeeded"


def test_waiting_costs_next_to_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's laptop runs it all day: a look at the database every ten seconds, by each worker."""
    looks = 0
    take = service.control.jobs.take

    def counted(*given: Any) -> Job | None:
        nonlocal looks
        looks += 1
        return take(*given)

    monkeypatch.setattr(service.control.jobs, "take", counted)

    async def idle() -> None:
        async with runner(service, echo).running():
            await asyncio.sleep(1.0)

    service.runner.run(idle())
    assert looks == 2
