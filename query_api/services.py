"""What the routers work with: a stand-in until the real one is merged."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from query_api.pipeline import Pipeline


@dataclass(frozen=True)
class Services:
    """The parts of the running service. clock: seconds since 1970."""

    control: Any
    pipeline: Pipeline
    settings: Any
    rates: Any = None
    clock: Callable[[], float] = time.time


def services(request: Request) -> Services:
    """Return the services of the application."""
    found: Services = request.app.state.services
    return found


async def _services(request: Request) -> Services:
    return services(request)


ServicesDep = Annotated[Services, Depends(_services)]
