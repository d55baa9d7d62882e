"""Replays as processes, as a user starts them; what they left behind, as sorted frames; how far a running one is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from polars.testing import assert_frame_equal

from flows.board import _FIELDS, ENDED, RECORDS
from flows.replay import BOARD_FILE

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "tocsin")
COMPARED = ("events", "claims", "incidents", "incident_tenants", "transitions", "alerts", "dead_letters", "rules",
            "configurations", "rollup_1m", "histogram_1m")  # fmt: skip
PATIENCE = 120.0  # seconds until a test gives up waiting for a process; generous, machines are busy

Args = Iterable[str | Path]


def environment() -> dict[str, str]:
    """That of a user who has the command, whatever directory they are in."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "200"}


def tocsin(*args: str | Path, stdin: bytes | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [*COMMAND, *map(str, args)]
    done = subprocess.run(
        command, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, capture_output=True, cwd=cwd,
        env=environment(), timeout=PATIENCE, check=False,
    )  # fmt: skip
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def replay(data: Path, *args: str | Path, code: int = 0, stdin: bytes | None = None) -> Path:
    """Replay into `data` to the end; returns `data`."""
    done = tocsin("replay", "--data", data, *args, stdin=stdin)
    assert done.returncode == code, done.stdout + done.stderr
    return data


@contextmanager
def running(*args: str | Path, data: Path) -> Iterator[subprocess.Popen[str]]:
    """A replay into `data` that is going on, in a process group of its own; nothing of it is left afterwards."""
    process = subprocess.Popen(
        [*COMMAND, "replay", "--data", str(data), *map(str, args)], cwd=ROOT, env=environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        for worker in workers_of(data):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process: its exit code, what it printed, what it complained about."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def until(what: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until something is so; false if it took too long."""
    limit = time.monotonic() + seconds
    while not what():
        if time.monotonic() > limit:
            return False
        time.sleep(0.005)
    return True


def workers_of(data: Path) -> list[int]:
    """Process ids of the workers of a cluster that replays into `data`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"flows.worker" in words and str(data).encode() in words:
                found.append(int(entry.name))
    return sorted(found)


# ---------------------------------------------------------------- how far


def _board(data: Path) -> np.ndarray | None:
    try:
        table = np.fromfile(data / "recovery" / BOARD_FILE, np.int64)
    except FileNotFoundError:
        return None
    return table.reshape(-1, _FIELDS) if table.size and table.size % _FIELDS == 0 else None


def records_read(data: Path) -> int:
    """Records that the replay into `data` has read so far."""
    table = _board(data)
    return 0 if table is None else int(table[:, RECORDS].sum())


def partitions_ended(data: Path) -> int:
    """Partitions that it has read to their end."""
    table = _board(data)
    return 0 if table is None else int(table[:, ENDED].sum())


def rows_stored(data: Path) -> int:
    """Rows and positions that are durable in the store of a stopped replay; opening it changes nothing."""
    with duckdb.connect(str(data / "store.duckdb"), read_only=True) as con:
        [(rows,)] = con.execute("SELECT coalesce(sum(next_offset), 0) FROM positions").fetchall()
        return int(rows)


# ---------------------------------------------------------------- what came of it


def query(data: Path, sql: str) -> list[tuple]:
    """Rows of the store."""
    with duckdb.connect(str(data / "store.duckdb"), read_only=True) as con:
        con.execute("SET TimeZone = 'UTC'")
        return con.sql(sql).pl().rows()


def counts(data: Path) -> dict[str, int]:
    """What the summary says."""
    return {key: int(n) for key, n in query(data, "SELECT key[7:], value FROM meta WHERE key LIKE 'count.%'")}


def tables(data: Path, source: str = "store.duckdb", names: Iterable[str] = COMPARED) -> dict[str, pl.DataFrame]:
    """All rows of all tables, sorted, from the store or (`analyst.duckdb`) from the published lake."""
    with duckdb.connect(str(data / source), read_only=True) as con:
        con.execute("SET TimeZone = 'UTC'")
        return {name: con.sql(f'FROM "{name}" ORDER BY ALL').pl() for name in names}


def assert_same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame], hint: str = "") -> None:
    """Every row of every table."""
    assert one.keys() == other.keys()
    for name, frame in one.items():
        try:
            assert_frame_equal(frame, other[name])
        except AssertionError as different:
            left, right = frame.rows(), other[name].rows()
            only = [sorted(map(str, set(a) - set(b)))[:3] for a, b in ((left, right), (right, left))]
            raise AssertionError(
                f"{hint} {name}: {len(left)} rows against {len(right)}; only in one of them: {only}"
            ) from different


def fingerprint(directory: Path) -> dict[str, bytes]:
    """Every file below a directory with its bytes."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}
