"""A worker that dies is started again; one that refuses, or was told to stop, is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest

from flows import supervisor
from flows.supervisor import REFUSED, supervise
from tests.system.runs import environment, until

# Notes that it was started, then does as it is told with its so-and-so-many'th start.
PROGRAM = """
import os, signal, sys, time
path, *ends = sys.argv[1:]
with open(path, "a") as out:
    out.write(f"{os.getpid()} {os.environ['TOCSIN_SUPERVISED']}\\n")
number = len(open(path).readlines())
end = ends[min(number, len(ends)) - 1]
if end == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if end == "wait":
    time.sleep(600)
sys.exit(int(end))
"""


def command(path: Path, *ends: str) -> list[str]:
    """A program that ends so the first time, so the second, and so on."""
    return [sys.executable, "-c", PROGRAM, str(path), *ends]


def starts(path: Path) -> list[str]:
    """A line for each start."""
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits in a test."""
    monkeypatch.setattr(supervisor, "PAUSE", (0.01, 0.02))


def test_who_dies_is_started_again(tmp_path: Path) -> None:
    """Whatever killed it: an error, the kernel, a colleague that is gone."""
    assert supervise(command(tmp_path / "n", "1", "kill", "3", "0"), Flag()) == 0
    assert len(starts(tmp_path / "n")) == 4
    assert all(line.endswith(" 1") for line in starts(tmp_path / "n"))


def test_who_refuses_is_not(tmp_path: Path) -> None:
    """What it says would only be said again."""
    assert supervise(command(tmp_path / "n", "1", str(REFUSED), "0"), Flag()) == REFUSED
    assert len(starts(tmp_path / "n")) == 2


def test_stopping_ends_it(tmp_path: Path) -> None:
    """In good order, and nobody starts it once more."""
    stop = Flag()
    thread = Thread(target=supervise, args=(command(tmp_path / "n", "wait"), stop))
    thread.start()
    assert until(lambda: bool(starts(tmp_path / "n")))
    pid = int(starts(tmp_path / "n")[0].split()[0])
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert not Path(f"/proc/{pid}").exists()
    assert len(starts(tmp_path / "n")) == 1


def test_who_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that waits for others for ever must not keep a machine from going down."""
    monkeypatch.setattr(supervisor, "GRACE", 0.3)
    deaf = [sys.executable, "-c", "import signal, sys, time; signal.signal(15, signal.SIG_IGN); "
            f"open({str(tmp_path / 'n')!r}, 'w').write('x'); time.sleep(600)"]  # fmt: skip
    stop = Flag()
    thread = Thread(target=supervise, args=(deaf, stop))
    thread.start()
    assert until((tmp_path / "n").exists)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def test_nobody_outlives_the_supervisor(tmp_path: Path) -> None:
    """`kill -9` of it: a worker alone would hold what the next one needs."""
    code = (
        "import os, sys, time; from flows.supervisor import outlive; outlive(os.getppid()); "
        f"open({str(tmp_path / 'n')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"],
        env=environment(),
    )
    assert until(lambda: (tmp_path / "n").exists() and bool((tmp_path / "n").read_text()))
    pid = int((tmp_path / "n").read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert until(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    time.sleep(0.05)
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
