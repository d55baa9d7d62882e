"""What endpoints of identities are asked beside filters: which identity, and when."""

from typing import Annotated

from fastapi import Depends, Path

from query_api.analytics_window import From, To, Window, window_of
from query_api.caller import Caller, caller_with
from query_api.services import ServicesDep

SCOPE = "nhi:read"
# Acknowledging and starting a detection need no more than this, either: it is the surface's only scope for identities.
Reader = Annotated[Caller, Depends(caller_with(SCOPE))]
Nhi = Annotated[str, Path(description="The `source` of the identity's events; may have slashes.")]


async def _window(services: ServicesDep, start: From = None, end: To = None) -> Window:
    return window_of(start, end, services.clock())


WindowDep = Annotated[Window, Depends(_window)]
