"""State as a snapshot keeps it.

Frames are joined to one piece before they are pickled. Pickling one of several pieces joins them in Polars' own threads
while it holds the interpreter; where such a thread frees memory that belongs to Python, as texts that were not copied
out of what was read, it waits for the interpreter, and everything stands still for ever.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import polars as pl

# Of the classes in snapshots. Raised when one of them changes, so that no version goes on from what it cannot read;
# tests/flows/test_snapshot_layout.py tells when.
VERSION = 3


class OutdatedSnapshotsError(Exception):
    """Snapshots that another version of Tocsin took."""


def pickled(state: object) -> bytes:
    """The state as it is now; `pickle.loads` brings it back."""
    out = io.BytesIO()
    _Pickler(out, protocol=5).dump(state)
    return out.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, pl.DataFrame | pl.Series):
            return value.rechunk().__reduce_ex__(5)
        return NotImplemented
