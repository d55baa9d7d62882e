"""Workspaces: create one, look at it, change its name and windows, rotate its key."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, get_args

from fastapi import APIRouter
from pydantic import BeforeValidator, ConfigDict, Field, StrictInt, model_validator
from pydantic.json_schema import SkipJsonSchema
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from connectors.control import NewKey, Window, Workspace
from connectors.control.text import NAME_LIMIT
from operators.events import SECOND
from operators.policy import CLOSE, COOLDOWN, RECOVERY
from query_api.caller import Caller, CallerDep, UserDep
from query_api.channels import ChannelBody, channel_bodies
from query_api.configure import configure
from query_api.envelope import SURFACE, ok
from query_api.integrations_wire import as_micros
from query_api.services import Services, ServicesDep
from query_api.wire import NAME, Envelope, Wire

router = APIRouter(prefix=f"{SURFACE}/workspaces", tags=["Workspaces"])

_COMMITTED = 2.0  # seconds to wait until new windows count; they are in the log by then in any case
_DEFAULTS: dict[Window, int] = {"recovery": RECOVERY, "close": CLOSE, "cooldown": COOLDOWN}
_WINDOWS: tuple[Window, ...] = get_args(Window)


def _whole(value: object) -> object:
    """Return 60.0 as 60: JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT, examples=["My Team"], json_schema_extra=NAME)]
Seconds = Annotated[StrictInt, Field(ge=1, le=31_536_000), BeforeValidator(_whole)]


class Creation(Wire):
    """A new workspace."""

    name: Name


class Change(Wire):
    """What to change; windows are whole seconds, null is the default."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: Name | SkipJsonSchema[None] = None
    recovery_window_seconds: Annotated[Seconds | None, Field(examples=[300])] = None
    close_window_seconds: Annotated[Seconds | None, Field(examples=[600])] = None
    cooldown_window_seconds: Annotated[Seconds | None, Field(examples=[900])] = None

    @model_validator(mode="after")
    def _something(self) -> "Change":
        if not self.model_fields_set:
            fields = [str(field.alias) for field in type(self).model_fields.values()]
            raise ValueError(f"Nothing to change: send one of {', '.join(fields)}.")
        if "name" in self.model_fields_set and self.name is None:
            raise ValueError("name must not be null.")
        return self

    def windows(self) -> dict[Window, int | None]:
        """Return the windows that are named, in seconds."""
        sent = self.model_fields_set
        return {one: getattr(self, f"{one}_window_seconds") for one in _WINDOWS if f"{one}_window_seconds" in sent}


class CreatedWorkspace(Wire):
    """A workspace that was just made."""

    id: str
    name: str
    api_key_prefix: str
    is_active: bool


class Created(Wire):
    """apiKey: shown once, store it now."""

    workspace: CreatedWorkspace
    api_key: Annotated[str, Field(examples=["sg_" + "0123456789abcdef" * 3])]


class RotatedWorkspace(Wire):
    """A workspace whose key was just changed."""

    id: str
    name: str
    api_key_prefix: str


class Rotated(Wire):
    """apiKey: shown once, store it now. The old one does not work any more."""

    workspace: RotatedWorkspace
    api_key: Annotated[str, Field(examples=["sg_" + "0123456789abcdef" * 3])]


class WorkspaceBody(Wire):
    """A workspace with its windows and channels."""

    id: str
    name: str
    api_key_prefix: str
    is_active: bool
    created_at: datetime
    recovery_window_seconds: int
    close_window_seconds: int
    cooldown_window_seconds: int
    channels: list[ChannelBody]


@router.post("", status_code=201, summary="Create a workspace", response_model=Envelope[Created])
def create(body: Creation, claims: UserDep, services: ServicesDep) -> Response:
    """Its API key is in the answer, and nowhere else. Needs a person's token."""
    most = services.settings.workspaces_per_user
    made = services.control.workspaces.create(claims.user, body.name, most=most)
    one = made.workspace
    shown = CreatedWorkspace(id=one.id, name=one.name, api_key_prefix=one.key_prefix, is_active=one.is_active)
    return ok(Created(workspace=shown, api_key=made.api_key).body(), _KEEP, status=201)


@router.get("/me", summary="The workspace with its channels", response_model=Envelope[WorkspaceBody])
def me(caller: CallerDep, services: ServicesDep) -> Response:
    """Channels are shown without what it takes to use them."""
    return ok(_body(services, services.control.workspaces.find(caller.workspace)).body())


@router.patch("/me", summary="Change the name or the timing windows", response_model=Envelope[WorkspaceBody])
async def change(body: Change, caller: CallerDep, services: ServicesDep) -> Response:
    """New windows count for what happens from now on; the change is a record of the log, so a replay makes it, too."""
    # Shielded: once it is in the log it has to be remembered, too, whether or not somebody still waits.
    return ok((await asyncio.shield(_apply(body, caller, services))).body())


@router.post("/rotate-key", summary="Rotate the API key", response_model=Envelope[Rotated])
def rotate(caller: CallerDep, services: ServicesDep) -> Response:
    """The old key stops working the instant the new one is issued."""
    made: NewKey = services.control.workspaces.rotate_key(caller.workspace)
    one = made.workspace
    shown = RotatedWorkspace(id=one.id, name=one.name, api_key_prefix=one.key_prefix)
    return ok(Rotated(workspace=shown, api_key=made.api_key).body(), _KEEP)


_KEEP = "Store the API key now: it will not be shown again."


async def _apply(body: Change, caller: Caller, services: Services) -> WorkspaceBody:
    windows = body.windows()
    async with services.configuring(caller.workspace):
        if windows:
            record = _configure(caller, windows, services.clock())
            await services.pipeline.submit([record], caller.workspace, detail=False, timeout=_COMMITTED)
        return await run_in_threadpool(_change, services, caller.workspace, body.name, windows)


def _configure(caller: Caller, windows: dict[Window, int | None], now: float) -> bytes:
    """Return the `configure` record: durations as in a rule file, null takes an override back."""
    lifecycle = {window: None if seconds is None else f"{seconds}s" for window, seconds in windows.items()}
    return configure(caller, as_micros(datetime.fromtimestamp(now, UTC)), {"lifecycle": lifecycle})


def _change(services: Services, workspace: str, name: str | None, windows: dict[Window, int | None]) -> WorkspaceBody:
    return _body(services, services.control.workspaces.change(workspace, name=name, windows=windows))


def _body(services: Services, workspace: Workspace) -> WorkspaceBody:
    seconds = {one: getattr(workspace.windows, one) or _DEFAULTS[one] // SECOND for one in _WINDOWS}
    return WorkspaceBody(
        id=workspace.id,
        name=workspace.name,
        api_key_prefix=workspace.key_prefix,
        is_active=workspace.is_active,
        created_at=workspace.created_at,
        recovery_window_seconds=seconds["recovery"],
        close_window_seconds=seconds["close"],
        cooldown_window_seconds=seconds["cooldown"],
        channels=channel_bodies(services.control.channels.of(workspace.id)),
    )
