"""The topics: made where they are missing, looked at where they are there.

Guarantee: an existing topic is never changed or emptied, except by `remove`, which `--rebuild` asks for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from connectors.kafka.settings import MESSAGE_BYTES, KafkaError, KafkaSettings, KafkaUnavailable

Client = TypeVar("Client")
PATIENCE = 10.0  # seconds for an answer
# A partition is between two leaders: for a moment, after it was made or a broker came back.
_MOVING = (
    Code.NOT_LEADER_FOR_PARTITION,
    Code.LEADER_NOT_AVAILABLE,
    Code.UNKNOWN_TOPIC_OR_PART,
    Code.FENCED_LEADER_EPOCH,
    Code.UNKNOWN_LEADER_EPOCH,
    Code._NOENT,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that is there. id: another one of the same name has another."""

    name: str
    id: str
    partitions: int


class Topics:
    """An administrator's view of Kafka."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Connects only when used. Raises KafkaError where the options make no sense."""
        self._settings = settings
        self._trouble = ""
        self._admin = self._connected()

    def find(self, name: str, timeout: float = PATIENCE) -> Topic | None:
        """A topic, None where there is none. Raises KafkaUnavailable."""
        try:
            described = self._admin.describe_topics(TopicCollection([name]), request_timeout=timeout)[name].result()
        except KafkaException as wrong:
            if wrong.args[0].code() == Code.UNKNOWN_TOPIC_OR_PART:
                return None
            raise self._unavailable(wrong) from None
        return Topic(name, str(described.topic_id), len(described.partitions))

    def ends(self, name: str, partitions: int, *, first: bool = False, timeout: float = PATIENCE) -> list[int]:
        """The next offset of each partition, or with `first` that of the oldest message. Raises KafkaUnavailable."""
        spec = OffsetSpec.earliest() if first else OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(name, n): spec for n in range(partitions)}
        give_up = time.monotonic() + timeout
        while True:
            try:
                asked = self._admin.list_offsets(wanted, request_timeout=timeout)
                found = {part.partition: future.result().offset for part, future in asked.items()}
                return [int(found[n]) for n in range(partitions)]
            except KafkaException as wrong:
                if wrong.args[0].code() not in _MOVING or time.monotonic() > give_up:
                    raise self._unavailable(wrong) from None
            # A client keeps what it knew of the leaders before a broker died, and Kafka refuses it for that.
            self._admin = self._connected()
            time.sleep(0.1)

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> Topic:
        """Make a topic, or leave the one alone that somebody made meanwhile. Raises KafkaError, KafkaUnavailable."""
        new = NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dict(config))
        try:
            self._admin.create_topics([new], request_timeout=PATIENCE)[name].result()
        except KafkaException as wrong:
            code = wrong.args[0].code()
            if code in (Code.TOPIC_AUTHORIZATION_FAILED, Code.CLUSTER_AUTHORIZATION_FAILED, Code.POLICY_VIOLATION):
                raise KafkaError(
                    f"the topic {name} is missing and may not be made: make it with {partitions} partitions"
                ) from None
            if code != Code.TOPIC_ALREADY_EXISTS:
                raise self._unavailable(wrong) from None
        return self._known(name)

    def remove(self, names: Sequence[str]) -> None:
        """Remove topics, with all that is in them, and wait until they are gone. Raises KafkaUnavailable."""
        there = [name for name in names if self.find(name) is not None]
        if not there:
            return
        for future in self._admin.delete_topics(there, request_timeout=PATIENCE).values():
            try:
                future.result()
            except KafkaException as wrong:
                if wrong.args[0].code() != Code.UNKNOWN_TOPIC_OR_PART:
                    raise self._unavailable(wrong) from None
        give_up = time.monotonic() + PATIENCE
        while any(self.find(name) is not None for name in there) and time.monotonic() < give_up:
            time.sleep(0.1)

    def _connected(self) -> AdminClient:
        return connected(AdminClient, self._settings, error_cb=self._note, socket_timeout_ms=int(PATIENCE * 1000))

    def _known(self, name: str) -> Topic:
        """A topic that was made just now: not every broker knows of it at once."""
        give_up = time.monotonic() + PATIENCE
        while (found := self.find(name)) is None:
            if time.monotonic() > give_up:
                raise KafkaUnavailable(f"the topic {name} was made, but Kafka does not know it yet: try again")
            time.sleep(0.1)
        return found

    def _note(self, error: Code) -> None:
        self._trouble = error.str()

    def _unavailable(self, wrong: KafkaException) -> KafkaUnavailable:
        self._admin.poll(0)
        because = reason(wrong)
        if wrong.args[0].code() in (Code._TIMED_OUT, Code._TRANSPORT, Code._ALL_BROKERS_DOWN) and self._trouble:
            because = self._trouble
        return KafkaUnavailable(f"Kafka at {self._settings.servers} does not answer: {because}")


# Kept for ever unless somebody says otherwise: everything else can be made again from the log.
LOG = {"retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": str(MESSAGE_BYTES + (1 << 20))}
RESULTS = LOG
INCIDENTS = {"cleanup.policy": "compact", "max.message.bytes": str(MESSAGE_BYTES + (1 << 20))}
DEAD_LETTERS = {"retention.ms": str(30 * 24 * 3_600_000)}


def connected(kind: Callable[[dict[str, Any]], Client], settings: KafkaSettings, **more: object) -> Client:
    """A client with these settings; `more` as in `KafkaSettings.client`. Raises KafkaError where they make no sense."""
    try:
        return kind(settings.client(**more))
    except (KafkaException, TypeError, ValueError) as wrong:
        because = settings.hidden(reason(wrong))
        raise KafkaError(f"the Kafka options cannot be used: {because}") from None


def reason(wrong: BaseException) -> str:
    """What Kafka's client says, without its wrapping."""
    first = wrong.args[0] if wrong.args else wrong
    return first.str() if isinstance(first, Code) else str(first)
