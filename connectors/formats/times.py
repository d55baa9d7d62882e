"""Time text -> microseconds since 1970 UTC.

RFC 3339, a space allowed for the T, a missing offset meaning UTC, fractions of up to 9 digits cut to microseconds.
Years 1970 to 9999. Everything else, `infinity` and bare numbers included, is no time.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from connectors.formats.spans import Bytes, Ints, Span
from operators.events import TIMESTAMP

_MINUTE = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):", re.ASCII)
_REST = re.compile(r"([0-5]\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = 253_402_300_800  # 10000-01-01T00:00:00Z in seconds
# The first day of every month from year 0 on, in days since 1970, and its length; index: year * 12 + month - 1.
_MONTHS = np.arange("0000-01", "10000-02", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int32)
_LENGTHS = np.diff(_MONTHS).astype(np.uint8)


def parse(text: str) -> int | None:
    """Microseconds since 1970 UTC; None where `text` is not such a time."""
    minute = _minute(text[:17])
    rest = _REST.fullmatch(text, 17)
    if minute is None or rest is None:
        return None
    second, fraction, sign, hours, minutes = rest.groups()
    seconds = minute + int(second)
    if sign is not None:
        seconds -= (int(hours) * 60 + int(minutes)) * (60 if sign == "+" else -60)
    if not 0 <= seconds < _END:
        return None
    return seconds * 1_000_000 + (int(fraction.ljust(6, "0")[:6]) if fraction else 0)


@lru_cache(maxsize=4096)  # most times share their minute with many others
def _minute(text: str) -> int | None:
    """`2026-01-31T08:30:` -> seconds since 1970."""
    match = _MINUTE.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute = (int(part) for part in match.groups())
    try:
        since = datetime(year, month, day, hour, minute, tzinfo=UTC) - _EPOCH
    except ValueError:
        return None
    return since.days * 86_400 + since.seconds


def column(series: pl.Series) -> pl.Series:
    """`parse` for a text column: a timestamp column, null where the text is null or no time."""
    array = series.cast(pl.String).to_arrow().cast(pa.large_utf8())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array) + 1]
    values = array.buffers()[2]
    data = np.frombuffer(values, np.uint8) if values is not None and values.size else np.zeros(1, np.uint8)
    found, good = micros(data, (offsets[:-1], offsets[1:]))
    return pl.Series(series.name, found).cast(TIMESTAMP).set(~pl.Series(good) | series.is_null(), None)


def micros(data: Bytes, span: Span) -> tuple[Ints, NDArray[np.bool_]]:
    """`parse` for every span of `data` at once: microseconds, and whether the text is a time at all.

    Texts are taken in groups of one layout, that is of one length and kind of offset.
    """
    starts, ends = span
    result = np.zeros(len(starts), np.int64)
    good = np.zeros(len(starts), np.bool_)
    if not len(starts) or not len(data):
        return result, good
    lengths = np.minimum(ends - starts, 36).astype(np.uint8)
    zulu = (data[ends - 1] | 0x20) == ord("z")
    layouts = lengths * np.uint8(4) + zulu
    if not zulu.all():
        sign = data[np.maximum(ends, 6) - 6]
        layouts += (((sign == ord("+")) | (sign == ord("-"))) & (lengths >= 25)) * np.uint8(2)
    uniform = (layouts == layouts[0]).all()
    for layout in layouts[:1].tolist() if uniform else np.flatnonzero(np.bincount(layouts)).tolist():
        length, tail = layout // 4, (0, 1, 6, 0)[layout % 4]
        if not (length - tail == 19 or 21 <= length - tail <= 29):
            continue
        if uniform:
            return _layout(sliding_window_view(data, length)[starts], tail)
        rows = layouts == layout
        result[rows], good[rows] = _layout(sliding_window_view(data, length)[starts[rows]], tail)
    return result, good


def _layout(texts: Bytes, tail: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Times of one layout. `texts`: rows x bytes, 19 or 21 to 29 of them and then `tail` bytes, Z or an offset."""
    at = np.ascontiguousarray(texts.T)
    body = len(at) - tail
    digits = at - 48  # wraps round below "0", so that one comparison checks both ends
    numeric = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, *range(20, body)]
    good = (at[4] == ord("-")) & (at[7] == ord("-")) & (at[13] == ord(":")) & (at[16] == ord(":"))
    good &= ((at[10] | 0x20) == ord("t")) | (at[10] == ord(" "))
    if body > 19:
        good &= at[19] == ord(".")
    if tail == 6:
        good &= at[body + 3] == ord(":")
        numeric += [body + 1, body + 2, body + 4, body + 5]
    for place in numeric:
        good &= digits[place] <= 9
    month, day, hour, minute, second = (_two(digits, place) for place in (5, 8, 11, 14, 17))
    good &= (month > 0) & (month < 13) & (day > 0) & (hour < 24) & (minute < 60) & (second < 60)
    index = (_two(digits, 0) * np.int32(1200) + _two(digits, 2) * np.int32(12) + month - np.int32(1)) * good
    good &= day <= _LENGTHS[index]
    within = hour * np.int32(3600) + minute * np.int32(60) + second
    seconds = (_MONTHS[index] + day - np.int32(1)) * np.int64(86_400) + within
    if tail == 6:
        hours, minutes = _two(digits, body + 1), _two(digits, body + 4)
        good &= (hours < 24) & (minutes < 60)
        seconds -= (hours * np.int32(3600) + minutes * np.int32(60)) * np.where(at[body] == ord("+"), 1, -1)
    good &= (seconds >= 0) & (seconds < _END)
    fraction = np.zeros(len(texts), np.int32)
    for place, weight in zip(range(20, min(body, 26)), (100_000, 10_000, 1000, 100, 10, 1), strict=False):
        fraction += digits[place] * np.int32(weight)
    return seconds * 1_000_000 + fraction, good


def _two(digits: Bytes, place: int) -> Bytes:
    """The two-digit number at `place` of every row."""
    two: Bytes = digits[place] * np.uint8(10) + digits[place + 1]
    return two
