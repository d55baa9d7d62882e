"""Workers, API node and broker killed at random while records come: in the end every table is what an undisturbed
replay of the same records comes to.

A short form by default; TOCSIN_CHAOS_ROUNDS=20 (`make chaos`) for a million records and as many kills.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest

from tests.kafka_broker import Broker
from tests.kafka_fixtures import OwnKafka
from tests.system.kafka_cluster import Cluster, Node, wait_caught_up
from tests.system.kafka_records import Records, soon
from tests.system.test_kafka_cluster import assert_equals_replay, assert_worth_it

pytestmark = pytest.mark.chaos

ROUNDS = int(os.environ.get("TOCSIN_CHAOS_ROUNDS", "0")) or 3
RECORDS = 1_000_000 if ROUNDS >= 15 else 20_000 * ROUNDS


class Sending(Thread):
    """Sends records in their order, over so many seconds, whatever happens to the broker."""

    def __init__(self, cluster: Cluster, records: Records, seconds: float) -> None:
        super().__init__(daemon=True)
        self._cluster, self._records, self._pace = cluster, records, seconds / records.count
        self.hurry = Flag()
        self.sent = 0

    def run(self) -> None:
        """Send everything and wait until Kafka has it."""
        producer, began = self._cluster.producer(), time.monotonic()
        for partition, line in self._records:
            ahead = self.sent * self._pace - (time.monotonic() - began)
            if ahead > 0.01:
                self.hurry.wait(ahead)
            while True:
                try:
                    producer.produce(self._cluster.settings.log, line, partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
            self.sent += 1
            if not self.sent % 1_000:
                producer.poll(0)
        while producer.flush(1.0):
            pass


def kills(rng: random.Random, cluster: Cluster, broker: Broker, node: Node) -> Iterator[str]:
    """Kill something, again and again; what it was. Each kind comes before any comes twice."""
    kinds = ["worker", "supervisor", "broker", "node", "all workers"]
    while True:
        rng.shuffle(kinds)
        for kind in kinds:
            worker = rng.choice(cluster.workers)
            if kind == "worker":
                worker.kill_worker()
            elif kind == "supervisor":
                worker.kill()
                time.sleep(rng.uniform(0, 2))
                worker.start()
            elif kind == "broker":
                broker.kill()
                time.sleep(rng.uniform(0, 4))
                broker.start()
            elif kind == "node":
                node.kill()
                node.start(ready=False)
            else:
                for each in cluster.workers:
                    each.kill_worker()
            yield kind


def test_kills_change_nothing(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """A bad night: machines die one after the other, and in the morning nothing is missing and nothing is twice."""
    rng, broker = random.Random(ROUNDS), own_kafka()
    cluster = Cluster(broker, tmp_path)
    records = Records(RECORDS, cluster.partitions, seed=ROUNDS, begin=soon())
    sending = Sending(cluster, records, 12.0 * ROUNDS)
    try:
        cluster.start(2)
        cluster.wait_begun()
        node = cluster.node().start()
        sending.start()
        killing = kills(rng, cluster, broker, node)
        for number in range(ROUNDS):
            time.sleep(rng.uniform(4, 14))  # a restart takes some five seconds; a snapshot is taken every two
            print(f"{number + 1}: {next(killing)}, {sending.sent:,} sent")
        sending.hurry.set()
        sending.join()
        cluster.produce(records.end())
        wait_caught_up(node)
        node.stop()
        assert_worth_it(assert_equals_replay(cluster, node.data))
    finally:
        cluster.close()
