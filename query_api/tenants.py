"""Tenants: a workspace's own customers. Events register them; here they are listed, named, deactivated."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from connectors.control import TenantInfo
from connectors.control.text import EXTERNAL_ID_LIMIT, NAME_LIMIT
from query_api.caller import CallerDep
from query_api.envelope import SURFACE, ok
from query_api.openapi import responses
from query_api.services import ServicesDep
from query_api.wire import NAME, Envelope, Wire

router = APIRouter(prefix=f"{SURFACE}/tenants", tags=["Tenants"])

_MOST = 1_000


class NewTenant(Wire):
    """externalId: what events call it, as `tenantId`. name: the external id where it is left out."""

    external_id: Annotated[
        str, Field(min_length=1, max_length=EXTERNAL_ID_LIMIT, examples=["acme-corp"], json_schema_extra=NAME)
    ]
    name: Annotated[str | None, Field(max_length=NAME_LIMIT, examples=["Acme Corporation"], json_schema_extra=NAME)] = (
        None
    )


class TenantBody(Wire):
    """A customer of the workspace."""

    id: str
    external_id: str
    name: str
    is_active: bool
    created_at: datetime


class TenantPage(Envelope[list[TenantBody]]):
    """total: of all pages."""

    page: int
    page_size: int
    total: int
    has_more: bool


@router.get("", summary="List all tenants", response_model=TenantPage)
def tenants(
    caller: CallerDep,
    services: ServicesDep,
    is_active: Annotated[bool | None, Query(alias="isActive", description="Only these; all where left out.")] = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=_MOST)] = _MOST,
) -> Response:
    """In the order of their external ids."""
    found, total = services.control.tenants.page(
        caller.workspace, active=is_active, offset=(page - 1) * page_size, limit=page_size
    )
    beside = {"page": page, "pageSize": page_size, "total": total, "hasMore": page * page_size < total}
    return ok([_body(one) for one in found], beside=beside)


@router.post(
    "", status_code=201, summary="Create a tenant", response_model=Envelope[TenantBody], responses=responses(409)
)
def create(body: NewTenant, caller: CallerDep, services: ServicesDep) -> Response:
    """Not needed before sending events: those register their tenants themselves."""
    return ok(_body(services.control.tenants.create(caller.workspace, body.external_id, body.name)), status=201)


@router.delete("/{tenant}", summary="Deactivate a tenant", response_model=Envelope[TenantBody])
def deactivate(tenant: str, caller: CallerDep, services: ServicesDep) -> Response:
    """Its events are refused from now on; what is stored stays."""
    return ok(_body(services.control.tenants.set_active(caller.workspace, tenant, False)), "Tenant deactivated.")


@router.post("/{tenant}/activate", summary="Activate a tenant again", response_model=Envelope[TenantBody])
def activate(tenant: str, caller: CallerDep, services: ServicesDep) -> Response:
    """Its events are taken again."""
    return ok(_body(services.control.tenants.set_active(caller.workspace, tenant, True)), "Tenant activated.")


def _body(tenant: TenantInfo) -> dict[str, object]:
    return TenantBody(
        id=tenant.id,
        external_id=tenant.external_id,
        name=tenant.name,
        is_active=tenant.is_active,
        created_at=tenant.created_at,
    ).body()
