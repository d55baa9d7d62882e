"""What state takes: bytes of memory, snapshot, messages and files, a key, an incident and an event; for docs/scale.md.

python -m benchmarks.footprint --keys 300_000
"""

from __future__ import annotations

import argparse
import gc
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.generate import events, write_lines
from connectors import rulefiles
from connectors.formats import jsonl
from connectors.formats.types import DecodeOptions
from connectors.kafka.envelope import packed
from connectors.lake_files import LakeFiles
from flows import results
from flows.detect import ShardInput, by_shard
from flows.live_detect import LiveDetect
from flows.live_progress import LiveProgress
from flows.results import Records, Told
from flows.sink import Counts, Stored
from flows.steps import classify, store
from flows.versions import RuleVersions
from operators.classify import Classifier
from operators.intake import Intake

STEP = 50_000
BEGIN = 1_770_000_000_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: of what, bytes, for how many."""

    title: str
    size: int
    count: int


def lines(count: int, kind: str) -> list[bytes]:
    """An event for each of so many sources, within five minutes."""
    at = (BEGIN + pl.int_range(0, count, eager=True) * (300_000_000 // count)).cast(pl.Datetime("us"))
    found = []
    for n, stamp in enumerate(at.dt.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_list()):
        line = '{"time":"%s","source":"service-%d","type":"%s","tenant":"t%d","ingested_at":"%s"}'
        found.append((line % (stamp, n, kind, n % 7, stamp)).encode())
    return found


def state(count: int, kind: str, what: str) -> list[Line]:
    """A shard with as many keys, an event each: memory, snapshot, and what is told of it."""
    classifier, detect, intake = Classifier(rulefiles.builtin()), _detect(), Intake("log")
    texts = lines(count, kind)
    gc.collect()
    before, told = _memory(), 0
    for n in range(0, count, STEP):
        decoded = jsonl.decode(b"\n".join([*texts[n : n + STEP], b""]), DecodeOptions())
        for batch in intake.take(decoded.frame, decoded.rejects, decoded.records):
            classified = classifier.classify(batch.frame, batch.settings, record=True)
            matches = by_shard(classified.matches, 1).get(0)
            item = ShardInput("log", batch.watermark, batch.last_at, False, matches, batch.now, batch.next_offset)
            for published in detect.on_batch([item])[0]:
                told += len(packed(results.of_told(Told(0, 1, 0, 0, published))))
    gc.collect()
    return [
        Line(f"memory, {what}", _memory() - before, count),
        Line(f"snapshot, {what}", len(detect.snapshot()), count),
        Line(f"message of results, {what}", told, count),
    ]


def records(count: int) -> list[Line]:
    """Ordinary events, classified: as a message and in the lake."""
    classifier, versions, intake = Classifier(rulefiles.builtin()), RuleVersions(rulefiles.builtin()), Intake("log")
    folder, told, raw = Path(mkdtemp()), 0, 0
    lake = LakeFiles.open(str(folder))
    for frame in events(count):
        part = folder / "lines"
        with part.open("wb") as out:
            write_lines(frame, out)
        text = part.read_bytes()
        part.unlink()
        raw += len(text)
        decoded = jsonl.decode(text, DecodeOptions())
        for batch in intake.take(decoded.frame, decoded.rejects, decoded.records):
            stored: Stored = store(*classify(classifier, True, batch), versions, events=True)
            assert stored.events is not None
            message = Records("log", 0, stored.next_offset, None, {"events": stored.events}, {}, Counts())
            told += len(packed(results.of_records(message)))
            lake.commit(lake.stage("log", "events", stored.events, stored.next_offset))
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    shutil.rmtree(folder)
    return [
        Line("the record itself, as it was sent", raw, count),
        Line("message of classified records, an event", told, count),
        Line("lake, an event", size, count),
    ]


def _detect() -> LiveDetect:
    return LiveDetect("0", ["log"], LiveProgress(), (), {}, None)


def _memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    return 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=300_000)
    options = parser.parse_args()
    jsonl.warm()
    state(2_000, "auth_failed", "warm-up")
    found = [
        *state(options.keys, "request_timeout", "a key below its threshold"),
        *state(options.keys, "auth_failed", "an open incident"),
        *records(1_000_000),
    ]
    table = Table("", "bytes", "MiB a million")
    for line in found:
        each = line.size / line.count
        table.add_row(line.title, f"{each:,.0f}", f"{each * 1e6 / (1 << 20):,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
