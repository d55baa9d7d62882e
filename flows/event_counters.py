"""What every process that classifies records counts for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from flows.sink import Counts


class EventCounters:
    """Counters under a prefix."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"{prefix}_{name}", text, registry=registry)

        self._events = counter("events", "Events processed.")
        self._matches = counter("matches", "Claims of rules on events.")
        self._late = counter("late_events", "Events that came later than the allowed lateness.")
        self._duplicates = counter("duplicate_events", "Events dropped because their id was seen within a day.")
        self._dead = counter("dead_letters", "Records that could not be used.")

    def add(self, counts: Counts) -> None:
        """Count some records."""
        self._events.inc(counts.events)
        self._matches.inc(counts.matches)
        self._late.inc(counts.late)
        self._duplicates.inc(counts.duplicates)
        self._dead.inc(counts.dead_letters)
