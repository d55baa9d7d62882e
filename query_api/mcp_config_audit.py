"""Changes of the configuration that affected analytics: who changed what, when, and from which record of the log on.

The source is the log itself: every change of a workspace's settings is a record of it, and the store keeps a row of
each (`configurations`). In a cluster the same change is in all partitions; it is shown once.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Response

from query_api.analytics_answer import answer, answers
from query_api.analytics_schema import ConfigAudit
from query_api.analytics_window import From, To, window_of
from query_api.configure import actor_of
from query_api.integrations_wire import READ_SECONDS, decode_cursor, encode_cursor, rfc3339
from query_api.mcp_tools import Reader
from query_api.pages import PAGE, Cursor, Limit
from query_api.reading import Row, read
from query_api.services import ServicesDep

router = APIRouter()

MOST = 50_000  # changes of a workspace that are looked at, the latest ones

# The earlier ones, too: they say what a setting was before.
CHANGES = f"""
    SELECT epoch_us(time) AS changed, min("partition" || ':' || "offset") AS position, id, actor, settings
    FROM configurations WHERE workspace = $workspace AND time < make_timestamptz($end::BIGINT)
    GROUP BY time, id, actor, settings ORDER BY changed DESC, min("offset") DESC, position DESC LIMIT {MOST}
"""


@router.get(
    "/config-audit", summary="Changes of the configuration", response_model=None, responses=answers(ConfigAudit, 422),
)  # fmt: skip
async def config_audit(
    caller: Reader,
    services: ServicesDep,
    start: From = None,
    end: To = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> Response:
    """The latest first. Of patterns (`rules.…`) and of the windows of an incident's life (`lifecycle.…`)."""
    window = window_of(start, end, services.clock())
    after = decode_cursor(cursor, (int, str), "next_cursor") if cursor else None
    values = {"workspace": caller.workspace, "end": window.end}

    def question(con: DuckDBPyConnection) -> list[dict[str, Any]]:
        changes = told(con.execute(CHANGES, values).fetchall()[::-1])
        return [change for change in changes if change["at"] >= window.start][::-1]

    found = await read(services.pipeline, question, seconds=READ_SECONDS)
    if after is not None:
        places = [(change["at"], change["position"]) for change in found]
        found = found[places.index(after) + 1 :] if after in places else [one for one in found if one["at"] < after[0]]
    page, more = found[:limit], len(found) > limit
    mark = encode_cursor(page[-1]["at"], page[-1]["position"]) if more else None
    data = [{name: value for name, value in change.items() if name != "at"} for change in page]
    return answer({**window.wire(), "data": data, "page": {"next_cursor": mark, "has_more": more}})


def told(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield each change, with what every setting was before. rows: time, position, id, actor, settings; in order."""
    held: dict[str, Any] = {}
    for at, position, ident, actor, settings in rows:
        changed = dict(flat(orjson.loads(settings)))
        yield {
            "change_id": ident or position,
            "timestamp": rfc3339(at),
            "actor": actor_of(actor),
            "changes": [{"setting": name, "before": held.get(name), "after": to} for name, to in changed.items()],
            "position": position,
            "at": at,
        }
        held.update(changed)


def flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings that a record names: `rules.<id>.<setting>`, `lifecycle.<window>`."""
    for rule, said in (settings.get("rules") or {}).items():
        for name, value in said.items():
            if name == "lifecycle" and isinstance(value, dict):
                yield from ((f"rules.{rule}.lifecycle.{window}", length) for window, length in value.items())
            else:
                yield f"rules.{rule}.{name}", value
    yield from ((f"lifecycle.{window}", length) for window, length in (settings.get("lifecycle") or {}).items())
