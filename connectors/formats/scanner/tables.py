"""The tables that the scanner looks things up in and makes its notes in.

Their sizes are fixed, so that the compiler knows every address and a table is passed as one pointer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.events import SEVERITIES

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Words = NDArray[np.uint64]
Tables = NDArray[np.void]
signed: Any = np.int64  # what compiled code has for int

ABSENT, NULL, EMPTY, PLAIN, ESCAPED, NUMBER, WORD, OBJECT, LIST = range(9)  # kinds of value; EMPTY: the text ""
TEXT, TIME, VALUE, SEVERITY, RECORD, ATTRIBUTES = range(6)  # roles of a column

MOST_EDGES, MOST_NODES, MOST_COLUMNS, MOST_BYTES = 192, 96, 16, 4096
MOST_EXTRAS, MOST_NAMES, MOST_USUAL, HASHES = 512, 512, 64, 1024

# What to look for; see wanted.py. Nodes are places in a record, node 0 is the record. An edge leads from a node to a
# member or an item of it: `names` from `name_from[e]` on, `length[e]` bytes, is its name, `head[e]` and `tail[e]` the
# first and the last bytes of that, `position[e]` the item's place or -1.
# `first` and `following` chain the edges of one hash. Of nodes: `inside`, one must look inside; `own`, its members may
# become attributes; `taken`, a column takes it whole. Of columns: `role`; `one` and `two`, the nodes it is read from or
# -1; `kept`, somebody reads it; `required`. `words` is the node below which the severity words are, each `child` an
# index in `severities`, texts as views.
WANTED = np.dtype(
    (
        np.record,
        [
            ("names", np.uint8, MOST_BYTES),
            *(
                (name, np.int64, MOST_EDGES)
                for name in ("name_from", "length", "parent", "child", "position", "following")
            ),
            *((name, np.uint64, MOST_EDGES) for name in ("head", "tail")),
            ("first", np.int64, HASHES),
            *((name, np.int64, MOST_NODES) for name in ("inside", "own", "taken")),
            *((name, np.int64, MOST_COLUMNS) for name in ("role", "one", "two", "kept", "required")),
            ("severities", np.int64, (len(SEVERITIES), 2)),
            *((name, np.int64) for name in ("edges", "columns", "words", "attributes")),
        ],
    )
)

# What was met in one line: nodes by `kind` and span; `extras`, the spans of their names and values; `names` of the
# record's own object. `stamp`: the line in which an extra with that hash was met. By depth: the `node` of the object or
# list one is in, what `closing` byte ends it, the `place` of its next item, and the `extra` it is, or -1. Kept for the
# next lines: `usual`, the edge of each member + 1, or 0.
# What was written so far, see `scan`: `rows`, lines `left`, `used` bytes of `made`, and the values `filled` of columns.
SEEN = np.dtype(
    (
        np.record,
        [
            *((name, np.int64, MOST_NODES) for name in ("kind", "start", "end", "node", "closing", "place", "extra")),
            ("extras", np.int64, (MOST_EXTRAS, 4)),
            ("names", np.int64, (MOST_NAMES, 2)),
            ("usual", np.int64, MOST_USUAL),
            ("stamp", np.int64, HASHES),
            ("filled", np.int64, MOST_COLUMNS),
            *((name, np.int64) for name in ("extra_count", "name_count", "rows", "left", "used")),
        ],
    )
)
Wanted = Any  # a record of WANTED
Seen = Any  # a record of SEEN
