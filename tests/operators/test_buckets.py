"""Buckets of time: every instant is in one, and it is the one that the clock on the wall says."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.buckets import AUTO, SIZES, enough, grid, previous, size_of
from operators.events import DAY, HOUR, MINUTE
from operators.rollup import WHOLE

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Whole and half hours, quarters, half an hour of summer time, midnights that do not exist, a day that was left out.
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
         "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Pacific/Chatham", "Africa/Casablanca",
         "Africa/Monrovia", "America/Toronto", "Asia/Tehran", "Pacific/Kwajalein")  # fmt: skip


def us(text: str) -> int:
    return (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


def wall(instant: int, zone: str) -> datetime:
    return (EPOCH + timedelta(microseconds=instant)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def local(edges: np.ndarray, zone: str) -> list[str]:  # type: ignore[type-arg]
    times = ((EPOCH + timedelta(microseconds=int(edge))).astimezone(ZoneInfo(zone)) for edge in edges)
    return [time.isoformat(timespec="minutes") for time in times]


windows = st.tuples(
    st.integers(us("1972-06-01"), us("2035-01-01")), st.integers(1, 40 * DAY), st.sampled_from(ZONES),
    st.sampled_from([*SIZES, "none"]),
)  # fmt: skip


@given(windows)
@example((us("2011-12-27T12:00"), 5 * DAY, "Pacific/Apia", "1d"))
@example((us("2026-10-31T12:00"), 3 * DAY, "America/Havana", "1d"))
def test_buckets_partition_the_window(window: tuple[int, int, str, str]) -> None:
    """No event is counted twice, none is lost, and a bucket's length is what lies within the window."""
    start, length, zone, bucket = window
    length = min(length, 3 * DAY) if bucket == "1m" else length
    found = grid(start, start + length, bucket, ZoneInfo(zone))
    assert found.edges[0] <= start < found.edges[1]
    assert found.edges[-2] < start + length <= found.edges[-1]
    assert (np.diff(found.edges) > 0).all()
    assert found.seconds().sum() == pytest.approx(length / 1e6)
    assert (found.seconds() > 0).all()
    if bucket != "none":
        assert not (found.edges % MINUTE).any(), "rows of a minute lie in one bucket"
    inside = np.linspace(start, start + length - 1, 50).astype(np.int64)
    place = found.of(inside // found.grain * found.grain)
    assert (found.edges[place] <= inside).all()
    assert (inside < found.edges[place + 1]).all()


@given(windows)
def test_a_bucket_shows_one_time_of_the_clock(window: tuple[int, int, str, str]) -> None:
    """From its first to its last instant: one date, one hour, one quarter."""
    start, length, zone, bucket = window
    if bucket == "none" or zone == "Pacific/Kwajalein":  # which once had the same date for two days
        return
    found = grid(start, start + min(length, 5 * DAY), bucket, ZoneInfo(zone))
    size = timedelta(microseconds=SIZES[bucket])
    for begin, end in list(zip(found.edges, found.edges[1:], strict=False))[:200]:
        first, last = wall(int(begin), zone), wall(int(end) - 1, zone)
        assert (first - datetime.min) // size == (last - datetime.min) // size, (first, last)


@given(windows)
def test_every_date_begins_a_bucket(window: tuple[int, int, str, str]) -> None:
    """At the first instant that has it, midnight or not."""
    start, length, zone, _ = window
    found = grid(start, start + length, "1d", ZoneInfo(zone))
    dates = [wall(int(edge), zone).date() for edge in found.edges]
    assert dates == sorted(set(dates))
    for edge, date in zip(found.edges, dates, strict=True):
        assert wall(int(edge) - 1, zone).date() < date


@pytest.mark.parametrize(
    ("zone", "start", "end", "bucket", "edges"),
    [
        ("Europe/Berlin", "2026-03-28T12:00", "2026-03-30T12:00", "1d",
         ["2026-03-28T00:00+01:00", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00", "2026-03-31T00:00+02:00"]),
        ("Europe/Berlin", "2026-10-25T00:00", "2026-10-25T02:00", "1h",
         ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"]),
        ("Asia/Kolkata", "2026-03-28T12:00", "2026-03-28T13:00", "1h",
         ["2026-03-28T17:00+05:30", "2026-03-28T18:00+05:30", "2026-03-28T19:00+05:30"]),
        ("Australia/Lord_Howe", "2026-04-04T14:00", "2026-04-04T16:00", "1h",
         ["2026-04-05T01:00+11:00", "2026-04-05T01:30+10:30", "2026-04-05T02:00+10:30", "2026-04-05T03:00+10:30"]),
        ("America/Sao_Paulo", "2018-11-03T12:00", "2018-11-05T00:00", "1d",
         ["2018-11-03T00:00-03:00", "2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00"]),
        ("Pacific/Apia", "2011-12-30T09:00", "2011-12-30T12:00", "1d",
         ["2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00", "2012-01-01T00:00+14:00"]),
        ("UTC", "2026-03-28T12:07:31", "2026-03-28T12:31", "15m",
         ["2026-03-28T12:00+00:00", "2026-03-28T12:15+00:00", "2026-03-28T12:30+00:00", "2026-03-28T12:45+00:00"]),
    ],
)  # fmt: skip
def test_days_and_hours_of_zones(zone: str, start: str, end: str, bucket: str, edges: list[str]) -> None:
    """Days of 23 and 25 hours, an hour twice, half hours, a midnight and a day that never were."""
    assert local(grid(us(start), us(end), bucket, ZoneInfo(zone)).edges, zone) == edges


@given(windows)
def test_the_window_before_has_as_many_buckets(window: tuple[int, int, str, str]) -> None:
    """It ends where this one begins; bucket i stands beside bucket i."""
    start, length, zone, bucket = window
    length = min(length, 3 * DAY) if bucket == "1m" else length
    now = grid(start, start + length, bucket, ZoneInfo(zone))
    before = previous(now, bucket, ZoneInfo(zone))
    assert (before.end, before.count) == (start, now.count)
    assert abs(before.end - before.start - length) <= (0 if bucket != "1d" else 25 * HOUR)
    if zone == "UTC" and bucket != "none" and length % SIZES[bucket] == 0:
        assert (before.edges == grid(before.start, before.end, bucket, ZoneInfo(zone)).edges).all()


def test_before_a_week_comes_a_week() -> None:
    """Also where a clock was changed: seven days from midnight to midnight."""
    zone = ZoneInfo("Europe/Berlin")
    week = grid(us("2026-03-29T22:00"), us("2026-04-05T22:00"), "1d", zone)
    before = previous(week, "1d", zone)
    assert (before.start, before.end) == (us("2026-03-22T23:00"), us("2026-03-29T22:00"))
    assert before.edges.tolist() == grid(before.start, before.end, "1d", zone).edges.tolist()


def test_hours_are_read_where_buckets_allow_it() -> None:
    """Rows of hours are sixty times fewer; half-hour zones and minutes need those of minutes."""

    def grain(zone: str, bucket: str) -> int:
        return grid(us("2026-01-01T10:17"), us("2026-01-09"), bucket, ZoneInfo(zone)).grain

    assert grain("UTC", "1h") == grain("Europe/Berlin", "1d") == HOUR
    assert grain("UTC", "1d") == DAY
    assert grain("UTC", "none") == WHOLE
    assert grain("UTC", "5m") == grain("Asia/Kolkata", "1h") == grain("Asia/Kathmandu", "1d") == MINUTE


@pytest.mark.parametrize(
    ("length", "bucket"),
    [(HOUR, "1m"), (6 * HOUR, "1m"), (DAY, "5m"), (7 * DAY, "1h"), (30 * DAY, "1d"), (3_660 * DAY, "1d")],
)
def test_auto_takes_what_a_chart_shows(length: int, bucket: str) -> None:
    """The finest with at most 400."""
    assert size_of(length, "auto") == bucket
    assert size_of(length, "15m") == "15m"
    assert bucket == "1d" or length / SIZES[bucket] <= AUTO
    assert enough(length) is not None


def test_too_long_for_any() -> None:
    """More than ten years."""
    assert enough(3_660 * DAY) == "1d"
    assert enough(3_660 * DAY + 1) is None
