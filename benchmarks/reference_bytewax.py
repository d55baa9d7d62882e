"""The same job as a Bytewax program the documentation would teach: an event at a time, state by key, nothing stored.

It takes events in the order of the file, so only a file in order of `time` gives the incidents of the others.
`orjson` parses a line, dictionaries classify it, `stateful_map` keeps a deque of times and the current incident for
each (workspace, rule, source) and emits an incident when it opens. The emitted object is the one the state goes on
updating, so that the sink can write the final incidents at the end without an emission an event.

    python -m benchmarks.reference_bytewax bench-data/events.jsonl --out bench-data/bytewax.jsonl
"""

from __future__ import annotations

import argparse
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
from bytewax._bytewax import cli_main
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from benchmarks.patterns import CLOSE, COOLDOWN, PATTERNS, RECOVERY

BY_TYPE = {kind: index for index, pattern in reversed(list(enumerate(PATTERNS))) for kind in pattern.types}
BY_CODE = {code: index for index, pattern in reversed(list(enumerate(PATTERNS))) for code in pattern.codes}
NO_PATTERN = len(PATTERNS)

WINDOWS = [timedelta(seconds=pattern.window) for pattern in PATTERNS]
CLOSED = timedelta(seconds=RECOVERY + CLOSE)
FORGOTTEN = timedelta(seconds=RECOVERY + CLOSE + COOLDOWN)

Match = tuple[int, str, str, datetime]  # index of the pattern, workspace, source, time


@dataclass(slots=True)
class Incident:
    """One episode of a key."""

    workspace: str
    rule_id: str
    source: str
    opened_at: datetime
    first_event_at: datetime
    last_event_at: datetime
    event_count: int
    reopen_count: int = 0


@dataclass(slots=True)
class Key:
    """What is remembered of a key: the matches in the window, and the incident while there is one."""

    recent: deque[datetime] = field(default_factory=deque)
    incident: Incident | None = None


def classify(line: str) -> Match | None:
    """The match of a line, if a pattern claims it."""
    event = orjson.loads(line)
    index = BY_TYPE.get(event["eventType"], NO_PATTERN)
    code = event.get("errorCode")
    if code is not None:
        index = min(index, BY_CODE.get(code.lower(), NO_PATTERN))
    if index == NO_PATTERN:
        return None
    return index, event["workspace"], event["integrationKey"], datetime.fromisoformat(event["time"])


def key_of(match: Match) -> str:
    return f"{match[1]}/{match[0]}/{match[2]}"


def advance(key: Key | None, match: Match) -> tuple[Key, Incident | None]:
    """The key after one more match; the incident if it just opened."""
    key = key or Key()
    index, workspace, source, now = match
    incident = key.incident
    if incident is not None:
        gap = now - incident.last_event_at
        if gap < FORGOTTEN:
            incident.reopen_count += gap >= CLOSED
            incident.event_count += 1
            incident.last_event_at = now
            return key, None
        key.incident = None
    pattern = PATTERNS[index]
    recent = key.recent
    recent.append(now)
    while recent[0] <= now - WINDOWS[index] and len(recent) > 1:
        recent.popleft()
    if len(recent) < pattern.threshold:
        return key, None
    key.incident = Incident(workspace, pattern.id, source, now, recent[0], now, len(recent))
    key.recent = deque()
    return key, key.incident


class IncidentSink(DynamicSink[Incident]):
    """Collects what opened; written when the input has ended."""

    def __init__(self) -> None:
        self.opened: list[Incident] = []

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> StatelessSinkPartition[Incident]:
        opened = self.opened

        class Partition(StatelessSinkPartition[Incident]):
            def write_batch(self, items: list[Incident]) -> None:
                opened.extend(items)

        return Partition()


def build(file: Path, sink: IncidentSink) -> Dataflow:
    flow = Dataflow("reference")
    lines = op.input("lines", flow, FileSource(file))
    matches = op.filter_map("classify", lines, classify)
    keyed = op.key_on("key", matches, key_of)
    steps = op.stateful_map("advance", keyed, advance)
    opened = op.filter_map("opened", op.key_rm("unkey", steps), _as_is)
    op.output("incidents", opened, sink)
    return flow


def _as_is(incident: Incident | None) -> Incident | None:
    return incident


def _row(incident: Incident) -> dict[str, Any]:
    return {name: getattr(incident, name) for name in Incident.__slots__}


def main() -> None:
    parser = argparse.ArgumentParser(description="Incidents of a JSON lines file by a per-event Bytewax dataflow.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines")
    options = parser.parse_args()
    sink = IncidentSink()
    cli_main(build(options.file, sink))  # type: ignore[no-untyped-call]
    with options.out.open("wb") as out:
        for incident in sink.opened:
            out.write(orjson.dumps(_row(incident), option=orjson.OPT_APPEND_NEWLINE))
    print(f"{len(sink.opened):,} incidents")


if __name__ == "__main__":
    main()
