"""A cluster over a real broker as processes, as an operator starts them: workers with their supervisors, API nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import LOG, Topics
from flows.cluster import free_ports
from flows.node import LOOK
from tests.kafka_broker import Broker
from tests.system.runs import COMMAND, PATIENCE, ROOT, environment, until
from tests.system.service import Service

# Beside the built-in rules one that claims on its own, over distinct values, with windows of its own.
RULES = """\
rules:
  - id: tenants_hit
    name: Many tenants hit
    match: {type: [webhook_failed, server_error, request_timeout]}
    group_by: [source]
    threshold:
      value_count: {field: tenant, gte: 4, window: 10m}
    lifecycle: {recovery: 2m, close: 3m, cooldown: 5m}
"""


class Node(Service):
    """`tocsin api` on a data directory."""

    command = "api"


class Worker:
    """`tocsin worker`, with its supervisor."""

    def __init__(self, args: Sequence[str], printed: Path) -> None:
        self._args, self._printed = args, printed
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> Worker:
        """Start it; wait for nothing."""
        assert self._process is None, "it runs already"
        env = {**environment(), "TOCSIN_LOG_FORMAT": "json"}
        with self._printed.open("ab") as out:
            self._process = subprocess.Popen(
                [*COMMAND, *self._args, *more], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        return self

    def stop(self) -> int:
        """Ask it to stop and wait; its exit code."""
        process, self._process = self._process, None
        assert process is not None
        process.terminate()
        return process.wait(PATIENCE)

    def wait(self) -> int:
        """Wait until it ends by itself; its exit code."""
        process, self._process = self._process, None
        assert process is not None
        return process.wait(PATIENCE)

    def kill_worker(self) -> bool:
        """`kill -9` of what does the work; its supervisor starts it again. Whether there was one."""
        assert self._process is not None
        found = _children(self._process.pid)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return bool(found)

    def kill(self) -> None:
        """`kill -9` of both; nobody starts it again."""
        process, self._process = self._process, None
        if process is None:
            return
        children = _children(process.pid)
        process.kill()
        process.wait(PATIENCE)
        for pid in children:
            _kill(pid)

    @property
    def runs(self) -> bool:
        """Whether its supervisor runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._printed.read_text() if self._printed.exists() else ""


class Cluster:
    """Workers and nodes of one prefix, all under one directory."""

    def __init__(
        self,
        broker: Broker,
        root: Path,
        *,
        partitions: int = 8,
        shards: int = 4,
        epoch: str = "2s",
        rules: str | None = RULES,
    ) -> None:
        self.broker, self.root = broker, root
        self.settings = KafkaSettings(broker.address, prefix=f"t{os.getpid()}-{root.name}-{time.monotonic_ns()}")
        self.topics = Topics(self.settings)
        self.partitions, self.shards, self._epoch = partitions, shards, epoch
        self.topics.create(self.settings.log, partitions, LOG)
        self.rules = root / "rules.yaml"
        self._options = ["--rules", str(self.rules)] if rules else []
        self.rules.write_text(rules or "")
        self.workers: list[Worker] = []
        self._nodes: list[Node] = []

    @property
    def lake(self) -> Path:
        """Where the workers write Parquet."""
        return self.root / "lake"

    @property
    def kafka(self) -> list[str]:
        """The options that say which Kafka."""
        return ["--kafka", self.broker.address, "--prefix", self.settings.prefix]

    def worker(self, index: int, addresses: Sequence[str], *more: str) -> Worker:
        """A worker that is not started yet."""
        args = [
            "worker", *self.kafka, "--index", str(index), "--addresses", ",".join(addresses), "--recovery",
            str(self.root / "recovery"), "--lake", str(self.lake), "--shards", str(self.shards), "--epoch", self._epoch,
            *self._options, *more,
        ]  # fmt: skip
        return Worker(args, self.root / f"worker-{index}.out")

    def start(self, count: int, *more: str) -> None:
        """Start so many workers."""
        addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
        self.workers = [self.worker(n, addresses, *more).start() for n in range(count)]

    def wait_begun(self) -> None:
        """Wait until the workers have made their topics."""

        def begun() -> bool:
            assert all(worker.runs for worker in self.workers), [worker.output for worker in self.workers]
            return self.topics.find(self.settings.results) is not None

        assert until(begun)

    def stop(self) -> None:
        """Stop all workers, in good order."""
        for worker in self.workers:
            if worker._process is not None:
                worker._process.terminate()
        for worker in self.workers:
            if worker._process is not None:
                worker.stop()

    def node(self, name: str = "node", *args: str | Path, env: Mapping[str, str] | None = None) -> Node:
        """An API node that is not started yet."""
        node = Node(self.root / name, *self.kafka, *self._options, *args, env=env)
        self._nodes.append(node)
        return node

    def close(self) -> None:
        """Leave nothing behind."""
        for worker in self.workers:
            worker.kill()
        for node in self._nodes:
            node.close()

    def producer(self) -> Producer:
        """A producer for the log that gives nothing up, whatever happens to the broker."""
        more = {"enable_idempotence": True, "message_timeout_ms": 0, "queue_buffering_max_messages": 2_000_000}
        return Producer(self.settings.client(**more))

    def produce(self, lines: Mapping[int, Sequence[bytes]]) -> None:
        """Put lines into partitions of the log, and wait until Kafka has them."""
        producer = self.producer()
        for partition, some in lines.items():
            for line in some:
                while True:
                    try:
                        producer.produce(self.settings.log, line, partition=partition)
                        break
                    except BufferError:
                        producer.poll(0.1)
        assert until(lambda: producer.flush(1.0) == 0)

    def ends(self) -> list[int]:
        """The next offset of each partition of the log."""
        return self.topics.ends(self.settings.log, self.partitions)

    def dump(self, directory: Path) -> list[Path]:
        """The log as files, one a partition, named as the partitions are."""
        directory.mkdir()
        ends = self.ends()
        consumer = Consumer(self.settings.client(group_id="dump", auto_offset_reset="earliest"))
        consumer.assign([TopicPartition(self.settings.log, n, 0) for n in range(self.partitions)])
        found: dict[int, list[bytes]] = {n: [] for n in range(self.partitions)}
        limit = time.monotonic() + PATIENCE
        while any(len(found[n]) < ends[n] for n in found):
            assert time.monotonic() < limit, "the log cannot be read"
            for message in consumer.consume(10_000, 0.5):
                assert message.error() is None, message.error()
                partition = message.partition() or 0
                if len(found[partition]) < ends[partition]:
                    found[partition].append(message.value() or b"")
        consumer.close()
        paths = []
        for n, lines in found.items():
            path = directory / f"{self.settings.log}-{n}"
            path.write_bytes(b"".join(line + b"\n" for line in lines))
            paths.append(path)
        return paths


def wait_caught_up(node: Node) -> None:
    """Wait until a node shows what came of everything that is in the log now."""
    time.sleep(3 * LOOK)  # for the node to see how far the log is

    def reached() -> bool:
        found: Any = node.client.get("/-/ready").json()
        return bool(found["ready"] and found["lag_records"] == 0)

    assert until(reached), f"{node.client.get('/-/ready').text} {node.output[-3000:]}"


def json_lines(records: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Records as lines."""
    return [json.dumps(record).encode() for record in records]


def _children(parent: int) -> list[int]:
    """The processes that a process has started."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
