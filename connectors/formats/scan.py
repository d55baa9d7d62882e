"""JSON lines -> columns, in one pass over the bytes, compiled, without the interpreter lock.

`scan` takes strictly valid lines apart and writes their rows. Whatever it is not sure about it leaves: broken lines,
names with escapes or given twice, two names for one column, a wrong type, half a surrogate pair, very long numbers,
deep nesting. What those mean, record.py decides.

Every line of the data ends with a line feed, which is no part of a JSON text, so loops stop there and need no other
bound. Positions are counted from the start of the data. A function that gives the end of something gives 0 where that
is not plainly valid. All in one file, since the compiler's cache does not notice a change in another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from operators.events import SEVERITIES

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Tables = NDArray[np.void]

ABSENT, NULL, EMPTY, PLAIN, ESCAPED, NUMBER, WORD, OBJECT, LIST = range(9)  # kinds of value; EMPTY: the text ""
TEXT, TIME, VALUE, SEVERITY, RECORD, ATTRIBUTES = range(6)  # roles of a column
BUCKETS = 256
DEEPEST, LONGEST_NUMBER = 60, 80

LF, SPACE, QUOTE, COMMA, COLON, ZERO, NINE = 10, 32, 34, 44, 58, 48, 57
OPEN_LIST, BACKSLASH, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT, LOW_U = 91, 92, 93, 123, 125, 117

_PLAIN_BYTE = np.array([byte >= 0x20 and byte < 0x80 and byte not in b'"\\' for byte in range(256)])
_ESCAPES = np.zeros(256, np.uint8)  # what the letter after a backslash stands for
for _letter, _byte in zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True):
    _ESCAPES[_letter] = _byte
_HEX = np.full(256, -1, np.int64)
for _digit, _character in enumerate("0123456789abcdef"):
    _HEX[ord(_character)] = _HEX[ord(_character.upper())] = _digit
_POWERS = 10.0 ** np.arange(23)  # exact
_EXACT = 1 << 53
_END = 253_402_300_800  # 10000-01-01T00:00:00Z in seconds
_EVENT = np.frombuffer(b"event", np.uint8).copy()

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy", _nrt=False)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # nowhere to keep the result
        return numba.njit(nogil=True, error_model="numpy", _nrt=False)(function)  # type: ignore[no-any-return]


# Fixed sizes let the compiler know all addresses, and a record is passed as one pointer.
MOST_EDGES, MOST_NODES, MOST_COLUMNS, MOST_BYTES = 192, 96, 16, 4096
MOST_EXTRAS, MOST_NAMES, HASHES = 512, 512, 1024

# What to look for; see wanted.py. Nodes are places in a record, node 0 is the record. An edge leads from a node to a
# member or an item of it: `names[name_from[e]:name_from[e + 1]]` is its name, `position[e]` the item's place or -1.
# `first` and `following` chain the edges of one hash. Of nodes: `inside`, one must look inside; `own`, its members may
# become attributes; `taken`, a column takes it whole. Of columns: `role`; `one` and `two`, the nodes it is read from or
# -1; `kept`, somebody reads it; `required`. `words` is the node below which the severity words are, each `child` an
# index in `severities`, texts as views.
WANTED = np.dtype(
    (
        np.record,
        [
            ("names", np.uint8, MOST_BYTES),
            *((name, np.int64, MOST_EDGES + 1) for name in ("name_from", "parent", "child", "position", "following")),
            ("first", np.int64, BUCKETS),
            *((name, np.int64, MOST_NODES) for name in ("inside", "own", "taken")),
            *((name, np.int64, MOST_COLUMNS) for name in ("role", "one", "two", "kept", "required")),
            ("severities", np.int64, (len(SEVERITIES), 2)),
            *((name, np.int64) for name in ("edges", "columns", "words", "attributes")),
        ],
    )
)

# What was met in one line: nodes by `kind` and span; `extras`, the spans of their names and values; `names` of the
# record's own object. `stamp`: the line in which an extra with that hash was met. By depth: the `node` of the object or
# list one is in, what `closing` byte ends it, the place of its next `item`, and the `extra` it is, or -1.
# What was written so far, see `scan`: `rows`, lines `left`, `used` bytes of `made`, and the values `filled` of columns.
SEEN = np.dtype(
    (
        np.record,
        [
            *((name, np.int64, MOST_NODES) for name in ("kind", "start", "end", "node", "closing", "item", "extra")),
            ("extras", np.int64, (MOST_EXTRAS, 4)),
            ("names", np.int64, (MOST_NAMES, 2)),
            ("stamp", np.int64, HASHES),
            ("filled", np.int64, MOST_COLUMNS),
            ("lowered", np.uint8, 18),
            *((name, np.int64) for name in ("extra_count", "name_count", "rows", "left", "used")),
        ],
    )
)
Wanted = Any  # a record of WANTED
Seen = Any  # a record of SEEN


# Grammar


@_compiled
def _spaces(data: Bytes, p: int) -> int:
    while data[p] == 32 or data[p] == 9 or data[p] == 13:
        p += 1
    return p


@_compiled
def _hex4(data: Bytes, p: int) -> int:
    """The number of four hexadecimal digits, -1 where there are not four."""
    code = 0
    for k in range(4):
        digit = _HEX[data[p + k]]
        if digit < 0:
            return -1
        code = code * 16 + digit
    return code


@_compiled
def _escape_end(data: Bytes, p: int) -> int:
    """The end of the escape whose backslash is at `p`; a surrogate pair is one."""
    if data[p + 1] != LOW_U:
        return p + 2 if _ESCAPES[data[p + 1]] else 0
    code = _hex4(data, p + 2)
    if code < 0 or 0xDC00 <= code < 0xE000:
        return 0
    if code < 0xD800 or code >= 0xE000:
        return p + 6
    if data[p + 6] != BACKSLASH or data[p + 7] != LOW_U:
        return 0
    low = _hex4(data, p + 8)
    return p + 12 if 0xDC00 <= low < 0xE000 else 0


@_compiled
def _character_end(data: Bytes, p: int) -> int:
    """The end of a UTF-8 character of several bytes (RFC 3629)."""
    lead = data[p]
    more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
    if lead < 0xC2 or lead > 0xF4:
        return 0
    second = data[p + 1]
    if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second > 0x9F):
        return 0
    if (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second > 0x8F):
        return 0
    for k in range(1, more + 1):
        if data[p + k] & 0xC0 != 0x80:
            return 0
    return p + more + 1


@_compiled
def _text_end(data: Bytes, p: int) -> int:
    """The place of the quotation mark that ends the text from `p`; negative where the text has escapes."""
    sign = 1
    while True:
        while _PLAIN_BYTE[data[p]]:
            p += 1
        byte = data[p]
        if byte == QUOTE:
            return p * sign
        if byte == BACKSLASH:
            p = _escape_end(data, p)
            sign = -1
        elif byte >= 0x80:
            p = _character_end(data, p)
        else:
            return 0
        if p == 0:
            return 0


@_compiled
def _digits_end(data: Bytes, p: int) -> int:
    while ZERO <= data[p] <= NINE:
        p += 1
    return p


@_compiled
def _number_end(data: Bytes, p: int) -> int:
    """The end of a number; none is so large that it could be infinite."""
    start = p
    if data[p] == 45:
        p += 1
    first = p
    p = _digits_end(data, p)
    if p == first or (data[first] == ZERO and p > first + 1):
        return 0
    if data[p] == 46:
        first = p + 1
        p = _digits_end(data, first)
        if p == first:
            return 0
    if data[p] | 32 == 101:
        first = p + 2 if data[p + 1] == 43 or data[p + 1] == 45 else p + 1
        p = _digits_end(data, first)
        if p == first or p > first + 2:
            return 0
    return p if p - start <= LONGEST_NUMBER else 0


@_compiled
def _scalar_end(data: Bytes, p: int) -> tuple[int, int]:
    """The end and the kind of a text, a number, true, false or null."""
    byte = data[p]
    if byte == QUOTE:
        end = _text_end(data, p + 1)
        if end < 0:
            return 1 - end, ESCAPED
        if end == 0:
            return 0, ABSENT
        return end + 1, EMPTY if end == p + 1 else PLAIN
    if byte == 110:
        found = data[p + 1] == 117 and data[p + 2] == 108 and data[p + 3] == 108
        return (p + 4 if found else 0), NULL
    if byte == 116:
        found = data[p + 1] == 114 and data[p + 2] == 117 and data[p + 3] == 101
        return (p + 4 if found else 0), WORD
    if byte == 102:
        found = data[p + 1] == 97 and data[p + 2] == 108 and data[p + 3] == 115 and data[p + 4] == 101
        return (p + 5 if found else 0), WORD
    return _number_end(data, p), NUMBER


@_compiled
def _colon(data: Bytes, p: int) -> int:
    """Where the value begins, given the end of its name."""
    p = _spaces(data, p)
    return _spaces(data, p + 1) if data[p] == COLON else 0


@_compiled
def _name(data: Bytes, p: int) -> int:
    """Where the value of the member at `p` begins."""
    if data[p] != QUOTE:
        return 0
    end = _text_end(data, p + 1)
    return _colon(data, abs(end) + 1) if end else 0


@_compiled
def _nested_end(data: Bytes, p: int) -> int:
    """The end of the object or list at `p`."""
    objects, depth = 0, 0  # one bit a level: 1 for an object
    while True:
        byte = data[p]
        if byte == OPEN_OBJECT or byte == OPEN_LIST:
            depth += 1
            if depth > DEEPEST:
                return 0
            is_object = 1 if byte == OPEN_OBJECT else 0
            objects = (objects << 1) | is_object
            p = _spaces(data, p + 1)
            if data[p] != byte + 2:  # not empty
                if is_object:
                    p = _name(data, p)
                    if p == 0:
                        return 0
                continue
        else:
            p, _ = _scalar_end(data, p)
            if p == 0:
                return 0
        while True:
            p = _spaces(data, p)
            byte = data[p]
            if byte == COMMA:
                p = _spaces(data, p + 1)
                if objects & 1:
                    p = _name(data, p)
                    if p == 0:
                        return 0
                break
            if byte != (CLOSE_OBJECT if objects & 1 else CLOSE_LIST):
                return 0
            p += 1
            objects >>= 1
            depth -= 1
            if depth == 0:
                return p


# Records


@_compiled
def hashed(data: Bytes, start: int, end: int) -> int:
    """A hash of a name, not negative; there is a byte before and behind it."""
    middle = np.int64(data[(start + end) >> 1])
    return (end - start) * 5 + np.int64(data[start]) * 31 + middle * 131 + np.int64(data[end - 1]) * 517


@_compiled
def _same(data: Bytes, start: int, other: Bytes, other_start: int, length: int) -> bool:
    for k in range(length):
        if data[start + k] != other[other_start + k]:
            return False
    return True


@_compiled
def _edge(data: Bytes, start: int, end: int, node: int, wanted: Wanted) -> int:
    """The edge from `node` with the name, -1 where there is none."""
    edge = wanted.first[(hashed(data, start, end) + node) & (BUCKETS - 1)]
    while edge >= 0:
        name = wanted.name_from[edge]
        if wanted.parent[edge] == node and wanted.name_from[edge + 1] - name == end - start:
            if _same(data, start, wanted.names, name, end - start):
                return edge
        edge = wanted.following[edge]
    return -1


@_compiled
def _item(place: int, node: int, wanted: Wanted) -> int:
    """The edge from `node` to its item at `place`, -1 where there is none."""
    for edge in range(wanted.edges):
        if wanted.parent[edge] == node and wanted.position[edge] == place:
            return edge
    return -1


@_compiled
def _repeats(data: Bytes, start: int, end: int, number: int, line: int, seen: Seen) -> bool:
    """Whether an earlier extra of this line has the name, which becomes number `number`."""
    place = hashed(data, start, end) & (HASHES - 1)
    if seen.stamp[place] == line + 1:
        for k in range(number):
            if seen.extras[k, 1] - seen.extras[k, 0] == end - start:
                if _same(data, start, data, seen.extras[k, 0], end - start):
                    return True
    seen.stamp[place] = line + 1
    return False


@_compiled
def _walk(data: Bytes, p: int, line: int, wanted: Wanted, seen: Seen) -> int:
    """The end of the record at `p`, an object; what it holds goes to `seen`."""
    for k in range(MOST_NODES):
        seen.kind[k] = ABSENT
    extras, names, depth = 0, 0, 0
    node, closing = 0, CLOSE_OBJECT
    seen.node[0], seen.closing[0], seen.extra[0] = 0, CLOSE_OBJECT, -1
    p = _spaces(data, p + 1)
    while True:
        extra = -1
        if closing == CLOSE_OBJECT:
            if data[p] != QUOTE:
                return 0
            start = p + 1
            end = _text_end(data, start)
            if end <= 0:
                return 0  # with escapes it could be any name
            edge = _edge(data, start, end, node, wanted)
            child = wanted.child[edge] if edge >= 0 else -1
            p = _colon(data, end + 1)
            if p == 0:
                return 0
            if depth == 0:
                if wanted.attributes and (child < 0 or not wanted.taken[child]):
                    if extras == MOST_EXTRAS or _repeats(data, start, end, extras, line, seen):
                        return 0
                    extra = extras
                    seen.extras[extra, 0], seen.extras[extra, 1], seen.extras[extra, 2] = start, end, p
                    extras += 1
            elif wanted.own[node]:
                if names < MOST_NAMES:
                    seen.names[names, 0], seen.names[names, 1] = start, end
                names += 1
        else:
            edge = _item(seen.item[depth], node, wanted)
            child = wanted.child[edge] if edge >= 0 else -1
            seen.item[depth] += 1
        if child >= 0 and seen.kind[child] != ABSENT:
            return 0  # a name given twice
        byte = data[p]
        nested = byte == OPEN_OBJECT or byte == OPEN_LIST
        if nested and child >= 0 and wanted.inside[child]:
            seen.kind[child] = OBJECT if byte == OPEN_OBJECT else LIST
            seen.start[child] = p
            depth += 1
            node, closing = child, byte + 2
            seen.node[depth], seen.closing[depth], seen.item[depth], seen.extra[depth] = node, closing, 0, extra
            p = _spaces(data, p + 1)
            if data[p] != closing:
                continue
        else:
            start = p
            if nested:
                p, kind = _nested_end(data, p), OBJECT if byte == OPEN_OBJECT else LIST
            else:
                p, kind = _scalar_end(data, p)
            if p == 0:
                return 0
            if child >= 0:
                seen.kind[child], seen.start[child], seen.end[child] = kind, start, p
            if extra >= 0:
                seen.extras[extra, 3] = p
        while True:
            p = _spaces(data, p)
            if data[p] == COMMA:
                p = _spaces(data, p + 1)
                break
            if data[p] != closing:
                return 0
            p += 1
            if depth == 0:
                seen.extra_count, seen.name_count = extras, names
                return p
            seen.end[node] = p
            if seen.extra[depth] >= 0:
                seen.extras[seen.extra[depth], 3] = p
            depth -= 1
            node, closing = seen.node[depth], seen.closing[depth]


# Values


@_compiled
def _two(data: Bytes, p: int) -> int:
    """The two-digit number at `p`, 1000 where there is none."""
    tens, ones = np.int64(data[p]) - ZERO, np.int64(data[p + 1]) - ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else 1000


@_compiled
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
            micros += (np.int64(data[p]) - ZERO) * weight
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


@_compiled
def _number(data: Bytes, p: int, end: int) -> float:
    """The number there, NaN unless a double holds its digits and its power of ten exactly, so that one operation gives it."""
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
            digits = digits * 10 + (np.int64(data[p]) - ZERO)
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
            exponent = exponent * 10 + (np.int64(data[p]) - ZERO)
            p += 1
        power += -exponent if down else exponent
    if not -22 <= power <= 22:
        return np.nan
    number = float(digits) / _POWERS[-power] if power < 0 else float(digits) * _POWERS[power]
    return -number if negative else number


@_compiled
def _unescaped(data: Bytes, p: int, end: int, made: Bytes, at: int) -> int:
    """Writes the text with its escapes resolved to `made` from `at` on; the end of it there."""
    while p < end:
        if data[p] != BACKSLASH:
            made[at] = data[p]
            at += 1
            p += 1
        elif data[p + 1] != LOW_U:
            made[at] = _ESCAPES[data[p + 1]]
            at += 1
            p += 2
        else:
            code = _hex4(data, p + 2)
            p += 6
            if 0xD800 <= code < 0xDC00:
                code = 0x10000 + ((code - 0xD800) << 10) + (_hex4(data, p + 2) - 0xDC00)
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


@_compiled
def _view(view: Ints, data: Bytes, p: int, end: int, buffer: int) -> None:
    """Writes an Arrow string view: the length and 12 bytes of text, or the length, 4 bytes, the buffer and the place."""
    length = end - p
    head, tail = length, buffer | (p << 32)
    for k in range(min(length, 4)):
        head |= np.int64(data[p + k]) << (32 + 8 * k)
    if length <= 12:
        tail = 0
        for k in range(4, length):
            tail |= np.int64(data[p + k]) << (8 * k - 32)
    view[0], view[1] = head, tail


@_compiled
def _copied(data: Bytes, p: int, end: int, made: Bytes, at: int) -> int:
    for k in range(end - p):
        made[at + k] = data[p + k]
    return at + end - p


@_compiled
def _merged(data: Bytes, own: int, seen: Seen, made: Bytes) -> int:
    """Writes the own object's members and the extras that it does not have to `made`; the end, 0 where there is no room."""
    at = seen.used
    extras, names = seen.extra_count, seen.name_count if own >= 0 else 0
    size = 2 + (seen.end[own] - seen.start[own] if own >= 0 else 0)
    for k in range(extras):
        size += seen.extras[k, 3] - seen.extras[k, 2] + seen.extras[k, 1] - seen.extras[k, 0] + 4
    if at + size > len(made) or names > MOST_NAMES:
        return 0
    made[at] = OPEN_OBJECT
    at += 1
    if own >= 0:
        at = _copied(data, seen.start[own] + 1, seen.end[own] - 1, made, at)
    separate = names > 0
    for k in range(extras):
        start, end = seen.extras[k, 0], seen.extras[k, 1]
        known = False
        for n in range(names):
            if seen.names[n, 1] - seen.names[n, 0] == end - start:
                known = known or _same(data, start, data, seen.names[n, 0], end - start)
        if known:
            continue
        if separate:
            made[at] = COMMA
            at += 1
        at = _copied(data, start - 1, end + 1, made, at)
        made[at] = COLON
        at = _copied(data, seen.extras[k, 2], seen.extras[k, 3], made, at + 1)
        separate = True
    made[at] = CLOSE_OBJECT
    return at + 1


# Columns


@_compiled
def _own(wanted: Wanted, seen: Seen, column: int) -> int:
    """The node of the record's own attributes, -1 where there are none, -2 where record.py must decide."""
    own = -1
    for node in (wanted.one[column], wanted.two[column]):
        if node >= 0 and seen.kind[node] > NULL:
            if seen.kind[node] != OBJECT or own >= 0:
                return -2
            own = node
    return own


@_compiled
def _attributes(data: Bytes, column: int, row: int, wanted: Wanted, seen: Seen, cells: Ints, made: Bytes) -> int:
    """1 where the row has attributes, 0 where it has none, -1 where record.py must decide."""
    own = _own(wanted, seen, column)
    if own == -2:
        return -1
    if seen.extra_count == 0:
        if own < 0:
            return 0
        _view(cells[column, row], data, seen.start[own], seen.end[own], 0)
        return 1
    end = _merged(data, own, seen, made)
    if end == 0:
        return -1
    _view(cells[column, row], made, seen.used, end, 1)
    seen.used = end
    return 1


@_compiled
def _text(data: Bytes, node: int, column: int, row: int, seen: Seen, cells: Ints, made: Bytes) -> int:
    """1 where the row has its text, -1 where record.py must decide."""
    kind, start, end = seen.kind[node], seen.start[node], seen.end[node]
    if kind == PLAIN:
        _view(cells[column, row], data, start + 1, end - 1, 0)
    elif kind == ESCAPED:
        at = seen.used
        if at + end - start > len(made):
            return -1
        seen.used = _unescaped(data, start + 1, end - 1, made, at)
        _view(cells[column, row], made, at, seen.used, 1)
    else:
        _view(cells[column, row], data, start, end, 0)
    return 1


@_compiled
def _severity(data: Bytes, node: int, column: int, row: int, wanted: Wanted, seen: Seen, cells: Ints) -> int:
    """1 where the row has a severity, 0 where it has an unknown one that may be dropped, -1 as ever."""
    if seen.kind[node] != PLAIN:
        return -1
    start, end = seen.start[node] + 1, seen.end[node] - 1
    for p in range(start, end):
        if data[p] >= 0x80:
            return -1
    while start < end and data[start] == SPACE:
        start += 1
    while start < end and data[end - 1] == SPACE:
        end -= 1
    edge, length = -1, end - start
    if 0 < length < len(seen.lowered) - 1:
        for k in range(length):
            byte = data[start + k]
            seen.lowered[1 + k] = byte + 32 if 65 <= byte <= 90 else byte
        edge = _edge(seen.lowered, 1, 1 + length, wanted.words, wanted)
    if edge < 0:
        return -1 if wanted.attributes else 0
    word = wanted.severities[wanted.child[edge]]
    cells[column, row, 0], cells[column, row, 1] = word[0], word[1]
    return 1


@_compiled
def _column(
    data: Bytes, column: int, row: int, wanted: Wanted, seen: Seen, cells: Ints, numbers: Floats, made: Bytes
) -> int:
    """Writes one value: 1, or 0 for null, or -1 where record.py must decide."""
    role = wanted.role[column]
    if role == ATTRIBUTES:
        return _attributes(data, column, row, wanted, seen, cells, made)
    node, other = wanted.one[column], wanted.two[column]
    if node < 0 or seen.kind[node] <= EMPTY:
        node = other
    elif other >= 0 and seen.kind[other] > EMPTY:
        return -1  # both are given
    if node < 0 or seen.kind[node] <= EMPTY:
        return -1 if wanted.required[column] else 0
    kind, start, end = seen.kind[node], seen.start[node], seen.end[node]
    if role == TIME:
        micros = instant(data, start + 1, end - 1) if kind == PLAIN else -1
        cells[column, row, 0] = micros
        return 1 if micros >= 0 else -1
    if role == VALUE:
        numbers[row] = _number(data, start, end)
        cells[column, row, 0], cells[column, row, 1] = start, end
        return 1 if kind == NUMBER else -1
    if kind >= OBJECT:
        return -1
    if role == RECORD:
        event = kind == PLAIN and end - start == len(_EVENT) + 2 and _same(data, start + 1, _EVENT, 0, len(_EVENT))
        return 0 if event else -1
    if role == SEVERITY:
        return _severity(data, node, column, row, wanted, seen, cells)
    return _text(data, node, column, row, seen, cells, made) if wanted.kept[column] else 0


@_compiled
def _row(
    data: Bytes, row: int, wanted: Wanted, seen: Seen, cells: Ints, numbers: Floats, given: Mask, made: Bytes
) -> bool:
    """Writes the row of a line; False where record.py must decide, then nothing counts."""
    used = seen.used
    for column in range(wanted.columns):
        result = _column(data, column, row, wanted, seen, cells, numbers, made)
        if result < 0:
            seen.used = used
            return False
        given[column, row] = result > 0
        if result == 0:
            cells[column, row, 0], cells[column, row, 1] = 0, 0
    for column in range(wanted.columns):
        seen.filled[column] += given[column, row]
    return True


@_compiled
def scan(
    data: Bytes,
    tables: Tables,
    notes: Tables,
    lines: Ints,
    left: Ints,
    cells: Ints,
    numbers: Floats,
    given: Mask,
    made: Bytes,
) -> int:
    """The rows of all lines that are plainly good, and the places of those that are not; how many lines there are.

    `tables`, `notes`: one record of WANTED and of SEEN. Written are, for n lines at most and m columns: `lines` (n),
    the line of each row; `left` (n x 3), line, start and end of what is for record.py; `cells` (m x n x 2), texts as
    Arrow views (buffer 0 is `data`, buffer 1 `made`), times in µs, the value's span; `numbers` (n), the value, NaN
    where it must be read from its span; `given` (m x n), not null.
    """
    wanted, seen = tables[0], notes[0]
    p, line = 0, 0
    while p < len(data):
        start = p
        p = _spaces(data, p)
        if data[p] != LF:
            end = _walk(data, p, line, wanted, seen) if data[p] == OPEN_OBJECT else 0
            if end:
                end = _spaces(data, end)
            if end and data[end] == LF and _row(data, seen.rows, wanted, seen, cells, numbers, given, made):
                lines[seen.rows] = line
                seen.rows += 1
                p = end
            else:
                while data[p] != LF:
                    p += 1
                left[seen.left, 0], left[seen.left, 1], left[seen.left, 2] = line, start, p
                seen.left += 1
        p += 1
        line += 1
    return line


@_compiled
def instants(data: Bytes, starts: Ints, ends: Ints, found: Ints) -> None:
    """`instant` of every span."""
    for k in range(len(starts)):
        found[k] = instant(data, starts[k], ends[k])
