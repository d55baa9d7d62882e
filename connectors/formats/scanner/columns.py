"""The columns of a row from the members of its record, as record.py defines them.

Every function answers 1 where the row has a value, 0 where it has none and -1 where record.py must decide.
"""

from __future__ import annotations

import numpy as np

from connectors.formats.scanner.compiled import inlined, part
from connectors.formats.scanner.grammar import CLOSE_OBJECT, COLON, COMMA, OPEN_OBJECT, SPACE, SPACES
from connectors.formats.scanner.members import match
from connectors.formats.scanner.tables import (
    ATTRIBUTES,
    EMPTY,
    ESCAPED,
    MOST_NAMES,
    NULL,
    NUMBER,
    OBJECT,
    PLAIN,
    RECORD,
    SEVERITY,
    TIME,
    VALUE,
    Bytes,
    Floats,
    Ints,
    Mask,
    Seen,
    Wanted,
    Words,
)
from connectors.formats.scanner.values import copied, instant, number_of, unescaped, write_made_view, write_view
from connectors.formats.scanner.words import hashed, head_of, same, tail_of

_EVENT = np.frombuffer(b"event", np.uint8).copy()


@part
def _merged(data: Bytes, own: int, seen: Seen, made: Bytes) -> int:
    """Writes the own object's members and the extras it does not have to `made`; the end, 0 where there is no room."""
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
        at = copied(data, seen.start[own] + 1, seen.end[own] - 1, made, at)
    separate = names > 0
    for k in range(extras):
        start, end = seen.extras[k, 0], seen.extras[k, 1]
        known = False
        for n in range(names):
            if seen.names[n, 1] - seen.names[n, 0] == end - start:
                known = known or same(data, start, data, seen.names[n, 0], end - start)
        if known:
            continue
        if separate:
            made[at] = COMMA
            at += 1
        at = copied(data, start - 1, end + 1, made, at)
        made[at] = COLON
        at = copied(data, seen.extras[k, 2], seen.extras[k, 3], made, at + 1)
        separate = True
    made[at] = CLOSE_OBJECT
    return at + 1


@inlined
def _own(wanted: Wanted, seen: Seen, column: int) -> int:
    """The node of the record's own attributes, -1 where there are none, -2 where record.py must decide."""
    own = -1
    for node in (wanted.one[column], wanted.two[column]):
        if node >= 0 and seen.kind[node] > NULL:
            if seen.kind[node] != OBJECT or own >= 0:
                return -2
            own = node
    return own


@inlined
def _attributes(
    data: Bytes, words: Words, column: int, row: int, wanted: Wanted, seen: Seen, cells: Ints, made: Bytes
) -> int:
    """1 where the row has attributes, 0 where it has none, -1 where record.py must decide."""
    own = _own(wanted, seen, column)
    if own == -2:
        return -1
    if seen.extra_count == 0:
        if own < 0:
            return 0
        write_view(cells[column, row], data, words, seen.start[own], seen.end[own])
        return 1
    end = _merged(data, own, seen, made)
    if end == 0:
        return -1
    write_made_view(cells[column, row], made, seen.used, end)
    seen.used = end
    return 1


@inlined
def _text(data: Bytes, words: Words, node: int, column: int, row: int, seen: Seen, cells: Ints, made: Bytes) -> int:
    """1 where the row has its text, -1 where record.py must decide."""
    kind, start, end = seen.kind[node], seen.start[node], seen.end[node]
    if kind == PLAIN:
        write_view(cells[column, row], data, words, start + 1, end - 1)
    elif kind == ESCAPED:
        at = seen.used
        if at + end - start > len(made):
            return -1
        seen.used = unescaped(data, start + 1, end - 1, made, at)
        write_made_view(cells[column, row], made, at, seen.used)
    else:
        write_view(cells[column, row], data, words, start, end)
    return 1


@part
def _severity(
    data: Bytes, words: Words, node: int, column: int, row: int, wanted: Wanted, seen: Seen, cells: Ints
) -> int:
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
    if 0 < length <= 16:  # letters and digits, for which this is the lower case
        cut = np.uint64(64 - 8 * min(length, 8))
        head = (head_of(data, words, start, end) | SPACES) << cut >> cut
        tail = (tail_of(data, words, start, end) | SPACES) << cut >> cut
        edge = match(wanted.first[hashed(head, tail)], head, tail, length, wanted.words, wanted)
    if edge < 0:
        return -1 if wanted.attributes else 0
    word = wanted.severities[wanted.child[edge]]
    cells[column, row, 0], cells[column, row, 1] = word[0], word[1]
    return 1


@inlined
def _column(
    data: Bytes,
    words: Words,
    column: int,
    row: int,
    wanted: Wanted,
    seen: Seen,
    cells: Ints,
    numbers: Floats,
    made: Bytes,
) -> int:
    """Writes one value: 1, or 0 for null, or -1 where record.py must decide."""
    role = wanted.role[column]
    if role == ATTRIBUTES:
        return _attributes(data, words, column, row, wanted, seen, cells, made)
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
        numbers[row] = number_of(data, start, end)
        cells[column, row, 0], cells[column, row, 1] = start, end
        return 1 if kind == NUMBER else -1
    if kind >= OBJECT:
        return -1
    if role == RECORD:
        event = kind == PLAIN and end - start == len(_EVENT) + 2 and same(data, start + 1, _EVENT, 0, len(_EVENT))
        return 0 if event else -1
    if role == SEVERITY:
        return _severity(data, words, node, column, row, wanted, seen, cells)
    return _text(data, words, node, column, row, seen, cells, made) if wanted.kept[column] else 0


@inlined
def write_row(
    data: Bytes,
    words: Words,
    row: int,
    wanted: Wanted,
    seen: Seen,
    cells: Ints,
    numbers: Floats,
    given: Mask,
    made: Bytes,
) -> bool:
    """Writes the row of a line; False where record.py must decide, then nothing counts."""
    used = seen.used
    for column in range(wanted.columns):
        result = _column(data, words, column, row, wanted, seen, cells, numbers, made)
        if result < 0:
            seen.used = used
            return False
        given[column, row] = result > 0
        if result == 0:
            cells[column, row, 0], cells[column, row, 1] = 0, 0
    for column in range(wanted.columns):
        seen.filled[column] += given[column, row]
    return True
