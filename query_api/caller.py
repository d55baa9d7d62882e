"""Who asks: a stand-in until the real one is merged."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from query_api.envelope import ApiError, ErrorCode
from query_api.services import services


@dataclass(frozen=True, slots=True)
class Caller:
    """A workspace, and the user where one is known."""

    workspace: str
    name: str
    user: str | None = None


async def caller(request: Request) -> Caller:
    """Return who asks. Raises ApiError Unauthorized."""
    parts = services(request)
    key = request.headers.get("x-api-key")
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if key is None and scheme.lower() == "bearer":
        key = text.strip()
    owner = parts.control.keys.cached(key)
    if owner is None:
        raise ApiError(ErrorCode.UNAUTHORIZED, "Missing or invalid API key.")
    await parts.rates.request(owner.workspace)
    return Caller(owner.workspace, owner.name)


CallerDep = Annotated[Caller, Depends(caller)]
