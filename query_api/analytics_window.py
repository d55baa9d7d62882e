"""The time that an analytics endpoint looks at, as it is asked for and said: from, to, and the buckets in between."""

from datetime import UTC
from typing import Annotated, Literal, NamedTuple

from fastapi import Query

from operators.buckets import LONGEST, Grid, enough, grid
from operators.events import DAY, SECOND
from query_api.envelope import ApiError, ErrorCode
from query_api.integrations_wire import EARLIEST, LATEST, invalid, parse_instant, rfc3339, within

Bucket = Literal["1m", "5m", "15m", "1h", "1d"]
LONGEST_DAYS = max(LONGEST.values())  # of a window without buckets
# Room for what looks beyond a window: its first and last bucket, the weeks before it.
_FIRST, _LAST = (parse_instant(f"{year}-01-01", "") or 0 for year in (1900, 2200))

DATE_TIME = {"format": "date-time"}
From = Annotated[
    str | None,
    Query(alias="from", description="RFC 3339, inclusive; 24 hours ago by default.", json_schema_extra=DATE_TIME),
]
To = Annotated[
    str | None, Query(alias="to", description="RFC 3339, exclusive; now by default.", json_schema_extra=DATE_TIME)
]
BucketSize = Annotated[Bucket, Query(description="The length of a bucket; buckets are aligned to UTC.")]


class Window(NamedTuple):
    """A span of time in µs since 1970, UTC: from `start`, to before `end`."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How long it is, µs."""
        return self.end - self.start

    def wire(self) -> dict[str, str | None]:
        """Return it as answers say it."""
        return {"from": rfc3339(self.start), "to": rfc3339(self.end)}


def window_of(start: str | None, end: str | None, now: float) -> Window:
    """Return the window asked for. start, end: RFC 3339; now: seconds since 1970, for the defaults.

    By default it ends with the running second, so that it has what was accepted just now. Raises ApiError
    ValidationError for what is no time or a far one, and where nothing lies between the two; Unprocessable beyond
    LONGEST_DAYS.
    """
    upto = default_end(now)
    since, until = parse_instant(start, "from"), parse_instant(end, "to")
    found = Window(within(upto - DAY) if since is None else since, upto if until is None else until)
    if found.length <= 0:
        said = "" if since is not None else "; without a from it is the time 24 hours ago"
        raise invalid(f"from must lie before to{said}.")
    check_years(*found)
    if found.length > LONGEST_DAYS * DAY:
        raise too_large(f"The window is longer than {LONGEST_DAYS:,} days.")
    return found


def check_years(start: int, end: int) -> None:
    """Raise ApiError ValidationError for a window of years that nobody can mean."""
    if start < _FIRST or end > _LAST:
        raise invalid("from and to must lie between the years 1900 and 2200.")


def whole_of(start: str | None, end: str | None) -> Window:
    """Return the window of something that has an end of its own: from the beginning, up to whenever, by default.

    Raises ApiError ValidationError.
    """
    since, until = parse_instant(start, "from"), parse_instant(end, "to")
    found = Window(EARLIEST if since is None else since, LATEST if until is None else until)
    if found.length <= 0:
        raise invalid("from must lie before to.")
    return found


def default_end(now: float) -> int:
    """Return where the running second ends, µs. now: seconds since 1970."""
    return -int(-now // 1) * SECOND


def grid_of(window: Window, bucket: Bucket) -> Grid:
    """Return the buckets of a window, on the clock of UTC. Raises ApiError Unprocessable where they are too many."""
    if window.length > LONGEST[bucket] * DAY:
        raise too_large(
            f"The window is too large for buckets of {bucket}: these go up to {LONGEST[bucket]:,} days; "
            f"bucket={enough(window.length)} would do."
        )
    return grid(window.start, window.end, bucket, UTC)


def timestamps(buckets: Grid) -> list[str | None]:
    """Return when each bucket begins, as answers say it."""
    return [rfc3339(edge) for edge in buckets.edges[:-1].tolist()]


def too_large(message: str) -> ApiError:
    """Return the error for a window that is understood and yet not looked at."""
    return ApiError(ErrorCode.UNPROCESSABLE, message)
