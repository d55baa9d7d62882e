"""How to reach Kafka, and what the topics are called."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

logger = logging.getLogger("tocsin.kafka")

# Not to be changed from outside, under none of their names: exactly-once rests on them.
OURS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "delivery.report.only.error",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.send.max.retries",
        "message.timeout.ms",
        "metadata.broker.list",
        "partitioner",
        "request.required.acks",
        "retries",
        "transactional.id",
    }
)
_SECRET = ("password", "secret", "pem", "token", "oauthbearer.config", "kinit.cmd")  # in names of options
MESSAGE_BYTES = 16 << 20  # of the largest message of ours


class KafkaError(Exception):
    """Kafka cannot be used as it is; the text says in one sentence why and what to do."""


class KafkaUnavailable(KafkaError):
    """Kafka does not answer now."""


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """servers: host:port, ... options: of librdkafka, passed through (TLS, SASL, tuning). prefix: of our topics."""

    servers: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    prefix: str = "tocsin"

    @classmethod
    def read(cls, servers: str, config: Path | None = None, prefix: str = "tocsin") -> KafkaSettings:
        """The settings with the options of a properties file (`key=value` a line, # begins a comment).

        Raises KafkaError.
        """
        if not servers:
            raise KafkaError("no Kafka is named: --kafka HOST:PORT, or TOCSIN_KAFKA")
        options: dict[str, str] = {}
        if config is not None:
            try:
                options = _properties(config.read_text("utf-8-sig"), config)
            except OSError as wrong:
                raise KafkaError(f"{config} cannot be read: {wrong.strerror}") from None
            except UnicodeDecodeError:
                raise KafkaError(f"{config} cannot be read: it is not valid UTF-8") from None
        return cls(servers, options, prefix)

    @property
    def log(self) -> str:
        """The topic of records: events, commands, configuration."""
        return f"{self.prefix}.log"

    @property
    def records(self) -> str:
        """The topic of classified records, for API nodes."""
        return f"{self.prefix}.records"

    @property
    def results(self) -> str:
        """The topic of what shards publish, for API nodes."""
        return f"{self.prefix}.results"

    @property
    def incidents(self) -> str:
        """The topic of settled incidents, compacted, for everybody."""
        return f"{self.prefix}.incidents"

    @property
    def dead_letters(self) -> str:
        """The topic of messages that could not be used."""
        return f"{self.prefix}.dead-letters"

    def hidden(self, text: str) -> str:
        """The text without any secret of the options."""
        secrets = {value for name, value in self.options.items() if value and any(word in name for word in _SECRET)}
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def client(self, **more: object) -> dict[str, Any]:
        """The configuration of a client; `more`: with underscores for dots, and stronger than the options."""
        return {
            "bootstrap.servers": self.servers,
            "reconnect.backoff.max.ms": 2_000,
            "log_level": 2,  # what fails and is tried again is told by those who try
            "logger": logger,
            **self.options,
            **{name if name.endswith("_cb") else name.replace("_", "."): value for name, value in more.items()},
        }


def _properties(text: str, path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name = name.strip()
        if not equals or not name:
            raise KafkaError(f"{path}:{number}: expected key=value, as security.protocol=SASL_SSL")
        if name in OURS:
            raise KafkaError(f"{path}:{number}: {name} is Tocsin's own to set: leave it out")
        found[name] = value.strip()
    return found
