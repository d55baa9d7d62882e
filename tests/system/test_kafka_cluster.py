"""A cluster over Kafka shows what a replay of the same records comes to, and refuses what does not belong together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest

from connectors import lake_files
from tests.kafka_broker import Broker
from tests.system.kafka_cluster import Cluster, wait_caught_up
from tests.system.kafka_records import Records, soon
from tests.system.runs import assert_same, replay, until
from tests.system.test_service_chaos import COMPARED, stored

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(kafka: Broker, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that is not started yet."""
    made = Cluster(kafka, tmp_path)
    try:
        yield made
    finally:
        made.close()


def in_lake(cluster: Cluster) -> dict[str, pl.DataFrame]:
    """What the workers' lake shows to analysts."""
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for view in lake_files.views(str(cluster.lake)):
            con.execute(view)
        return {name: con.sql(f"FROM ({sql}) ORDER BY ALL").pl() for name, sql in COMPARED.items()}


def assert_node_equals_replay(cluster: Cluster, data: Path) -> dict[str, pl.DataFrame]:
    """The store of a stopped node against a replay of the log."""
    files = cluster.dump(cluster.root / "log")
    replayed = stored(replay(cluster.root / "replayed", "--format", "jsonl", "--rules", cluster.rules, *files))
    assert_same(stored(data), replayed, "node against replay:")
    return replayed


def assert_equals_replay(cluster: Cluster, data: Path) -> dict[str, pl.DataFrame]:
    """The store of a stopped node, and the lake, which has what is settled, against a replay of the log."""
    replayed = assert_node_equals_replay(cluster, data)
    # Its last epoch counts only once the next one has begun.
    assert until(lambda: in_lake(cluster)["events"].height >= replayed["events"].height)
    assert until(lambda: in_lake(cluster)["transitions"].height >= replayed["transitions"].height)
    assert_same(in_lake(cluster), replayed, "lake against replay:")
    return replayed


def assert_worth_it(replayed: dict[str, pl.DataFrame]) -> None:
    """Something of everything happened."""
    assert not [name for name, frame in replayed.items() if not frame.height]
    reasons = set(replayed["transitions"]["reason"])
    assert {"New event during recovery", "New event within cooldown", "Resolved manually"} <= reasons, reasons


def test_two_workers_come_to_what_a_replay_of_the_log_comes_to(cluster: Cluster) -> None:
    """Every row of every table, whoever asks: an API node, or an analyst in the lake."""
    cluster.start(2)
    records = Records(20_000, cluster.partitions, seed=1, begin=soon())
    cluster.produce(records.all())
    node = cluster.node()
    cluster.wait_begun()
    node.start()
    cluster.produce(records.end())
    wait_caught_up(node)
    node.stop()
    assert_worth_it(assert_equals_replay(cluster, node.data))


def test_a_third_worker_joins(cluster: Cluster) -> None:
    """The same recovery state in other hands: the load grew, somebody adds a machine."""
    records = Records(20_000, cluster.partitions, seed=2, begin=soon())
    parts = records.all(cut=2)
    node = cluster.node()
    cluster.start(2)
    cluster.produce(parts[0])
    cluster.wait_begun()
    node.start()
    wait_caught_up(node)
    cluster.stop()
    cluster.start(3)
    cluster.produce(parts[1])
    cluster.produce(records.end())
    wait_caught_up(node)
    node.stop()
    assert_worth_it(assert_equals_replay(cluster, node.data))
