"""What workers tell API nodes, as messages: classified records by partition, and what shards publish.

<prefix>.records   one partition for each of the log's: events, claims, dead letters, settings. The same whoever
                   says it, so what comes again after a crash is known by its offsets.
<prefix>.results   one partition for each shard: what readers see change. What is not settled depends on how records
                   were batched, so each start of a shard begins a new run; messages of an older run are void then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from connectors.kafka.envelope import Envelope
from connectors.schema import TABLES
from flows.live_detect import Published
from flows.sink import Counts
from flows.versions import RULES
from operators.clock import NEVER
from operators.events import CONFIGURATIONS, DEAD_LETTERS, EVENTS
from operators.frames import empty
from operators.live import Gone, Publication
from operators.matches import Name
from operators.output import ALERTS, INCIDENT_TENANTS, INCIDENTS, MEMBERS, TRANSITIONS, Output

VERSION = 2  # of the messages; raised when one of them changes
_OUTPUT = {"incidents": INCIDENTS, "incident_tenants": INCIDENT_TENANTS, "transitions": TRANSITIONS, "alerts": ALERTS}
_RECORDS = {
    "events": EVENTS,
    "claims": dict(TABLES["claims"].columns),
    "dead_letters": DEAD_LETTERS,
    "rules": RULES,
    "configurations": CONFIGURATIONS,
}


@dataclass(frozen=True, slots=True)
class Records:
    """Classified records [first, next) of a partition. settings: JSON text by workspace, where it changed."""

    partition: str
    first: int
    next: int
    watermark: int | None
    tables: Mapping[str, pl.DataFrame]
    settings: Mapping[str, str]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Begun:
    """A shard begins anew: what it published before and is not settled is void."""

    shard: int
    run: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a shard published. snapshots: how many its run rests on. forgotten: an incident closed before this instant,
    µs, will not change any more, whichever snapshot is gone on from."""

    shard: int
    run: int
    snapshots: int
    forgotten: int
    published: Published


def of_records(records: Records) -> Envelope:
    """Classified records as a message."""
    meta = {
        "kind": "records",
        "version": VERSION,
        "partition": records.partition,
        "first": records.first,
        "next": records.next,
        "watermark": records.watermark,
        "settings": dict(records.settings),
        "counts": asdict(records.counts),
    }
    return Envelope(meta, records.tables)


def of_begun(begun: Begun) -> Envelope:
    """The beginning of a run as a message."""
    return Envelope({"kind": "begun", "version": VERSION, "shard": begun.shard, "run": begun.run})


def of_told(told: Told) -> Envelope:
    """What a shard published as a message."""
    published, publication = told.published, told.published.publication
    gone = publication.gone
    meta = {
        "kind": "told",
        "version": VERSION,
        "shard": told.shard,
        "run": told.run,
        "snapshots": told.snapshots,
        "forgotten": told.forgotten,
        "reached": dict(published.reached),
        "now": published.now,
        "live": published.live,
        "partitions": published.partitions,
        "gone": [gone.incidents, gone.steps, gone.alerts, gone.tenants],
    }
    frames = {
        **publication.output.tables(),
        "members": publication.members,
        "new_transitions": publication.news.transitions,
        "new_alerts": publication.news.alerts,
    }
    return Envelope(meta, frames)


def read(envelope: Envelope) -> Records | Begun | Told:
    """The message that an envelope holds. Raises ValueError."""
    meta, frames = envelope.meta, envelope.frames
    if meta.get("version") != VERSION:
        raise ValueError(
            "another version of Tocsin wrote the results: update the workers and this node to the same one, then let a "
            "worker --rebuild"
        )
    try:
        if meta["kind"] == "records":
            tables = {name: _cast(frames[name], schema) for name, schema in _RECORDS.items() if name in frames}
            counts = Counts(**meta["counts"])
            return Records(
                meta["partition"], meta["first"], meta["next"], meta["watermark"], tables, meta["settings"], counts
            )
        if meta["kind"] == "begun":
            return Begun(meta["shard"], meta["run"])
        if meta["kind"] == "told":
            return _told(meta, frames)
    except (KeyError, TypeError, pl.exceptions.PolarsError) as wrong:
        raise ValueError(f"not a message of results: {wrong!r}") from None
    raise ValueError(f"not a message of results: its kind is {meta['kind']!r}")


def announced(told: Told) -> list[tuple[Name, int, str]]:
    """The incidents in it: key, opened at (µs), id."""
    rows = told.published.publication.output.incidents.select(
        "workspace", "rule_id", "group_key", pl.col("opened_at").to_physical(), "id"
    )
    return [((workspace, rule, group), opened, incident) for workspace, rule, group, opened, incident in rows.rows()]


def _told(meta: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> Told:
    incidents, steps, alerts, tenants = meta["gone"]
    gone = Gone(tuple(incidents), tuple((incident, n) for incident, n in steps), tuple(alerts), tuple(tenants))
    news = Output(
        empty(INCIDENTS),
        empty(INCIDENT_TENANTS),
        _frame(frames, "new_transitions", TRANSITIONS),
        _frame(frames, "new_alerts", ALERTS),
    )
    output = Output(*(_frame(frames, name, schema) for name, schema in _OUTPUT.items()))
    publication = Publication(output, gone, _frame(frames, "members", MEMBERS), news)
    names = tuple(meta["partitions"])
    published = Published(str(meta["shard"]), meta["reached"], meta["now"], publication, meta["live"], NEVER, names)
    return Told(meta["shard"], meta["run"], meta["snapshots"], meta["forgotten"], published)


def _frame(frames: Mapping[str, pl.DataFrame], name: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return _cast(frames[name], schema) if name in frames else empty(dict(schema))


def _cast(frame: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
