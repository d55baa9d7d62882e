"""The members of a record: which of them are wanted, and where they stand."""

from __future__ import annotations

from typing import Any

from connectors.formats.scanner.compiled import inlined, part
from connectors.formats.scanner.grammar import (
    CLOSE_OBJECT,
    COMMA,
    OPEN_LIST,
    OPEN_OBJECT,
    QUOTE,
    colon,
    nested_end,
    scalar_end,
    spaces,
    text_end,
)
from connectors.formats.scanner.tables import (
    ABSENT,
    LIST,
    MOST_EXTRAS,
    MOST_NAMES,
    MOST_NODES,
    MOST_USUAL,
    OBJECT,
    Bytes,
    Seen,
    Wanted,
    Words,
)
from connectors.formats.scanner.words import hashed, head_of, same, tail_of


@inlined
def match(edge: int, head: Any, tail: Any, length: int, node: int, wanted: Wanted) -> int:
    """The next edge from `edge` on that leads from `node` and has such a name, as far as these tell; or -1."""
    while edge >= 0:
        texts = wanted.tail[edge] == tail and wanted.head[edge] == head
        if texts and wanted.length[edge] == length and wanted.parent[edge] == node:
            return edge
        edge = wanted.following[edge]
    return -1


@inlined
def edge_of(data: Bytes, words: Words, start: int, end: int, node: int, wanted: Wanted) -> int:
    """The edge from `node` with the name, -1 where there is none."""
    head, tail, length = head_of(data, words, start, end), tail_of(data, words, start, end), end - start
    edge = match(wanted.first[hashed(head, tail)], head, tail, length, node, wanted)
    while edge >= 0 and length > 16:
        if same(data, start, wanted.names, wanted.name_from[edge], length):
            return edge
        edge = match(wanted.following[edge], head, tail, length, node, wanted)
    return edge


@inlined
def _is_named(data: Bytes, words: Words, start: int, edge: int, wanted: Wanted) -> bool:
    """Whether the text from `start` is the name of `edge`, met as the name of a member before."""
    length = wanted.length[edge]
    end = start + length
    if end >= len(data) or data[end] != QUOTE or tail_of(data, words, start, end) != wanted.tail[edge]:
        return False
    if head_of(data, words, start, end) != wanted.head[edge]:
        return False
    return length <= 16 or same(data, start, wanted.names, wanted.name_from[edge], length)


@part
def item_of(place: int, node: int, wanted: Wanted) -> int:
    """The edge from `node` to its item at `place`, -1 where there is none."""
    for edge in range(wanted.edges):
        if wanted.parent[edge] == node and wanted.position[edge] == place:
            return edge
    return -1


@inlined
def _repeats(data: Bytes, words: Words, start: int, end: int, number: int, line: int, seen: Seen) -> bool:
    """Whether an earlier extra of this line has the name, which becomes number `number`."""
    place = hashed(head_of(data, words, start, end), tail_of(data, words, start, end))
    if seen.stamp[place] == line + 1:
        for k in range(number):
            length = seen.extras[k, 1] - seen.extras[k, 0]
            if length == end - start and same(data, start, data, seen.extras[k, 0], length):
                return True
    seen.stamp[place] = line + 1
    return False


@part
def walk(data: Bytes, words: Words, p: int, line: int, wanted: Wanted, seen: Seen) -> int:
    """The end of the record at `p`, an object; what it holds goes to `seen`."""
    for k in range(MOST_NODES):
        seen.kind[k] = ABSENT
    members, extras, names, depth = 0, 0, 0, 0
    node, closing = 0, CLOSE_OBJECT
    seen.node[0], seen.closing[0], seen.extra[0] = 0, CLOSE_OBJECT, -1
    p = spaces(data, p + 1)
    while True:
        extra = -1
        if closing == CLOSE_OBJECT:
            if data[p] != QUOTE:
                return 0
            start = p + 1
            # Most lines have the names of the line before in their places.
            edge = seen.usual[members] - 1 if depth == 0 else -1
            if edge >= 0 and _is_named(data, words, start, edge, wanted):
                end = start + wanted.length[edge]
            else:
                end = text_end(data, words, start)
                if end <= 0:
                    return 0  # with escapes it could be any name
                edge = edge_of(data, words, start, end, node, wanted)
                if depth == 0:
                    seen.usual[members] = edge + 1
            child = wanted.child[edge] if edge >= 0 else -1
            p = colon(data, end + 1)
            if p == 0:
                return 0
            if depth == 0:
                members = min(members + 1, MOST_USUAL - 1)
                if wanted.attributes and (child < 0 or not wanted.taken[child]):
                    if extras == MOST_EXTRAS or _repeats(data, words, start, end, extras, line, seen):
                        return 0
                    extra = extras
                    seen.extras[extra, 0], seen.extras[extra, 1], seen.extras[extra, 2] = start, end, p
                    extras += 1
            elif wanted.own[node]:
                if names < MOST_NAMES:
                    seen.names[names, 0], seen.names[names, 1] = start, end
                names += 1
        else:
            edge = item_of(seen.place[depth], node, wanted)
            child = wanted.child[edge] if edge >= 0 else -1
            seen.place[depth] += 1
        if child >= 0 and seen.kind[child] != ABSENT:
            return 0  # a name given twice
        byte = data[p]
        nested = byte in (OPEN_OBJECT, OPEN_LIST)
        if nested and child >= 0 and wanted.inside[child]:
            seen.kind[child] = OBJECT if byte == OPEN_OBJECT else LIST
            seen.start[child] = p
            depth += 1
            node, closing = child, byte + 2
            seen.node[depth], seen.closing[depth], seen.place[depth], seen.extra[depth] = node, closing, 0, extra
            p = spaces(data, p + 1)
            if data[p] != closing:
                continue
        else:
            start = p
            if nested:
                p, kind = nested_end(data, words, p), OBJECT if byte == OPEN_OBJECT else LIST
            else:
                p, kind = scalar_end(data, words, p)
            if p == 0:
                return 0
            if child >= 0:
                seen.kind[child], seen.start[child], seen.end[child] = kind, start, p
            if extra >= 0:
                seen.extras[extra, 3] = p
        while True:
            p = spaces(data, p)
            if data[p] == COMMA:
                p = spaces(data, p + 1)
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
