"""Snapshots are taken whatever a frame is made of."""

import pickle
import subprocess
import sys

import polars as pl
from polars.testing import assert_frame_equal

from flows.snapshots import pickled
from tests.system.runs import PATIENCE, ROOT, environment

# Columns in pieces of different length, of texts that lie in memory of Python's, as those of a decoded chunk do.
BORROWED = """
import numpy as np, polars as pl, pyarrow as pa
from flows.snapshots import pickled

def texts(n):
    data = b"x" * 20_000 + b"abcdefgh%08d" % n
    view = np.frombuffer((16).to_bytes(4, "little") + b"abcd" + bytes(4) + (20_000).to_bytes(4, "little"), np.int64)
    return pl.Series("text", pa.Array.from_buffers(pa.string_view(), 1, [None, pa.py_buffer(view), pa.py_buffer(data)]))

frame = pl.concat([texts(n).to_frame() for n in range(300)], rechunk=False)
frame = frame.with_columns(n=pl.int_range(frame.height, eager=True))
assert frame["text"].n_chunks() > frame["n"].n_chunks()
print(len(pickled(frame)))
"""


def test_a_snapshot_of_texts_that_were_not_copied_comes_to_an_end() -> None:
    """The service stood still for ever at its first snapshot: no request was answered any more."""
    done = subprocess.run(
        [sys.executable, "-c", BORROWED], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 300 * 16


def test_a_snapshot_brings_everything_back() -> None:
    """In any nesting."""
    frame = pl.concat([pl.DataFrame({"a": [n], "b": [f"text {n}"]}) for n in range(10)], rechunk=False)
    state = {"frames": [frame, frame.clear()], "series": (frame["b"], 3), "rest": [None, {1, 2}]}
    again = pickle.loads(pickled(state))
    assert_frame_equal(again["frames"][0], frame)
    assert again["frames"][1].schema == frame.schema
    assert again["series"][0].to_list() == frame["b"].to_list()
    assert (again["series"][1], again["rest"]) == (3, [None, {1, 2}])
