"""What a replay is to do, as plain data: written beside its recovery state, so that every process and every resumed run
does the same."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from connectors.kafka.inputs import SCHEME
from flows.snapshots import VERSION, OutdatedSnapshotsError
from operators.clock import DEFAULT_LATENESS
from operators.events import DEFAULT_WORKSPACE

PLAN_FILE = "plan.json"
SHARDS = 4


@dataclass(frozen=True, slots=True)
class Input:
    """A partition: its name, its file ("-" is standard input), the name of its format, its size (null: a stream).

    Of a topic's partition: its address, and instead of bytes the offsets from `begin` up to `size`.
    """

    name: str
    path: str
    format: str
    size: int | None
    begin: int = 0

    @property
    def is_topic(self) -> bool:
        """Whether it is a partition of a topic."""
        return self.path.startswith(SCHEME)


@dataclass(frozen=True, slots=True)
class Plan:
    """A replay. Times in µs since 1970, UTC; `wall` is the instant it began, against which futures are judged."""

    inputs: tuple[Input, ...]
    wall: int
    rules: tuple[str, ...] = ()  # rule files
    builtin: bool = True  # with the built-in rules
    workspace: str = DEFAULT_WORKSPACE
    stream: str | None = None
    mapping: dict[str, str] = field(default_factory=dict)
    year: int | None = None
    events: bool = True
    lateness: int = DEFAULT_LATENESS
    until: int | None = None
    drain: bool = False
    shards: int = SHARDS
    workers: int = 1
    epoch: float = 10.0  # seconds between snapshots
    kafka_config: str | None = None  # file with options of librdkafka
    publish_every: float | None = 60.0  # seconds between publications of the lake; null for only at the end

    def write(self, directory: Path) -> None:
        """Keep it in a recovery directory; the one before stays until this one is there as a whole."""
        aside = directory / (PLAN_FILE + ".new")
        aside.write_text(json.dumps({"snapshots": VERSION, **asdict(self)}, indent=1))
        os.replace(aside, directory / PLAN_FILE)

    @staticmethod
    def read(directory: Path) -> Plan:
        """The plan kept in a recovery directory. Raises FileNotFoundError, OutdatedSnapshotsError."""
        body: dict[str, Any] = json.loads((directory / PLAN_FILE).read_text())
        if body.get("snapshots") != VERSION:
            raise OutdatedSnapshotsError
        body["inputs"] = tuple(Input(**item) for item in body["inputs"])
        body["rules"] = tuple(body["rules"])
        return Plan(**{f.name: body[f.name] for f in fields(Plan) if f.name in body})
