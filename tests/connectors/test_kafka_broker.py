"""The Kafka broker that tests run against: it keeps what it acknowledged, and dies, hangs and comes back on demand."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from tests import kafka_broker
from tests.kafka_broker import Broker, GivenBroker, jars, missing
from tests.kafka_fixtures import OwnKafka
from tests.system.runs import ROOT, until

confluent_kafka = pytest.importorskip("confluent_kafka", reason="Kafka's client is not installed")
admin = pytest.importorskip("confluent_kafka.admin")

SOON = 30.0  # seconds; generous, machines are busy


def make_topic(broker: Broker, partitions: int = 1) -> str:
    """A new topic, ready to be written to."""
    name = f"test-{uuid4().hex}"
    client = admin.AdminClient({"bootstrap.servers": broker.address})
    client.create_topics([admin.NewTopic(name, partitions, 1)])[name].result(SOON)
    return name


def produce(broker: Broker, topic: str, values: list[bytes]) -> None:
    """Write values; returns when the broker has acknowledged them all."""
    failed = []
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.address, "acks": "all", "linger.ms": 1})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(SOON) == 0
    assert not failed


def consume(broker: Broker, topic: str, count: int, group: str | None = None) -> list[bytes]:
    """Read so many values from the beginning of a topic, or from where the group is, and commit that."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": group or uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    try:
        consumer.subscribe([topic])
        values: list[bytes] = []
        while len(values) < count and (messages := consumer.consume(count - len(values), SOON)):
            values += [message.value() for message in messages]
        consumer.commit(asynchronous=False)
        return values
    finally:
        consumer.close()


def numbered(start: int, end: int) -> list[bytes]:
    """Values that differ."""
    return [b"%d" % number for number in range(start, end)]


def test_what_is_produced_is_consumed(kafka: Broker) -> None:
    topic = make_topic(kafka)
    produce(kafka, topic, numbered(0, 100))
    assert consume(kafka, topic, 100) == numbered(0, 100)


def test_unknown_topics_are_not_made_by_asking(kafka: Broker) -> None:
    name = uuid4().hex
    client = admin.AdminClient({"bootstrap.servers": kafka.address})
    assert client.list_topics(name, SOON).topics[name].error is not None
    assert name not in client.list_topics(timeout=SOON).topics


@pytest.mark.slow
def test_killed_broker_comes_back_with_what_it_acknowledged(own_kafka: OwnKafka) -> None:
    broker = own_kafka()
    address, topic = broker.address, make_topic(broker)
    for start in (0, 500):
        produce(broker, topic, numbered(start, start + 500))
        assert consume(broker, topic, 250, "readers") == numbered(start // 2, start // 2 + 250)
        broker.kill()
        assert not broker.running
        broker.start()
        assert broker.address == address
    assert consume(broker, topic, 1000) == numbered(0, 1000)
    assert consume(broker, topic, 1, "readers") == [b"500"]  # what a group has read is kept, too


@pytest.mark.slow
def test_stopped_broker_comes_back(own_kafka: OwnKafka) -> None:
    broker = own_kafka()
    topic = make_topic(broker)
    produce(broker, topic, numbered(0, 10))
    broker.stop()
    assert not broker.running
    broker.start()
    assert consume(broker, topic, 10) == numbered(0, 10)


@pytest.mark.slow
def test_paused_broker_answers_when_it_is_resumed(own_kafka: OwnKafka) -> None:
    broker = own_kafka()
    topic = make_topic(broker)
    produce(broker, topic, [b"before"])
    client = admin.AdminClient({"bootstrap.servers": broker.address})
    client.list_topics(timeout=SOON)

    broker.pause()
    assert broker.running
    with pytest.raises(confluent_kafka.KafkaException):
        client.list_topics(timeout=1.0)
    acknowledged = threading.Event()
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.address})
    producer.produce(topic, b"meanwhile", on_delivery=lambda error, _: acknowledged.set() if error is None else None)
    assert producer.flush(1.0) == 1
    assert not acknowledged.is_set()

    broker.resume()
    assert producer.flush(SOON) == 0
    assert acknowledged.is_set()
    assert consume(broker, topic, 2) == [b"before", b"meanwhile"]


@pytest.mark.slow
def test_paused_broker_can_be_stopped_and_killed(own_kafka: OwnKafka) -> None:
    broker = own_kafka()
    broker.pause()
    broker.stop()
    assert not broker.running
    broker.start().pause()
    broker.kill()
    assert not broker.running


@pytest.mark.slow
def test_settings_of_ones_own(own_kafka: OwnKafka) -> None:
    broker = own_kafka({"auto.create.topics.enable": "true"})
    produce(broker, "made-by-writing-to-it", [b"x"])


@pytest.mark.slow
def test_broker_that_does_not_start_says_why(own_kafka: OwnKafka, kafka_jars: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)storage was not formatted:.*num\.partitions"):
        own_kafka({"num.partitions": "many"})
    broker = Broker(tmp_path / "kafka", kafka_jars)
    host, _, port = broker.address.rpartition(":")
    with socket.create_server((host, int(port))):
        with pytest.raises(AssertionError, match=r"(?s)did not start, it ended with code 1:.*Address already in use"):
            broker.start()
    assert not broker.running


def test_broker_does_not_outlive_the_tests() -> None:
    code = (
        "import os, subprocess; from tests.kafka_broker import _guard; process = subprocess.Popen(['sleep', '600']);"
        "_guard(process); print(process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT, timeout=SOON, check=False)
    assert done.returncode == -9
    assert until(lambda: not alive(int(done.stdout)), SOON)


def alive(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# ---------------------------------------------------------------- what is missing


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with no programs and no jars; returns the directory of its programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("TOCSIN_TEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TOCSIN_TEST_KAFKA", raising=False)
    return programs


def install(programs: Path, name: str, script: str) -> None:
    """Put a program on the path."""
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(0o755)


def install_java(programs: Path, version: str) -> None:
    """Put a Java on the path."""
    install(programs, "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")


def test_missing_java_is_named(bare: Path) -> None:
    assert missing() == (
        "There is no Java to run Kafka: install Java 17 or newer and Maven, or set TOCSIN_TEST_KAFKA=host:port."
    )
    install(bare, "java", "echo 'Unable to locate a Java Runtime.' >&2; exit 1")
    assert "no Java" in str(missing())


@pytest.mark.parametrize(("version", "called"), [("1.8.0_412", "8"), ("11.0.27", "11"), ("16", "16")])
def test_old_java_is_named(bare: Path, version: str, called: str) -> None:
    install_java(bare, version)
    assert missing() == (
        f"Kafka needs Java 17 or newer, and this is Java {called}: install one, or set TOCSIN_TEST_KAFKA=host:port."
    )


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.7", "26-ea"])
def test_missing_maven_is_named_until_the_jars_are_there(bare: Path, version: str) -> None:
    install_java(bare, version)
    assert missing() == "There is no Maven to fetch Kafka: install it, or set TOCSIN_TEST_KAFKA=host:port."
    install(bare, "mvn", "exit 1")
    assert missing() is None
    (bare / "mvn").unlink()
    kafka_broker._kept().mkdir(parents=True)
    assert missing() is None


def test_fetching_is_all_or_nothing(bare: Path) -> None:
    fetch = 'for word; do case $word in -DoutputDirectory=*) jars=${word#*=};; esac; done; /bin/mkdir "$jars"'
    install(bare, "mvn", f"{fetch}; echo half of a jar > $jars/kafka.jar; echo no network; exit 1")
    with pytest.raises(kafka_broker.FetchError, match="no network"):
        jars()
    assert not kafka_broker._kept().exists()
    install(bare, "mvn", f"{fetch}; echo a jar > $jars/kafka.jar; echo fetched >> {bare}/count")
    several = [threading.Thread(target=jars) for _ in range(8)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert (jars() / "kafka.jar").read_text() == "a jar\n"
    assert (bare / "count").read_text() == "fetched\n"
    assert len(list(jars().parent.iterdir())) == 2  # the jars and the lock: nothing half done


def test_given_broker_is_used_but_not_touched(kafka: Broker, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_TEST_KAFKA", kafka.address)
    assert missing() is None
    broker = GivenBroker(kafka_broker.given() or "")
    produce(broker, make_topic(broker), [b"x"])
    for act in (broker.start, broker.stop, broker.kill, broker.pause, broker.resume):
        with pytest.raises(pytest.skip.Exception, match="not the test's own"):
            act()
    assert kafka.running
