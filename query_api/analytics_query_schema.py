"""What GET /v1/analytics/query answers, for its OpenAPI document. Answers themselves are made without these models."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Number = int | float | None
Numbers = Annotated[dict[str, list[Number]] | None, Field(description="By measure, one of each bucket.")]
Total = Annotated[dict[str, Number], Field(description="By measure, over the whole window.")]

_EXAMPLE: Any = {
    "from": "2026-05-01T00:00:00Z",
    "to": "2026-05-01T03:00:00Z",
    "bucket": "1h",
    "timezone": "UTC",
    "streams": ["verdict"],
    "measures": ["count", "p95"],
    "group_by": ["guardian"],
    "complete_through": "2026-05-01T03:00:00Z",
    "truncated": False,
    "groups": 7,
    "buckets": ["2026-05-01T00:00:00Z", "2026-05-01T01:00:00Z", "2026-05-01T02:00:00Z"],
    "previous": None,
    "series": [
        {
            "key": {"guardian": "gov_01JF8R3M3X4N5Q6T7V8W9Y0Z1A"},
            "label": "PII-Redactor",
            "other": False,
            "total": {"count": 1741, "p95": 187.217},
            "values": {"count": [540, 612, 589], "p95": [183.509, 194.781, 183.509]},
            "previous": None,
        },
        {
            "key": {},
            "label": None,
            "other": True,
            "total": {"count": 12, "p95": 98.6531},
            "values": {"count": [12, 0, 0], "p95": [98.6531, None, None]},
            "previous": None,
        },
    ],
}


class PreviousWindow(BaseModel):
    """The window that is compared with. Bucket i is to be compared with bucket i."""

    start: Annotated[datetime, Field(alias="from")]
    end: Annotated[datetime, Field(alias="to")]
    buckets: list[datetime] | None


class PreviousSeries(BaseModel):
    """The same series in the window before. change: by which part it has changed, null where there was nothing."""

    total: Total
    change: dict[str, float | None]
    values: Numbers


class Series(BaseModel):
    """One group. other: all groups that are not shown by themselves, together; then `key` is empty."""

    key: dict[str, str | None]
    label: Annotated[str | None, Field(description="What people call a guardian or an identity.")]
    other: bool
    total: Total
    values: Numbers
    previous: PreviousSeries | None


class QueryAnswer(BaseModel):
    """Series of measures, the largest first."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    start: Annotated[datetime, Field(alias="from")]
    end: Annotated[datetime, Field(alias="to")]
    bucket: str
    timezone: str
    streams: list[str]
    measures: list[str]
    group_by: list[str]
    complete_through: Annotated[
        datetime | None,
        Field(description="All events up to here have come, but for late ones; at most `to`. Null: not known."),
    ]
    truncated: Annotated[bool, Field(description="Whether groups are missing that were asked for.")]
    groups: Annotated[int, Field(description="How many groups there are, shown or not.")]
    buckets: Annotated[list[datetime] | None, Field(description="When each begins.")]
    previous: PreviousWindow | None
    series: list[Series]
