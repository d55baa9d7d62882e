"""How fast the log takes records, beside the plainest thing that is as durable: one write and one fdatasync.

python -m benchmarks.log_append [--directory DIR] [--seconds S]: both in alternation, on the same disk, with the same
bytes. A ratio of 1 means that stamping, group commit and hand-over cost nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from connectors.log import Log
from connectors.log_lines import lines

BODY = (
    b'{"integrationKey":"payments-service","eventType":"token_refresh_failed","errorCode":"401","tenantId":"acme-corp",'
    b'"time":"2026-01-31T08:30:00Z","rawPayload":{"endpoint":"/v2/webhooks/deliver","durationMs":12043}}'
)
WORKSPACE = "0b6f2f0e-6c5c-4b57-9a2e-3a0c6a1f7d11"


def rate(step: Callable[[], int], seconds: float) -> float:
    """Records a second, of steps that each say how many they wrote."""
    began = time.perf_counter()
    records = 0
    while (spent := time.perf_counter() - began) < seconds:
        records += step()
    return records / spent


def raw(path: Path, batch: int) -> Callable[[], int]:
    """Write and sync ready lines."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    data = b"".join(piece.text for piece in lines([BODY] * batch, WORKSPACE, 1))

    def step() -> int:
        os.write(file, data)
        os.fdatasync(file)
        return batch

    return step


def through(log: Log, batch: int) -> Callable[[], int]:
    """Append a batch and wait for it."""
    bodies = [BODY] * batch

    def step() -> int:
        return log.append(bodies, WORKSPACE).result().count

    return step


def waiting(log: Log, clients: int, seconds: float) -> float:
    """Records a second of clients that each append one record and wait."""
    done = [0] * clients

    def run(n: int) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            log.append([BODY], WORKSPACE).result()
            done[n] += 1

    threads = [threading.Thread(target=run, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def assembling() -> float:
    """µs of CPU a record that the interpreter spends on stamping a batch of 50,000."""
    bodies = [BODY[:-1] + b',"n":%d}' % n for n in range(50_000)]
    best = 1e9
    for _ in range(5):
        began = time.process_time()
        lines(bodies, WORKSPACE, 1)
        best = min(best, time.process_time() - began)
    return best / len(bodies) * 1e6


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--directory", type=Path, default=None, help="on the disk to be measured")
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--repeat", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.directory) as folder:
        log = Log.open(Path(folder, "log"), clock=lambda: time.time_ns() // 1000)
        print(f"stamping a batch of 50,000: {assembling():.2f} µs a record")
        for batch in (1, 100, 50_000):
            pairs = []
            plain, ours = raw(Path(folder, f"raw{batch}"), batch), through(log, batch)
            for _ in range(chosen.repeat):
                pairs.append((rate(plain, chosen.seconds), rate(ours, chosen.seconds)))
            bare, logged = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"batches of {batch:>6,}: raw {bare:>11,.0f}/s, log {logged:>11,.0f}/s, ratio {bare / logged:.2f}")
        for clients in (1, 16, 64):
            print(f"{clients:>3} clients, one record each: {waiting(log, clients, chosen.seconds):,.0f}/s")
        log.close()


if __name__ == "__main__":
    main()
