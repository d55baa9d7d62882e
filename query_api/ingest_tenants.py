"""Which tenants may send: unknown ones are registered, inactive ones refused."""

from __future__ import annotations

from collections.abc import Collection

from starlette.concurrency import run_in_threadpool

from query_api.envelope import ApiError, ErrorCode
from query_api.services import Services

LONGEST = 255  # characters of an id


async def refusals(services: Services, workspace: str, tenants: Collection[str]) -> dict[str, ApiError]:
    """For those of the tenants that may not send, why. Known ones are looked up in memory."""
    states = services.control.known_tenant_states(workspace, tenants)
    refused: dict[str, ApiError] = {}
    if states is None:
        refused = {tenant: wrong for tenant in tenants if (wrong := _wrong(tenant)) is not None}
        rest = [tenant for tenant in tenants if tenant not in refused]
        states = await run_in_threadpool(services.control.tenant_states, workspace, rest)
    for tenant, active in states.items():
        if not active:
            message = f'The tenant "{tenant}" is inactive: activate it to send its events.'
            refused[tenant] = ApiError(ErrorCode.UNPROCESSABLE, message)
    return refused


def _wrong(tenant: str) -> ApiError | None:
    """What is wrong with an id that is to be registered."""
    if tenant.isspace():
        return ApiError(ErrorCode.VALIDATION_ERROR, "tenantId is required.")
    if len(tenant) > LONGEST:
        return ApiError(ErrorCode.VALIDATION_ERROR, f"tenantId must have at most {LONGEST} characters.")
    if any(character < " " or "\x7f" <= character < "\xa0" for character in tenant):
        return ApiError(ErrorCode.VALIDATION_ERROR, "tenantId must not have control characters.")
    return None
