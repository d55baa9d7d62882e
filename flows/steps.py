"""The steps between source and sink, the same in replay and live: plain functions of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import polars as pl

from flows.detect import ShardInput, by_shard
from flows.sink import Counts, Stored
from flows.versions import RuleVersions
from operators.classify import CLAIMS, Classified, Classifier
from operators.events import DEAD_LETTERS, EVENTS
from operators.intake import Batch
from operators.matches import MATCH


def classify(classifier: Classifier, events: bool, batch: Batch) -> tuple[Batch, Classified]:
    """A batch with what its rules claim; events: with what the store says of each event."""
    return batch, classifier.classify(batch.frame, batch.settings, record=events)


def share(shards: int, pair: tuple[Batch, Classified]) -> Iterable[tuple[str, ShardInput]]:
    """Every shard's part of a batch; those without matches learn the watermark."""
    batch, classified = pair
    parts = by_shard(classified.matches, shards)
    for n in range(shards):
        yield (
            str(n),
            ShardInput(
                batch.partition, batch.watermark, batch.last_at, batch.ended, parts.get(n), batch.now, batch.next_offset
            ),
        )


def store(batch: Batch, classified: Classified, versions: RuleVersions, *, events: bool) -> Stored:
    """What the store gets of a batch, in the columns of its tables."""
    letters = batch.dead_letters
    if classified.rejects.height:
        letters = pl.concat([letters, _unusable(batch, classified.rejects)])
    # An id that the producer did not give stays null: the store's view spells the position out.
    rows = _in_columns(classified.events, batch.partition, EVENTS) if events else None
    count = classified.events.height
    counts = Counts(
        events=count,
        matches=int((classified.matches.rows["kind"] == MATCH).sum()),
        late=int(classified.events["late"].sum() or 0) if count else 0,
        duplicates=batch.duplicates,
        dead_letters=letters.height,
    )
    # A command that names no rule is in the frame already.
    beside = batch.duplicates + batch.aside + batch.dead_letters.height
    counts = replace(counts, records=batch.frame.height + beside)
    claims = _in_columns(classified.claims, batch.partition, [*CLAIMS, "partition"])
    rules = versions.told(batch.settings)
    return Stored(
        batch.partition,
        batch.next_offset,
        batch.watermark,
        rows,
        claims,
        letters,
        rules,
        counts,
        batch.settings,
        batch.configurations,
    )


def _in_columns(frame: pl.DataFrame, partition: str, columns: Iterable[str]) -> pl.DataFrame:
    """These columns of a frame, `partition` the same in all rows."""
    whose = pl.Series("partition", [partition]).new_from_index(0, frame.height)
    return pl.DataFrame([whose if name == "partition" else frame.get_column(name) for name in columns])


def _unusable(batch: Batch, rejects: pl.DataFrame) -> pl.DataFrame:
    """Commands that name no rule, as dead letters."""
    times = batch.frame.select("offset", at="ingested_at")
    rows = rejects.join(times, on="offset", how="left").with_columns(partition=pl.lit(batch.partition))
    return rows.select(DEAD_LETTERS.keys())
