"""JSON lines -> the cells of columns, in one pass over the bytes, compiled, without the interpreter lock.

Strictly valid lines are taken apart and their rows written. Whatever is not sure is left: broken lines, names with
escapes or given twice, two names for one column, a wrong type, half a surrogate pair, very long numbers, deep nesting.
What those mean, record.py decides.
"""

from __future__ import annotations

from collections.abc import Callable

from connectors.formats.scanner.columns import write_row
from connectors.formats.scanner.compiled import sources, whole
from connectors.formats.scanner.grammar import LF, OPEN_OBJECT, spaces
from connectors.formats.scanner.members import walk
from connectors.formats.scanner.tables import Bytes, Floats, Ints, Mask, Tables, Words


def _scanner(version: int) -> Callable[..., int]:
    """`scan`, compiled. The compiler's cache knows a function by its own file and by what it encloses: `version`."""

    @whole
    def scan(
        data: Bytes,
        words: Words,
        tables: Tables,
        notes: Tables,
        lines: Ints,
        left: Ints,
        cells: Ints,
        numbers: Floats,
        given: Mask,
        made: Bytes,
    ) -> int:
        """The rows of plainly good lines, and the places of those that are not; how many lines there are.

        `tables`, `notes`: one record of WANTED and of SEEN. Written are, for n lines at most and m columns: `lines`
        (n), the line of each row; `left` (n x 3), line, start and end of what is for record.py; `cells` (m x n x 2),
        texts as Arrow views (buffer 0 is `data`, buffer 1 `made`), times in µs, the value's span; `numbers` (n), the
        value, NaN where it must be read from its span; `given` (m x n), not null.
        """
        version  # noqa: B018 - to enclose it
        wanted, seen = tables[0], notes[0]
        p, line = 0, 0
        while p < len(data):
            start = p
            p = spaces(data, p)
            if data[p] != LF:
                end = walk(data, words, p, line, wanted, seen) if data[p] == OPEN_OBJECT else 0
                if end:
                    end = spaces(data, end)
                if (
                    end
                    and data[end] == LF
                    and write_row(data, words, seen.rows, wanted, seen, cells, numbers, given, made)
                ):
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

    return scan


scan = _scanner(sources())
