"""What GET /v1/analytics/query is asked: its parameters, and the question they make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field, WithJsonSchema

from operators.buckets import LONGEST, Grid, enough, grid, size_of
from operators.events import DAY, MINUTE, STREAMS
from operators.measures import DISTINCT, PLAIN, dimension_of, needs_values
from query_api.analytics_window import LONGEST_DAYS, check_years, too_large
from query_api.envelope import ApiError, ErrorCode
from query_api.integrations_wire import clean, invalid, parse_instant, shown

DIMENSIONS = ("stream", "source", "type", "code", "guardian", "environment", "tag", "session")
# What a dimension is called where it is about something: its column, and the streams it exists in.
ALIASES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "verdict": ("type", ("verdict", "tool_call")),
    "tool": ("source", ("tool_call",)),
    "identity": ("source", ("identity",)),
}
NAMES = (*DIMENSIONS, *ALIASES)
FILTERS = tuple(name for name in NAMES if name != "stream")
# Streams that a limited key needs a scope of its own for; for all others it is LOGS.
LOGS = "logs:read"
SCOPE_OF = {"tool_call": "mcp:read", "identity": "nhi:read"}

MOST_GROUPS, MOST_MEASURES, MOST_DIMENSIONS, MOST_VALUES = 100, 12, 4, 100

_Text = Annotated[str, Field(max_length=500)]
_Time = Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]


def _one_of(names: Sequence[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(names)})


_Streams = Annotated[list[Annotated[str, _one_of(STREAMS)]], Field(max_length=50)]
_Names = Annotated[list[Annotated[str, _one_of(NAMES)]], Field(max_length=50)]
_Filters = Annotated[list[Annotated[str, _one_of(FILTERS)]], Field(max_length=50)]
_Measures = Annotated[
    list[Annotated[str, _one_of((*PLAIN, *(f"{DISTINCT}{name}" for name in NAMES)))]], Field(max_length=50)
]
_Values = Annotated[list[_Text], Field(max_length=MOST_VALUES)]


class Asked(BaseModel):
    """The parameters, as they come. Those that may be repeated may also be one, separated by commas, but for values."""

    measure: Annotated[_Measures, Field(description="What to say of the events; the first one ranks groups.")] = [
        "count"
    ]
    stream: Annotated[_Streams, Field(description="Of these streams; of all by default.")] = []
    start: Annotated[_Time, Field(alias="from", description="RFC 3339, inclusive; 24 hours before `to`.")] = None
    end: Annotated[_Time, Field(alias="to", description="RFC 3339, exclusive; the end of this minute.")] = None
    bucket: Annotated[
        Literal["1m", "5m", "15m", "1h", "1d", "auto", "none"],
        Field(description="`auto`: the finest with at most 400 buckets; `none`: totals only."),
    ] = "1h"
    timezone: Annotated[_Text, Field(description="An IANA name; days begin at its midnight.")] = "UTC"
    group_by: Annotated[_Names, Field(description="One series for each combination of values.")] = []
    limit: Annotated[int, Field(ge=1, le=MOST_GROUPS, description="How many groups are shown by themselves.")] = 10
    other: Annotated[bool, Field(description="Whether all other groups are shown as one.")] = True
    compare: Annotated[Literal["none", "previous"], Field(description="With the window just before.")] = "none"
    fill: Annotated[
        Literal["zero", "null", "none"],
        Field(description="Buckets without events: 0 of what is counted, null, or left out where all series are."),
    ] = "zero"
    without: Annotated[_Filters, Field(description="Only events that have none of this, or one of its values.")] = []
    source: _Values = []
    type: _Values = []
    code: _Values = []
    guardian: _Values = []
    guardian_id: Annotated[_Values, Field(description="The same as `guardian`.")] = []
    environment: _Values = []
    tag: _Values = []
    session: _Values = []
    verdict: Annotated[_Values, Field(description="The `type` of verdicts and tool calls.")] = []
    tool: Annotated[_Values, Field(description="The `source` of tool calls.")] = []
    identity: Annotated[_Values, Field(description="The `source` of identities.")] = []


PARAMETERS = tuple(field.alias or name for name, field in Asked.model_fields.items())


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. group_by, measures: as they were called; `columns` and `measured` are what they mean.

    grid: the buckets; bucket: their size, or `none`. where: by column the values that count, None for events without.
    """

    streams: tuple[str, ...]
    grid: Grid
    bucket: str
    zone: ZoneInfo
    measures: tuple[str, ...]
    group_by: tuple[str, ...]
    where: Mapping[str, tuple[str | None, ...]]
    limit: int
    other: bool
    compare: bool
    fill: Literal["zero", "null", "none"]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that groups are told apart by."""
        return tuple(column_of(name) for name in self.group_by)

    @property
    def measured(self) -> tuple[str, ...]:
        """The measures, with the columns of which different values are counted."""
        return tuple(_meant(name) for name in self.measures)

    @property
    def labelled(self) -> bool:
        """Whether groups have what people call them: guardians and identities have."""
        about: dict[tuple[str, ...], set[str]] = {("verdict",): {"guardian", "source"}, ("identity",): {"source"}}
        return not about.get(self.streams, set()).isdisjoint(self.columns)

    @property
    def by(self) -> tuple[str, ...]:
        """All columns that rows must be told apart by."""
        counted = (dimension_of(name) for name in self.measured)
        wanted = (*self.columns, *(name for name in counted if name), *(("label",) if self.labelled else ()))
        return tuple(dict.fromkeys(wanted))

    @property
    def values(self) -> bool:
        """Whether rows must have histograms."""
        return needs_values(self.measures)


def question(asked: Asked, names: Collection[str], scopes: frozenset[str] | None, now: float) -> Question:
    """Return what is meant.

    names: of the parameters that were sent. scopes: what the caller's key is limited to; None: nothing. now: seconds
    since 1970. Raises ApiError ValidationError, Forbidden, and Unprocessable for a window too large for its bucket.
    """
    for name in names:
        if name not in PARAMETERS:
            raise invalid(f"There is no parameter {shown(name)}; there are {', '.join(PARAMETERS)}.")
    measures = _listed(asked.measure, "measure", (*PLAIN, *(f"{DISTINCT}{name}" for name in NAMES)), MOST_MEASURES)
    group_by = _listed(asked.group_by, "group_by", NAMES, MOST_DIMENSIONS)
    where = _where(asked)
    if len({column_of(name) for name in group_by}) < len(group_by):
        raise invalid("group_by: names the same dimension twice; verdict is a type, tool and identity are sources.")
    named = {*group_by, *map(dimension_of, measures), *(name for name in ALIASES if getattr(asked, name))}
    named |= set(_listed(asked.without, "without", FILTERS, len(FILTERS)))
    given = _listed(asked.stream, "stream", STREAMS, len(STREAMS))
    streams = _streams(given, [name for name in ALIASES if name in named], scopes)
    zone = _zone(asked.timezone)
    start, end = _window(asked, now)
    bucket = size_of(end - start, asked.bucket)
    _check(end - start, bucket)
    return Question(
        streams,
        grid(start, end, bucket, zone),
        bucket,
        zone,
        measures or ("count",),
        group_by,
        where,
        asked.limit,
        asked.other,
        asked.compare == "previous",
        asked.fill,
    )


def column_of(name: str) -> str:
    """The column that a dimension or one of its other names stands for."""
    return ALIASES[name][0] if name in ALIASES else name


def _meant(measure: str) -> str:
    dimension = dimension_of(measure)
    return measure if dimension is None else f"{DISTINCT}{column_of(dimension)}"


def _listed(given: Iterable[str], name: str, possible: Sequence[str], most: int) -> tuple[str, ...]:
    """Values of a parameter that may be repeated, or separated by commas; each once."""
    found = tuple(dict.fromkeys(part for text in given for part in map(str.strip, text.split(",")) if part))
    for one in found:
        if one not in possible:
            raise invalid(f"{name}: there is no {shown(one)}; there are {', '.join(possible)}.")
    if len(found) > most:
        raise invalid(f"{name}: at most {most} at once.")
    return found


def _where(asked: Asked) -> Mapping[str, tuple[str | None, ...]]:
    """By column the values that count. An empty text filters nothing, as forms send it for "any"."""
    without = _listed(asked.without, "without", FILTERS, len(FILTERS))
    found: dict[str, tuple[str | None, ...]] = {}
    for name in (*FILTERS, "guardian_id"):
        values: list[str | None] = [clean(text) for text in getattr(asked, name) if text]
        if name in without:
            values.append(None)
        if values:
            column = "guardian" if name == "guardian_id" else column_of(name)
            before = found.get(column, values)
            found[column] = tuple(value for value in dict.fromkeys(values) if value in before)
    return found


def _streams(given: tuple[str, ...], aliases: Iterable[str], scopes: frozenset[str] | None) -> tuple[str, ...]:
    """The streams that are meant, and may be looked at. aliases: the names that exist in some of them only."""
    meant = given or STREAMS
    for alias in aliases:
        exists = ALIASES[alias][1]
        if given and not set(given) <= set(exists):
            raise invalid(f"{alias} is of the stream {' or '.join(exists)}: leave `stream` out, or name no other.")
        meant = tuple(stream for stream in meant if stream in exists)
    if not meant:
        raise invalid("No stream has all of these: tool is of tool_call, identity of identity, verdict of both others.")
    if not given and "verdict" in meant and len(meant) < len(STREAMS):
        meant = ("verdict",)
    if scopes is None:
        return meant
    allowed = tuple(stream for stream in meant if SCOPE_OF.get(stream, LOGS) in scopes)
    if not allowed or (given and allowed != meant):
        missing = sorted({SCOPE_OF.get(stream, LOGS) for stream in meant} - scopes)
        raise ApiError(ErrorCode.FORBIDDEN, f"This key lacks the scope {' and '.join(missing)} for these streams.")
    return allowed


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a directory of zones is an OSError
        raise invalid(f"timezone: expected an IANA name such as Europe/Berlin, got {shown(name)}.") from None


def _window(asked: Asked, now: float) -> tuple[int, int]:
    """The window asked for. By default up to the end of this minute: whoever asks again within it asks the same."""
    since, until = parse_instant(asked.start, "from"), parse_instant(asked.end, "to")
    end = -(-int(now * 1_000_000) // MINUTE) * MINUTE if until is None else until
    start = end - DAY if since is None else since
    if start >= end:
        raise invalid("from must lie before to.")
    check_years(start, end)
    return start, end


def _check(length: int, bucket: str) -> None:
    """Raise ApiError Unprocessable for a window that is too long for its bucket; the sentence says what would do."""
    longest = LONGEST_DAYS if bucket == "none" else LONGEST[bucket]
    if length <= longest * DAY:
        return
    finest = enough(length)
    what = "without buckets" if bucket == "none" else f"in buckets of {bucket}"
    instead = f"bucket={finest} would do" if finest else "ask for a shorter one"
    raise too_large(f"The window is too large: {what} it may have {longest:,} days at most; {instead}.")
