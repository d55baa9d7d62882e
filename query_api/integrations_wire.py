"""How the Integrations API writes and reads values: times, cursors, text. Times inside are µs since 1970, UTC."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import orjson
from fastapi import Query

from query_api.envelope import ApiError, ErrorCode

READ_SECONDS = 5.0
DEFAULT_PAGE_SIZE = 25
LARGEST_PAGE_SIZE = 100
LARGEST_PAGE = 1_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)
EARLIEST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICRO
LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICRO

Page = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="From 1. Not used with a cursor.")]
PageSize = Annotated[int, Query(alias="pageSize", ge=1, le=LARGEST_PAGE_SIZE)]
Cursor = Annotated[
    str | None,
    Query(max_length=2_000, description="`nextCursor` of the answer before, with the same filters: the page after it."),
]


def now() -> int:
    """Return the time of the request, for the defaults of spans; incidents are never judged by it."""
    return (datetime.now(UTC) - _EPOCH) // _MICRO


def rfc3339(micros: int | None) -> str | None:
    """Return a time as the API writes it: UTC with Z, a fraction only where there is one."""
    if micros is None:
        return None
    return (_EPOCH + timedelta(microseconds=micros)).replace(tzinfo=None).isoformat() + "Z"


def parse_instant(given: str | None, name: str) -> int | None:
    """Return an RFC 3339 time, or a date, in µs; without an offset it is UTC. Raises ApiError ValidationError."""
    if not given:
        return None
    try:
        time = datetime.fromisoformat(given.strip().upper())
    except ValueError:
        expected = "expected an RFC 3339 time such as 2026-01-31T08:30:00Z"
        raise invalid(f"{name}: {expected}, got {shown(given)}.") from None
    # A difference, not a conversion: the year 1 in Tokyo is no year in UTC.
    return within((time - _EPOCH if time.tzinfo else time - _EPOCH.replace(tzinfo=None)) // _MICRO)


def within(micros: int) -> int:
    """Return the nearest instant that a date can name, year 1 to 9999."""
    return min(max(micros, EARLIEST), LATEST)


def rfc3339_of(time: datetime | None) -> str | None:
    """Return a time as the API writes it."""
    return None if time is None else rfc3339(as_micros(time))


def as_micros(time: datetime) -> int:
    """Return a time, with its offset, in µs."""
    return (time - _EPOCH) // _MICRO


def as_time(micros: int | None) -> datetime | None:
    """Return an instant as a parameter of a statement."""
    return None if micros is None else instant(micros)


def instant(micros: int) -> datetime:
    """Return the nearest instant that a date can name."""
    return _EPOCH + timedelta(microseconds=within(micros))


def clean(given: str | None) -> str | None:
    """Return a text that can be compared in the store; None for an empty one, as forms send for "any"."""
    return given.encode("utf-8", "replace").decode() if given else None


def encode_cursor(*place: str | int) -> str:
    """Return where a page ended, as text that nobody needs to understand."""
    return urlsafe_b64encode(orjson.dumps(place)).rstrip(b"=").decode()


def decode_cursor(given: str, kinds: Sequence[type], name: str = "nextCursor") -> tuple[str | int, ...]:
    """Return the parts of a cursor, of these types. name: what answers call it. Raises ApiError ValidationError."""
    try:
        data = given.encode("ascii")
        place = orjson.loads(urlsafe_b64decode(data + b"=" * (-len(data) % 4)))
    except ValueError:
        place = None
    if not isinstance(place, list) or [type(part) for part in place] != list(kinds):
        raise invalid(f"cursor: not one of this endpoint's; take {name} of an answer as it is.")
    if any(isinstance(part, int) and abs(part) >= 1 << 62 for part in place):
        raise invalid(f"cursor: not one of this endpoint's; take {name} of an answer as it is.")
    return tuple(place)


def invalid(message: str) -> ApiError:
    """Return the error for a parameter that cannot be meant."""
    return ApiError(ErrorCode.VALIDATION_ERROR, message)


def shown(given: str) -> str:
    """Return a client's text as it may stand in a message: short, on one line."""
    return repr(given[:60].encode("utf-8", "replace").decode())
