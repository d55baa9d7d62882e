"""The dataflow (DESIGN section 5), the same for one worker and for many.

records ─► classify ─┬─► events, dead letters ─────────┐
                     └─► shard ─► detect ──────────────┴─► store
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event as Flag

import bytewax.operators as op
import polars as pl
from bytewax.dataflow import Dataflow

from connectors import rulefiles
from connectors.formats.types import DecodeOptions
from flows.board import Board
from flows.detect import Detect, ShardInput, by_shard
from flows.plan import Plan
from flows.sink import STORE, Counts, Stored, StoreSink
from flows.source import FileSource
from flows.versions import RuleVersions
from operators.classify import Classified, Classifier
from operators.events import DEAD_LETTERS, DECODED, EVENTS
from operators.intake import Batch
from operators.rules import Rule

# All but the costly one: a `configure` record may turn a rule's threshold to any of them.
_CHEAP = frozenset(DECODED) - {"attributes"}


def rules_of(plan: Plan) -> tuple[Rule, ...]:
    """The rules of a plan. Raises RuleError."""
    return rulefiles.load(plan.rules, with_builtin=plan.builtin)


def build(plan: Plan, data: Path, board: Board, stop: Flag, *, resumed: bool) -> Dataflow:
    """The dataflow of a plan into a data directory. resumed: records may come again."""
    classifier = Classifier(rules_of(plan))
    options = DecodeOptions(
        workspace=plan.workspace,
        stream=plan.stream,
        columns=frozenset(DECODED) if plan.events else _CHEAP | classifier.columns,
        mapping=plan.mapping,
        year=plan.year,
    )
    names = [item.name for item in plan.inputs]
    flow = Dataflow("tocsin")
    batches = op.input("records", flow, FileSource(plan, options, board, stop))
    classified = op.map("classify", batches, partial(_classify, classifier, plan.events))
    versions = RuleVersions(classifier.rules)
    shares = op.flat_map("shard", classified, partial(_shares, plan.shards))
    detected = op.stateful_batch("detect", shares, lambda state: Detect(names, plan.until, plan.drain, state))
    outputs = op.map("settled", detected, lambda pair: (STORE, pair[1]))
    stored = op.map("stored", classified, lambda pair: (STORE, _stored(*pair, versions, events=plan.events)))
    op.output(
        "store", op.merge("all", stored, outputs), StoreSink(data, repeating=resumed, publish_every=plan.publish_every)
    )
    return flow


def _classify(classifier: Classifier, events: bool, batch: Batch) -> tuple[Batch, Classified]:
    return batch, classifier.classify(batch.frame, batch.settings, record=events)


def _shares(shards: int, pair: tuple[Batch, Classified]) -> Iterable[tuple[str, ShardInput]]:
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


def _stored(batch: Batch, classified: Classified, versions: RuleVersions, *, events: bool) -> Stored:
    """What the store gets of a batch, in the columns of its tables."""
    letters = batch.dead_letters
    if classified.rejects.height:
        letters = pl.concat([letters, _unusable(batch, classified.rejects)])
    partition = pl.lit(batch.partition).alias("partition")
    rows = None
    if events:
        # An id that the producer did not give stays null: the store's view spells the position out.
        rows = classified.events.with_columns(partition).select(EVENTS.keys())
    count = classified.events.height
    counts = Counts(
        events=count,
        matches=int((classified.matches.frame["kind"] == 0).sum()),
        late=int(classified.events["late"].sum() or 0) if count else 0,
        duplicates=batch.duplicates,
        dead_letters=letters.height,
    )
    # A command that names no rule is in the frame already.
    beside = batch.duplicates + batch.aside + batch.dead_letters.height
    counts = replace(counts, records=batch.frame.height + beside)
    claims = classified.claims.with_columns(partition)
    rules = versions.told(batch.settings)
    return Stored(batch.partition, batch.next_offset, batch.watermark, rows, claims, letters, rules, counts)


def _unusable(batch: Batch, rejects: pl.DataFrame) -> pl.DataFrame:
    """Commands that name no rule, as dead letters."""
    times = batch.frame.select("offset", at="ingested_at")
    rows = rejects.join(times, on="offset", how="left").with_columns(partition=pl.lit(batch.partition))
    return rows.select(DEAD_LETTERS.keys())
