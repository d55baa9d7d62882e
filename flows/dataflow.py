"""The dataflow (DESIGN section 5), the same for one worker and for many.

records ─► classify ─┬─► events, dead letters ─────────┐
                     └─► shard ─► detect ──────────────┴─► store
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from threading import Event as Flag

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from connectors import rulefiles
from connectors.formats.types import DecodeOptions
from connectors.kafka.inputs import Address
from connectors.kafka.messages import MessageFormat
from connectors.kafka.reader import Reader
from flows.board import Board
from flows.detect import Detect
from flows.kafka_source import KafkaInput, KafkaSource
from flows.plan import Plan
from flows.sink import STORE, StoreSink
from flows.source import FileSource
from flows.steps import classify, share, store
from flows.versions import RuleVersions
from operators.classify import Classifier
from operators.events import DECODED
from operators.rules import Rule

# All but the costly one: a `configure` record may turn a rule's threshold to any of them.
_CHEAP = frozenset(DECODED) - {"attributes"}


def rules_of(plan: Plan) -> tuple[Rule, ...]:
    """The rules of a plan. Raises RuleError."""
    return rulefiles.load(plan.rules, with_builtin=plan.builtin)


def kafka_source(plan: Plan, options: DecodeOptions, board: Board, stop: Flag) -> KafkaSource:
    """Topics as far as they were when the replay was planned."""
    settings = Address.read(plan.inputs[0].path).settings(Path(plan.kafka_config) if plan.kafka_config else None)
    inputs: dict[str, KafkaInput] = {}
    for item in plan.inputs:
        at = Address.read(item.path)
        form = MessageFormat(item.format, options)
        place = at.topic, at.partition or 0
        inputs[item.name] = KafkaInput(item.name, place, form, begin=item.begin, end=item.size)
    return KafkaSource(inputs, lambda: Reader(settings, "tocsin.replay", ends=True), stop, plan.lateness, board=board)


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
    source = kafka_source if plan.inputs[0].is_topic else FileSource
    batches = op.input("records", flow, source(plan, options, board, stop))
    classified = op.map("classify", batches, partial(classify, classifier, plan.events))
    versions = RuleVersions(classifier.rules)
    shares = op.flat_map("shard", classified, partial(share, plan.shards))
    detected = op.stateful_batch("detect", shares, lambda state: Detect(names, plan.until, plan.drain, state))
    outputs = op.map("settled", detected, lambda pair: (STORE, pair[1]))
    stored = op.map("stored", classified, lambda pair: (STORE, store(*pair, versions, events=plan.events)))
    op.output(
        "store", op.merge("all", stored, outputs), StoreSink(data, repeating=resumed, publish_every=plan.publish_every)
    )
    return flow
