"""One worker of a cluster over Kafka: the dataflow of DESIGN section 7, and the state that it goes on from.

records ─► classify ─┬─► told to API nodes, lake
                     └─► shard ─► detect ─► told to API nodes, lake
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event as Flag

import bytewax.operators as op
import orjson
import structlog
from bytewax._bytewax import cluster_main
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig

from connectors import rulefiles
from connectors.formats import jsonl
from connectors.formats.types import DecodeOptions
from connectors.kafka import native
from connectors.kafka.messages import MessageFormat
from connectors.kafka.outbox import Outbox
from connectors.kafka.reader import Reader
from connectors.kafka.serdes import SERDES, RegistrySettings, deserializer
from connectors.kafka.settings import KafkaError, KafkaSettings
from connectors.kafka.topics import Topics
from connectors.lake_files import LakeFiles
from connectors.log_lines import stamp
from flows import kafka_data
from flows import kafka_sinks as sinks
from flows.kafka_sinks import Outlets, RecordsSink, ShardSink
from flows.kafka_source import KafkaInput, KafkaSource, Place
from flows.live import wall_clock
from flows.steps import classify, share, store
from flows.versions import RuleVersions
from operators.classify import Classifier
from operators.clock import DEFAULT_LATENESS
from operators.events import DEFAULT_WORKSPACE

logger = structlog.get_logger("tocsin.worker")

EPOCH = 10.0  # seconds between snapshots


@dataclass(frozen=True, slots=True)
class ForeignTopic:
    """Somebody else's topic, and how it is read: format is one of `READABLE` (connectors.kafka.messages) or SERDES."""

    topic: str
    format: str = "jsonl"
    workspace: str = DEFAULT_WORKSPACE
    stream: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    message_type: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a cluster runs with; the same for all its workers. lateness: µs. epoch: seconds. partitions: of the log's
    topic, where it has to be made."""

    kafka: KafkaSettings
    recovery: Path
    lake: str | None = None
    shards: int = 8
    partitions: int = 8
    rules: tuple[str, ...] = ()
    builtin: bool = True
    lateness: int = DEFAULT_LATENESS
    epoch: float = EPOCH
    foreign: tuple[ForeignTopic, ...] = ()
    registry: RegistrySettings | None = None


class Watch(sinks.Watch):
    """What a worker tells of itself."""

    def reader(self, reader: Reader, inputs: Mapping[str, KafkaInput]) -> None:
        """Where messages come from."""


def execute(options: WorkerOptions, index: int, addresses: list[str], stop: Flag, watch: Watch) -> None:
    """Run until `stop`. Raises KafkaError, RuleError, LakeError; whatever else it raises, it may be started again."""
    rules = rulefiles.load(options.rules, with_builtin=options.builtin)
    topics = Topics(options.kafka)
    lake = LakeFiles.open(options.lake) if options.lake is not None else None
    found = kafka_data.prepare(options, topics, index)
    classifier, versions = Classifier(rules), RuleVersions(rules)
    forms = {foreign.topic: _form(foreign, options.registry) for foreign in options.foreign}
    inputs: dict[str, KafkaInput] = {}
    upto: dict[str, int] = {}
    for topic in found:
        ours = topic.name == options.kafka.log
        form = forms.get(topic.name, MessageFormat("jsonl", DecodeOptions()))
        firsts, ends = topics.ends(topic.name, topic.partitions, first=True), topics.ends(topic.name, topic.partitions)
        for n in range(topic.partitions):
            name = f"{topic.name}-{n}"
            inputs[name] = KafkaInput(name, (topic.name, n), form, ours, firsts[n])
            upto[name] = ends[n]
    logger.info(
        "worker starts", worker=index, workers=len(addresses), topics=[topic.name for topic in found],
        partitions=len(inputs), records=sum(upto.values()), shards=options.shards,
    )  # fmt: skip
    jsonl.warm()
    native.warm()
    outbox = Outbox(options.kafka)
    made: list[Reader] = []

    def reader() -> Reader:
        made.append(Reader(options.kafka, f"{options.kafka.prefix}.workers"))
        watch.reader(made[-1], inputs)
        return made[-1]

    source = KafkaSource(inputs, reader, stop, options.lateness, tick=partial(_tick, outbox), clock=wall_clock)
    outlets = Outlets(options.kafka, outbox, lake, watch)
    flow = Dataflow("worker")
    batches = op.input("records", flow, source)
    classified = op.map("classify", batches, partial(classify, classifier, True))
    stored = op.map("stored", classified, lambda pair: (pair[0].partition, store(*pair, versions, events=True)))
    op.output("told", stored, RecordsSink(outlets, inputs))
    shares = op.flat_map("shard", classified, partial(share, options.shards))
    op.output("detect", shares, ShardSink(outlets, options.shards, list(inputs), upto, options.lateness))
    try:
        cluster_main(  # type: ignore[no-untyped-call]
            flow,
            addresses,
            index,
            epoch_interval=timedelta(seconds=options.epoch),
            recovery_config=RecoveryConfig(str(options.recovery)),  # type: ignore[no-untyped-call]
            worker_count_per_proc=1,
        )
    finally:
        for each in made:
            each.close()
        outbox.close()


def _form(foreign: ForeignTopic, registry: RegistrySettings | None) -> MessageFormat:
    options = DecodeOptions(workspace=foreign.workspace, stream=foreign.stream, mapping=foreign.mapping)
    if foreign.format not in SERDES:
        return MessageFormat(foreign.format, options, ours=False)
    if registry is None:
        raise KafkaError(f"{foreign.topic}: {foreign.format} needs a schema registry: set TOCSIN_SCHEMA_REGISTRY")
    read = deserializer(foreign.format, registry, foreign.topic, foreign.message_type)
    return MessageFormat("jsonl", options, read.lines, ours=False)


def _tick(outbox: Outbox, place: Place) -> None:
    """Tell a partition of the log that nothing else happened up to now."""
    now = stamp(wall_clock())
    topic, partition = place
    line = orjson.dumps({"record": "tick", "time": now, "workspace": "", "ingested_at": now})
    outbox.send(topic, line, partition=partition)
