"""The grammar of JSON (RFC 8259) and of UTF-8 (RFC 3629): where a text, a number, a value ends.

`data` is lines: each ends with a line feed, which no JSON text contains, so a loop stops there at the latest and needs
no other bound. `words` is the eight bytes from every place on, little end first. A place is an index in `data`; a
function that gives the end of something gives 0 where that is not plainly valid: escapes of half a surrogate pair,
numbers that may not fit a double and deep nesting are left to others.
"""

from __future__ import annotations

import numpy as np

from connectors.formats.scanner.compiled import inlined, part
from connectors.formats.scanner.tables import ABSENT, EMPTY, ESCAPED, NULL, NUMBER, PLAIN, WORD, Bytes, Words, signed

DEEPEST, LONGEST_NUMBER = 60, 80

LF, SPACE, QUOTE, COMMA, COLON, ZERO, NINE = 10, 32, 34, 44, 58, 48, 57
OPEN_LIST, BACKSLASH, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT, LOW_U = 91, 92, 93, 123, 125, 117

_PLAIN_BYTE = np.array([byte >= 0x20 and byte < 0x80 and byte not in b'"\\' for byte in range(256)])
ESCAPES = np.zeros(256, np.uint8)  # what the letter after a backslash stands for
for _letter, _byte in zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True):
    ESCAPES[_letter] = _byte
_HEX = np.full(256, -1, np.int64)
for _digit, _character in enumerate("0123456789abcdef"):
    _HEX[ord(_character)] = _HEX[ord(_character.upper())] = _digit

# For eight bytes at a time. The compiler keeps unsigned numbers apart from signed ones only if all have their type.
_NONE, _SEVEN, _TOP = np.uint64(0), np.uint64(7), np.uint64(56)
_HIGHS, _PLACES = np.uint64(0x8080808080808080), np.uint64(0x0001020304050607)
_ONES, SPACES = np.uint64(0x0101010101010101), np.uint64(0x2020202020202020)
_QUOTES, _BACKSLASHES = np.uint64(0x2222222222222222), np.uint64(0x5C5C5C5C5C5C5C5C)


@inlined
def spaces(data: Bytes, p: int) -> int:
    while data[p] == 32 or data[p] == 9 or data[p] == 13:
        p += 1
    return p


@part
def hex4(data: Bytes, p: int) -> int:
    """The number of four hexadecimal digits, -1 where there are not four."""
    code = 0
    for k in range(4):
        digit = _HEX[data[p + k]]
        if digit < 0:
            return -1
        code = code * 16 + digit
    return code


@part
def escape_end(data: Bytes, p: int) -> int:
    """The end of the escape whose backslash is at `p`; a surrogate pair is one."""
    if data[p + 1] != LOW_U:
        return p + 2 if ESCAPES[data[p + 1]] else 0
    code = hex4(data, p + 2)
    if code < 0 or 0xDC00 <= code < 0xE000:
        return 0
    if code < 0xD800 or code >= 0xE000:
        return p + 6
    if data[p + 6] != BACKSLASH or data[p + 7] != LOW_U:
        return 0
    low = hex4(data, p + 8)
    return p + 12 if 0xDC00 <= low < 0xE000 else 0


@part
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


@inlined
def text_end(data: Bytes, words: Words, p: int) -> int:
    """The place of the quotation mark that ends the text from `p`; negative where the text has escapes."""
    sign, last = 1, len(words)
    while True:
        while p < last:  # eight bytes at a time: which is the first that is not plain?
            word = words[p]
            odd = ((word ^ _QUOTES) - _ONES) | ((word ^ _BACKSLASHES) - _ONES) | (word - SPACES) | word
            odd &= _HIGHS
            if odd:
                p += signed((((odd & (_NONE - odd)) >> _SEVEN) * _PLACES) >> _TOP)
                break
            p += 8
        else:
            while _PLAIN_BYTE[data[p]]:
                p += 1
        byte = data[p]
        if byte == QUOTE:
            return p * sign
        if byte == BACKSLASH:
            p = escape_end(data, p)
            sign = -1
        elif byte >= 0x80:
            p = _character_end(data, p)
        else:
            return 0
        if p == 0:
            return 0


@inlined
def _digits_end(data: Bytes, p: int) -> int:
    while ZERO <= data[p] <= NINE:
        p += 1
    return p


@inlined
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


@inlined
def scalar_end(data: Bytes, words: Words, p: int) -> tuple[int, int]:
    """The end and the kind of a text, a number, true, false or null."""
    byte = data[p]
    if byte == QUOTE:
        end = text_end(data, words, p + 1)
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


@inlined
def colon(data: Bytes, p: int) -> int:
    """Where the value begins, given the end of its name."""
    p = spaces(data, p)
    return spaces(data, p + 1) if data[p] == COLON else 0


@inlined
def _name(data: Bytes, words: Words, p: int) -> int:
    """Where the value of the member at `p` begins."""
    if data[p] != QUOTE:
        return 0
    end = text_end(data, words, p + 1)
    return colon(data, abs(end) + 1) if end else 0


@part
def nested_end(data: Bytes, words: Words, p: int) -> int:
    """The end of the object or list at `p`."""
    objects, depth = 0, 0  # one bit a level: 1 for an object
    while True:
        byte = data[p]
        if byte in (OPEN_OBJECT, OPEN_LIST):
            depth += 1
            if depth > DEEPEST:
                return 0
            is_object = 1 if byte == OPEN_OBJECT else 0
            objects = (objects << 1) | is_object
            p = spaces(data, p + 1)
            if data[p] != byte + 2:  # not empty
                if is_object:
                    p = _name(data, words, p)
                    if p == 0:
                        return 0
                continue
        else:
            p, _ = scalar_end(data, words, p)
            if p == 0:
                return 0
        while True:
            p = spaces(data, p)
            byte = data[p]
            if byte == COMMA:
                p = spaces(data, p + 1)
                if objects & 1:
                    p = _name(data, words, p)
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
