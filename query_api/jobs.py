"""Jobs in the background: `JobQueue` takes them in, `JobRunner` does them while the application lives.

Guarantee: a job that was answered with its id is done, if need be by another node or after a restart; so a handler may
run more than once for a job and has to come to the same result. What it raises becomes one sentence for who asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson
from starlette.concurrency import run_in_threadpool

from connectors.control import Control, ControlError, ControlUnavailable, Job
from connectors.pipeline import Unavailable
from query_api.envelope import ApiError

if TYPE_CHECKING:
    from query_api.caller import Caller
    from query_api.services import Services

# What does a job: its result, which JSON can say. ApiError and ControlError are for who asked; anything else is a
# mistake of ours. Awaits whatever takes long (`reading.read`, a thread), so that it can be stopped.
Handler = Callable[["Services", Job], Awaitable[Mapping[str, Any]]]

AT_ONCE = 2
CLAIM = 30.0  # seconds until another node takes the job of one that died
LONGEST = 900.0  # seconds that a job may take
POLL = 10.0  # seconds between looks for what other nodes left; one's own jobs need none


class JobQueue:
    """Where endpoints leave jobs."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.news = asyncio.Event()  # there may be something to do

    async def add(self, caller: Caller, kind: str, request: Mapping[str, Any]) -> Job:
        """Queue a job of the caller's workspace; it is durable when this returns. Raises ControlError Full."""
        create = self._control.jobs.create
        job = await run_in_threadpool(create, caller.workspace, kind, request, by=caller.user)
        self.news.set()
        return job


class JobRunner:
    """Does jobs of the kinds that `handlers` names, two at a time. claim, longest, poll: seconds."""

    def __init__(
        self,
        services: Services,
        handlers: Mapping[str, Handler],
        *,
        claim: float = CLAIM,
        longest: float = LONGEST,
        poll: float = POLL,
    ) -> None:
        self._services, self._handlers = services, dict(handlers)
        self._claim, self._longest, self._poll = claim, longest, poll

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do jobs meanwhile. What is under way at the end is put back."""
        if not self._handlers:
            yield
            return
        with suppress(ControlUnavailable):
            await run_in_threadpool(self._services.control.jobs.recover)
        workers = [asyncio.create_task(self._work(), name=f"jobs-{n}") for n in range(AT_ONCE)]
        try:
            yield
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def run_queued(self) -> int:
        """Do everything that is queued, one by one, and return how much that was: for tests."""
        done = 0
        while (job := await self._take()) is not None:
            await self._do(job)
            done += 1
        return done

    async def _work(self) -> None:
        news = self._services.jobs.news
        while True:
            news.clear()
            try:
                job = await self._take()
                if job is not None:
                    news.set()  # for the other worker: there may be more
                    await self._do(job)
                    continue
            except ControlUnavailable as wrong:
                self._services.log.warning("jobs wait", reason=str(wrong))
            except Exception as wrong:
                self._services.log.error("a job broke off", exc_info=wrong)
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), self._poll)

    async def _take(self) -> Job | None:
        taking = asyncio.ensure_future(
            run_in_threadpool(self._services.control.jobs.take, self._handlers.keys(), self._claim)
        )
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            job = await taking  # else it would be ours, and nobody would do it
            if job is not None:
                await self._release(job)
            raise

    async def _do(self, job: Job) -> None:
        """Do it, hold it meanwhile, and write down how it ended. Raises ControlUnavailable: then it is taken again."""
        began = perf_counter()
        doing = asyncio.create_task(self._attempt(job))
        holding = asyncio.create_task(self._hold(job, doing))
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError:
            doing.cancel()
            await asyncio.wait([doing])
            await self._release(job)
            raise
        finally:
            holding.cancel()
        ended = "lost" if doing.cancelled() else doing.result()
        ms = round((perf_counter() - began) * 1000, 3)
        self._services.log.info("job", id=job.id, kind=job.kind, workspace=job.workspace, ended=ended, ms=ms)

    async def _attempt(self, job: Job) -> str:
        """Do it and write down how it ended; how that was, in a word."""
        jobs = self._services.control.jobs
        try:
            async with asyncio.timeout(self._longest) as deadline:
                result = dict(await self._handlers[job.kind](self._services, job))
            said = orjson.loads(orjson.dumps(result))  # what JSON cannot say is a mistake like any other
        except ControlUnavailable:
            raise
        except Exception as wrong:
            sentence = f"It took longer than {self._longest:g} s." if deadline.expired() else self._sentence(job, wrong)
            return "failed" if await run_in_threadpool(jobs.fail, job, sentence) else "lost"
        return "succeeded" if await run_in_threadpool(jobs.finish, job, said) else "lost"

    def _sentence(self, job: Job, wrong: Exception) -> str:
        if isinstance(wrong, (ApiError, ControlError, Unavailable)):
            return str(wrong) or "Try again."
        self._services.log.error("a job failed", id=job.id, kind=job.kind, workspace=job.workspace, exc_info=wrong)
        return "Something went wrong on our side; the log has it under the job's id."

    async def _hold(self, job: Job, doing: asyncio.Task[str]) -> None:
        """Renew the claim; stop the work where somebody else has the job."""
        while True:
            await asyncio.sleep(self._claim / 3)
            with suppress(ControlUnavailable):  # the claim lasts for two more tries
                if not await run_in_threadpool(self._services.control.jobs.renew, job, self._claim):
                    doing.cancel()
                    return

    async def _release(self, job: Job) -> None:
        with suppress(ControlUnavailable):  # then its claim runs out
            await run_in_threadpool(self._services.control.jobs.release, job)
