"""What the store and the control database know of identities: counts from rollups, their last word from events."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from duckdb import DuckDBPyConnection
from starlette.concurrency import run_in_threadpool

from connectors.control import Anomaly, Control
from operators import scores
from operators.events import HOUR
from operators.nhi import BY, FEDERATION, STREAM, TIER, Counted, Past, before, placed
from operators.scores import ANOMALY_REACH, Federation, Observed, Risk, Sighting
from query_api.analytics_window import Window
from query_api.envelope import ApiError, ErrorCode
from query_api.fetch import fetch
from query_api.integrations_wire import as_micros, instant
from query_api.rollups import Wanted, select

Where = Mapping[str, tuple[str | None, ...]]
MOST_SIGHTINGS = 10_000  # the latest; what is beyond has lost what it said

# An identity says once what it is, so this looks back as far as there are events; of these it reads few columns.
_STATES = """
    SELECT source, type, epoch_us(max(time)) AS last,
        arg_max(code, (time, "partition", "offset")) AS code, arg_max(value, (time, "partition", "offset")) AS value
    FROM events
    WHERE workspace = $workspace AND stream = $stream AND time < make_timestamptz($end::BIGINT)
        AND ((type = $tier AND value IS NOT NULL) OR (type = $federation AND code IS NOT NULL))
        AND ($nhi::VARCHAR IS NULL OR source = $nhi)
    GROUP BY source, type, CASE WHEN epoch_us(time) < $first THEN -1 ELSE (epoch_us(time) - $first) // $size END
    ORDER BY source, last
"""
_LAST_SEEN = """
    SELECT source, epoch_us(max(time)) AS last FROM events
    WHERE workspace = $workspace AND stream = $stream
        AND time >= make_timestamptz($start::BIGINT) AND time < make_timestamptz($end::BIGINT)
    GROUP BY source
"""
_SEEN = """
    SELECT epoch_us(max(time) FILTER (time < make_timestamptz($end::BIGINT))) AS last, count(*) AS events FROM events
    WHERE workspace = $workspace AND stream = $stream AND source = $nhi
"""


@dataclass(frozen=True, slots=True)
class Profile:
    """An identity at the end of a window. tier: None where none was ever said; last_seen: µs, before the end."""

    nhi: str
    counted: Counted
    tier: float | None
    federation: Federation | None
    risk: Risk
    last_seen: int | None

    @property
    def label(self) -> str:
        """What people call it, or its id."""
        return self.counted.label or self.nhi

    @property
    def tier_number(self) -> float | int | None:
        """The tier as it is written: whole where it is."""
        return int(self.tier) if self.tier is not None and self.tier.is_integer() else self.tier


class States:
    """What was last said of tiers and federations, at any of the instants it was asked for."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self._said: dict[tuple[str, str], list[tuple[int, str | None, float | None]]] = {}
        for source, kind, at, code, value in rows.iter_rows():
            self._said.setdefault((source, kind), []).append((at, code, value))

    def tier(self, nhi: str, instant: int) -> float | None:
        """The tier before an instant."""
        said = self._last(nhi, TIER, instant)
        return said[2] if said else None

    def federation(self, nhi: str, instant: int) -> Federation | None:
        """The federation before an instant."""
        said = self._last(nhi, FEDERATION, instant)
        return Federation(said[1], instant - said[0]) if said and said[1] is not None else None

    def _last(self, nhi: str, kind: str, instant: int) -> tuple[int, str | None, float | None] | None:
        said = self._said.get((nhi, kind), [])
        earlier = bisect_left(said, instant, key=lambda one: one[0])
        return said[earlier - 1] if earlier else None


def past_of(con: DuckDBPyConnection, workspace: str, window: Window, grain: int = HOUR, nhi: str | None = None) -> Past:
    """Return what a window holds of all identities or one, and what came before it."""
    where: Where = {} if nhi is None else {"source": (nhi,)}
    known_from, known_to = before(window.start)
    earlier = select(con, Wanted(workspace, (STREAM,), known_from, known_to, where, BY, HOUR, values=True))
    within = select(con, Wanted(workspace, (STREAM,), window.start, window.end, where, BY, grain, values=True))
    return Past(pl.concat([earlier, placed(within, window.start)]))


def states_of(
    con: DuckDBPyConnection, workspace: str, end: int, nhi: str | None = None, first: int | None = None, size: int = 1
) -> States:
    """Return the tiers and federations of all identities or one as they were at `end`.

    first, size: also as they were at the end of each bucket of `size` µs that begins at `first` or later.
    """
    return States(
        fetch(
            con,
            _STATES,
            workspace=workspace,
            stream=STREAM,
            end=end,
            tier=TIER,
            federation=FEDERATION,
            nhi=nhi,
            first=end if first is None else first,
            size=size,
        )
    )


def profiles(
    con: DuckDBPyConnection,
    workspace: str,
    window: Window,
    where: Where,
    anomalies: Mapping[str, Sequence[Anomaly]],
) -> list[Profile]:
    """Return the identities that have events in the window, those of them chosen that have one that `where` takes.

    Of each all events count: a filter chooses identities, it does not cut them to pieces.
    """
    past = past_of(con, workspace, window)
    states = states_of(con, workspace, window.end)
    last = dict(
        fetch(con, _LAST_SEEN, workspace=workspace, stream=STREAM, start=window.start, end=window.end).iter_rows()
    )
    chosen = last.keys() & _chosen(con, workspace, window, where) if where else last.keys()
    return [
        profile(nhi, past, window, states, anomalies.get(nhi, ()), last[nhi])
        for nhi in past.identities
        if nhi in chosen
    ]


def profile(
    nhi: str,
    past: Past,
    window: Window,
    states: States,
    anomalies: Sequence[Anomaly],
    last_seen: int | None,
) -> Profile:
    """Return one identity at the end of a window."""
    counted = past.seen(nhi, window.start, window.end)
    tier, federation = states.tier(nhi, window.end), states.federation(nhi, window.end)
    observed = Observed(
        attempts=counted.attempts,
        denied=counted.denied,
        spend=counted.spend,
        silence=counted.silence,
        known=counted.known,
        federation=federation,
        anomalies=sightings(anomalies, window.end),
        tier=tier,
    )
    return Profile(nhi, counted, tier, federation, scores.risk(observed), last_seen)


def last_seen_of(con: DuckDBPyConnection, workspace: str, nhi: str, end: int) -> int | None:
    """Return when an identity was last seen before `end`. Raises ApiError NotFound where it never was."""
    [(at, events)] = fetch(con, _SEEN, workspace=workspace, stream=STREAM, nhi=nhi, end=end).iter_rows()
    if not events:
        raise ApiError(ErrorCode.NOT_FOUND, "NHI not found.")
    found: int | None = at
    return found


async def anomalies_of(
    control: Control, workspace: str, start: int, end: int, nhi: str | None = None
) -> dict[str, list[Anomaly]]:
    """Return, by identity, the open anomalies that count at some instant from `start` to `end` (µs)."""
    found, _ = await run_in_threadpool(
        control.anomalies.page,
        workspace,
        limit=MOST_SIGHTINGS,
        status="open",
        nhi=nhi,
        start=instant(start - ANOMALY_REACH),
        end=instant(end),
    )
    by_nhi: dict[str, list[Anomaly]] = {}
    for one in found:
        by_nhi.setdefault(one.nhi_id, []).append(one)
    return by_nhi


def sightings(anomalies: Sequence[Anomaly], at: int) -> list[Sighting]:
    """Return those that count at an instant: detected in the ANOMALY_REACH before it."""
    aged = ((one.severity, at - as_micros(one.detected_at)) for one in anomalies)
    return [Sighting(severity, age) for severity, age in aged if 0 < age <= ANOMALY_REACH]


def _chosen(con: DuckDBPyConnection, workspace: str, window: Window, where: Where) -> set[str]:
    rows = select(con, Wanted(workspace, (STREAM,), window.start, window.end, where, ("source",), HOUR))
    return set(rows["source"].to_list())
