"""What the routers work with."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from query_api.pipeline import Pipeline


@dataclass(frozen=True)
class Services:
    """The parts of the running service."""

    control: Any
    pipeline: Pipeline
    settings: Any


def services(request: Request) -> Services:
    """Return the services of the application."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]
