"""What the Governance and MCP endpoints answer, for the OpenAPI document. Answers are made without these models.

Counts are whole numbers; rates parts of 1; latencies milliseconds with four significant digits; times RFC 3339, UTC.
Rates and latencies are null where there is nothing to divide by.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from query_api.analytics_window import Bucket
from query_api.wire import Mark

Number = int | float
DAY = {"from": "2026-04-30T00:00:00Z", "to": "2026-05-01T00:00:00Z"}


def _example(**body: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [body]})


class Span(BaseModel):
    """A span of time: `from` inclusive, `to` exclusive."""

    from_: str = Field(alias="from")
    to: str


class Latencies(BaseModel):
    """Percentiles of a latency, within 1 %."""

    latency_p50_ms: Number | None
    latency_p95_ms: Number | None
    latency_p99_ms: Number | None


# ------------------------------------------------------------ governance


class Totals(BaseModel):
    """Verdicts by outcome; requests is their sum."""

    requests: int
    passed: int
    corrected: int
    blocked: int
    errors: int


class Rates(BaseModel):
    """Parts of all requests."""

    pass_rate: float | None
    correction_rate: float | None
    block_rate: float | None


class GovernanceSummary(Span, Latencies):
    """All verdicts of a window."""

    model_config = _example(
        **DAY,
        totals={"requests": 14302, "passed": 12907, "corrected": 1208, "blocked": 87, "errors": 100},
        rates={"pass_rate": 0.9024, "correction_rate": 0.0845, "block_rate": 0.0061},
        latency_p50_ms=122,
        latency_p95_ms=187,
        latency_p99_ms=244,
    )

    totals: Totals
    rates: Rates


class VerdictsBucket(BaseModel):
    """With `metric=verdicts`."""

    timestamp: str
    passed: int
    corrected: int
    blocked: int
    errors: int


class LatencyBucket(Latencies):
    """With `metric=latency`."""

    timestamp: str
    requests: int
    avg_latency_ms: Number | None


class CorrectionsBucket(BaseModel):
    """With `metric=corrections`."""

    timestamp: str
    requests: int
    corrected: int
    correction_rate: float | None


class ViolationType(BaseModel):
    """How often something was violated: corrections and blocks that name it."""

    type: str
    count: int


class ViolationsBucket(BaseModel):
    """With `metric=violations`; the most frequent type first."""

    timestamp: str
    violations: int
    by_type: list[ViolationType]


class GovernanceTimeseries(Span):
    """A metric by time; every bucket of the window is there."""

    model_config = _example(
        metric="verdicts",
        bucket="1h",
        **{"from": "2026-05-01T00:00:00Z", "to": "2026-05-01T02:00:00Z"},
        series=[
            {"timestamp": "2026-05-01T00:00:00Z", "passed": 540, "corrected": 51, "blocked": 4, "errors": 2},
            {"timestamp": "2026-05-01T01:00:00Z", "passed": 612, "corrected": 47, "blocked": 6, "errors": 1},
        ],
    )

    metric: Literal["verdicts", "latency", "corrections", "violations"]
    bucket: Bucket
    series: list[VerdictsBucket | LatencyBucket | CorrectionsBucket | ViolationsBucket]


class Guardian(BaseModel):
    """What a guardian did. requests: its errors among them; guardian_name: the latest one, null without any."""

    guardian_id: str | None
    guardian_name: str | None
    requests: int
    passed: int
    corrected: int
    blocked: int
    avg_latency_ms: Number | None
    top_violation_types: list[ViolationType]


class Guardians(Span):
    """The busiest guardian first. truncated: there, and true, where some are left out."""

    model_config = _example(
        **DAY,
        data=[
            {
                "guardian_id": "gov_01JF8R3M3X4N5Q6T7V8W9Y0Z1A",
                "guardian_name": "PII-Redactor",
                "requests": 8201,
                "passed": 7411,
                "corrected": 720,
                "blocked": 60,
                "avg_latency_ms": 142,
                "top_violation_types": [
                    {"type": "pii_exposure", "count": 720},
                    {"type": "credential_leak", "count": 60},
                ],
            }
        ],
    )

    data: list[Guardian]
    truncated: bool | None = None


# ------------------------------------------------------------ tool calls


class CallTotals(BaseModel):
    """Tool calls by verdict; tool_calls is their sum."""

    tool_calls: int
    passed: int
    corrected: int
    blocked: int


class Mix(BaseModel):
    """Parts of all calls; they add up to 1."""

    passed: float | None
    corrected: float | None
    blocked: float | None


class TopTool(BaseModel):
    """A tool, its calls, and which part of them was blocked."""

    tool: str
    calls: int
    block_rate: float | None


class ToolSummary(Span):
    """All tool calls of a window. top_tools: those with most blocked calls, then with most calls."""

    model_config = _example(
        **DAY,
        totals={"tool_calls": 4123, "passed": 3812, "corrected": 264, "blocked": 47},
        by_verdict={"passed": 0.925, "corrected": 0.064, "blocked": 0.011},
        top_tools=[
            {"tool": "stripe.create_refund", "calls": 412, "block_rate": 0.041},
            {"tool": "postgres.query", "calls": 1840, "block_rate": 0.005},
        ],
    )

    totals: CallTotals
    by_verdict: Mix
    top_tools: list[TopTool]


class Tool(Latencies):
    """What became of a tool's calls."""

    tool: str
    calls: int
    passed: int
    corrected: int
    blocked: int
    correction_rate: float | None
    block_rate: float | None
    avg_latency_ms: Number | None


_TOOL = {"tool": "postgres.query", "calls": 1840, "passed": 1771, "corrected": 60, "blocked": 9}
_TOOL |= {"correction_rate": 0.033, "block_rate": 0.005, "avg_latency_ms": 38.4}
_LATENCIES = {"latency_p50_ms": 31.2, "latency_p95_ms": 88.6, "latency_p99_ms": 143.9}


class Tools(Span):
    """The tool that was called most first. truncated: there, and true, where some are left out."""

    model_config = _example(**DAY, data=[_TOOL | _LATENCIES])

    data: list[Tool]
    truncated: bool | None = None


class Session(BaseModel):
    """A session's calls in the window. tools: how many different ones; guardian_id: who judged most of the calls."""

    session_id: str
    first_seen_at: str
    last_seen_at: str
    calls: int
    passed: int
    corrected: int
    blocked: int
    tools: int
    guardian_id: str | None


_SESSION = {
    "session_id": "sess_01JF8RM7K2",
    "first_seen_at": "2026-04-30T09:12:44Z",
    "last_seen_at": "2026-04-30T09:31:02Z",
    "calls": 23,
    "passed": 20,
    "corrected": 2,
    "blocked": 1,
    "tools": 4,
    "guardian_id": "gov_01JF8R3M3X4N5Q6T7V8W9Y0Z1A",
}


class Sessions(Span):
    """A page of sessions, the one that was active last first."""

    model_config = _example(**DAY, data=[_SESSION], page={"next_cursor": None, "has_more": False})

    data: list[Session]
    page: Mark


class Call(BaseModel):
    """A tool call. reason: the code that came with the verdict, if any."""

    call_id: str
    timestamp: str
    tool: str
    verdict: Literal["passed", "corrected", "blocked"]
    reason: str | None
    latency_ms: Number | None
    guardian_id: str | None
    environment: str | None


class SessionDetail(Span, Latencies):
    """One session. calls: the first thousand, in their order; truncated: whether there are more."""

    model_config = _example(
        session_id="sess_01JF8RM7K2",
        **DAY,
        first_seen_at="2026-04-30T09:12:44Z",
        last_seen_at="2026-04-30T09:31:02Z",
        guardian_id="gov_01JF8R3M3X4N5Q6T7V8W9Y0Z1A",
        totals={"tool_calls": 23, "passed": 20, "corrected": 2, "blocked": 1},
        by_verdict={"passed": 0.87, "corrected": 0.087, "blocked": 0.043},
        avg_latency_ms=41.3,
        **_LATENCIES,
        tools=[_TOOL | _LATENCIES],
        calls=[
            {
                "call_id": "call_01JF8RM7K3",
                "timestamp": "2026-04-30T09:12:44Z",
                "tool": "postgres.query",
                "verdict": "passed",
                "reason": None,
                "latency_ms": 29.4,
                "guardian_id": "gov_01JF8R3M3X4N5Q6T7V8W9Y0Z1A",
                "environment": "live",
            }
        ],
        truncated=False,
    )

    session_id: str
    first_seen_at: str
    last_seen_at: str
    guardian_id: str | None
    totals: CallTotals
    by_verdict: Mix
    avg_latency_ms: Number | None
    tools: list[Tool]
    calls: list[Call]
    truncated: bool


# ------------------------------------------------------------ changes of the configuration


class Actor(BaseModel):
    """Who changed something. type: null where the record does not say; id: of a person."""

    type: Literal["user", "api_key"] | None
    id: str | None


class Setting(BaseModel):
    """What was changed: `rules.<pattern>.<setting>` or `lifecycle.<window>`; null: as in the rule file."""

    setting: str
    before: Any
    after: Any


class ConfigChange(BaseModel):
    """One change. position: of its record in the log; what follows it there was counted with the new settings."""

    change_id: str
    timestamp: str
    actor: Actor
    changes: list[Setting]
    position: str


class ConfigAudit(Span):
    """A page of changes, the latest first."""

    model_config = _example(
        **DAY,
        data=[
            {
                "change_id": "cfg_4kq2z6v7w5m3c2xj6lq4n7tq3e",
                "timestamp": "2026-04-30T11:42:08Z",
                "actor": {"type": "user", "id": "0b0a8e5c-3f6f-4a2e-9d53-2f6f6f1f7c11"},
                "changes": [
                    {
                        "setting": "rules.webhook_failure_spike.alert",
                        "before": None,
                        "after": {"count": 20, "window": "5m"},
                    }
                ],
                "position": "log:18231",
            }
        ],
        page={"next_cursor": None, "has_more": False},
    )

    data: list[ConfigChange]
    page: Mark


# ------------------------------------------------------------ rollups on demand


class RollupQueued(BaseModel):
    """A rollup that was asked for."""

    model_config = _example(rollup_id="rlp_4kq2z6v7w5m3c2xj6lq4n7tq3e", status="queued")

    rollup_id: str
    status: Literal["queued"]


class Compared(BaseModel):
    """What the rollups said before, and what the events say. minutes: looked at; rows, rows_changed: of the rollups;
    events: how many these count."""

    minutes: int
    rows: int
    rows_changed: int
    events_before: int
    events_after: int


class Rollup(Span):
    """A rollup that was asked for. changed, compared: null until it has succeeded; error: null unless it has failed."""

    model_config = _example(
        rollup_id="rlp_4kq2z6v7w5m3c2xj6lq4n7tq3e",
        status="succeeded",
        **{"from": "2026-05-01T00:00:00Z", "to": "2026-05-01T23:59:59Z"},
        requested_at="2026-05-02T08:00:00Z",
        started_at="2026-05-02T08:00:01Z",
        finished_at="2026-05-02T08:00:02Z",
        changed=False,
        compared={"minutes": 1440, "rows": 5210, "rows_changed": 0, "events_before": 18425, "events_after": 18425},
        error=None,
    )

    rollup_id: str
    status: Literal["queued", "running", "succeeded", "failed"]
    requested_at: str
    started_at: str | None
    finished_at: str | None
    changed: bool | None
    compared: Compared | None
    error: str | None
