"""A worker's process, started again whenever it ends by itself.

When one worker of a cluster dies the others end, too: a Bytewax cluster runs as a whole or not at all. Each has its
supervisor, so the whole comes back from its last complete snapshot, on whichever machines it runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from threading import Event as Flag
from threading import Thread

import structlog

SUPERVISED = "TOCSIN_SUPERVISED"  # set in the environment of a worker that has a supervisor
REFUSED = 2  # exit code of a worker that must not be started like this
PAUSE = (0.5, 15.0)  # seconds before a start: after the first death, at most
GRACE = 20.0  # seconds that a worker has to stop
STEADY = 60.0  # seconds after which a death counts as the first again

logger = structlog.get_logger("tocsin.worker")


def supervise(command: Sequence[str], stop: Flag, environ: Mapping[str, str] | None = None) -> int:
    """Run a command again and again until `stop`, or until it ends well or refuses; its last exit code."""
    pause = PAUSE[0]
    while True:
        began = time.monotonic()
        env = {**(os.environ if environ is None else environ), SUPERVISED: "1"}
        worker = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
        code = _wait(worker, stop)
        if stop.is_set() or code in (0, REFUSED):
            return 0 if stop.is_set() else code
        pause = PAUSE[0] if time.monotonic() - began > STEADY else pause
        logger.error("worker ended", exit_code=code, again_in=pause)
        if stop.wait(pause):
            return 0
        pause = min(2 * pause, PAUSE[1])


def outlive(parent: int) -> None:
    """End with the parent: who goes on alone holds what others need, and nobody knows."""

    def watch() -> None:
        pause = Flag()
        while not pause.wait(0.5):
            if os.getppid() != parent:
                os._exit(1)

    Thread(target=watch, name="parent", daemon=True).start()


def this_command(*arguments: str) -> list[str]:
    """The command line that runs Tocsin with these arguments in a process of its own."""
    return [sys.executable, "-c", "import tocsin; tocsin.main()", *arguments]


def _wait(worker: subprocess.Popen[bytes], stop: Flag) -> int:
    """Wait until it ends; told to stop, let it stop."""
    try:
        while not stop.is_set():
            try:
                return worker.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
        worker.terminate()
        try:
            return worker.wait(GRACE)
        except subprocess.TimeoutExpired:
            logger.warning("worker did not stop in time", seconds=GRACE)
            return -1
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
