"""How risky is each identity, why, and since when? The formulas are those of `operators.scores`."""

from typing import Any

import polars as pl
from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Response

from operators.buckets import SIZES
from operators.events import DAY, HOUR, MINUTE
from operators.nhi import BY, STREAM, Past, before
from query_api.analytics_answer import answer, answers, listed
from query_api.analytics_asked import AskedDep
from query_api.analytics_window import BucketSize, Window, grid_of, timestamps, too_large
from query_api.integrations_wire import READ_SECONDS, rfc3339
from query_api.nhi_asked import Nhi, Reader, WindowDep
from query_api.nhi_numbers import evidence, identity, parts, score
from query_api.nhi_reading import anomalies_of, last_seen_of, past_of, profile, profiles, states_of
from query_api.nhi_schema import Assessment, RiskHistory, Risks
from query_api.reading import read
from query_api.rollups import Wanted, select
from query_api.services import ServicesDep

router = APIRouter()

MOST_POINTS = 2_500  # of a history; each is computed by itself, in a third of a millisecond
TRAILING = DAY  # what a point of the history looks at: as long as the default window


@router.get("/nhi-risk", summary="Risk by identity", response_model=None, responses=answers(Risks, 422))
async def risk(caller: Reader, services: ServicesDep, asked: AskedDep) -> Response:
    """Identities with events in the window, the riskiest first; 1,000 at most, then `truncated` is there.

    A filter chooses identities: those with an event that it takes. Their scores are the same as without it.
    """
    window = asked.window
    anomalies = await anomalies_of(services.control, caller.workspace, window.end, window.end)

    def question(con: DuckDBPyConnection) -> list[dict[str, Any]]:
        found = profiles(con, caller.workspace, window, asked.where, anomalies)
        return [
            {
                **identity(one),
                "risk_score": score(one.risk.score),
                "risk_signals": one.risk.signals,
                "last_seen_at": rfc3339(one.last_seen),
                "components": parts(one.risk),
            }
            for one in sorted(found, key=lambda one: (-one.risk.score, one.nhi))
        ]

    return answer(listed(await read(services.pipeline, question, seconds=READ_SECONDS), window))


# The source of an identity may have slashes (`spiffe://…`), so that its history has to be asked for first.
@router.get(
    "/nhi-risk-assessment/{id:path}/history",
    summary="One identity's risk over time",
    response_model=None,
    responses=answers(RiskHistory, 404, 422),
)
async def history(
    id: Nhi, caller: Reader, services: ServicesDep, window: WindowDep, bucket: BucketSize = "1h"
) -> Response:
    """A point a bucket: the risk at its end, of the 24 hours before, as `nhi-risk` says it of that window. `timestamp`
    is when the bucket begins; one that is cut by `to` counts what there is before.
    """
    grid = grid_of(window, bucket)
    if grid.count > MOST_POINTS:
        raise too_large(
            f"The history would have {grid.count:,} points, and {MOST_POINTS:,} is the most: take larger buckets."
        )
    anomalies = await anomalies_of(services.control, caller.workspace, window.start, window.end, id)

    def question(con: DuckDBPyConnection) -> list[dict[str, Any]]:
        last_seen_of(con, caller.workspace, id, window.end)
        first, *ends = grid.edges.tolist()
        size = SIZES[bucket]
        # Windows of 24 hours that end between two hours also begin there.
        grain = MINUTE if size % HOUR else HOUR
        past = _past(con, caller.workspace, id, Window(ends[0] - TRAILING, window.end), grain)
        states = states_of(con, caller.workspace, window.end, id, first, size)
        series = []
        for begin, end in zip(timestamps(grid), ends, strict=True):
            span = Window(end - TRAILING, min(end, window.end))
            found = profile(id, past, span, states, anomalies.get(id, ()), None).risk
            series.append(
                {
                    "timestamp": begin,
                    "risk_score": score(found.score),
                    "risk_signals": found.signals,
                    "components": parts(found),
                }
            )
        return series

    series = await read(services.pipeline, question, seconds=READ_SECONDS)
    return answer({"nhi_id": id, "bucket": bucket, **window.wire(), "series": series})


@router.get(
    "/nhi-risk-assessment/{id:path}",
    summary="Why one identity is as risky as it is",
    response_model=None,
    responses=answers(Assessment, 404, 422),
)
async def assessment(id: Nhi, caller: Reader, services: ServicesDep, window: WindowDep) -> Response:
    """Every sign with its strength, its weight, its share of the score, and the numbers it was computed from.

    `last_seen_at` is the last time before `to`, null where there is none. 404 where it was never seen at all.
    """
    anomalies = await anomalies_of(services.control, caller.workspace, window.end, window.end, id)

    def question(con: DuckDBPyConnection) -> dict[str, Any]:
        last = last_seen_of(con, caller.workspace, id, window.end)
        past = past_of(con, caller.workspace, window, nhi=id)
        states = states_of(con, caller.workspace, window.end, id)
        one = profile(id, past, window, states, anomalies.get(id, ()), last)
        return {
            **identity(one),
            **window.wire(),
            "risk_score": score(one.risk.score),
            "risk_signals": one.risk.signals,
            "likelihood": score(one.risk.likelihood),
            "impact": score(one.risk.impact),
            "components": [
                {
                    "name": part.name,
                    "value": score(part.value),
                    "weight": part.weight,
                    "contribution": score(part.contribution),
                    "signal": part.signal,
                    "evidence": evidence(part.evidence),
                }
                for part in one.risk.components
            ],
            "last_seen_at": rfc3339(one.last_seen),
        }

    return answer(await read(services.pipeline, question, seconds=READ_SECONDS))


def _past(con: DuckDBPyConnection, workspace: str, nhi: str, window: Window, grain: int) -> Past:
    """As `past_of`, for windows that slide through this one in steps of `grain`: nothing is left out in between."""
    known_from, known_to = before(window.start)
    spans = ((known_from, known_to, HOUR), (known_to, window.end, grain))
    where = {"source": (nhi,)}
    rows = [
        select(con, Wanted(workspace, (STREAM,), start, end, where, BY, size, values=True))
        for start, end, size in spans
    ]
    return Past(pl.concat(rows))
