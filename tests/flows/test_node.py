"""An API node takes up what failed in the middle where its store is, by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.live_store import LiveStore
from connectors.store import StoreError
from flows.node import NodeOptions, NodePipeline
from tests.kafka_broker import Broker
from tests.system.kafka_cluster import Cluster
from tests.system.kafka_records import Records, soon
from tests.system.runs import query, until


@pytest.mark.slow
def test_a_full_disk_is_got_over(kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it lasts the node says so; afterwards every event is there once."""
    cluster = Cluster(kafka, tmp_path, partitions=2, shards=2, epoch="1s")
    write, failures = LiveStore._write_out, 3

    def full(store: LiveStore, changes: Any) -> None:
        nonlocal failures
        if failures and changes.tables:
            failures -= 1
            raise StoreError("cannot write: no space left on device")
        write(store, changes)

    records = Records(3_000, 2, seed=4, begin=soon())
    try:
        cluster.produce(records.all())
        cluster.start(1)
        cluster.wait_begun()
        monkeypatch.setattr(LiveStore, "_write_out", full)
        options = NodeOptions(cluster.settings, rules=(str(cluster.rules),))
        node = NodePipeline.start(tmp_path / "node", options)
        try:
            assert until(lambda: not failures)
            assert until(lambda: node.health().lag_records == 0 and node.health().flow is None)
            assert until(lambda: node.health().store is None)
        finally:
            node.stop()
    finally:
        cluster.close()
    [(rows, positions)] = query(node.data, 'SELECT count(*), count(DISTINCT ("partition", "offset")) FROM events')
    assert rows == positions > 2_900
