"""The operations of the application, one by one, whatever routers they came in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import fastapi.routing
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

# Newer versions keep included routers as they are; older ones copy their routes into one list.
_contexts: Any = getattr(fastapi.routing, "iter_route_contexts", None)


@dataclass(frozen=True, slots=True)
class Operation:
    """A path and a method. path: the whole pattern; route: what FastAPI leaves in the ASGI scope as `route`."""

    path: str
    method: str
    dependant: Dependant
    route: APIRoute
    documented: bool


def operations(app: FastAPI) -> Iterator[Operation]:
    """Yield the operations, without those of FastAPI itself (the documents)."""
    listed: Iterable[Any] = app.routes if _contexts is None else _contexts(app.routes)
    for found in listed:
        route = getattr(found, "original_route", found)
        if isinstance(route, APIRoute):
            for method in sorted(found.methods):
                yield Operation(found.path_format, method, found.dependant, route, found.include_in_schema)
