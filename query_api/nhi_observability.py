"""What do the identities do: how much, how often in vain, and at what price?"""

from typing import Any

import numpy as np
import polars as pl
from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Response

from operators.buckets import Grid
from operators.histogram import Ints
from operators.nhi import ALLOWED, ATTEMPT, BY, DENIED, SPEND, STREAM
from operators.rollup import added
from query_api.analytics_answer import answer, answers, listed
from query_api.analytics_asked import AskedDep
from query_api.analytics_numbers import rate
from query_api.analytics_window import BucketSize, grid_of, timestamps
from query_api.integrations_wire import READ_SECONDS, rfc3339
from query_api.nhi_asked import Reader
from query_api.nhi_numbers import identity, money, score
from query_api.nhi_posture import posture_of
from query_api.nhi_reading import Profile, profiles
from query_api.nhi_schema import Observability
from query_api.reading import read
from query_api.rollups import Wanted, select
from query_api.services import ServicesDep

router = APIRouter()


@router.get(
    "/nhi-observability",
    summary="What identities do",
    response_model=None,
    responses=answers(Observability, 422),
)
async def observability(caller: Reader, services: ServicesDep, asked: AskedDep, bucket: BucketSize = "1h") -> Response:
    """In total, over time, and one identity beside the other, the busiest first: 1,000 at most, then `truncated` is
    there.

    A filter chooses identities: those with an event that it takes. Totals and series are of the chosen ones.
    """
    window, grid = asked.window, grid_of(asked.window, bucket)

    def question(con: DuckDBPyConnection) -> dict[str, Any]:
        found = profiles(con, caller.workspace, window, asked.where, {})
        where = {"source": tuple(one.nhi for one in found)} if asked.where else {}
        rows = select(con, Wanted(caller.workspace, (STREAM,), window.start, window.end, where, BY, grid.grain))
        ordered = sorted(found, key=lambda one: (-one.counted.events, one.nhi))
        series = _series(rows, grid)
        return {
            **window.wire(),
            "bucket": bucket,
            "totals": {"identities": len(found), **_totals(rows)},
            "series": [{"timestamp": begin} | one for begin, one in zip(timestamps(grid), series, strict=True)],
            **listed([_row(one) for one in ordered]),
        }

    return answer(await read(services.pipeline, question, seconds=READ_SECONDS))


def _row(one: Profile) -> dict[str, Any]:
    seen = one.counted
    return {
        **identity(one),
        "events": seen.events,
        "tool_attempts": seen.attempts,
        "allowed": seen.allowed,
        "denied": seen.denied,
        "spend_usd": round(seen.spent, 6),
        "denied_rate": rate(seen.denied, seen.attempts, 4),
        "p99_spend_usd": money(seen.spend.p99),
        "guardian_coverage": score(posture_of(one).guardian_coverage),
        "last_seen_at": rfc3339(one.last_seen),
    }


def _totals(rows: pl.DataFrame) -> dict[str, Any]:
    return _counted(rows, np.zeros(rows.height, np.int64), 1)[0]


def _series(rows: pl.DataFrame, grid: Grid) -> list[dict[str, Any]]:
    bucket = grid.of(rows["start"].to_numpy())
    who = rows.select("source", pl.Series("bucket", bucket, pl.Int64)).unique()
    identities = np.bincount(who["bucket"].to_numpy(), minlength=grid.count).tolist()
    counted = _counted(rows, bucket, grid.count)
    return [{"identities": n} | one for n, one in zip(identities, counted, strict=True)]


def _counted(rows: pl.DataFrame, group: Ints, size: int) -> list[dict[str, Any]]:
    """What was done in each group of rows."""
    kind, code = rows["type"], rows["code"]
    attempt = (kind == ATTEMPT).fill_null(False)

    def counts(which: pl.Series) -> list[int]:
        found: list[int] = added(rows.filter(which), group[which.to_numpy()], size).count.tolist()
        return found

    spends = (kind == SPEND).fill_null(False)
    spent = added(rows.filter(spends), group[spends.to_numpy()], size).sum
    columns: dict[str, list[Any]] = {
        "events": added(rows, group, size).count.tolist(),
        "tool_attempts": counts(attempt),
        "allowed": counts(attempt & (code == ALLOWED).fill_null(False)),
        "denied": counts(attempt & (code == DENIED).fill_null(False)),
        "spend_usd": np.round(spent, 6).tolist(),
    }
    return [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]
