"""What workers send: results, dead letters, ticks.

Guarantee: when `flush` returns, everything sent before is on all in-sync replicas, in order within a partition. Kafka
may be away for as long as it likes meanwhile: nothing is given up. What it refuses for good is an error of the next
call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException, Message, Producer

from connectors.kafka.settings import MESSAGE_BYTES, KafkaError, KafkaSettings
from connectors.kafka.topics import connected

Headers = list[tuple[str, str | bytes | None]]


class Outbox:
    """A producer for several senders. All methods are safe in any thread."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Connects by itself, sooner or later. Raises KafkaError where the options make no sense."""
        self._error: str | None = None
        self._producer = connected(
            Producer,
            settings,
            acks="all",
            enable_idempotence=True,
            message_timeout_ms=0,
            linger_ms=settings.options.get("linger.ms", "2"),
            compression_type=settings.options.get("compression.type", "lz4"),
            message_max_bytes=str(MESSAGE_BYTES),
            queue_buffering_max_kbytes=str(256 << 10),
            error_cb=self._note,
        )
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka outbox", daemon=True)
        self._thread.start()

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = -1,
        headers: Headers | None = None,
        sent: Callable[[int], None] | None = None,
    ) -> None:
        """Send a message; returns at once, unless too much waits. sent: told its offset. Raises KafkaError."""
        self._check()

        def delivered(error: Code | None, message: Message) -> None:
            if error is not None:
                self._error = f"Kafka refused a message for {topic}: {error.str()}"
            elif sent is not None:
                sent(message.offset() or 0)

        while True:
            try:
                self._producer.produce(topic, value, key, partition, on_delivery=delivered, headers=headers or [])
                return
            except BufferError:
                self._producer.poll(0.05)
                self._check()
            except KafkaException as wrong:
                raise KafkaError(f"Kafka refused a message for {topic}: {wrong.args[0].str()}") from None

    def flush(self) -> None:
        """Wait until everything is on its way no more. Raises KafkaError."""
        while self._producer.flush(0.5):
            self._check()
        self._check()

    def close(self) -> None:
        """Let go of it; what was not flushed may be lost."""
        self._closed.set()
        self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise KafkaError(self._error)

    def _note(self, error: Code) -> None:
        if error.fatal():
            self._error = f"Kafka: {error.str()}"

    def _poll(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(0.1)
