"""Tool calls: how many, what became of them, and which tools they went to."""

from typing import Annotated, Any

import numpy as np
import polars as pl
from duckdb import DuckDBPyConnection
from fastapi import APIRouter, Depends, Response

from operators.rollup import added
from query_api.analytics_answer import answer, answers, listed
from query_api.analytics_asked import AskedDep
from query_api.analytics_numbers import RANKS, kinds, mean, percentiles, places, rate, shares
from query_api.analytics_schema import Tools, ToolSummary
from query_api.caller import Caller, caller_with
from query_api.integrations_wire import READ_SECONDS
from query_api.reading import read
from query_api.services import ServicesDep

router = APIRouter()

Reader = Annotated[Caller, Depends(caller_with("mcp:read"))]
STREAM = "tool_call"
TYPES = ("passed", "corrected", "blocked")
TOP_TOOLS = 10


@router.get(
    "/summary", summary="Tool calls by verdict, and the tools to look at", response_model=None,
    responses=answers(ToolSummary, 422),
)  # fmt: skip
async def summary(caller: Reader, services: ServicesDep, asked: AskedDep) -> Response:
    """`by_verdict` are parts of all calls that add up to 1. `top_tools` are ten: those with most
    blocked calls, of equal ones those with most calls.
    """

    def question(con: DuckDBPyConnection) -> dict[str, Any]:
        names, counts = by_tool(asked.rows(con, caller.workspace, STREAM, TYPES, ("source", "type")))
        top = sorted(range(len(names)), key=lambda n: (-counts[n][2], -sum(counts[n]), names[n] or ""))[:TOP_TOOLS]
        return {
            **asked.window.wire(),
            **verdicts([sum(one[n] for one in counts) for n in range(len(TYPES))]),
            "top_tools": [
                {"tool": names[n], "calls": sum(counts[n]), "block_rate": rate(counts[n][2], sum(counts[n]), 3)}
                for n in top
            ],
        }

    return answer(await read(services.pipeline, question, seconds=READ_SECONDS))


@router.get(
    "/tools", summary="One tool beside the other", response_model=None, responses=answers(Tools, 422),
)  # fmt: skip
async def tools(caller: Reader, services: ServicesDep, asked: AskedDep) -> Response:
    """The tool that was called most first; 1,000 at most, then `truncated` is there."""

    def question(con: DuckDBPyConnection) -> list[dict[str, Any]]:
        return each_tool(asked.rows(con, caller.workspace, STREAM, TYPES, ("source", "type"), values=True))

    found = await read(services.pipeline, question, seconds=READ_SECONDS)
    return answer(listed(found, asked.window))


def verdicts(counts: list[int]) -> dict[str, Any]:
    """Return the members `totals` and `by_verdict` of an answer. counts: by type."""
    return {
        "totals": {"tool_calls": sum(counts)} | dict(zip(TYPES, counts, strict=True)),
        "by_verdict": dict(zip(TYPES, shares(counts, 3), strict=True)),
    }


def by_tool(rows: pl.DataFrame) -> tuple[list[str | None], list[list[int]]]:
    """Return the tools and of each its calls by type. rows: by source and type."""
    names, at = places(rows["source"])
    counts = added(rows, at * len(TYPES) + kinds(rows, TYPES), len(names) * len(TYPES)).count
    return names, counts.reshape(-1, len(TYPES)).tolist()


def each_tool(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Return what became of each tool's calls, the one that was called most first. rows: with histograms."""
    names, counts = by_tool(rows)
    _, at = places(rows["source"])
    whole = added(rows, at, len(names), RANKS)
    found = [
        {
            "tool": tool,
            "calls": sum(counts[n]),
            **dict(zip(TYPES, counts[n], strict=True)),
            "correction_rate": rate(counts[n][1], sum(counts[n]), 3),
            "block_rate": rate(counts[n][2], sum(counts[n]), 3),
            "avg_latency_ms": mean(float(whole.sum[n]), int(whole.values[n])),
            **percentiles(whole.quantiles[n]),
        }
        for n, tool in enumerate(names)
    ]
    return sorted(found, key=lambda one: (-one["calls"], one["tool"] or ""))


def latencies(rows: pl.DataFrame) -> dict[str, Any]:
    """Return the mean and the percentiles of all calls. rows: with histograms."""
    whole = added(rows, np.zeros(rows.height, np.int64), 1, RANKS)
    average = mean(float(whole.sum[0]), int(whole.values[0]))
    return {"avg_latency_ms": average, **percentiles(whole.quantiles[0])}
