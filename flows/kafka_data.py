"""What a cluster goes on from: its topics and its recovery directory, and whether they belong together.

Everything follows from the log. Where the two do not fit, the worker refuses with a sentence; `rebuild` throws away all
that was derived, and the cluster makes it anew from the log.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytewax._bytewax import init_db_dir

from connectors.kafka import topics as settings_of
from connectors.kafka.settings import KafkaError, KafkaSettings
from connectors.kafka.topics import Topic, Topics
from connectors.lake_files import LakeFiles
from flows.live_data import version

if TYPE_CHECKING:
    from flows.kafka_worker import WorkerOptions

CLUSTER_FILE = "cluster.json"
_PATIENCE = 120.0  # seconds that other workers wait for the first one


class Refused(KafkaError):
    """The worker must not start like this, now or later."""


def prepare(options: WorkerOptions, topics: Topics, index: int) -> list[Topic]:
    """The topics to read. The first worker makes what is missing, the others wait for it. Raises KafkaError."""
    if index:
        _wait(options.recovery)
    log = _topic(topics, options.kafka.log, options.partitions, settings_of.LOG, make=index == 0)
    foreign = [_foreign(topics, each.topic) for each in options.foreign]
    inputs = [log, *foreign]
    partitions = sum(topic.partitions for topic in inputs)
    records = _topic(topics, options.kafka.records, partitions, settings_of.RESULTS, make=index == 0)
    results = _topic(topics, options.kafka.results, options.shards, settings_of.RESULTS, make=index == 0)
    _topic(topics, options.kafka.incidents, options.shards, settings_of.INCIDENTS, make=index == 0)
    _topic(topics, options.kafka.dead_letters, 1, settings_of.DEAD_LETTERS, make=index == 0)
    if results.partitions != options.shards:
        raise Refused(
            f"{results.name} has {results.partitions} partitions, one for each shard, but --shards says "
            f"{options.shards}: start with --shards {results.partitions}, or with --rebuild for another number"
        )
    if records.partitions < partitions:
        raise Refused(
            f"{records.name} has {records.partitions} partitions for {partitions} input partitions: "
            "start with --rebuild, which makes it anew"
        )
    if index == 0 and not (options.recovery / CLUSTER_FILE).exists():
        _begin(options, topics, [log, *foreign], records, results)
    _check(options, inputs, results)
    return inputs


def rebuild(kafka: KafkaSettings, recovery: Path, lake: str | None) -> None:
    """Throw away everything that follows from the log. Raises KafkaError where that would lose something, LakeError."""
    topics = Topics(kafka)
    log = topics.find(kafka.log)
    firsts = topics.ends(log.name, log.partitions, first=True) if log is not None else []
    if log is not None and any(firsts):
        raise Refused(
            f"{log.name} does not begin with its first record any more (oldest offsets {firsts}): what came before "
            "would be lost, so nothing was rebuilt"
        )
    topics.remove([kafka.records, kafka.results, kafka.incidents])
    for path in recovery.iterdir() if recovery.exists() else ():  # the directory itself may be a mount
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if lake is not None:
        LakeFiles.open(lake).clear()


def topic_ids(topics: Topics, kafka: KafkaSettings) -> dict[str, Topic]:
    """The topics that API nodes read. Raises KafkaError where workers have not made them yet."""
    found = {name: topics.find(name) for name in (kafka.log, kafka.records, kafka.results)}
    missing = [name for name, topic in found.items() if topic is None]
    if missing:
        raise KafkaError(f"there is no topic {missing[0]} yet: start the workers first (tocsin worker)")
    return {name: topic for name, topic in found.items() if topic is not None}


def _begin(options: WorkerOptions, topics: Topics, inputs: Sequence[Topic], records: Topic, results: Topic) -> None:
    """Make an empty recovery directory, for results that have not begun. Raises Refused."""
    told = sum(topics.ends(results.name, results.partitions)) + sum(topics.ends(records.name, records.partitions))
    if told:
        raise Refused(
            f"there is no recovery state in {options.recovery}, but {results.name} has results: put the directory "
            "back, or start once with --rebuild, which makes everything anew from the log"
        )
    options.recovery.mkdir(parents=True, exist_ok=True)
    init_db_dir(options.recovery, options.shards)  # type: ignore[no-untyped-call]
    body = {
        "version": version(),
        "shards": options.shards,
        "lateness": options.lateness,
        "results": results.id,
        "topics": {topic.name: topic.id for topic in inputs},
    }
    aside = options.recovery / f"{CLUSTER_FILE}.new"
    aside.write_text(json.dumps(body, indent=1))
    aside.rename(options.recovery / CLUSTER_FILE)  # last: now the others may begin


def _check(options: WorkerOptions, inputs: Sequence[Topic], results: Topic) -> None:
    path = options.recovery / CLUSTER_FILE
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        raise Refused(f"{path} cannot be read: put the recovery directory back, or start with --rebuild") from None
    anew = "start once with --rebuild, which makes everything anew from the log"
    if known["version"] != version():
        raise Refused(f"another version of Tocsin wrote {options.recovery}: {anew}, or go on with that version")
    if known["shards"] != options.shards:
        raise Refused(
            f"{options.recovery} belongs to {known['shards']} shards, but --shards says {options.shards}: start with "
            f"--shards {known['shards']}, or {anew}"
        )
    if known["lateness"] != options.lateness:
        seconds = known["lateness"] / 1_000_000
        raise Refused(
            f"{options.recovery} was begun with --lateness {seconds:g}s, which decides what is settled: start with "
            f"that, or {anew}"
        )
    if known["results"] != results.id:
        raise Refused(f"{results.name} was made anew since {options.recovery} was begun, so they do not fit: {anew}")
    now = {topic.name: topic.id for topic in inputs}
    for name, identity in known["topics"].items():
        if name not in now:
            raise Refused(f"{options.recovery} reads the topic {name}, which is not named any more: add it, or {anew}")
        if now[name] != identity:
            raise Refused(f"{name} was made anew since {options.recovery} was begun, so its offsets do not fit: {anew}")


def _topic(topics: Topics, name: str, partitions: int, config: dict[str, str], *, make: bool) -> Topic:
    found = topics.find(name)
    if found is not None:
        return found
    if not make:
        raise KafkaError(f"there is no topic {name} yet: start the worker with --index 0")
    return topics.create(name, partitions, config)


def _foreign(topics: Topics, name: str) -> Topic:
    found = topics.find(name)
    if found is None:
        raise Refused(f"there is no topic {name}")
    return found


def _wait(recovery: Path) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not (recovery / CLUSTER_FILE).exists():
        if time.monotonic() > give_up:
            raise KafkaError(
                f"{recovery} was not begun within {_PATIENCE:.0f} s: start the worker with --index 0, and let all "
                "workers share that directory"
            )
        time.sleep(0.2)
