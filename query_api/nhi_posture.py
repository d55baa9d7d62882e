"""How well is each identity governed? The formula is `operators.scores.posture`."""

from datetime import timedelta
from typing import Any

from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from operators import scores
from query_api.analytics_answer import answer, answers, listed
from query_api.analytics_asked import AskedDep
from query_api.integrations_wire import READ_SECONDS, instant
from query_api.nhi_asked import Reader
from query_api.nhi_numbers import score
from query_api.nhi_reading import Profile, anomalies_of, profiles
from query_api.nhi_schema import Postures
from query_api.reading import read
from query_api.services import ServicesDep

router = APIRouter()

WEEK = timedelta(days=7)


@router.get(
    "/nhi-posture", summary="Governance posture by identity", response_model=None, responses=answers(Postures, 422)
)
async def posture(caller: Reader, services: ServicesDep, asked: AskedDep) -> Response:
    """Identities with events in the window, the worst governed first; 1,000 at most, then `truncated` is there.

    `anomaly_count_7d` is of the 7 days before `to`, acknowledged or not; in the score anomalies count as part of the
    risk, while they are open.
    """
    window = asked.window
    anomalies = await anomalies_of(services.control, caller.workspace, window.end, window.end)
    upto = instant(window.end)
    counts = await run_in_threadpool(services.control.anomalies.counts, caller.workspace, upto - WEEK, upto)

    def question(con: DuckDBPyConnection) -> list[dict[str, Any]]:
        found = [(one, posture_of(one)) for one in profiles(con, caller.workspace, window, asked.where, anomalies)]
        return [
            {
                "nhi_id": one.nhi,
                "posture_score": score(its.score),
                "components": {
                    "guardian_coverage": score(its.guardian_coverage),
                    "tier_compliance": score(its.tier_compliance),
                    "federation_status": score(its.federation_status),
                    "anomaly_count_7d": counts.get(one.nhi, 0),
                    "risk_score": score(one.risk.score),
                },
            }
            for one, its in sorted(found, key=lambda pair: (pair[1].score, pair[0].nhi))
        ]

    return answer(listed(await read(services.pipeline, question, seconds=READ_SECONDS)))


def posture_of(one: Profile) -> scores.Posture:
    """Return how well an identity is governed."""
    seen = one.counted
    return scores.posture(seen.covered, seen.activity, seen.denied, seen.attempts, one.federation, one.risk.score)
