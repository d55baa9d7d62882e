"""The OpenAPI document: what each operation may answer, and what it wants to know of the caller.

`responses(404, 409)` is for what only some operations say. What all of them say, and who may call them, is put in here,
derived from the operation itself, so that nobody can forget it.
"""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi

from query_api.caller import caller, user
from query_api.envelope import enveloped
from query_api.routes import Operation, operations
from query_api.wire import Failure, Problem

_SAID = {
    400: "A field is missing or makes no sense; `message` says which.",
    401: "No key or token, or one that is wrong, rotated or expired.",
    403: "Known, but not allowed.",
    404: "There is no such thing in this workspace.",
    409: "There is one already.",
    413: "The body is too large.",
    422: "Understood, but not taken.",
    429: "Too much in a minute. `Retry-After` says when to try again.",
    500: "A mistake of ours.",
    503: "Busy, or not ready. `Retry-After` says when to try again; nothing was changed.",
    504: "The answer took too long.",
}
_RETRY_AFTER = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
_EVERY = (500, 503, 504)
_SCHEMES = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "A workspace's key, `sg_...`."},
    "Bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "From POST /auth/login."},
}

Responses = dict[int | str, dict[str, Any]]


def responses(*statuses: int, native: bool = False) -> Responses:
    """Return what FastAPI's `responses=` wants for these errors. native: of a path outside /api/v1."""
    return {status: _error(status, native) for status in statuses}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def _document(app: FastAPI) -> dict[str, Any]:
    made: dict[str, Any] = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
        separate_input_output_schemas=False,
    )
    components = made.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    for model in (Failure, Problem):
        schemas.setdefault(model.__name__, model.model_json_schema(ref_template="#/components/schemas/{model}"))
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operation in operations(app):
        if operation.documented:
            _complete(made["paths"][operation.path][operation.method.lower()], operation)
    return made


def _complete(document: dict[str, Any], operation: Operation) -> None:
    """Add the security that the operation's dependencies ask for, and the answers that it shares with others."""
    said = document.setdefault("responses", {})
    if "HTTPValidationError" in str(said.get("422")):
        del said["422"]  # FastAPI's own; ours is 400
    calls = set(_calls(operation.dependant))
    security: list[dict[str, list[str]]]
    security = [{"ApiKey": []}, {"Bearer": []}] if caller in calls else [{"Bearer": []}] if user in calls else []
    if security:
        document["security"] = security
    if not enveloped(operation.path):
        shared: tuple[int, ...] = (401, 403, 429, *_EVERY) if security else ()
    else:
        shared = _EVERY
        if security:
            shared += (401, 403, 429)
        if document.get("requestBody"):
            shared += (400, 413)
        elif document.get("parameters"):
            shared += (400,)
        if any(parameter["in"] == "path" for parameter in document.get("parameters", ())):
            shared += (404,)
    for status in shared:
        said.setdefault(str(status), _plain_error(status, native=not enveloped(operation.path)))
    for limit in ("429", "503"):
        if limit in said:
            said[limit].setdefault("headers", {"Retry-After": _RETRY_AFTER})
    document["responses"] = dict(sorted(said.items()))


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)


def _error(status: int, native: bool) -> dict[str, Any]:
    error = _plain_error(status, native)
    if native:
        return error
    return {"model": Failure, "description": error["description"], "headers": error.get("headers", {})}


def _plain_error(status: int, native: bool) -> dict[str, Any]:
    kind, schema = ("application/problem+json", "Problem") if native else ("application/json", "Failure")
    error: dict[str, Any] = {
        "description": _SAID[status],
        "content": {kind: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
    if status in (429, 503):
        error["headers"] = {"Retry-After": _RETRY_AFTER}
    return error
