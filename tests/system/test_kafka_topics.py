"""What goes in from topics of others and out to those who read topics: events, dead letters, incidents; and replay."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import LOG, Topics
from tests.kafka_broker import Broker
from tests.system.kafka_cluster import Cluster, wait_caught_up
from tests.system.kafka_records import Records, soon
from tests.system.runs import assert_same, query, replay, tocsin, until
from tests.system.test_service_chaos import stored

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(kafka: Broker, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that is not started yet."""
    made = Cluster(kafka, tmp_path, partitions=2, shards=2, epoch="1s")
    try:
        yield made
    finally:
        made.close()


def read_all(cluster: Cluster, topic: str) -> list[Message]:
    """Everything that is in a topic now."""
    known = cluster.topics.find(topic)
    assert known is not None
    ends = cluster.topics.ends(topic, known.partitions)
    consumer = Consumer(cluster.settings.client(group_id="test", auto_offset_reset="earliest"))
    consumer.assign([TopicPartition(topic, n, 0) for n in range(known.partitions)])
    found: list[Message] = []
    assert until(lambda: found.extend(consumer.consume(1_000, 0.2)) or len(found) >= sum(ends))  # type: ignore[func-returns-value]
    consumer.close()
    return found


def send(cluster: Cluster, topic: str, *bodies: Any) -> None:
    """Messages as somebody else's program sends them."""
    producer = cluster.producer()
    for body in bodies:
        producer.produce(topic, body if isinstance(body, bytes | None) else json.dumps(body).encode(), partition=0)
    assert until(lambda: producer.flush(1.0) == 0)


def test_a_topic_of_somebody_else(cluster: Cluster) -> None:
    """Their names for things, their mistakes, and what they must not do: only events, only in the workspace they are
    read for. What cannot be used is told with the reason."""
    topic = f"{cluster.settings.prefix}.payments"
    cluster.topics.create(topic, 1, LOG)
    now = datetime.now(UTC)
    good = {"kind": "auth_failed", "service": {"name": "checkout"}, "when": now.isoformat(), "workspace": "victim"}
    late = {**good, "when": (now + timedelta(hours=1)).isoformat()}
    wrong = {"record": "configure", "when": now.isoformat(), "service": {"name": "x"}, "kind": "y", "attributes": {}}
    send(cluster, topic, good, b"{broken", None, late, wrong, json.dumps(good, indent=2).encode())
    maps = ["type=$.kind", "source=$.service.name", "time=$.when"]
    options = [text for one in maps for text in ("--map", one)]
    cluster.start(1, "--topic", topic, "--workspace", "acme", *options)
    cluster.wait_begun()
    node = cluster.node().start()
    assert until(lambda: len(read_all(cluster, cluster.settings.dead_letters)) == 4)
    wait_caught_up(node)
    # Nobody ticks in a foreign topic, and yet it holds nobody back: the incident opens at once.
    assert until(lambda: "tocsin_live_keys 1.0" in node.client.get("/metrics").text)
    node.stop()
    rows = query(node.data, 'SELECT workspace, source, type, "offset" FROM events ORDER BY "offset"')
    assert rows == [("acme", "checkout", "auth_failed", 0), ("acme", "checkout", "auth_failed", 5)]
    assert query(node.data, "SELECT workspace, rule_id, event_count FROM incidents") == [("acme", "auth_failure", 2)]
    letters = {}
    for message in read_all(cluster, cluster.settings.dead_letters):
        headers = {name: (value or b"").decode() for name, value in message.headers() or []}  # type: ignore[union-attr]
        assert headers["tocsin.topic"] == topic
        assert (message.key() or b"").decode() == f"{topic}-0:{headers['tocsin.offset']}"
        letters[int(headers["tocsin.offset"])] = headers["tocsin.error"], message.value()
    assert sorted(letters) == [1, 2, 3, 4]
    assert letters[1][1] == b"{broken"
    assert "no value" in letters[2][0]
    assert "more than 60 s after the message was sent" in letters[3][0]
    assert letters[4][0] == "record: only events are read from this topic"


def test_settled_incidents_for_everybody(cluster: Cluster) -> None:
    """A program that knows nothing of Tocsin reads JSON, and after compaction still finds the newest of each."""
    records = Records(4_000, 2, seed=5, begin=soon())
    cluster.produce(records.all())
    cluster.produce(records.end())
    cluster.start(1)
    cluster.wait_begun()
    node = cluster.node().start()
    wait_caught_up(node)
    node.stop()
    expected = {
        row[0]: row[1:]
        for row in query(node.data, "SELECT id, rule_id, status, event_count FROM incidents WHERE settled")
    }
    assert len(expected) > 20
    newest = {
        (m.key() or b"").decode(): json.loads(m.value() or b"{}") for m in read_all(cluster, cluster.settings.incidents)
    }
    assert {i: (row["rule_id"], row["status"], row["event_count"]) for i, row in newest.items()} == expected
    assert all(row["opened_at"].endswith("Z") for row in newest.values())


def test_a_replay_of_a_topic_is_that_of_the_same_records_in_files(cluster: Cluster) -> None:
    """Also in two processes, and resumed after a kill."""
    records = Records(30_000, 2, seed=6, begin=soon())
    cluster.produce(records.all())
    cluster.produce(records.end())
    rules = ["--rules", cluster.rules, "--format", "jsonl"]
    expected = stored(replay(cluster.root / "files", *cluster.dump(cluster.root / "log"), *rules))
    url = f"kafka://{cluster.broker.address}/{cluster.settings.log}"
    assert_same(stored(replay(cluster.root / "one", url, *rules)), expected, "topic against files:")
    assert_same(stored(replay(cluster.root / "two", url, *rules, "--workers", "2")), expected, "two workers:")


def test_a_topic_whose_last_offsets_are_of_no_message_ends_too(kafka: Broker, tmp_path: Path) -> None:
    """A transaction ends with a marker that has an offset, and nobody ever gets it."""
    topic = f"transactions-{time.monotonic_ns()}"
    settings = KafkaSettings(kafka.address)
    Topics(settings).create(topic, 1, LOG)
    producer = Producer(settings.client(transactional_id=topic))
    producer.init_transactions(30)
    for number, commits in enumerate((True, False, True)):
        producer.begin_transaction()
        body = {"time": "2026-01-31T08:30:00Z", "source": f"s{number}", "type": "auth_failed"}
        producer.produce(topic, json.dumps(body).encode())
        producer.flush(30)
        if commits:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    data = replay(tmp_path / "data", f"kafka://{kafka.address}/{topic}")
    assert query(data, 'SELECT source, "offset" FROM events ORDER BY "offset"') == [("s0", 0), ("s2", 4)]


def test_a_topic_that_cannot_be_replayed_is_said_so(kafka: Broker, tmp_path: Path) -> None:
    """One sentence, exit code 2, and nothing is touched."""
    for url, said in (
        (f"kafka://{kafka.address}/nothing", "there is no topic nothing"),
        (f"kafka://{kafka.address}", "kafka://HOST:PORT/TOPIC is expected"),
        (f"kafka://me:secret@{kafka.address}/t", "a login does not belong into the address"),
    ):
        done = tocsin("replay", url, "--data", tmp_path / "data")
        assert done.returncode == 2
        assert said in done.stderr
        assert "secret" not in done.stderr
        assert not (tmp_path / "data" / "store.duckdb").exists()
    began = time.monotonic()
    done = tocsin("replay", "kafka://127.0.0.1:9/t", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert "does not answer" in done.stderr
    assert time.monotonic() - began < 60
