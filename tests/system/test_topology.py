"""`make cluster`: the topology of the compose file, as plain processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kafka_broker import Broker
from tests.system.runs import PATIENCE, ROOT, environment

pytestmark = pytest.mark.slow


def test_an_event_goes_all_the_way(kafka: Broker, tmp_path: Path) -> None:
    """Sent to one node, detected by one of two workers, shown by the other node."""
    prefix = f"topology-{time.monotonic_ns()}"
    command = [sys.executable, "deploy/cluster.py", "--check", "--data", str(tmp_path / "cluster"), "--prefix", prefix]
    env = {**environment(), "KAFKA": kafka.address}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"took an event: {prefix}.log-" in done.stdout
    assert "shows it: Open, 1 event" in done.stdout
