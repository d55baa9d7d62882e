"""Sessions of tool calls: who called tools in a window, and everything about one of them.

Which sessions there are and what they did is counted from rollups, minute by minute. When exactly a session was first
and last seen, and its calls, are read from the events themselves, for the sessions of one page only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import polars as pl
from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Path, Response

from operators.events import MINUTE
from operators.rollup import added
from query_api.analytics_answer import answer, answers
from query_api.analytics_asked import Asked, AskedDep, EnvironmentName, GuardianId, Tag, filters
from query_api.analytics_numbers import kinds, milliseconds
from query_api.analytics_schema import SessionDetail, Sessions
from query_api.analytics_window import From, To, Window, default_end, whole_of
from query_api.envelope import ApiError, ErrorCode
from query_api.integrations_wire import READ_SECONDS, clean, decode_cursor, encode_cursor, rfc3339
from query_api.mcp_tools import STREAM, TYPES, Reader, each_tool, latencies, verdicts
from query_api.pages import PAGE, Cursor, Limit
from query_api.reading import read
from query_api.services import ServicesDep

router = APIRouter()

MOST_CALLS = 1_000

_MINE = f"""
    workspace = $workspace AND stream = '{STREAM}' AND type IN {TYPES}
    AND time >= make_timestamptz($start::BIGINT) AND time < make_timestamptz($end::BIGINT)
    AND ($guardian IS NULL OR json_extract_string(attributes, '$.guardian_id') = $guardian)
    AND ($environment IS NULL OR json_extract_string(attributes, '$.environment') = $environment)
    AND ($tag IS NULL OR json_extract_string(attributes, '$.tag') = $tag)
"""
_SEEN = f"""
    SELECT tenant, epoch_us(min(time)), epoch_us(max(time)) FROM events
    WHERE {_MINE} AND tenant IN (SELECT unnest($sessions)) GROUP BY tenant
"""
_CALLS = f"""
    SELECT id, epoch_us(time), source, type, code, value, json_extract_string(attributes, '$.guardian_id'),
        json_extract_string(attributes, '$.environment')
    FROM events WHERE {_MINE} AND tenant = $session ORDER BY time, "partition", "offset" LIMIT {MOST_CALLS + 1}
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """When a session was first and last seen, µs."""

    session: str
    first: int
    last: int

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands in a list."""
        return -self.last, self.session


@router.get("/sessions", summary="Sessions and their verdicts", response_model=None, responses=answers(Sessions, 422))
async def sessions(
    caller: Reader, services: ServicesDep, asked: AskedDep, limit: Limit = PAGE, cursor: Cursor = None
) -> Response:
    """Sessions with calls in the window, the one that was active last first. Figures are of the window only."""
    after = None
    if cursor:
        last, session = decode_cursor(cursor, (int, str), "next_cursor")
        after = Seen(str(session), 0, int(last))

    def question(con: DuckDBPyConnection) -> tuple[list[Seen], bool, dict[str, dict[str, Any]]]:
        shown, more = page_of(con, caller.workspace, asked, after, limit)
        return shown, more, _figures(con, caller.workspace, asked, shown)

    shown, more, figures = await read(services.pipeline, question, seconds=READ_SECONDS)
    data = [
        {"session_id": one.session, "first_seen_at": rfc3339(one.first), "last_seen_at": rfc3339(one.last)}
        | figures[one.session]
        for one in shown
    ]
    mark = encode_cursor(shown[-1].last, shown[-1].session) if more else None
    return answer({**asked.window.wire(), "data": data, "page": {"next_cursor": mark, "has_more": more}})


@router.get(
    "/sessions/{sessionId:path}", summary="One session and its calls", response_model=None,
    responses=answers(SessionDetail, 404),
)  # fmt: skip
async def session(
    caller: Reader,
    services: ServicesDep,
    ident: Annotated[str, Path(alias="sessionId", max_length=500)],
    start: From = None,
    end: To = None,
    guardian_id: GuardianId = None,
    environment: EnvironmentName = None,
    tag: Tag = None,
) -> Response:
    """The whole session, whenever it was; `from`, `to` and the filters narrow it down. 404 where nothing is left."""
    where = filters(guardian_id, environment, tag)
    named = clean(ident) or ""
    upto = default_end(services.clock())
    window = whole_of(start, end)

    def question(con: DuckDBPyConnection) -> dict[str, Any]:
        seen = _seen(con, caller.workspace, Asked(window, where), [named]).get(named)
        if seen is None:
            raise ApiError(ErrorCode.NOT_FOUND, "Session not found.")
        exact = Asked(Window(seen.first, seen.last + 1), where)
        return {
            "session_id": named,
            **Window(window.start if start else seen.first, window.end if end else max(seen.last + 1, upto)).wire(),
            "first_seen_at": rfc3339(seen.first),
            "last_seen_at": rfc3339(seen.last),
            **_detail(con, caller.workspace, exact, named),
        }

    return answer(await read(services.pipeline, question, seconds=READ_SECONDS))


def page_of(
    con: DuckDBPyConnection, workspace: str, asked: Asked, after: Seen | None, limit: int
) -> tuple[list[Seen], bool]:
    """Return the sessions of a page, and whether there are more. after: the last one of the page before."""
    rows = asked.rows(con, workspace, STREAM, TYPES, ("session",), grain=MINUTE)
    last = (
        rows.filter(pl.col("session").is_not_null())
        .group_by("session")
        .agg(pl.min("start").alias("first"), pl.max("start").alias("last"))
        .sort("last", descending=True)
    )
    need = limit + 1
    if after is not None:
        minute = after.last // MINUTE * MINUTE
        last = last.filter(pl.col("last") <= minute)
        need += int((last["last"] == minute).sum())  # of its minute some may have been shown before
    if last.height > need:  # all of the minute in which the page ends: who is first there is not known yet
        last = last.filter(pl.col("last") >= last["last"][need - 1])
    if not last.height:
        return [], False
    first, end = int(last["first"].min()), int(last["last"].max()) + MINUTE  # type: ignore[arg-type]
    window = Window(max(asked.window.start, first), min(asked.window.end, end))
    seen = _seen(con, workspace, Asked(window, asked.where), last["session"].to_list())
    found = sorted(seen.values(), key=lambda one: one.place)
    if after is not None:
        found = [one for one in found if one.place > after.place]
    return found[:limit], len(found) > limit


def _seen(con: DuckDBPyConnection, workspace: str, asked: Asked, sessions: Sequence[str]) -> dict[str, Seen]:
    """When sessions were seen, of those that were."""
    found = con.execute(_SEEN, {**_values(workspace, asked), "sessions": list(sessions)}).fetchall()
    return {name: Seen(name, first, last) for name, first, last in found}


def _figures(con: DuckDBPyConnection, workspace: str, asked: Asked, shown: Sequence[Seen]) -> dict[str, dict[str, Any]]:
    """What the sessions of a page did: calls by verdict, tools, guardian."""
    if not shown:
        return {}
    # No longer than need be: the page of a large window is a few minutes of it.
    window = Window(min(one.first for one in shown), max(one.last for one in shown) + 1)
    where = {**asked.where, "session": tuple(one.session for one in shown)}
    rows = Asked(window, where).rows(con, workspace, STREAM, TYPES, ("session", "type", "source", "guardian"))
    number = {one.session: n for n, one in enumerate(shown)}
    at = rows["session"].replace_strict(number, return_dtype=pl.Int64).to_numpy()
    counts = added(rows, at * len(TYPES) + kinds(rows, TYPES), len(shown) * len(TYPES)).count.reshape(-1, len(TYPES))
    tools = dict(rows.group_by("session").agg(pl.n_unique("source")).iter_rows())
    guardians = _guardians(rows)
    return {
        one.session: {
            "calls": int(counts[n].sum()),
            **dict(zip(TYPES, counts[n].tolist(), strict=True)),
            "tools": tools[one.session],
            "guardian_id": guardians.get(one.session),
        }
        for n, one in enumerate(shown)
    }


def _guardians(rows: pl.DataFrame) -> dict[str, str]:
    """Who judged most calls of each session. rows: by session and guardian."""
    counted = rows.filter(pl.col("guardian").is_not_null()).group_by("session", "guardian").agg(pl.sum("count"))
    counted = counted.sort("count", "guardian", descending=[False, True])  # a later one replaces what was there
    return dict(counted.select("session", "guardian").iter_rows())


def _detail(con: DuckDBPyConnection, workspace: str, asked: Asked, session: str) -> dict[str, Any]:
    """What one session did: totals, latencies, tools, calls."""
    within = Asked(asked.window, {**asked.where, "session": (session,)})
    rows = within.rows(con, workspace, STREAM, TYPES, ("session", "type", "source", "guardian"), values=True)
    counts = added(rows, kinds(rows, TYPES), len(TYPES)).count.tolist()
    calls = con.execute(_CALLS, {**_values(workspace, asked), "session": session}).fetchall()
    return {
        "guardian_id": _guardians(rows).get(session),
        **verdicts(counts),
        **latencies(rows),
        "tools": each_tool(rows),
        "calls": [
            {
                "call_id": ident,
                "timestamp": rfc3339(time),
                "tool": tool,
                "verdict": verdict,
                "reason": code,
                "latency_ms": None if value is None else milliseconds(value),
                "guardian_id": guardian,
                "environment": environment,
            }
            for ident, time, tool, verdict, code, value, guardian, environment in calls[:MOST_CALLS]
        ],
        "truncated": len(calls) > MOST_CALLS,
    }


def _values(workspace: str, asked: Asked) -> Mapping[str, object]:
    """The parameters of `_MINE`."""
    named = {name: asked.where.get(name, (None,))[0] for name in ("guardian", "environment", "tag")}
    return {"workspace": workspace, "start": asked.window.start, "end": asked.window.end, **named}
