"""Durations in rule files mean the microseconds a reader expects, and are written back as they were meant."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.durations import format_duration, parse_duration
from operators.events import DAY, HOUR, MINUTE, SECOND


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("5m", 5 * MINUTE),
        ("90s", 90 * SECOND),
        ("1h30m", 90 * MINUTE),
        ("1d", DAY),
        ("1d2h3m4s", DAY + 2 * HOUR + 3 * MINUTE + 4 * SECOND),
        ("250ms", 250_000),
        ("1us", 1),
        (300, 5 * MINUTE),
        (timedelta(microseconds=7), 7),
        ("365d", 365 * DAY),
    ],
)
def test_reads(text: object, micros: int) -> None:
    """A window is as long as it says."""
    assert parse_duration(text) == micros


@pytest.mark.parametrize(
    "text", ["", "5", "5 m", "m", "30m1h", "-5m", "1.5h", "5min", "0s", 0, -1, 1.5, True, None, "366d"]
)
def test_refuses(text: object) -> None:
    """A slip must not become a window of another length."""
    with pytest.raises(ValueError, match=r"duration|longer than 0"):
        parse_duration(text)


@given(st.integers(1, 365 * DAY))
def test_written_durations_read_back(micros: int) -> None:
    """A rule's version, a hash of its text, tells all windows apart."""
    assert parse_duration(format_duration(micros)) == micros
