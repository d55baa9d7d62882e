"""The OpenAPI document: what each operation may answer, and what it wants to know of the caller.

`responses(404, 409)` is for what only some operations say. What all of them say, and who may call them, is put in here,
derived from the operation itself, so that nobody can forget it: which key it takes, and errors in its surface's shape.
"""

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi

from query_api.caller import CallerWith, caller, user
from query_api.envelope import ANALYTICS, ENVELOPE, PROBLEM, Shape, shape_of
from query_api.routes import Operation, operations

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

_SCHEMAS = "#/components/schemas/"

Responses = dict[int | str, dict[str, Any]]


def responses(*statuses: int) -> Responses:
    """Return what FastAPI's `responses=` wants for these errors; their shape is filled in from the path."""
    return {status: {"description": _SAID[status]} for status in statuses}


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
    for shape in (ENVELOPE, ANALYTICS, PROBLEM):
        schema = shape.model.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
        schemas |= schema.pop("$defs", {}) | {shape.model.__name__: schema}
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
    shape = shape_of(operation.path)
    calls = set(_calls(operation.dependant))
    scopes = sorted({scope for call in calls if isinstance(call, CallerWith) for scope in call.scopes})
    key = caller in calls or bool(scopes)
    security: list[dict[str, list[str]]]
    security = [{"ApiKey": []}, {"Bearer": []}] if key else [{"Bearer": []}] if user in calls else []
    if security:
        document["security"] = security
    if scopes:
        document["x-scopes"] = scopes
        needed = f"A key that is limited to scopes needs {' or '.join(f'`{scope}`' for scope in scopes)}."
        document["description"] = "\n\n".join(filter(None, (document.get("description"), needed)))
    for status in _shared(document, bool(security), shape):
        said.setdefault(str(status), {"description": _SAID[status]})
    content = {shape.media_type: {"schema": {"$ref": f"{_SCHEMAS}{shape.model.__name__}"}}}
    for status, answer in said.items():
        if status.isdigit() and int(status) >= 400:
            answer.setdefault("content", content)
    for limit in ("429", "503"):
        if limit in said:
            said[limit].setdefault("headers", {"Retry-After": _RETRY_AFTER})
    document["responses"] = dict(sorted(said.items()))


def _shared(document: dict[str, Any], secured: bool, shape: Shape) -> set[int]:
    """Return the errors that any operation like this one may answer; none of those that tell how we are."""
    if not secured and shape is PROBLEM:
        return set()
    shared = {*_EVERY, *((401, 403, 429) if secured else ())}
    if document.get("requestBody"):
        shared |= {400, 413}
    if document.get("parameters"):
        shared |= {400}
    if any(parameter["in"] == "path" for parameter in document.get("parameters", ())):
        shared |= {404}
    return shared


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)
