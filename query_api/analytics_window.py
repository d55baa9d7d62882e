"""The time that an analytics endpoint looks at: from, to, and the buckets in between.

How long a window may be for its bucket is said here, for all endpoints: about ten thousand buckets, ten years of days.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from fastapi import Query

from operators.events import DAY, HOUR, MINUTE, SECOND
from operators.histogram import Ints
from query_api.envelope import ApiError, ErrorCode
from query_api.integrations_wire import EARLIEST, LATEST, invalid, parse_instant, rfc3339, within

Bucket = Literal["1m", "5m", "15m", "1h", "1d"]
SIZES: dict[Bucket, int] = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": HOUR, "1d": DAY}
LONGEST: dict[Bucket, int] = {"1m": 7, "5m": 31, "15m": 92, "1h": 366, "1d": 3_660}  # days
LONGEST_DAYS = LONGEST["1d"]  # of a window without buckets, too

_FORMAT = {"format": "date-time"}
From = Annotated[
    str | None,
    Query(alias="from", description="RFC 3339, inclusive; 24 hours ago by default.", json_schema_extra=_FORMAT),
]
To = Annotated[
    str | None, Query(alias="to", description="RFC 3339, exclusive; now by default.", json_schema_extra=_FORMAT)
]
BucketSize = Annotated[Bucket, Query(description="The length of a bucket; buckets are aligned to UTC.")]


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time in µs since 1970, UTC: from `start`, to before `end`."""

    start: int
    end: int

    def wire(self) -> dict[str, str | None]:
        """Return it as answers say it."""
        return {"from": rfc3339(self.start), "to": rfc3339(self.end)}


@dataclass(frozen=True, slots=True)
class Grid:
    """The buckets of a window: `count` of `size` µs from `first` on, the first one with all of what it may lack."""

    first: int
    size: int
    count: int

    @property
    def grain(self) -> int:
        """The coarsest rows of rollups that fit into the buckets."""
        return grain_of(self.size)

    def of(self, starts: Ints) -> Ints:
        """Return the number of the bucket that each instant lies in."""
        found: Ints = (starts - self.first) // self.size
        return found

    def timestamps(self) -> list[str | None]:
        """Return when each bucket begins, as answers say it."""
        return [rfc3339(int(start)) for start in self.first + np.arange(self.count) * self.size]


def window_of(start: str | None, end: str | None, now: float) -> Window:
    """Return the window asked for. start, end: RFC 3339; now: seconds since 1970, for the defaults.

    By default it ends with the running second, so that it has what was accepted just now. Raises ApiError
    ValidationError for what is no time, and where nothing lies between the two; Unprocessable beyond LONGEST_DAYS.
    """
    upto = default_end(now)
    since, until = parse_instant(start, "from"), parse_instant(end, "to")
    found = Window(within(upto - DAY) if since is None else since, upto if until is None else until)
    if found.start >= found.end:
        raise invalid("from must lie before to.")
    if found.end - found.start > LONGEST_DAYS * DAY:
        raise too_large(f"The window is longer than {LONGEST_DAYS:,} days.")
    return found


def whole_of(start: str | None, end: str | None) -> Window:
    """Return the window of something that has an end of its own: from the beginning, up to whenever, by default.

    Raises ApiError ValidationError.
    """
    since, until = parse_instant(start, "from"), parse_instant(end, "to")
    found = Window(EARLIEST if since is None else since, LATEST if until is None else until)
    if found.start >= found.end:
        raise invalid("from must lie before to.")
    return found


def default_end(now: float) -> int:
    """Return where the running second ends, µs. now: seconds since 1970."""
    return -int(-now // 1) * SECOND


def grid_of(window: Window, bucket: Bucket) -> Grid:
    """Return the buckets of a window. Raises ApiError Unprocessable where they are too many."""
    if window.end - window.start > LONGEST[bucket] * DAY:
        raise too_large(
            f"The window is too large for buckets of {bucket}: these go up to {LONGEST[bucket]:,} days. "
            "Ask for larger buckets or a shorter window."
        )
    size = SIZES[bucket]
    first = window.start // size * size
    return Grid(first, size, -(-(window.end - first) // size))


def grain_of(size: int) -> int:
    """Return the coarsest rows of rollups that fit into buckets of `size` µs."""
    return MINUTE if size % HOUR else HOUR


def too_large(message: str) -> ApiError:
    """Return the error for a window that is understood and yet not looked at."""
    return ApiError(ErrorCode.UNPROCESSABLE, message)
