"""A worker or node whose state does not belong to the topics refuses with a sentence that says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.kafka_broker import Broker
from tests.system.kafka_cluster import Cluster, wait_caught_up
from tests.system.kafka_records import Records, soon
from tests.system.runs import until
from tests.system.test_kafka_cluster import assert_equals_replay

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def used(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that has worked and was stopped; each test puts back what it changes."""
    cluster = Cluster(kafka, tmp_path_factory.mktemp("used"), partitions=2, shards=2, epoch="1s")
    try:
        cluster.start(1)
        records = Records(2_000, 2, seed=3, begin=soon())
        cluster.produce(records.all())
        cluster.produce(records.end())
        cluster.wait_begun()
        node = cluster.node().start()
        wait_caught_up(node)
        node.stop()
        cluster.stop()
        shutil.copytree(cluster.root / "recovery", cluster.root / "old")
        cluster.start(1)
        for number in range(6):  # more snapshots than one that was interrupted can be behind
            cluster.produce({n: [b'{"source":"s","type":"completed","id":"late-%d"}' % number] for n in range(2)})
            assert until(lambda: sum(cluster.ends()) > 0)
            wait_for_snapshot(cluster)
        cluster.stop()
        yield cluster
    finally:
        cluster.close()


def wait_for_snapshot(cluster: Cluster) -> None:
    """Wait for a snapshot from now on."""
    newest = max(path.stat().st_mtime_ns for path in (cluster.root / "recovery").glob("*.sqlite3*"))
    assert until(
        lambda: max(path.stat().st_mtime_ns for path in (cluster.root / "recovery").glob("*.sqlite3*")) > newest + 10**9
    )


def refused(cluster: Cluster, *more: str) -> str:
    """What a worker says that refuses to start."""
    worker = cluster.worker(0, ["127.0.0.1:0"], *more)
    before = len(worker.output)
    assert worker.start().wait() == 2
    return worker.output[before:]


def test_without_its_recovery_state(used: Cluster) -> None:
    """Somebody has mounted an empty volume."""
    recovery, away = used.root / "recovery", used.root / "away"
    recovery.rename(away)
    try:
        said = refused(used)
        assert f"there is no recovery state in {recovery}" in said
        assert "put the directory back, or start once with --rebuild" in said
        assert not recovery.exists(), "it must not look as if it were there next time"
    finally:
        away.rename(recovery)


def test_with_an_older_recovery_state(used: Cluster) -> None:
    """Somebody has restored last night's backup of the recovery directory, while the topics went on."""
    recovery, away = used.root / "recovery", used.root / "away"
    recovery.rename(away)
    shutil.copytree(used.root / "old", recovery)
    try:
        said = refused(used)
        assert "the recovery state is older than the results" in said
        assert "bring the newest one back, or start once with --rebuild" in said
    finally:
        shutil.rmtree(recovery)
        away.rename(recovery)


def test_with_other_settings(used: Cluster) -> None:
    """Shards and lateness are fixed once begun."""
    said = refused(used, "--shards", "3")
    assert "has 2 partitions, one for each shard, but --shards says 3: start with --shards 2" in said
    said = refused(used, "--lateness", "10s")
    assert "was begun with --lateness 30s" in said


def test_of_another_version(used: Cluster) -> None:
    """Snapshots of classes that this version does not know would be nonsense to it."""
    path = used.root / "recovery" / "cluster.json"
    before = path.read_text()
    path.write_text(before.replace('"version": "', '"version": "0'))
    try:
        assert "another version of Tocsin wrote" in refused(used)
    finally:
        path.write_text(before)


def test_a_node_of_other_topics(used: Cluster) -> None:
    """A node's store is made from certain topics; --rebuild makes it from those that are there now."""
    used.start(1, "--rebuild")
    used.wait_begun()
    node = used.node()
    node.launch()
    assert node.wait() == 2
    assert "the topics were made anew" in node.output
    assert "start once with --rebuild" in node.output
    again = used.node("node", "--rebuild").start()
    wait_caught_up(again)
    again.stop()
    assert_equals_replay(used, again.data)
    used.stop()
