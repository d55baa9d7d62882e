"""Fixtures with a real Kafka broker. Where there is none to be had, the tests that ask for one skip and say why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.kafka_broker import NOT_OURS, Broker, FetchError, GivenBroker, given, jars, missing

OwnKafka = Callable[..., Broker]


@pytest.fixture(scope="session")
def kafka_jars() -> Path | None:
    """The jars of Kafka; none where a broker runs already."""
    lacking = missing()
    if lacking is not None:
        pytest.skip(lacking)
    try:
        return None if given() else jars()
    except FetchError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka(kafka_jars: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that all tests share: each with topics and groups of its own, and none disturbs it."""
    address = given()
    if address is not None:
        yield GivenBroker(address)
        return
    assert kafka_jars is not None
    broker = Broker(tmp_path_factory.mktemp("kafka"), kafka_jars)
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture
def own_kafka(kafka_jars: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnKafka]:
    """Makes started brokers that the test may kill and pause: `own_kafka({"log.segment.bytes": 1 << 20})`."""
    if kafka_jars is None:
        pytest.skip(NOT_OURS)
    made: list[Broker] = []

    def make(settings: Mapping[str, str | int] | None = None) -> Broker:
        made.append(Broker(tmp_path_factory.mktemp("kafka"), kafka_jars, settings))
        return made[-1].start()

    try:
        yield make
    finally:
        for broker in made:
            broker.kill()
