"""What the endpoints of non-human identities (NHIs) answer, for the OpenAPI document. Answers are made without these.

Scores and their components have four decimals, sums of money six, other amounts four significant digits; times are
RFC 3339, UTC.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from query_api.analytics_schema import DAY, Number, Span
from query_api.analytics_window import DATE_TIME, Bucket
from query_api.wire import Mark

Unit = Annotated[float, Field(ge=0, le=1)]
NHI = "nhi_01JF8RNHI1A2B3C4D5E6F7G8H9"
ANOMALY = {
    "anomaly_id": "anom_01JF8RAN1A2B3C4D5E6F7G8H9I",
    "nhi_id": NHI,
    "type": "spend_burst",
    "severity": "high",
    "detected_at": "2026-05-01T08:14:00Z",
    "evidence": {"p99_spend_usd_24h": 12.40, "rolling_baseline": 0.83},
    "status": "open",
}
JOB = {"job_id": "job_4hq7c2mzk6v3xw5tdn2yr7ueoa", "status": "queued"}
WEEK = {"from": "2026-04-24T00:00:00Z", "to": "2026-05-01T00:00:00Z"}
SIGNS = {"anomalies": 0.0, "denied_attempts": 0.1047, "dormancy": 0.0, "federation": 0.0, "spend_burst": 0.6}
RISK = {
    "nhi_id": NHI,
    "nhi_label": "ci-runner-prod",
    "tier": 2,
    "risk_score": 0.202,
    "risk_signals": ["spend_burst:p99", "tool_attempt:denied:3"],
    "last_seen_at": "2026-05-01T11:42:08Z",
    "components": {"likelihood": 0.3367, "impact": 0.6, **SIGNS},
}

_POINT = ("risk_score", "risk_signals", "components")


def _example(*bodies: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(bodies)})


class Cut(BaseModel):
    """truncated: there where the answer is not all."""

    truncated: Literal[True] | None = Field(default=None, json_schema_extra={"type": "boolean"})


class Signs(BaseModel):
    """How strong each sign is."""

    anomalies: Unit
    denied_attempts: Unit
    spend_burst: Unit
    federation: Unit
    dormancy: Unit


class RiskComponents(Signs):
    """What a risk score is made of: likelihood × impact; the likelihood is the noisy-or of the weighted signs."""

    likelihood: Unit
    impact: Unit


class Identity(BaseModel):
    """nhi_label: what it is called, or its id; tier: as it was last said, null where it never was."""

    nhi_id: str
    nhi_label: str
    tier: Number | None


class RiskRow(Identity):
    """An identity and its risk."""

    risk_score: Unit
    risk_signals: list[str]
    last_seen_at: str
    components: RiskComponents


class Risks(Span, Cut):
    """The riskiest identity first."""

    model_config = _example(WEEK | {"data": [RISK]})

    data: list[RiskRow]


class Sign(BaseModel):
    """One sign. value: its strength; contribution: its share of the score; signal: null where it is absent."""

    name: str
    value: Unit
    weight: Unit
    contribution: Unit
    signal: str | None
    evidence: dict[str, Any]


class Assessment(Span, Identity):
    """One identity's risk, with everything that it was computed from."""

    model_config = _example(
        WEEK
        | {
            "nhi_id": NHI,
            "nhi_label": "ci-runner-prod",
            "tier": 2,
            "risk_score": 0.202,
            "risk_signals": ["spend_burst:p99", "tool_attempt:denied:3"],
            "likelihood": 0.3367,
            "impact": 0.6,
            "components": [
                {
                    "name": "spend_burst",
                    "value": 0.6,
                    "weight": 0.5,
                    "contribution": 0.1755,
                    "signal": "spend_burst:p99",
                    "evidence": {
                        "p99_spend_usd": 4.15,
                        "p99_baseline_usd": 0.83,
                        "hour_spend_usd": 6.2,
                        "hour_baseline_usd": 4.1,
                        "baseline_spends": 1204,
                    },
                }
            ],
            "last_seen_at": "2026-05-01T11:42:08Z",
        }
    )

    risk_score: Unit
    risk_signals: list[str]
    likelihood: Unit
    impact: Unit
    components: list[Sign]
    last_seen_at: str | None


class RiskPoint(BaseModel):
    """The risk at the end of a bucket."""

    timestamp: str
    risk_score: Unit
    risk_signals: list[str]
    components: RiskComponents


class RiskHistory(Span):
    """One identity's risk over time."""

    model_config = _example(
        DAY
        | {
            "nhi_id": NHI,
            "bucket": "1h",
            "series": [{"timestamp": DAY["from"], **{name: RISK[name] for name in RISK if name in _POINT}}],
        }
    )

    nhi_id: str
    bucket: Bucket
    series: list[RiskPoint]


class PostureComponents(BaseModel):
    """The score is the mean of the first three and 1 − risk_score. Anomalies count in the risk."""

    guardian_coverage: Unit
    tier_compliance: Unit
    federation_status: Unit
    anomaly_count_7d: int
    risk_score: Unit


class PostureRow(BaseModel):
    """How well an identity is governed."""

    nhi_id: str
    posture_score: Unit
    components: PostureComponents


class Postures(Cut):
    """The worst governed identity first."""

    model_config = _example(
        {
            "data": [
                {
                    "nhi_id": NHI,
                    "posture_score": 0.86,
                    "components": {
                        "guardian_coverage": 1.0,
                        "tier_compliance": 0.95,
                        "federation_status": 0.80,
                        "anomaly_count_7d": 2,
                        "risk_score": 0.31,
                    },
                }
            ]
        }
    )

    data: list[PostureRow]


class Activity(BaseModel):
    """What was done: of all events, attempts to use tools, those of them that were allowed or denied, and money."""

    events: int
    tool_attempts: int
    allowed: int
    denied: int
    spend_usd: float


class ActivityTotals(Activity):
    """Of all identities."""

    identities: int


class ActivityBucket(ActivityTotals):
    """By time; every bucket of the window is there."""

    timestamp: str


class ActivityRow(Identity, Activity):
    """Of one identity. denied_rate: null without attempts; p99_spend_usd: of single spends."""

    denied_rate: float | None
    p99_spend_usd: float | None
    guardian_coverage: Unit
    last_seen_at: str


_COUNTS = {"events": 412, "tool_attempts": 306, "allowed": 303, "denied": 3, "spend_usd": 18.24}


class Observability(Span, Cut):
    """What the identities of a workspace did."""

    model_config = _example(
        DAY
        | {
            "bucket": "1h",
            "totals": {"identities": 1, **_COUNTS},
            "series": [{"timestamp": DAY["from"], "identities": 1, **_COUNTS}],
            "data": [
                {
                    "nhi_id": NHI,
                    "nhi_label": "ci-runner-prod",
                    "tier": 2,
                    **_COUNTS,
                    "denied_rate": 0.0098,
                    "p99_spend_usd": 4.15,
                    "guardian_coverage": 1.0,
                    "last_seen_at": "2026-05-01T11:42:08Z",
                }
            ],
        }
    )

    bucket: Bucket
    totals: ActivityTotals
    series: list[ActivityBucket]
    data: list[ActivityRow]


class AnomalyBody(BaseModel):
    """What an identity does not usually do. note, acknowledged_at: only where it was acknowledged."""

    model_config = _example(ANOMALY)

    anomaly_id: str
    nhi_id: str
    type: str
    severity: str
    detected_at: str
    evidence: dict[str, Any]
    status: Literal["open", "acknowledged"]
    note: str | None = None
    acknowledged_at: str | None = None


class AnomalyPage(BaseModel):
    """The latest first."""

    model_config = _example({"data": [ANOMALY], "page": {"next_cursor": None, "has_more": False}})

    data: list[AnomalyBody]
    page: Mark


class Acknowledgement(BaseModel):
    """What there is to say about it."""

    model_config = _example({"note": "Reviewed by SRE — known release event."})

    note: Annotated[str | None, Field(max_length=2_000)] = None


class DetectionRequest(BaseModel):
    """The window to look at; 24 hours up to now where it is left out."""

    model_config = _example(DAY)

    from_: Annotated[str | None, Field(alias="from", json_schema_extra=DATE_TIME)] = None
    to: Annotated[str | None, Field(json_schema_extra=DATE_TIME)] = None


class QueuedJob(BaseModel):
    """Taken; poll it by its id."""

    model_config = _example(JOB)

    job_id: str
    status: Literal["queued"]


class DetectionResult(BaseModel):
    """identities: looked at; anomalies: found in the window; new: those of them that were not known yet."""

    identities: int
    anomalies: int
    new: int


class DetectionJob(Span):
    """A detection. result: once it has succeeded; error: why it failed."""

    model_config = _example(
        DAY
        | {
            "job_id": JOB["job_id"],
            "status": "succeeded",
            "result": {"identities": 12, "anomalies": 2, "new": 1},
            "error": None,
            "created_at": "2026-05-01T00:00:03Z",
            "finished_at": "2026-05-01T00:00:04Z",
        }
    )

    job_id: str
    status: Literal["queued", "running", "succeeded", "failed"]
    result: DetectionResult | None
    error: str | None
    created_at: str
    finished_at: str | None
