"""What the texts and numbers of a record mean, read from and written to bytes. `data`, `words`: see grammar.py."""

from __future__ import annotations

import numpy as np

from connectors.formats.scanner.compiled import inlined, part
from connectors.formats.scanner.grammar import BACKSLASH, COLON, ESCAPES, LOW_U, NINE, ZERO, hex4
from connectors.formats.scanner.tables import Bytes, Ints, Words, signed
from connectors.formats.scanner.words import head_of, tail_of

_POWERS = 10.0 ** np.arange(23)  # exact
_EXACT = 1 << 53
_END = 253_402_300_800  # 10000-01-01T00:00:00Z in seconds
_LOW = np.uint64(0xFFFFFFFF)


@inlined
def _two(data: Bytes, p: int) -> int:
    """The two-digit number at `p`, 1000 where there is none."""
    tens, ones = signed(data[p]) - ZERO, signed(data[p + 1]) - ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else 1000


@inlined
def instant(data: Bytes, p: int, end: int) -> int:
    """`times.parse` of a text: microseconds since 1970 UTC, -1 where it is no time."""
    if end - p < 19 or end - p > 35:
        return -1
    if data[p + 4] != 45 or data[p + 7] != 45 or data[p + 13] != COLON or data[p + 16] != COLON:
        return -1
    if data[p + 10] | 32 != 116 and data[p + 10] != 32:
        return -1
    century, year, month, day = _two(data, p), _two(data, p + 2), _two(data, p + 5), _two(data, p + 8)
    hour, minute, second = _two(data, p + 11), _two(data, p + 14), _two(data, p + 17)
    if century > 99 or year > 99 or not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 59:
        return -1
    year += century * 100
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    length = (29 if leap else 28) if month == 2 else 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31
    if not 1 <= day <= length:
        return -1
    # Days from civil, by Howard Hinnant: years begin in March, so that a leap day is the last one.
    shifted = year - 1 if month <= 2 else year
    since_march = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    days = shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400 + since_march - 719_468
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second
    p += 19
    micros, weight, first = 0, 100_000, p + 1
    if p < end and data[p] == 46:
        p = first
        while p < end and ZERO <= data[p] <= NINE:
            micros += (signed(data[p]) - ZERO) * weight
            weight //= 10
            p += 1
        if not 1 <= p - first <= 9:
            return -1
    if p + 1 == end and data[p] | 32 == 122:
        p += 1
    elif p + 6 == end and (data[p] == 43 or data[p] == 45) and data[p + 3] == COLON:
        hours, minutes = _two(data, p + 1), _two(data, p + 4)
        if hours > 23 or minutes > 59:
            return -1
        offset = hours * 3600 + minutes * 60
        seconds -= offset if data[p] == 43 else -offset
        p += 6
    return seconds * 1_000_000 + micros if p == end and 0 <= seconds < _END else -1


@part
def number_of(data: Bytes, p: int, end: int) -> float:
    """The number there, NaN unless a double holds its digits and its power of ten exactly: one operation gives it."""
    negative = data[p] == 45
    if negative:
        p += 1
    digits, power = 0, 0
    fraction = False
    while p < end and data[p] | 32 != 101:
        if data[p] == 46:
            fraction = True
        else:
            if digits >= _EXACT // 10:
                return np.nan
            digits = digits * 10 + (signed(data[p]) - ZERO)
            if fraction:
                power -= 1
        p += 1
    if p < end:
        p += 1
        down = data[p] == 45
        if down or data[p] == 43:
            p += 1
        exponent = 0
        while p < end:
            exponent = exponent * 10 + (signed(data[p]) - ZERO)
            p += 1
        power += -exponent if down else exponent
    if not -22 <= power <= 22:
        return np.nan
    number = float(digits) / _POWERS[-power] if power < 0 else float(digits) * _POWERS[power]
    return -number if negative else number


@part
def unescaped(data: Bytes, p: int, end: int, made: Bytes, at: int) -> int:
    """Writes the text with its escapes resolved to `made` from `at` on; the end of it there."""
    while p < end:
        if data[p] != BACKSLASH:
            made[at] = data[p]
            at += 1
            p += 1
        elif data[p + 1] != LOW_U:
            made[at] = ESCAPES[data[p + 1]]
            at += 1
            p += 2
        else:
            code = hex4(data, p + 2)
            p += 6
            if 0xD800 <= code < 0xDC00:
                code = 0x10000 + ((code - 0xD800) << 10) + (hex4(data, p + 2) - 0xDC00)
                p += 6
            if code < 0x80:
                made[at] = code
                at += 1
                continue
            if code < 0x800:
                made[at] = 0xC0 | (code >> 6)
            elif code < 0x10000:
                made[at] = 0xE0 | (code >> 12)
                at += 1
                made[at] = 0x80 | ((code >> 6) & 63)
            else:
                made[at] = 0xF0 | (code >> 18)
                made[at + 1] = 0x80 | ((code >> 12) & 63)
                made[at + 2] = 0x80 | ((code >> 6) & 63)
                at += 2
            made[at + 1] = 0x80 | (code & 63)
            at += 2
    return at


@inlined
def write_view(view: Ints, data: Bytes, words: Words, p: int, end: int) -> None:
    """Writes a text as an Arrow string view: its length and 12 bytes, or its length, 4 bytes, the buffer, the place."""
    length = end - p
    view[0] = length | signed((head_of(data, words, p, end) & _LOW) << np.uint64(32))
    if length > 12:
        view[1] = p << 32
    else:
        view[1] = signed(tail_of(data, words, p + 4, end)) if length > 4 else 0


@part
def write_made_view(view: Ints, made: Bytes, p: int, end: int) -> None:
    """`view` of a text in `made`."""
    length = end - p
    view[0], view[1] = length, 0 if length <= 12 else 1 | (p << 32)
    for k in range(min(length, 4)):
        view[0] |= signed(made[p + k]) << (32 + 8 * k)
    if length <= 12:
        for k in range(4, length):
            view[1] |= signed(made[p + k]) << (8 * k - 32)


@part
def copied(data: Bytes, p: int, end: int, made: Bytes, at: int) -> int:
    for k in range(end - p):
        made[at + k] = data[p + k]
    return at + end - p
