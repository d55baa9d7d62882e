"""`make cluster`: the topology of docker-compose.yml as plain processes of this machine.

A Kafka broker, PostgreSQL, two workers, two API nodes; only MinIO (the lake is a directory) and Prometheus are left
out. Kafka is fetched from Maven Central at the first start and needs Java 17; KAFKA=host:port uses one that runs.
Without PostgreSQL on this machine there is one API node, with its accounts in SQLite.

    make cluster                   # until Ctrl-C
    make cluster ARGS=--check      # an event to one node, its incident from the other, and stop
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from flows.cluster import free_ports  # noqa: E402 - the line before makes it importable
from tests.connectors import control_databases  # noqa: E402
from tests.kafka_broker import Broker, FetchError, jars, missing  # noqa: E402

PATIENCE = 120.0  # seconds for everything to be ready
_started: list[subprocess.Popen[bytes]] = []


@contextmanager
def kafka(root: Path) -> Iterator[str]:
    """The address of a broker."""
    given = os.environ.get("KAFKA")
    if given:
        yield given
        return
    lacking = missing()
    if lacking is not None:
        raise SystemExit(f"There is no Kafka: {lacking} Or name one that runs: KAFKA=host:port make cluster")
    try:
        broker = Broker(root / "kafka", jars())
    except FetchError as wrong:
        raise SystemExit(f"There is no Kafka: {wrong}") from None
    try:
        yield broker.start().address
    finally:
        broker.stop()


@contextmanager
def accounts() -> Iterator[str | None]:
    """The address of a database for accounts; None where there is no PostgreSQL."""
    programs = control_databases.programs()
    if programs is None:
        yield None
        return
    with control_databases.server(programs) as url:
        yield url


@contextmanager
def process(name: str, root: Path, env: Mapping[str, str], *arguments: str) -> Iterator[Path]:
    """A Tocsin process; the file with what it prints."""
    printed = root / f"{name}.log"
    with printed.open("wb") as out:
        started = subprocess.Popen(
            [sys.executable, "-m", "tocsin", *arguments], cwd=ROOT, env={**os.environ, **env}, stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    _started.append(started)
    try:
        yield printed
    finally:
        for each in _started:  # all at once: a worker cannot end in good order while others go on
            each.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()


def run(root: Path, prefix: str, told: Event, *, check: bool) -> None:
    """Start everything; until Ctrl-C, or until one event has gone all the way."""
    with ExitStack() as stack:
        print("Kafka ...", flush=True)
        address = stack.enter_context(kafka(root))
        print(f"Kafka listens on {address}", flush=True)
        kafka_options = ["--kafka", address, "--prefix", prefix]
        url = stack.enter_context(accounts())
        ports = free_ports(6)
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports[:2])
        for n in range(2):
            stack.enter_context(
                process(
                    f"worker-{n}", root, {}, "worker", *kafka_options, "--index", str(n), "--addresses", addresses,
                    "--recovery", str(root / "recovery"), "--lake", str(root / "lake"), "--metrics-port",
                    str(ports[2 + n]),
                )
            )  # fmt: skip
            print(f"Worker {n}: metrics on http://127.0.0.1:{ports[2 + n]}/metrics", flush=True)
        env = {"TOCSIN_SECRET_FILE": str(root / "secret.key")} | ({"TOCSIN_CONTROL_URL": url} if url else {})
        nodes, first = [], root
        for n, port in enumerate(ports[4:] if url else ports[4:5]):
            more = ["--demo"] if n == 0 else []
            printed = stack.enter_context(
                process(
                    f"api-{n}", root, env, "api", *kafka_options, "--data", str(root / f"node-{n}"), "--port",
                    str(port), *more,
                )
            )  # fmt: skip
            nodes.append(f"http://127.0.0.1:{port}")
            first = printed if n == 0 else first
        for node in nodes:
            wait(f"{node}/-/ready", root, told)
            print(f"API node: {node}, documentation at {node}/docs", flush=True)
        key = first.read_text().partition("key ")[2].split()[0]
        print(f"\nKey of a workspace for trying: {key}\nWhat the processes print: {root}/*.log", flush=True)
        if check:
            try_out(nodes, key)
            return
        print("Ctrl-C stops everything.", flush=True)
        told.wait()


def wait(url: str, root: Path, told: Event) -> None:
    """Wait until a URL answers well."""
    limit = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        if told.wait(0.3) or time.monotonic() > limit:
            raise SystemExit(f"{url} does not answer well; see {root}/*.log")


def try_out(nodes: list[str], key: str) -> None:
    """An event to the first node; its incident from the last."""
    event = {"integrationKey": "payments", "eventType": "auth_failed", "errorCode": "401", "tenantId": "acme"}
    told = ask(f"{nodes[0]}/api/v1/events", key, event)["data"]
    print(f"{nodes[0]} took an event: {told['eventId']} belongs to {told['incidentId']}", flush=True)
    limit = time.monotonic() + PATIENCE
    while True:
        with suppress(urllib.error.HTTPError):
            found = ask(f"{nodes[-1]}/api/v1/incidents/{told['incidentId']}", key)["data"]
            break
        if time.monotonic() > limit:
            raise SystemExit(f"{nodes[-1]} does not show the incident")
        time.sleep(0.1)
    print(f"{nodes[-1]} shows it: {found['status']}, {found['eventCount']} event", flush=True)


def ask(url: str, key: str, body: object = None) -> Any:
    """The answer of a node."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"X-Api-Key": key, "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "cluster-data", help="made anew with each start")
    parser.add_argument("--prefix", default="tocsin", help="of the topics, where Kafka runs already")
    parser.add_argument("--check", action="store_true", help="send one event through all of it, and stop")
    options = parser.parse_args()
    told = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    shutil.rmtree(options.data, ignore_errors=True)
    options.data.mkdir(parents=True)
    run(options.data.resolve(), options.prefix, told, check=options.check)


if __name__ == "__main__":
    main()
