"""Several workers of one replay: processes of a Bytewax cluster on loopback, all or none of them running."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Event as Flag

from flows.plan import Plan


class WorkerDied(Exception):
    """A worker ended before its work was done; the others were stopped."""


def run(plan: Plan, data: Path, *, resumed: bool, stop: Flag) -> None:
    """Start the workers of a plan and wait for them. Raises WorkerDied; what was snapshotted can be resumed."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(plan.workers)]
    command = [sys.executable, "-m", "flows.worker", str(data), json.dumps(addresses), "resumed" if resumed else "new"]
    plan.write(data / "recovery")
    # A session of their own: Ctrl-C reaches this process alone, which then tells them.
    workers = [
        # Nor do they share its standard output, where the answer goes: Bytewax says there whom it waits for.
        subprocess.Popen(
            [*command, str(n)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            cwd=Path.cwd(),
        )
        for n in range(plan.workers)
    ]
    told = False
    try:
        while any(worker.poll() is None for worker in workers):
            dead = [worker for worker in workers if worker.poll() not in (None, 0)]
            if dead:
                raise WorkerDied(
                    f"a worker ended with exit code {dead[0].returncode}, so the run was stopped: go on with --resume"
                )
            if stop.is_set() and not told:
                told = True
                for worker in workers:
                    worker.send_signal(signal.SIGINT)
            try:
                next(worker for worker in workers if worker.poll() is None).wait(0.05)
            except (subprocess.TimeoutExpired, StopIteration):
                pass
        if any(worker.returncode for worker in workers):
            raise WorkerDied("a worker failed: go on with --resume")
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports
