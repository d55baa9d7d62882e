"""`make cluster`: the topology of the compose file, as plain processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka_broker import Broker
from tests.system.runs import PATIENCE, ROOT, environment

pytestmark = pytest.mark.slow


def test_an_event_goes_all_the_way(kafka: Broker, tmp_path: Path) -> None:
    """Sent to one node, detected by one of two workers, shown by the other node."""
    command = [sys.executable, "deploy/cluster.py", "--check", "--data", str(tmp_path / "cluster")]
    env = {**environment(), "KAFKA": kafka.address}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "took an event: tocsin.log-" in done.stdout
    assert "shows it: Open, 1 event" in done.stdout
