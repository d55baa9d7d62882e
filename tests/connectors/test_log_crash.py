"""Whatever a crash leaves of the group that was being written: every acknowledged record is there, and nothing torn."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.log import Log
from connectors.log_lines import lines
from connectors.log_segments import segment_firsts, segment_path

PAGE = 512

groups = st.lists(st.lists(st.integers(0, 700), min_size=1, max_size=6), max_size=4)


def body(n: int, size: int) -> bytes:
    return orjson.dumps({"n": n, "x": "x" * size})


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_acknowledged_record_survives_and_of_the_others_a_prefix(data: st.DataObject) -> None:
    now = 1_700_000_000_000_000
    written = 0
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "log")
        for _ in range(data.draw(st.integers(1, 4), "lives")):
            now += 1
            log = Log.open(directory, clock=lambda at=now: at, segment_bytes=1500, tail_bytes=1000)  # type: ignore[misc]
            assert written <= log.next_offset
            written = log.next_offset
            found: list[int] = []
            while slice_ := log.read(len(found), data.draw(st.integers(1, 5000), "most"), 0):
                found += [orjson.loads(line)["n"] for line in slice_.lines.splitlines()]
            assert found == list(range(written))
            for sizes in data.draw(groups, "acknowledged"):
                log.append([body(written + i, size) for i, size in enumerate(sizes)], "w").result(10)
                written += len(sizes)
            log.close()
            sizes = data.draw(st.lists(st.integers(0, 700), min_size=1, max_size=8), "in flight")
            bodies = [body(written + i, size) for i, size in enumerate(sizes)]
            group = bytearray(b"".join(piece.text for piece in lines(bodies, "w", now + 1)))
            for page in data.draw(st.sets(st.integers(0, len(group) // PAGE), max_size=2), "pages lost"):
                lost = slice(page * PAGE, min(page * PAGE + PAGE, len(group)))
                group[lost] = bytes(lost.stop - lost.start)
            kept = data.draw(st.integers(0, len(group)), "bytes kept")
            with segment_path(directory, segment_firsts(directory)[-1]).open("ab") as file:
                file.write(group[:kept])


WRITER = """
import sys, time
from pathlib import Path
from connectors.log import Log
log = Log.open(Path(sys.argv[1]), clock=lambda: time.time_ns() // 1000, segment_bytes=20_000)
while True:
    first = log.next_offset
    waiting = [log.append([b'{"n":%d,"x":"%s"}' % (first + i, b"x" * 300)], "w") for i in range(20)]
    for future in waiting:
        sys.stdout.write(f"{future.result().first}\\n")
    sys.stdout.flush()
"""


@pytest.mark.chaos
def test_what_was_acknowledged_before_a_kill_is_read_after_it(tmp_path: Path) -> None:
    acknowledged = -1
    for n in range(int(os.environ.get("TOCSIN_CHAOS_ROUNDS", "4"))):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "log")], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.02 + 0.03 * n)
        writer.send_signal(signal.SIGKILL)
        said = writer.communicate()[0].splitlines()
        acknowledged = max([acknowledged, *(int(line) for line in said[:-1])])
        log = Log.open(tmp_path / "log", clock=lambda: 0)
        assert log.next_offset > acknowledged
        found: list[int] = []
        while slice_ := log.read(len(found), 10_000, 0):
            found += [orjson.loads(line)["n"] for line in slice_.lines.splitlines()]
        assert found == list(range(log.next_offset))
        log.close()
