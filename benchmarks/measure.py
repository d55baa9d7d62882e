"""One command as a child process: how long, how much CPU, how much memory; and the machine it ran on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("bytewax", "duckdb", "numpy", "orjson", "polars", "pyarrow")


@dataclass(frozen=True, slots=True)
class Run:
    """One execution: seconds on the wall, CPU seconds of all its threads, peak resident memory in MiB."""

    wall: float
    cpu: float
    rss: float


class CommandFailed(RuntimeError):
    """A measured command ended with an error; the message ends with what it wrote."""


# A child's peak memory starts at that of the process that started it, so a small one starts the command and measures.
LAUNCHER = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=2)
_, status, usage = os.wait4(process.pid, 0)
with open(sys.argv[1], "w") as report:
    json.dump([time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], report)
sys.exit(min(abs(os.waitstatus_to_exitcode(status)), 125))
"""


def measure(command: Sequence[str], cwd: Path) -> Run:
    """Run a command to its end. Its output is kept only for the error message."""
    with tempfile.TemporaryDirectory() as folder:
        report, output = Path(folder, "report.json"), Path(folder, "output")
        with output.open("wb") as said:
            launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(report), *command]
            code = subprocess.run(launcher, cwd=cwd, stdout=said, stderr=said, check=False).returncode
        if code:
            tail = output.read_bytes()[-3000:].decode(errors="replace")
            raise CommandFailed(f"exit code {code}: {' '.join(command)}\n{tail}")
        wall, cpu, rss = json.loads(report.read_text())
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    return Run(wall, cpu, rss / (1 << 20 if platform.system() == "Darwin" else 1 << 10))


def machine() -> dict[str, Any]:
    """What a reader needs to judge the numbers."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),  # above 0 others took part of the machine
        **{name: version(name) for name in PACKAGES},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
