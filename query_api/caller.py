"""Who asks: a stand-in until the real one is merged."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from query_api.envelope import ApiError, ErrorCode


@dataclass(frozen=True, slots=True)
class Caller:
    """A workspace, and the user where one is known."""

    workspace: str
    name: str
    user: str | None = None


async def caller(request: Request) -> Caller:
    """Return who asks. Raises ApiError Unauthorized."""
    key = request.headers.get("x-api-key")
    if key is None:
        raise ApiError(ErrorCode.UNAUTHORIZED, "Missing or invalid API key.")
    return Caller(key, key)


CallerDep = Annotated[Caller, Depends(caller)]
