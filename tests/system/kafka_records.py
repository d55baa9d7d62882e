"""Records for a log of several partitions: ten simulated hours of many services, some of which fail for a while.

Everything is seeded but the beginning. It lies ahead of the clock, so that what workers append when nothing comes
(ticks) never overtakes it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

SPAN = 10 * 3600.0  # seconds of simulated time
KINDS = ("auth_failed", "webhook_failed", "request_timeout", "connection_refused", "server_error", "rate_limited")


class Records:
    """count records over the partitions of a log; begin: the first one's time."""

    def __init__(self, count: int, partitions: int, *, seed: int, begin: datetime) -> None:
        self.count, self.partitions, self._begin = count, partitions, begin
        self._rng = random.Random(seed)
        self._sources = [f"service-{n}" for n in range(max(partitions * 8, min(400, count // 200)))]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Partition and line, in the order in which they are accepted."""
        rng, step = self._rng, SPAN / self.count
        recent: list[tuple[int, dict[str, object]]] = []
        failed = "service-0"
        for n in range(self.count):
            now = n * step
            chance = rng.random()
            if chance < 0.0005 and recent:  # somebody sends again
                partition, record = rng.choice(recent)
                yield partition, self._line(record, now)
                continue
            if chance < 0.0008:  # poison
                yield rng.randrange(self.partitions), rng.choice((b"{", b"[1]", b"\xff\xfe", b'{"time":"now"}'))
                continue
            if chance < 0.0010:
                yield rng.randrange(self.partitions), self._resolve(failed, now)
                continue
            source = rng.choice(self._sources)
            partition = crc32(source.encode()) % self.partitions
            record = self._event(source, n, now)
            failed = source if record["type"] == "auth_failed" else failed
            recent.append((partition, record))
            if len(recent) > 200:
                recent.pop(0)
            yield partition, self._line(record, now)
            if n == self.count // 2:
                for each in range(self.partitions):
                    yield each, self._configure(now)

    def all(self, cut: int | None = None) -> Any:
        """All of them, by partition; with `cut` in so many parts, one after the other."""
        parts: list[dict[int, list[bytes]]] = [{n: [] for n in range(self.partitions)} for _ in range(cut or 1)]
        for number, (partition, line) in enumerate(self):
            parts[min(number * len(parts) // self.count, len(parts) - 1)][partition].append(line)
        return parts if cut else parts[0]

    def end(self) -> dict[int, list[bytes]]:
        """A tick for each partition, two hours later: all timers have run out."""
        at = _text(self._begin + timedelta(seconds=SPAN + 7200))
        line = json.dumps({"record": "tick", "time": at, "workspace": "", "ingested_at": at}).encode()
        return {n: [line] for n in range(self.partitions)}

    def _event(self, source: str, number: int, now: float) -> dict[str, object]:
        rng = self._rng
        spell = crc32(f"{source}-{int(now // 400)}".encode()) % 100  # of some minutes, the same for all its events
        failing = spell < 6 and rng.random() < 0.7
        # Most come at once, some late, a few too late, and some clocks are ahead.
        delay = rng.choice((0.0, 0.0, 0.0, rng.uniform(0, 25), rng.uniform(25, 120) if rng.random() < 0.05 else 0.1))
        record: dict[str, object] = {
            "id": f"e{number}",
            "time": _text(self._begin + timedelta(seconds=now - delay)),
            "source": source,
            "type": KINDS[spell % len(KINDS)] if failing else "completed",
            "tenant": f"tenant-{rng.randrange(12)}",
        }
        if number % 3 == 0:  # for rollups to add up; no sum of these is exact in binary
            record["value"] = (number * 7_919 % 20_011 - 300) / 1_000
        if failing and rng.random() < 0.3:
            record["code"] = rng.choice(("401", "503", "504", "429"))
        return record

    def _resolve(self, source: str, now: float) -> bytes:
        body = {"rule_id": "auth_failure", "group_key": source}
        return self._line({"record": "resolve", "time": self._time(now), "source": source, "attributes": body}, now)

    def _configure(self, now: float) -> bytes:
        body = {"lifecycle": {"recovery": "4m", "close": "8m", "cooldown": "12m"}}
        return self._line({"record": "configure", "time": self._time(now), "attributes": body}, now)

    def _line(self, record: dict[str, object], now: float) -> bytes:
        return json.dumps({**record, "workspace": "acme", "ingested_at": self._time(now)}).encode()

    def _time(self, now: float) -> str:
        return _text(self._begin + timedelta(seconds=now))


def soon() -> datetime:
    """A beginning that no tick of today reaches."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(hours=6)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
