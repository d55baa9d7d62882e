"""What the routers work with: made once, passed to `create_app`, found at `app.state.services`."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from connectors.control import Control
from operators.rules import Rule
from query_api.jobs import JobQueue
from query_api.logs import Log, make_log
from query_api.pipeline import Pipeline
from query_api.rates import Rates
from query_api.sandbox.places import Places
from query_api.settings import ServiceSettings


@dataclass(frozen=True)
class Services:
    """The parts of the running service. rules: in the order they are tried. clock: seconds since 1970.

    registry: for metrics; whoever has some registers a collector there.
    """

    control: Control
    pipeline: Pipeline
    settings: ServiceSettings
    rules: tuple[Rule, ...] = ()
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    log: Log = field(default_factory=make_log)
    clock: Callable[[], float] = time.time
    rates: Rates = field(init=False)
    jobs: JobQueue = field(init=False)
    # Passwords hashed side by side: bounds what a flood of logins takes of memory and cores.
    hashing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4), init=False)
    # Where people's own SQL runs; whoever has made the services closes it.
    places: Places = field(default_factory=Places, init=False)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", Rates(self.settings, self.log))
        object.__setattr__(self, "jobs", JobQueue(self.control))

    def configuring(self, workspace: str) -> asyncio.Lock:
        """The lock to hold while a workspace's settings are changed, so that log and database get them in one order."""
        return self._locks.setdefault(workspace, asyncio.Lock())


def services(request: Request) -> Services:
    """Return the services of the application."""
    found: Services = request.app.state.services
    return found


async def _services(request: Request) -> Services:
    # As a coroutine: FastAPI would send a plain function to a thread.
    return services(request)


ServicesDep = Annotated[Services, Depends(_services)]
