"""The end of a partition of results, from an offset to where it ends now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka import KafkaError as Code

from connectors.kafka.envelope import PIECE_HEADER, Envelope, Pieces, unpacked
from connectors.kafka.settings import MESSAGE_BYTES, KafkaError, KafkaSettings, KafkaUnavailable
from connectors.kafka.topics import connected, reason

PATIENCE = 30.0  # seconds without a word from Kafka


def tail(settings: KafkaSettings, topic: str, partition: int, offset: int) -> list[Envelope]:
    """The messages from an offset on, up to the end as it is now. Raises KafkaError, KafkaUnavailable."""
    with _consumer(settings) as consumer:
        place = TopicPartition(topic, partition, offset)
        try:
            _, end = consumer.get_watermark_offsets(place, timeout=PATIENCE)
        except KafkaException as wrong:
            raise KafkaUnavailable(f"Kafka at {settings.servers} does not answer: {reason(wrong)}") from None
        if offset > end:
            raise KafkaError(
                f"{topic}-{partition} ends at {end:,}, but the recovery state has come to {offset:,}: the topic was "
                "made anew; start with --rebuild, which makes everything anew from the log"
            )
        found: list[Envelope] = []
        parts = Pieces()
        consumer.assign([place])
        for message in _until(consumer, offset, end):
            whole = parts.add(piece_header(message), message.value() or b"")
            if whole is not None:
                found.append(unpacked(whole))
        return found


def piece_header(message: Message) -> bytes:
    """Which piece of a message this is."""
    headers = dict(message.headers() or [])
    value = headers.get(PIECE_HEADER, b"")
    return value if isinstance(value, bytes) else str(value).encode()


def _until(consumer: Consumer, offset: int, end: int) -> Iterator[Message]:
    heard = time.monotonic()
    while offset < end:
        for message in consumer.consume(1_000, 0.5):
            error = message.error()
            if error is not None:
                if error.code() == Code._AUTO_OFFSET_RESET:
                    raise KafkaError(f"{message.topic()}: the messages to go on with are gone: start with --rebuild")
                continue
            heard = time.monotonic()
            offset = (message.offset() or 0) + 1
            if offset <= end:
                yield message
        if time.monotonic() - heard > PATIENCE:
            raise KafkaUnavailable("Kafka does not answer: what was told last cannot be read")


@contextmanager
def _consumer(settings: KafkaSettings) -> Iterator[Consumer]:
    consumer = connected(
        Consumer,
        settings,
        group_id=f"{settings.prefix}.tail",
        enable_auto_commit=False,
        auto_offset_reset="error",
        fetch_wait_max_ms="50",
        receive_message_max_bytes=str(8 * MESSAGE_BYTES),
    )
    try:
        yield consumer
    finally:
        consumer.close()
