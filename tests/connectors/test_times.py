"""Times: the same instants one by one and by the column, and nothing that is not a time."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats import times
from operators.events import TIMESTAMP

SECOND = 1_000_000
NOON = 1_769_860_800 * SECOND  # 2026-01-31T12:00:00Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31t12:00:00z", NOON),
        ("2026-01-31 12:00:00", NOON),
        ("2026-01-31T14:00:00+02:00", NOON),
        ("2026-01-30T12:01:00-23:59", NOON),
        ("2026-01-31T12:00:00.5", NOON + 500_000),
        ("2026-01-31T12:00:00.123456999Z", NOON + 123_456),
        ("1970-01-01T00:00:00Z", 0),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * SECOND),
        ("9999-12-31T23:59:59.999999Z", 253_402_300_800 * SECOND - 1),
    ],
)
def test_what_is_a_time(text: str, expected: int) -> None:
    """Every style that producers use means one instant."""
    assert times.parse(text) == expected
    assert times.column(pl.Series([text])).to_physical().to_list() == [expected]


@pytest.mark.parametrize(
    "text",
    [
        *("", "infinity", "-infinity", "epoch", "now", "0", "1769860800", "2026-01-31", "12:00:00"),
        *("2026-02-29T12:00:00Z", "2026-13-01T12:00:00Z", "2026-00-01T12:00:00Z", "2026-01-00T12:00:00Z"),
        *("2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00Z"),
        *("2026-01-31T12:00:00.Z", "2026-01-31T12:00:00.1234567890Z", "2026-01-31T12:00:00+0200"),
        *("2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00 Mars", " 2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z\n"),
        *("1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"),
        "\u0662026-01-31T12:00:00Z",
    ],
)
def test_what_is_none(text: str) -> None:
    """A wrong time would drag the clock of a whole partition; it must be refused."""
    assert times.parse(text) is None
    assert times.column(pl.Series([text, None])).to_list() == [None, None]


PIECES = st.tuples(
    st.sampled_from(["2026", "1969", "1970", "2000", "2100", "9999"]),
    *[st.sampled_from([f"{n:02}" for n in (0, 1, 2, 12, 13, 23, 24, 28, 29, 30, 31, 32, 59, 60)])] * 5,
    st.sampled_from(["", ".", ".1", ".123", ".123456", ".1234567", ".123456789"]),
    st.sampled_from(["", "Z", "z", "+00:00", "-23:59", "+24:00", "+02", "\u00e9"]),
).map(lambda p: f"{p[0]}-{p[1]}-{p[2]}T{p[3]}:{p[4]}:{p[5]}{p[6]}{p[7]}")


@given(st.lists(st.none() | PIECES | st.text(max_size=36), max_size=12))
def test_a_column_is_read_like_its_values(texts: list[str | None]) -> None:
    """Whichever way a record is decoded, it happened at the same instant."""
    found = times.column(pl.Series("t", texts, dtype=pl.String))
    assert found.to_physical().to_list() == [None if text is None else times.parse(text) for text in texts]
    assert found[:0].dtype == TIMESTAMP
