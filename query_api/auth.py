"""People: register, log in, change to another of one's workspaces."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from connectors.control import Control, Forbidden, Missing, User, Workspace
from connectors.control.passwords import LONGEST, SHORTEST
from connectors.control.text import EMAIL_LIMIT, NAME_LIMIT, email_key
from query_api.caller import UserDep
from query_api.envelope import SURFACE, ok
from query_api.openapi import responses
from query_api.services import Services, ServicesDep
from query_api.wire import ADDRESS, NAME, Envelope, Wire

router = APIRouter(prefix=f"{SURFACE}/auth", tags=["Authentication"])

Email = Annotated[
    str, Field(min_length=1, max_length=EMAIL_LIMIT, examples=["ada@example.com"], json_schema_extra=ADDRESS)
]
# Not `min_length` here: what is too short for a password is told by a sentence that does not come with the value.
Password = Annotated[
    str, Field(json_schema_extra={"minLength": SHORTEST, "maxLength": LONGEST}, examples=["correct horse battery"])
]
WorkspaceId = Annotated[str, Field(max_length=64, examples=["3fa1c2d4-0b6e-4c1a-9f57-2d8e4a7b9c01"])]


class Registration(Wire):
    """A new account."""

    email: Email
    password: Password
    name: Annotated[str | None, Field(max_length=NAME_LIMIT, examples=["Ada"], json_schema_extra=NAME)] = None


class Login(Wire):
    """workspaceId: the workspace that the token is for; the oldest one where it is left out."""

    email: Email
    password: Annotated[str, Field(examples=["correct horse battery"])]
    workspace_id: WorkspaceId | None = None


class Exchange(Wire):
    """The workspace to change to."""

    workspace_id: WorkspaceId


class UserBody(Wire):
    """A person."""

    id: str
    email: str
    name: str | None


class WorkspaceName(Wire):
    """A workspace that one belongs to."""

    id: str
    name: str


class Session(Wire):
    """A token, and what it is for. workspace: null where the user has none yet."""

    token: str
    expires_at: datetime
    user: UserBody
    workspace: WorkspaceName | None
    workspaces: list[WorkspaceName]


@router.post(
    "/register",
    status_code=201,
    summary="Register a new user account",
    response_model=Envelope[Session],
    responses=responses(403, 409, 429),
)
async def register(body: Registration, request: Request, services: ServicesDep) -> Response:
    """The answer holds a token already, for creating a workspace."""
    if not services.settings.registration:
        raise Forbidden("Registration is closed on this installation.")
    await services.rates.sign_in(_address(request))
    async with services.hashing:
        user = await run_in_threadpool(services.control.users.register, body.email, body.password, body.name)
    return ok(_session(services.control, user, None, []).body(), "Welcome.", status=201)


@router.post(
    "/login",
    summary="Log in and get a workspace-scoped token",
    response_model=Envelope[Session],
    responses=responses(401, 404, 429),
)
async def login(body: Login, request: Request, services: ServicesDep) -> Response:
    """The token counts for an hour."""
    account, address = email_key(body.email), _address(request)
    await services.rates.sign_in(address)
    await services.rates.attempt(account, address)
    async with services.hashing:
        session = await run_in_threadpool(_login, services, body)
    await services.rates.succeeded(account, address)
    return ok(session.body())


@router.post(
    "/token",
    summary="Exchange a token for a different workspace",
    response_model=Envelope[Session],
    responses=responses(404),
)
def token(body: Exchange, claims: UserDep, services: ServicesDep) -> Response:
    """The workspace must be one that the user belongs to."""
    user = services.control.users.find(claims.user)
    if user is None:
        raise Missing("There is no such user.")
    mine = services.control.workspaces.of_user(user.id)
    return ok(_session(services.control, user, _chosen(mine, body.workspace_id), mine).body())


def _login(services: Services, body: Login) -> Session:
    user = services.control.users.login(body.email, body.password)
    mine = services.control.workspaces.of_user(user.id)
    oldest = mine[0] if mine else None
    chosen = oldest if body.workspace_id is None else _chosen(mine, body.workspace_id)
    return _session(services.control, user, chosen, mine)


def _chosen(mine: list[Workspace], wanted: str) -> Workspace:
    for workspace in mine:
        if workspace.id == wanted.lower():
            return workspace
    raise Missing("Workspace not found.")


def _session(control: Control, user: User, workspace: Workspace | None, mine: list[Workspace]) -> Session:
    issued = control.tokens.issue(user.id, None if workspace is None else workspace.id)
    return Session(
        token=issued.text,
        expires_at=datetime.fromtimestamp(issued.expires_at, UTC),
        user=UserBody(id=user.id, email=user.email, name=user.name),
        workspace=None if workspace is None else WorkspaceName(id=workspace.id, name=workspace.name),
        workspaces=[WorkspaceName(id=one.id, name=one.name) for one in mine],
    )


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
