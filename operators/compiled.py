"""What is compiled: loops over rows, entries and bytes. Loading this takes up to a second, so that it is imported where
there is enough to do, or by `operators.rollup.warm`."""

from __future__ import annotations

import numpy as np
from numba import njit

from operators.adding import MOST
from operators.texts import NO_TEXT

UNSURE = -2
_MIX = np.uint64(0x9E3779B97F4A7C15)
_DEEP = 64  # objects and lists within each other; the definition finds nothing where there are 128
_FEW = 32  # bins that are put in order one by one; more are counted in a table


@njit(cache=True, nogil=True)
def numbered(keys):  # type: ignore[no-untyped-def]
    bits = 4
    while (1 << bits) < 2 * len(keys):
        bits += 1
    table = np.full(1 << bits, -1, np.int64)
    cell, shown = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    cells = 0
    last = (1 << bits) - 1
    for row in range(len(keys)):
        key = keys[row]
        place = np.int64((np.uint64(key) * _MIX) >> np.uint64(64 - bits))
        while True:
            number = table[place]
            if number < 0:
                table[place] = number = cells
                shown[cells] = row
                cells += 1
                break
            if keys[shown[number]] == key:
                break
            place = (place + 1) & last
        cell[row] = number
    return cell, shown, cells


@njit(cache=True, nogil=True)
def sums(cell, cells, count, errors, total):  # type: ignore[no-untyped-def]
    counts, failed = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
    totals, about = np.zeros(cells, np.int64), np.zeros(cells, np.float64)
    for row in range(len(cell)):
        at = cell[row]
        counts[at] += count[row]
        failed[at] += errors[row]
        totals[at] += total[row]
        about[at] += total[row]
    for at in range(cells):
        if about[at] > MOST:
            totals[at] = MOST
        elif about[at] < -MOST:
            totals[at] = -MOST
    return counts, failed, totals


@njit(cache=True, nogil=True)
def histograms(cell, cells, bins, counts, low, width):  # type: ignore[no-untyped-def]
    begin = np.zeros(cells + 1, np.int64)
    for entry in range(len(cell)):
        begin[cell[entry] + 1] += 1
    for at in range(cells):
        begin[at + 1] += begin[at]
    free = begin.copy()
    its, many = np.empty(len(cell), np.int16), np.empty(len(cell), np.int64)
    for entry in range(len(cell)):
        place = free[cell[entry]]
        free[cell[entry]] += 1
        its[place], many[place] = bins[entry], counts[entry]
    offsets = np.zeros(cells + 1, np.int64)
    table = np.zeros(width, np.int64)
    end = 0  # what is found overwrites what was read
    for at in range(cells):
        first, last = begin[at], begin[at + 1]
        start = end
        if last - first <= _FEW:
            for entry in range(first, last):
                this, n = its[entry], many[entry]
                place = end
                while place > start and its[place - 1] > this:
                    place -= 1
                if place > start and its[place - 1] == this:
                    many[place - 1] += n
                    continue
                for moved in range(end, place, -1):
                    its[moved], many[moved] = its[moved - 1], many[moved - 1]
                its[place], many[place] = this, n
                end += 1
        else:
            least, most = width, 0
            for entry in range(first, last):
                place = its[entry] - low
                table[place] += many[entry]
                least, most = min(least, place), max(most, place)
            for place in range(least, most + 1):
                if table[place]:
                    its[end], many[end] = place + low, table[place]
                    table[place] = 0
                    end += 1
        offsets[at + 1] = end
    return offsets, its, many


@njit(cache=True, nogil=True)
def find(body, offsets, letters, ends, wanted, which):  # type: ignore[no-untyped-def]
    """The numbers of plain strings by field, and for each number where its text is and how long."""
    rows, fields = len(offsets) - 1, wanted.shape[1]
    bits = 6
    while (1 << bits) < 2 * rows:
        bits += 1
    last = (1 << bits) - 1
    table = np.zeros((fields, 1 << bits), np.int32)
    begin, length = np.empty((fields, rows + 1), np.int64), np.empty((fields, rows + 1), np.int64)
    count = np.ones(fields, np.int64)
    one = np.uint64(1)
    codes = np.full((rows, fields), NO_TEXT, np.int32)
    for row in range(rows):
        kind = which[row]
        if kind < 0:
            continue
        at, end = np.uint64(offsets[row]), np.uint64(offsets[row + 1])  # unsigned: indexing looks for no sign
        depth = 0
        is_key = False  # is the next string at depth 1 a key?
        key = -1  # the key whose value comes next
        while at < end:
            byte = body[at]
            if byte == 34:  # a string
                at += one
                first = at
                plain = True
                while at < end and body[at] != 34:
                    if body[at] == 92:
                        plain = False
                        at += one
                    at += one
                size = np.int64(at - first)
                if depth == 1 and is_key:
                    is_key, key = False, -1
                    if not plain:  # an escape may spell any key
                        codes[row, :] = UNSURE
                        break
                    for n in range(len(ends)):
                        low = ends[n - 1] if n else 0
                        if ends[n] - low == size:
                            same = True
                            for place in range(size):
                                if letters[low + place] != body[first + np.uint64(place)]:
                                    same = False
                                    break
                            if same:
                                key = n
                elif depth == 1 and key >= 0:
                    for field in range(fields):
                        if wanted[kind, field] != key:
                            continue
                        if not plain or codes[row, field] != NO_TEXT:
                            codes[row, field] = UNSURE
                            continue
                        mixed = np.uint64(14695981039346656037)
                        for place in range(size):
                            mixed = (mixed ^ np.uint64(body[first + np.uint64(place)])) * np.uint64(1099511628211)
                        slot = np.int64(mixed >> np.uint64(64 - bits))
                        while True:
                            number = table[field, slot]
                            if number == 0:
                                number = count[field]
                                table[field, slot] = number
                                begin[field, number], length[field, number] = np.int64(first), size
                                count[field] += 1
                                break
                            same = length[field, number] == size
                            if same:
                                other = np.uint64(begin[field, number])
                                for place in range(size):
                                    if body[other + np.uint64(place)] != body[first + np.uint64(place)]:
                                        same = False
                                        break
                            if same:
                                break
                            slot = (slot + 1) & last
                        codes[row, field] = number
                    key = -1
            elif byte == 123 or byte == 91:
                if depth == 1 and key >= 0:
                    for field in range(fields):
                        if wanted[kind, field] == key:
                            codes[row, field] = UNSURE
                    key = -1
                depth += 1
                is_key = depth == 1 and byte == 123
                if depth > _DEEP or (depth == 1 and byte == 91):  # or not an object
                    codes[row, :] = UNSURE
                    break
            elif byte == 125 or byte == 93:
                depth -= 1
            elif byte == 44:
                if depth == 1:
                    is_key, key = True, -1
            elif depth == 1 and key >= 0 and byte > 32 and byte != 58:  # a number, true, false or null
                for field in range(fields):
                    if wanted[kind, field] == key:
                        codes[row, field] = UNSURE
                key = -1
            at += one
    return codes, begin, length, count


@njit(cache=True, nogil=True)
def quantiles(groups, starts, bins, counts, lowest, table, ranks, found):  # type: ignore[no-untyped-def]
    """Fill `found` with the bins of the percentiles of those groups that `table` has rows for."""
    for row in range(len(groups)):
        group = groups[row]
        if 0 <= group < len(table):
            for entry in range(starts[row], starts[row + 1]):
                table[group, bins[entry] - lowest] += counts[entry]
    for group in range(len(table)):
        total = table[group].sum()
        if total == 0:
            continue
        for which in range(len(ranks)):
            wanted = max(1, int(np.ceil(ranks[which] * total - 1e-9)))
            seen = 0
            for place in range(table.shape[1]):
                seen += table[group, place]
                if seen >= wanted:
                    found[group, which] = place + lowest
                    break
