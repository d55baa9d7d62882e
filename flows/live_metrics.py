"""What the live pipeline tells Prometheus; `docs/operations.md` says what each means and which to alert on."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connectors.pipeline import Health, Unavailable
from flows.event_counters import EventCounters
from flows.live_sink import Seen


class Measured(Protocol):
    """A pipeline, as far as it is measured."""

    def health(self) -> Health:
        """How it does, now."""
        ...

    def active(self) -> dict[str, int]:
        """How many incidents are not closed, by status. Raises Unavailable."""
        ...

    @property
    def store_waiting(self) -> int:
        """Events that are shown and not yet written."""
        ...

    last_write_seconds: float


_BATCHES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class LiveMetrics(Collector):
    """Counters that batches move, and gauges that are asked when somebody scrapes. Call it with each batch."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        self._counters = EventCounters("tocsin", registry)
        self._size = Histogram("tocsin_batch_records", "Records of a batch.", buckets=_BATCHES, registry=registry)
        self._seconds = Histogram(
            "tocsin_show_seconds", "Seconds to let readers see a batch.", buckets=_SECONDS, registry=registry
        )
        self._live = 0
        self.pipeline: Measured | None = None  # known only after it has started
        registry.register(self)

    def __call__(self, seen: Seen) -> None:
        """A batch is processed."""
        counts = seen.counts
        self._counters.add(counts)
        self._size.observe(counts.records)
        self._seconds.observe(seen.seconds)
        self._live = seen.live

    def collect(self) -> Iterable[Metric]:
        """The gauges, now."""
        if self.pipeline is None:
            return
        health: Health = self.pipeline.health()
        waiting, written = self.pipeline.store_waiting, self.pipeline.last_write_seconds
        for name, text, value in (
            ("flow_lag_records", "Accepted records that cannot be queried yet.", float(health.lag_records)),
            ("flow_lag_seconds", "How long the oldest of them has waited.", health.lag_seconds),
            ("flow_up", "1 while the dataflow runs.", float(health.flow is None)),
            ("log_up", "1 while the log takes records.", float(health.log is None)),
            ("store_up", "1 while the store can be written.", float(health.store is None)),
            ("live_keys", "Keys that hold settled state: open incidents, cooldowns, windows.", float(self._live)),
            ("store_waiting_events", "Events that can be queried and are not written yet.", float(waiting)),
            ("store_write_seconds", "Seconds of the last write of the store.", written),
        ):
            yield GaugeMetricFamily(f"tocsin_{name}", text, value)
        incidents = GaugeMetricFamily("tocsin_incidents", "Incidents that are not closed.", labels=["status"])
        with suppress(Unavailable):  # no figure is better than a wrong one
            for status, count in self.pipeline.active().items():
                incidents.add_metric([status], count)
        yield incidents

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: the registry would ask for the gauges instead."""
        return ()
