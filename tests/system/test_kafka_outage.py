"""Kafka does not answer: the service says so, comes back by itself, and has lost nothing that it acknowledged."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.kafka_fixtures import OwnKafka
from tests.system.kafka_cluster import Cluster, wait_caught_up
from tests.system.runs import until
from tests.system.service import Service, Team
from tests.system.test_kafka_cluster import assert_node_equals_replay

pytestmark = pytest.mark.slow


def sent(service: Service, team: Team, number: int) -> httpx.Response:
    """One event, as a client sends it that does not wait for ever."""
    body = {"integrationKey": "payments", "eventType": "auth_failed", "tenantId": "acme", "id": f"e{number}"}
    return service.client.post("/api/v1/events", headers=team.by_key, json=body, timeout=30)


def test_an_outage_of_kafka(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """The network to Kafka is cut for a quarter of a minute: 503 with Retry-After, at once after the first ones; then
    everything goes on. A broker that dies is in the chaos tests."""
    broker = own_kafka()
    cluster = Cluster(broker, tmp_path, partitions=2, shards=2)
    acknowledged: set[str] = set()
    try:
        cluster.start(1)
        cluster.wait_begun()
        node = cluster.node().start()
        team = node.team()
        for number in range(5):
            answer = sent(node, team, number)
            assert answer.status_code == 200, answer.text
            acknowledged.add(f"e{number}")
        broker.pause()
        refused = [sent(node, team, number) for number in range(100, 102)]
        assert {answer.status_code for answer in refused} == {503}, [answer.text for answer in refused]
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert all("Kafka" in answer.json()["message"] for answer in refused)
        assert max(answer.elapsed.total_seconds() for answer in refused) < 10
        # What was shown before still is, and the load balancer knows.
        assert node.get(team, "/api/v1/incidents")["total"] == 1
        assert until(lambda: node.client.get("/-/ready").status_code == 503)
        time.sleep(5)
        broker.resume()
        assert until(lambda: sent(node, team, 200).status_code in (200, 202))
        acknowledged.add("e200")
        for number in range(300, 305):
            assert until(lambda number=number: sent(node, team, number).status_code == 200)  # type: ignore[misc]
            acknowledged.add(f"e{number}")
        wait_caught_up(node)
        node.stop()
        events = assert_node_equals_replay(cluster, node.data)["events"]
        found = Counter(events["id"])
        assert acknowledged <= set(found)
        assert max(found.values()) == 1, "what was sent again is counted once"
    finally:
        cluster.close()
