"""Pages of native lists and of the Analytics surface: `page{next_cursor, has_more}`, resumed behind a place in time.

A list that is ordered by (time, id) neither repeats nor misses anything while it grows.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Query

from connectors.control.ids import is_id
from query_api.integrations_wire import as_micros, as_time, decode_cursor, encode_cursor, invalid
from query_api.wire import Listing, Mark

T = TypeVar("T")
PAGE, MOST = 25, 100  # entries of a page, by default and at most

Limit = Annotated[int, Query(ge=1, le=MOST)]
Cursor = Annotated[
    str | None,
    Query(
        max_length=2_000, description="`next_cursor` of the answer before, with the same filters: the page after it."
    ),
]


def place(cursor: str | None) -> tuple[datetime, str] | None:
    """Return the time and the id of the last one seen; None for the first page. Raises ApiError ValidationError."""
    if not cursor:
        return None
    micros, ident = decode_cursor(cursor, (int, str), name="next_cursor")
    at = as_time(int(micros))
    if at is None or not is_id(str(ident)):
        raise invalid("cursor: not one of this endpoint's; take next_cursor of an answer as it is.")
    return at, str(ident)


def listing(data: Sequence[T], more: bool, last: tuple[datetime, str] | None) -> Listing[T]:
    """Return the page. last: the time and the id of its last one, where there is one."""
    cursor = encode_cursor(as_micros(last[0]), last[1]) if more and last else None
    return Listing(data=list(data), page=Mark(next_cursor=cursor, has_more=more))
