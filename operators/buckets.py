"""Buckets of time on the clock of a zone: minutes and hours as the wall shows them, days from midnight to midnight.

Buckets partition time: each begins where the one before ends. Where a clock is put forward or back, a day has 23 or 25
hours, and an hour that the change cuts begins anew with it. Offsets count in whole minutes, as RFC 3339 writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np

from operators.events import DAY, HOUR, MINUTE, SECOND
from operators.histogram import Floats, Ints
from operators.rollup import WHOLE

SIZES = {"1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": HOUR, "1d": DAY}
# How long a window may be, in days: about ten thousand buckets, ten years of days.
LONGEST = {"1m": 7, "5m": 31, "15m": 92, "1h": 366, "1d": 3_660}
AUTO = 400  # buckets that a chart shows well: `auto` takes the finest with no more

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Grid:
    """The buckets of a window [start, end), all in µs since 1970, UTC.

    edges: bucket i is [edges[i], edges[i + 1]). The first and the last one may reach beyond the window.
    """

    start: int
    end: int
    edges: Ints

    @property
    def count(self) -> int:
        """How many buckets there are."""
        return len(self.edges) - 1

    @property
    def grain(self) -> int:
        """The largest of WHOLE, DAY, HOUR and MINUTE of which each lies in one bucket."""
        inner = self.edges[1:-1]
        if not len(inner):
            return WHOLE
        return next(size for size in (DAY, HOUR, MINUTE) if not (inner % size).any())

    def of(self, starts: Ints) -> Ints:
        """The number of the bucket of each row, by when the row begins. Rows cut by the window begin before it."""
        place: Ints = np.searchsorted(self.edges, starts, "right") - 1
        return np.clip(place, 0, self.count - 1)

    def seconds(self) -> Floats:
        """How much of each bucket lies within the window."""
        within = np.clip(self.edges, self.start, self.end)
        lasting: Floats = (within[1:] - within[:-1]) / SECOND
        return lasting


def size_of(length: int, bucket: str) -> str:
    """The bucket to take for a window of `length` µs: `bucket`, or for `auto` the finest that a chart shows well."""
    if bucket != "auto":
        return bucket
    return next((name for name, size in SIZES.items() if -(-length // size) <= AUTO), "1d")


def enough(length: int) -> str | None:
    """The finest bucket that a window of `length` µs may have; None where it is too long for any."""
    return next((name for name, days in LONGEST.items() if length <= days * DAY), None)


def grid(start: int, end: int, bucket: str, zone: tzinfo) -> Grid:
    """The buckets of a window that is not empty. bucket: of SIZES, or `none` for the window as one bucket."""
    if bucket == "none":
        return Grid(start, end, np.array([start, end], np.int64))
    edges = _edges(start, end, SIZES[bucket], zone)
    first = int(np.searchsorted(edges, start, "right")) - 1
    last = int(np.searchsorted(edges, end, "left"))
    return Grid(start, end, edges[first : last + 1])


def previous(now: Grid, bucket: str, zone: tzinfo) -> Grid:
    """As many buckets of the window just before, of the same length: bucket i is to be compared with bucket i.

    Days are counted on the clock of the zone: before a week comes a week, whether or not a clock was changed. Where the
    window is no whole number of minutes, the buckets are a fraction of a minute off; the window is exact.
    """
    if bucket == "1d":
        length = _wall(now.end, zone) - _wall(now.start, zone)
        start = _instant(_wall(now.start, zone) - length, zone)
        if start < now.start:
            found = grid(start, now.start, bucket, zone)
            if found.count == now.count:
                return found
    length = now.end - now.start
    return Grid(now.start - length, now.start, now.edges - length // MINUTE * MINUTE)


def _edges(start: int, end: int, size: int, zone: tzinfo) -> Ints:
    """Where buckets begin, from before `start` to beyond `end`."""
    low, high = start - 3 * DAY, end + 3 * DAY
    spans = _spans(low, high, zone)
    found: list[Ints] = []
    places: list[Ints] = []
    before = spans[0][1]
    for (since, offset), (until, _) in zip(spans, [*spans[1:], (high, 0)], strict=True):
        first = -(-(since + offset) // size) * size - offset
        instants = np.arange(first, until, size, dtype=np.int64)
        if size == DAY or (offset - before) % size:
            instants = np.unique(np.append(instants, since))
        found.append(instants)
        places.append((instants + offset) // size)
        before = offset
    edges = np.concatenate(found)
    if size < DAY:
        return edges
    # A day begins when its date is first seen: the clock may have jumped over midnight, or show it twice.
    day = np.concatenate(places)
    seen = np.maximum.accumulate(day)
    fresh: Ints = edges[np.append(True, seen[1:] > seen[:-1])]
    return fresh


def _spans(low: int, high: int, zone: tzinfo) -> list[tuple[int, int]]:
    """From when on which offset holds: (µs, µs), the first from `low` on. A zone changes once a day at most."""
    offset = _offset(low, zone)
    found = [(low, offset)]
    for day in range(low, high, DAY):
        until = min(day + DAY, high)
        after = _offset(until, zone)
        if after == offset:
            continue
        before, then = day, until
        while then - before > 1 and then // MINUTE != before // MINUTE:
            middle = (before + then) // 2
            before, then = (middle, then) if _offset(middle, zone) == offset else (before, middle)
        found.append((then // MINUTE * MINUTE, after))
        offset = after
    return found


def _offset(instant: int, zone: tzinfo) -> int:
    """How far the clock is ahead of UTC, µs in whole minutes."""
    ahead = (_EPOCH + instant * _MICRO).astimezone(zone).utcoffset() or timedelta()
    return round(ahead / _MICRO / MINUTE) * MINUTE


def _wall(instant: int, zone: tzinfo) -> int:
    """What the clock shows, as if it were UTC."""
    return instant + _offset(instant, zone)


def _instant(wall: int, zone: tzinfo) -> int:
    """When the clock shows that."""
    return wall - _offset(wall - _offset(wall, zone), zone)
