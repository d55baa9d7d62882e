"""Changes of a workspace's settings: the record that makes one, and who made it.

Such a record says who asked for it in `source`, as events say what they are about.
"""

from collections.abc import Mapping

import orjson

from connectors.control.ids import new_id
from operators.events import CONFIGURE
from query_api.caller import Caller
from query_api.integrations_wire import rfc3339

API_KEY = "api_key"
USER = "user"


def configure(caller: Caller, now: int, settings: Mapping[str, object]) -> bytes:
    """Return the record as the log takes it. now: µs; settings: as `operators.settings` reads them."""
    actor = API_KEY if caller.user is None else f"{USER}:{caller.user}"
    record = {"record": CONFIGURE, "time": rfc3339(now), "id": new_id("cfg"), "source": actor, "attributes": settings}
    return orjson.dumps(record)


def actor_of(text: str | None) -> dict[str, str | None]:
    """Return who made a change: `type` and, of a person, `id`; both null where its record does not say."""
    kind, _, ident = (text or "").partition(":")
    if kind == USER and ident:
        return {"type": USER, "id": ident}
    return {"type": API_KEY if kind == API_KEY else None, "id": None}
