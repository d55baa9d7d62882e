"""Topics as finite inputs of a replay: `kafka://HOST:PORT/TOPIC`, as far as they are when it is planned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from connectors.kafka.messages import READABLE
from connectors.kafka.settings import KafkaError, KafkaSettings
from connectors.kafka.topics import Topics

SCHEME = "kafka://"


@dataclass(frozen=True, slots=True)
class Address:
    """A topic, or with `partition` one of its partitions."""

    servers: str
    topic: str
    partition: int | None = None

    @classmethod
    def read(cls, text: str) -> Address:
        """Read `kafka://HOST:PORT[,HOST:PORT]/TOPIC[/PARTITION]`. Raises KafkaError."""
        parts = urlsplit(text)
        topic, _, partition = parts.path.strip("/").partition("/")
        if not parts.netloc or not topic or (partition and not partition.isdigit()):
            raise KafkaError(f"{text}: kafka://HOST:PORT/TOPIC is expected")
        if "@" in parts.netloc:
            raise KafkaError("a login does not belong into the address: put it into the file of TOCSIN_KAFKA_CONFIG")
        return cls(parts.netloc, topic, int(partition) if partition else None)

    def settings(self, config: Path | None) -> KafkaSettings:
        """How to reach it. config: a file with more options. Raises KafkaError."""
        return KafkaSettings.read(self.servers, config)


@dataclass(frozen=True, slots=True)
class Planned:
    """A partition of a topic: its name, its address, its format, the offsets [begin, end) it has now."""

    name: str
    path: str
    format: str
    begin: int
    end: int


def plan(text: str, form: str | None, config: Path | None) -> list[Planned]:
    """The partitions of a topic that have messages. Raises KafkaError."""
    address = Address.read(text)
    if form is not None and form not in READABLE:
        raise KafkaError(f"a topic's format is one of {', '.join(READABLE)}, not {form!r}")
    topics = Topics(address.settings(config))
    topic = topics.find(address.topic)
    if topic is None:
        raise KafkaError(f"there is no topic {address.topic} at {address.servers}")
    begins, ends = topics.ends(topic.name, topic.partitions, first=True), topics.ends(topic.name, topic.partitions)
    found = [
        Planned(f"{topic.name}-{n}", f"{SCHEME}{address.servers}/{topic.name}/{n}", form or "jsonl", begin, end)
        for n, (begin, end) in enumerate(zip(begins, ends, strict=True))
        if end > begin
    ]
    if not found:
        raise KafkaError(f"the topic {topic.name} has no messages")
    return sorted(found, key=lambda planned: planned.name)
