"""What a worker tells Prometheus; `docs/operations.md` says what each means and which to alert on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connectors.kafka.reader import Reader
from connectors.kafka.settings import KafkaError, KafkaSettings
from connectors.kafka.topics import Topics
from flows.event_counters import EventCounters
from flows.kafka_source import KafkaInput, partitions_of
from flows.kafka_worker import Watch
from flows.sink import Counts

_FRESH = 5.0  # seconds for which the ends of the topics are believed


class WorkerMetrics(Watch, Collector):
    """Counters that batches move, and gauges that are asked when somebody scrapes."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.registry = registry = CollectorRegistry()

        self._records = Counter(
            "tocsin_worker_records", "Records of the log processed, ticks and commands included.", registry=registry
        )
        self._counters = EventCounters("tocsin_worker", registry)
        self._topics = Topics(settings)
        self._began = time.time()
        self._snapshot = time.time()
        self._positions: dict[str, int] = {}
        self._inputs: Mapping[str, KafkaInput] = {}
        self._reader: Reader | None = None
        self._ends: dict[str, int] = {}
        self._asked = 0.0
        self._lock = threading.Lock()
        registry.register(self)
        ProcessCollector(registry=registry)

    def serve(self, port: int) -> int:
        """Serve them on a port of all addresses; 0 takes a free one. Returns the port. Raises OSError."""
        server, _ = start_http_server(port, registry=self.registry)
        return int(server.server_address[1])

    def records(self, counts: Counts) -> None:
        """Records are classified."""
        self._records.inc(counts.records)
        self._counters.add(counts)

    def reached(self, partition: str, offset: int) -> None:
        """A partition is processed up to here."""
        self._positions[partition] = offset

    def snapshot(self) -> None:
        """A snapshot was taken."""
        self._snapshot = time.time()

    def reader(self, reader: Reader, inputs: Mapping[str, KafkaInput]) -> None:
        """Where messages come from."""
        self._reader, self._inputs = reader, inputs

    def collect(self) -> Iterable[Metric]:
        """The gauges, now."""
        lag = GaugeMetricFamily(
            "tocsin_worker_lag_records", "Records that wait, of the partitions of this worker.", labels=["partition"]
        )
        for partition, end in sorted(self._known_ends().items()):
            lag.add_metric([partition], max(end - self._positions[partition], 0))
        yield lag
        yield GaugeMetricFamily("tocsin_worker_partitions", "Partitions that it reads.", float(len(self._positions)))
        age = max(time.time() - self._snapshot, 0.0)
        yield GaugeMetricFamily("tocsin_worker_snapshot_age_seconds", "Seconds since its last snapshot.", age)
        yield GaugeMetricFamily("tocsin_worker_start_time_seconds", "When it started, seconds since 1970.", self._began)
        yield GaugeMetricFamily(
            "tocsin_worker_new_partitions", "Partitions that are not read before a restart.", float(self._new())
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: the registry would ask for the gauges instead."""
        return ()

    def _new(self) -> int:
        seen = {} if self._reader is None else dict(self._reader.seen)
        known = partitions_of(self._inputs)
        return sum(max(count - known[topic], 0) for topic, count in seen.items())

    def _known_ends(self) -> dict[str, int]:
        """The ends of the partitions of this worker, asked for now and then."""
        with self._lock:
            if time.monotonic() - self._asked > _FRESH:
                self._asked = time.monotonic()
                with suppress(KafkaError):  # then it stays at what was known last
                    for topic, partitions in partitions_of(self._inputs).items():
                        for n, end in enumerate(self._topics.ends(topic, partitions, timeout=2.0)):
                            self._ends[f"{topic}-{n}"] = end
            return {name: end for name, end in self._ends.items() if name in self._positions}
