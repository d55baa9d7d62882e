"""`make bench-kafka`: what reading from Kafka costs, and how it scales, in one run over a broker on this machine.

    python -m benchmarks.kafka --events 2_000_000

Compared are the same events as files and as a topic; one worker and two; few partitions and many; few keys and many. A
broker and its client share the cores with what is measured, so beside the wall clock stands the CPU time of the
measured processes, which a busy broker does not change. Nothing fails because of a time.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from zlib import crc32

import polars as pl
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from benchmarks.generate import events, write_lines
from benchmarks.measure import measure
from connectors import rulefiles
from connectors.formats import jsonl
from connectors.formats.types import DecodeOptions
from connectors.kafka.messages import MessageFormat, decode
from connectors.kafka.reader import Reader
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import LOG, Topics
from flows.cluster import free_ports
from flows.detect import by_shard
from flows.node import NodeOptions, NodePipeline
from operators.classify import Classifier
from operators.intake import Intake
from operators.shard import Shard

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "bench"
PARTITIONS = 8


@dataclass(frozen=True, slots=True)
class Line:
    """One measured thing: seconds on the wall, CPU seconds, events."""

    title: str
    wall: float
    cpu: float
    count: int


class Bench:
    """A broker, and what was measured against it."""

    def __init__(self, address: str, root: Path, count: int) -> None:
        self.address, self.root, self.count = address, root, count
        self.settings = KafkaSettings(address, prefix=PREFIX)
        self.topics = Topics(self.settings)
        self.lines: list[Line] = []

    def fill(self, topic: str, partitions: int, parts: Mapping[int, Sequence[bytes]]) -> None:
        """Make a topic with these lines."""
        self.topics.remove([topic])
        self.topics.create(topic, partitions, LOG)
        producer = Producer(self.settings.client(compression_type="lz4", linger_ms=20, batch_size=1_000_000,
                                                 queue_buffering_max_messages=1_000_000))  # fmt: skip
        for partition, lines in parts.items():
            for n in range(0, len(lines), 50_000):
                messages = [{"value": line} for line in lines[n : n + 50_000]]
                producer.produce_batch(topic, messages, partition=partition)
                producer.flush()

    def replay(self, title: str, count: int, *inputs: str) -> Line:
        """Replay without storing events."""
        data = self.root / "data"
        shutil.rmtree(data, ignore_errors=True)
        command = [sys.executable, "-m", "tocsin", "replay", *inputs, "--no-events", "--data", str(data), "--format",
                   "jsonl"]  # fmt: skip
        run = measure(command, ROOT)
        self.lines.append(Line(title, run.wall, run.cpu, count))
        return self.lines[-1]

    def steps(self, topic: str, partitions: int) -> None:
        """Consume, decode and detect apart, in this process."""
        reader = Reader(self.settings, "bench", held=4 << 30)
        cpu, began = _cpu(), time.perf_counter()
        for n in range(partitions):
            reader.begin((topic, n), 0)
        runs, left = [], self.count
        while left > 0:
            reader.wait(1.0)
            for n in range(partitions):
                while run := reader.take((topic, n), 8 << 20):
                    runs.append((n, run))
                    left -= run.count
        reader.close()
        self._note("consume alone", cpu, began)
        jsonl.warm()
        form = MessageFormat("jsonl", DecodeOptions(columns=frozenset(Classifier(rulefiles.builtin()).columns)))
        cpu, began = _cpu(), time.perf_counter()
        decoded = [(n, decode(run, form)) for n, run in runs]
        self._note("decode alone, one thread", cpu, began)
        del runs
        classifier, shard = Classifier(rulefiles.builtin()), Shard([str(n) for n in range(partitions)])
        intakes = [Intake(str(n)) for n in range(partitions)]
        cpu, began = _cpu(), time.perf_counter()
        for n, part in decoded:
            for batch in intakes[n].take(part.frame, part.rejects, part.records):
                classified = classifier.classify(batch.frame, batch.settings, record=False)
                shard.add(str(n), batch.watermark, by_shard(classified.matches, 1).get(0))
            if shard.pending > 100_000:
                shard.settle()
        shard.settle()
        self._note("classify and detect alone, one thread", cpu, began)

    def _note(self, title: str, cpu: float, began: float) -> None:
        self.lines.append(Line(title, time.perf_counter() - began, _cpu() - cpu, self.count))

    def workers(self, title: str, workers: int, shards: int, *, pinned: bool) -> Line:
        """The flow of `tocsin worker` from the first record to the last, told to API nodes."""
        data = self.root / "cluster"
        shutil.rmtree(data, ignore_errors=True)
        self.topics.remove([self.settings.results, self.settings.records, self.settings.incidents])
        ports = free_ports(2 * workers)
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports[:workers])
        processes = []
        env = {**os.environ, "TOCSIN_SUPERVISED": "1", "TOCSIN_LOG_LEVEL": "warning"}
        for n in range(workers):
            command = [sys.executable, "-m", "tocsin", "worker", "--kafka", self.address, "--prefix", PREFIX,
                       "--index", str(n), "--addresses", addresses, "--recovery", str(data), "--shards", str(shards),
                       "--metrics-port", str(ports[workers + n])]  # fmt: skip
            pin = ["taskset", "-c", str(n % 2)] if pinned else []
            processes.append(subprocess.Popen([*pin, *command], cwd=ROOT, env=env))
        try:
            wall, cpu = _until_done(ports[workers:], self.count, processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        self.lines.append(Line(title, wall, cpu, self.count))
        return self.lines[-1]


def _follow(bench: Bench) -> Line:
    """An API node that is new follows all that workers have told."""
    data = bench.root / "node"
    shutil.rmtree(data, ignore_errors=True)
    cpu, began = _cpu(), time.perf_counter()
    pipeline = NodePipeline.start(data, NodeOptions(bench.settings))
    while pipeline.health().catching_up or pipeline.store_waiting:
        time.sleep(0.02)
    line = Line("API node, from nothing", time.perf_counter() - began, _cpu() - cpu, bench.count)
    pipeline.stop()
    bench.lines.append(line)
    return line


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _until_done(ports: Sequence[int], count: int, processes: Sequence[subprocess.Popen[bytes]]) -> tuple[float, float]:
    """Seconds from the first record to the last, and the CPU seconds of the workers meanwhile."""
    began, cpu = 0.0, 0.0
    while True:
        if any(process.poll() is not None for process in processes):
            raise RuntimeError("a worker ended")
        done = sum(_metric(port, "tocsin_worker_records_total") for port in ports)
        if done and not began:
            began, cpu = time.perf_counter(), sum(map(_cpu_of, processes))
            count -= int(done)
            base = done
        if began and done - base >= count:
            return time.perf_counter() - began, sum(map(_cpu_of, processes)) - cpu
        time.sleep(0.05)


def _metric(port: int, name: str) -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.rpartition(" ")[2])
    except OSError:
        pass
    return 0.0


def _cpu_of(process: subprocess.Popen[bytes]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def by_partition(count: int, partitions: int) -> dict[int, list[bytes]]:
    """The benchmark's events, by the partition of their source; stamped, as the log's are."""
    parts: dict[int, list[bytes]] = {n: [] for n in range(partitions)}
    for frame in events(count):
        path = Path(mkdtemp()) / "lines"
        with path.open("wb") as out:
            write_lines(frame, out)
        lines = path.read_bytes().splitlines()
        shutil.rmtree(path.parent)
        stamps = frame["time"].dt.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_list()
        for line, source, stamp in zip(lines, frame["integrationKey"].to_list(), stamps, strict=True):
            home = crc32(source.encode()) % partitions
            parts[home].append(line[:-1] + b',"ingested_at":"' + stamp.encode() + b'"}')
    return parts


def with_keys(count: int, keys: int, partitions: int) -> dict[int, list[bytes]]:
    """Failures of so many sources, one after the other, over a day."""
    parts: dict[int, list[bytes]] = {n: [] for n in range(partitions)}
    numbers = pl.int_range(0, count, eager=True)
    at = 1_770_000_000_000_000 + numbers * (86_400_000_000 // count)
    stamps = at.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_list()
    for n, stamp in enumerate(stamps):
        key = (n * 2_654_435_761) % keys
        line = '{"time":"%s","source":"service-%d","type":"request_timeout","tenant":"t%d","ingested_at":"%s"}'
        parts[key % partitions].append((line % (stamp, key, n % 7, stamp)).encode())
    return parts


@contextmanager
def broker(root: Path) -> Iterator[str]:
    """A broker: the one of TOCSIN_TEST_KAFKA, or one of the tests' own."""
    given = os.environ.get("TOCSIN_TEST_KAFKA")
    if given:
        yield given
        return
    from tests.kafka_broker import Broker, jars

    made = Broker(root / "broker", jars())
    try:
        yield made.start().address
    finally:
        made.stop()


def run(bench: Bench, console: Console) -> None:
    """Measure everything."""
    count = bench.count
    parts = by_partition(count, PARTITIONS)
    files = []
    for n, lines in parts.items():
        path = bench.root / f"{PREFIX}.log-{n}"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        files.append(str(path))
    bench.fill(bench.settings.log, PARTITIONS, parts)
    del parts
    url = f"kafka://{bench.address}/{bench.settings.log}"
    file, topic = bench.replay("files, replay --no-events", count, *files), bench.replay("topic, likewise", count, url)
    again = bench.replay("files, once more", count, *files), bench.replay("topic, once more", count, url)
    bench.steps(bench.settings.log, PARTITIONS)
    one = bench.workers("one worker, on one core", 1, PARTITIONS, pinned=True)
    two = bench.workers("two workers, a core each", 2, PARTITIONS, pinned=True)
    free = bench.workers("one worker, on both cores", 1, PARTITIONS, pinned=False)
    _follow(bench)
    ratios = {
        "topic against files, wall clock (aim 0.6)": min(file.wall, again[0].wall) / min(topic.wall, again[1].wall),
        "two workers against one, a core each, wall clock (aim 1.6)": one.wall / two.wall,
        "two workers against one, CPU of the workers": one.cpu / two.cpu * 2,
        "two workers against one with both cores": free.wall / two.wall,
    }
    some = min(count, 1_000_000)
    first: Line | None = None
    for partitions in (4, 16, 64):
        bench.fill("bench.partitions", partitions, by_partition(some, partitions))
        line = bench.replay(f"{partitions} partitions", some, f"kafka://{bench.address}/bench.partitions")
        first = first or line
        ratios[f"CPU an event, {partitions} partitions against 4"] = line.cpu / first.cpu
    first = None
    for keys in (1_000, 30_000, 1_000_000):
        bench.fill("bench.keys", PARTITIONS, with_keys(some, keys, PARTITIONS))
        line = bench.replay(f"{keys:,} keys, every event a match", some, f"kafka://{bench.address}/bench.keys")
        first = first or line
        ratios[f"CPU an event, {keys:,} keys against 1,000"] = line.cpu / first.cpu
    table = Table("", "events/s", "CPU µs an event", "wall s", "CPU s")
    for line in bench.lines:
        rate, each = line.count / line.wall, 1e6 * line.cpu / line.count
        table.add_row(line.title, f"{rate:,.0f}", f"{each:.2f}", f"{line.wall:.1f}", f"{line.cpu:.1f}")
    console.print(table)
    for title, ratio in ratios.items():
        console.print(f"{title}: {ratio:.2f}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--data", type=Path, default=ROOT / "bench-data" / "kafka")
    options = parser.parse_args()
    shutil.rmtree(options.data, ignore_errors=True)
    options.data.mkdir(parents=True)
    with broker(options.data) as address:
        run(Bench(address, options.data, options.events), Console())


if __name__ == "__main__":
    main()
