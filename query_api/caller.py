"""Who asks: the workspace of an API key (X-Api-Key) or of a person's token (Authorization: Bearer), and for what.

A workspace's own key and a person's token may do everything (`CallerDep`). A further key is limited to its scopes: it
gets in only where an endpoint names one of them, `Annotated[Caller, Depends(caller_with("logs:read"))]`.

On the hot path, a key that was seen before, this is two dict lookups and a count.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from connectors.control import SCOPES, Claims, Control, Denied
from query_api.envelope import ApiError, ErrorCode
from query_api.services import services

WORKSPACE = "tocsin.workspace"  # where in the ASGI scope the access log finds who it was


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. workspace: its id; name: its name; user: the id of the person, None for an API key.

    scopes: what the key is limited to; None: everything.
    """

    workspace: str
    name: str
    user: str | None = None
    scopes: frozenset[str] | None = None


async def caller(request: Request) -> Caller:
    """Return who asks, and count the request. Raises ApiError Unauthorized, Forbidden, RateLimited.

    A key that is limited to scopes is refused: it may do only what they name.
    """
    found = await _known(request)
    if found.scopes is not None:
        message = f"This key is limited to {', '.join(sorted(found.scopes))}: it may not do this."
        raise ApiError(ErrorCode.FORBIDDEN, message)
    return found


@dataclass(frozen=True, slots=True)
class CallerWith:
    """As `caller`, but also for keys that have one of these scopes. Two of the same scopes are the same dependency."""

    scopes: tuple[str, ...]

    async def __call__(self, request: Request) -> Caller:
        """Return who asks, and count the request. Raises ApiError Unauthorized, Forbidden, RateLimited."""
        found = await _known(request)
        if found.scopes is not None and found.scopes.isdisjoint(self.scopes):
            raise ApiError(ErrorCode.FORBIDDEN, f"This key lacks the scope {' or '.join(self.scopes)}.")
        return found


def caller_with(*scopes: str) -> CallerWith:
    """Return the dependency for an endpoint that keys with any one of these scopes may use."""
    unknown = set(scopes) - SCOPES.keys()
    if unknown or not scopes:
        raise ValueError(f"no such scopes: {sorted(unknown)}")
    return CallerWith(scopes)


async def user(request: Request) -> Claims:
    """Return the person who asks, for a workspace or for none yet. Raises ApiError Unauthorized, RateLimited."""
    parts = services(request)
    claims = _claims(parts.control, request.headers)
    await parts.rates.request(claims.user)
    return claims


CallerDep = Annotated[Caller, Depends(caller)]
UserDep = Annotated[Claims, Depends(user)]


async def _known(request: Request) -> Caller:
    parts = services(request)
    key = _key(request.headers)
    found = await (_by_key(parts.control, key) if key is not None else _by_token(parts.control, request.headers))
    request.scope[WORKSPACE] = found.workspace
    await parts.rates.request(found.workspace)
    return found


def _key(headers: Headers) -> str | None:
    """Return the API key, also where it comes as a bearer token: exporters often can send nothing else."""
    key = headers.get("x-api-key")
    if key is None:
        scheme, _, text = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and text.lstrip().startswith("sg_"):
            return text.strip()
    return key


async def _by_key(control: Control, key: str) -> Caller:
    owner = control.keys.cached(key) or await run_in_threadpool(control.keys.owner, key)
    if owner is None:
        raise ApiError(ErrorCode.UNAUTHORIZED, "The API key is not valid.")
    return _active(Caller(owner.workspace, owner.name, scopes=owner.scopes), owner.is_active)


async def _by_token(control: Control, headers: Headers) -> Caller:
    claims = _claims(control, headers)
    if claims.workspace is None:
        message = "The token is for no workspace yet: create one, or exchange it with POST /api/v1/auth/token."
        raise ApiError(ErrorCode.FORBIDDEN, message)
    found = control.workspaces.cached_membership(claims.user, claims.workspace) or await run_in_threadpool(
        control.workspaces.membership, claims.user, claims.workspace
    )
    if found is None:
        raise ApiError(ErrorCode.UNAUTHORIZED, "The token is not valid.")
    return _active(Caller(found.workspace, found.name, claims.user), found.is_active)


def _claims(control: Control, headers: Headers) -> Claims:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if not scheme:
        raise ApiError(ErrorCode.UNAUTHORIZED, "Missing or invalid API key or token.")
    if scheme.lower() != "bearer" or not text:
        raise ApiError(ErrorCode.UNAUTHORIZED, "Send the token as Authorization: Bearer <token>.")
    try:
        return control.tokens.read(text.strip())
    except Denied as denied:
        raise ApiError(ErrorCode.UNAUTHORIZED, str(denied)) from None


def _active(found: Caller, is_active: bool) -> Caller:
    if not is_active:
        raise ApiError(ErrorCode.FORBIDDEN, "The workspace is not active.")
    return found
