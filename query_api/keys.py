"""Further keys of a workspace, each limited to scopes. Only who may do everything makes, sees and revokes them."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from connectors.control import SCOPES, AccessKey
from connectors.control.text import NAME_LIMIT
from query_api.caller import CallerDep
from query_api.openapi import responses
from query_api.pages import MOST, Cursor, Limit, listing, place
from query_api.services import ServicesDep
from query_api.wire import NAME, Listing

router = APIRouter(prefix="/v1/keys", tags=["Keys"])

_EACH = " ".join(f"`{scope}`: {opens}" for scope, opens in SCOPES.items())

Scope = Annotated[str, Field(json_schema_extra={"enum": list(SCOPES)})]


class NewScopedKey(BaseModel):
    """A new key. scopes: all that it may do."""

    name: Annotated[str, Field(min_length=1, max_length=NAME_LIMIT, examples=["Dashboard"], json_schema_extra=NAME)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=50, description=_EACH, examples=[["logs:read"]])]


class ScopedKey(BaseModel):
    """A key. prefix: how it begins."""

    id: Annotated[str, Field(examples=["key_4hq7c2mzk6v3xw5tdn2yr7ueoa"])]
    name: str
    scopes: list[str]
    prefix: Annotated[str, Field(examples=["sg_0123456"])]
    created_at: datetime


class CreatedKey(ScopedKey):
    """key: shown once, store it now."""

    key: Annotated[str, Field(examples=["sg_" + "0123456789abcdef" * 3])]


@router.post("", status_code=201, summary="Create a key that is limited to scopes", responses=responses(409))
def create(body: NewScopedKey, caller: CallerDep, services: ServicesDep) -> CreatedKey:
    """The key is in the answer, and nowhere else."""
    made = services.control.access_keys.create(caller.workspace, body.name, body.scopes)
    return CreatedKey(**_shown(made.info).model_dump(), key=made.key)


@router.get("", summary="List the keys that are limited to scopes")
def keys(
    caller: CallerDep,
    services: ServicesDep,
    limit: Limit = MOST,
    cursor: Cursor = None,
) -> Listing[ScopedKey]:
    """The oldest first; those that were revoked are gone."""
    found, more = services.control.access_keys.page(caller.workspace, limit=limit, after=place(cursor))
    last = (found[-1].created_at, found[-1].id) if found else None
    return listing([_shown(one) for one in found], more, last)


@router.delete("/{id}", status_code=204, summary="Revoke a key", response_class=Response)
def revoke(id: str, caller: CallerDep, services: ServicesDep) -> None:
    """It stops working the instant the answer is there."""
    services.control.access_keys.revoke(caller.workspace, id)


def _shown(key: AccessKey) -> ScopedKey:
    return ScopedKey(id=key.id, name=key.name, scopes=list(key.scopes), prefix=key.prefix, created_at=key.created_at)
