"""Between the tests' plain dicts and the engine's frames; and the few lines that make a test read like a timeline."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zlib import crc32

import polars as pl

from operators.events import DECODED, SEVERITIES
from operators.live import LiveShard, Publication
from operators.matches import MATCHES, Matches
from operators.output import Output
from operators.policy import Policy
from operators.rules import Anomaly, EventCount, Ratio, ThresholdSpec, ValueAvg, ValueCount, ValuePercentile, ValueSum
from operators.shard import FOREVER, Shard
from tests import oracle
from tests.oracle import Match

T = TypeVar("T")
Row = dict[str, Any]

START = int(datetime(2025, 3, 26, 8, 0, tzinfo=UTC).timestamp()) * 1_000_000
S = 1_000_000
M = 60 * S
H = 60 * M
D = 24 * H

TIMES = {"time", "ingested_at"}


def record(offset: int, time: int, ingested_at: int | None = None, **columns: Any) -> Row:
    """A decoded record with every DECODED column; times in microseconds."""
    row: Row = dict.fromkeys(DECODED) | {"workspace": "default", "stream": "integration", "source": "api"}
    return row | {"type": "request.failed", "offset": offset, "time": time, "ingested_at": ingested_at} | columns


def frame(records: Sequence[Row]) -> pl.DataFrame:
    """DECODED columns, one row a record."""
    columns = {}
    for name, dtype in DECODED.items():
        values = [r[name] for r in records]
        if name in TIMES:
            columns[name] = pl.Series(name, values, dtype=pl.Int64).cast(dtype)
        else:
            columns[name] = pl.Series(name, values, dtype=dtype)
    return pl.DataFrame(columns)


def rows(table: pl.DataFrame) -> list[Row]:
    """A frame as dicts, times in microseconds."""
    times = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.Datetime)]
    return table.with_columns(pl.col(times).dt.epoch("us")).to_dicts()


def split(items: Sequence[T], cuts: Iterable[int]) -> Iterator[Sequence[T]]:
    """`items` in pieces, cut before each index in `cuts` that lies inside; equal indices make an empty piece."""
    begin = 0
    for cut in sorted(c for c in cuts if 0 <= c <= len(items)):
        yield items[begin:cut]
        begin = cut
    yield items[begin:]


def restart(thing: T) -> T:
    """What comes back after a crash: the pickled state and nothing else."""
    restored: T = pickle.loads(pickle.dumps(thing))
    return restored


# ---------------------------------------------------------------- policies


def micros(duration: int) -> timedelta:
    """The rule models read a bare integer as seconds."""
    return timedelta(microseconds=duration)


def event_count(gte: int, window: int) -> EventCount:
    return EventCount.model_validate({"gte": gte, "window": micros(window)})


def value_count(gte: int, window: int) -> ValueCount:
    return ValueCount.model_validate({"field": "code", "gte": gte, "window": micros(window)})


def value_sum(gte: float, window: int) -> ValueSum:
    return ValueSum.model_validate({"gte": gte, "window": micros(window)})


def value_avg(gte: float, window: int, min_events: int = 1) -> ValueAvg:
    return ValueAvg.model_validate({"gte": gte, "window": micros(window), "min_events": min_events})


def value_percentile(percentile: float, gte: float, window: int, min_events: int = 1) -> ValuePercentile:
    body = {"percentile": percentile, "gte": gte, "window": micros(window), "min_events": min_events}
    return ValuePercentile.model_validate(body)


def ratio(gte: float, min_volume: int, window: int) -> Ratio:
    return Ratio.model_validate({"of": {}, "gte": gte, "min_volume": min_volume, "window": micros(window)})


def anomaly(bucket: int, window: int, level: float = 0.01, min_history: int = 1, min_events: int = 1) -> Anomaly:
    body = {"bucket": micros(bucket), "window": micros(window), "level": level}
    return Anomaly.model_validate(body | {"min_history": min_history, "min_events": min_events})


def policy(
    threshold: ThresholdSpec | None = None, rule: str = "auth_failure", version: str = "00000001", **rest: Any
) -> Policy:
    """A policy with the default lifecycle: 5, 10 and 15 minutes."""
    return Policy(**({"rule_id": rule, "version": version, "stream": "integration", "threshold": threshold} | rest))


# ---------------------------------------------------------------- matches and tables


def matches(items: Sequence[Match]) -> Matches:
    """The frame of some matches of one partition, in offset order."""
    policies = tuple(dict.fromkeys(m.policy for m in items))
    columns = {
        name: pl.Series(
            name, [policies.index(m.policy) if name == "policy" else getattr(m, name) for m in items], dtype=dtype
        )
        for name, dtype in MATCHES.items()
    }
    return Matches(pl.DataFrame(columns), policies)


KEYS = {
    "incidents": ("id",),
    "incident_tenants": ("incident_id", "tenant"),
    "transitions": ("incident_id", "n"),
    "alerts": ("id",),
}
UPSERTED = ("incidents", "incident_tenants")
TABLES = tuple(KEYS)


Table = dict[tuple[Any, ...], Row]


class Store:
    """The store's tables in memory. What replay writes is final; what a live shard publishes comes and goes."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {name: {} for name in TABLES}

    def write(self, output: Output) -> None:
        """Final rows: a step or an alert is told once."""
        for name in TABLES:
            for row in rows(getattr(output, name)):
                assert row.pop("settled", True) is True, f"{name}: settled"
                key = tuple(row[column] for column in KEYS[name])
                assert name in UPSERTED or key not in self.tables[name], f"{name}: appended twice: {row}"
                self.tables[name][key] = row

    def publish(self, publication: Publication) -> None:
        """What a reader sees change; nothing that was said to be final may change or go."""
        gone = publication.gone
        steps = dict(gone.steps)
        for name in TABLES:
            table = self.tables[name]
            for key, row in list(table.items()):
                incident = row.get("incident_id", row.get("id"))
                void = (
                    incident in gone.incidents
                    or (name == "transitions" and row["n"] >= steps.get(incident, 1 << 40))
                    or (name == "alerts" and row["id"] in gone.alerts)
                    or (name == "incident_tenants" and incident in gone.tenants)
                )
                if void:
                    assert not (name in ("transitions", "alerts") and row["settled"]), f"{name}: final, but taken back"
                    del table[key]
            for row in rows(getattr(publication.output, name)):
                key = tuple(row[column] for column in KEYS[name])
                before = table.get(key)
                if name in ("transitions", "alerts") and before is not None and before["settled"]:
                    assert before == row, f"{name}: final, but changed"
                table[key] = row

    def contents(self) -> dict[str, list[Row]]:
        """What a reader sees, without the column `settled`."""
        return {
            name: ordered(name, ({k: v for k, v in row.items() if k != "settled"} for row in table.values()))
            for name, table in self.tables.items()
        }

    def forget_open_questions(self) -> list[tuple[tuple[str, str, str], int, str]]:
        """Drop what is not settled; the incidents that were shown: key, opening, id."""
        open_ones = [row for row in self.tables["incidents"].values() if not row["settled"]]
        ids = {row["id"] for row in open_ones}
        for name, table in self.tables.items():
            for key, row in list(table.items()):
                of = row["incident_id"] if name == "incident_tenants" else None
                if of in ids or not row.get("settled", True):
                    del table[key]
        return [
            ((row["workspace"], row["rule_id"], row["group_key"]), row["opened_at"], row["id"]) for row in open_ones
        ]


def ordered(name: str, table: Iterable[Row]) -> list[Row]:
    return sorted(table, key=lambda row: tuple(row[column] for column in KEYS[name]))


def expected(tables: oracle.Tables) -> dict[str, list[Row]]:
    """The oracle's tables in the order `Store.contents` has."""
    return {name: ordered(name, getattr(tables, name)) for name in TABLES}


def unnamed(tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The tables with incidents identified by (workspace, rule, group, `opened_at`), as stores are compared (S12)."""
    names = {
        row["id"]: "/".join(str(row[column]) for column in ("workspace", "rule_id", "group_key", "opened_at"))
        for row in tables["incidents"]
    }

    def renamed(row: Row) -> Row:
        incident = row.get("incident_id", row.get("id"))
        columns = {column: row[column] for column in ("id", "incident_id") if column in row}
        return row | {column: value.replace(incident, names[incident], 1) for column, value in columns.items()}

    return {name: ordered(name, map(renamed, table)) for name, table in tables.items()}


class Plant:
    """n shards behind one door: matches go to the shard of their key, watermarks to all of them."""

    shard: type[Shard] = Shard

    def __init__(self, partitions: Iterable[str], shards: int = 1) -> None:
        self.shards: list[Shard] = [self.shard(partitions) for _ in range(shards)]
        self.store = Store()

    def add(self, partition: str, watermark: int, items: Sequence[Match]) -> None:
        for number, shard in enumerate(self.shards):
            own = [m for m in items if crc32("/".join(m.key).encode()) % len(self.shards) == number]
            shard.add(partition, watermark, matches(own) if own else None)

    def settle(self) -> None:
        for shard in self.shards:
            self.store.write(shard.settle())

    def restart(self) -> None:
        self.shards = [restart(shard) for shard in self.shards]

    def finish(self, until: int) -> dict[str, list[Row]]:
        for shard in self.shards:
            self.store.write(shard.finish(until))
        return self.store.contents()


class EagerShard(LiveShard):
    """Runs ahead up to the last instant at every step, whatever may still come before it."""

    BEHIND, STRIDE = 0, 1

    def _go_ahead(self, until: int) -> None:
        self._reach = FOREVER
        super()._go_ahead(until)


class LivePlant(Plant):
    """The same with live shards: what a reader sees is up to date after each `ask`. eager: they are EagerShards."""

    def __init__(self, partitions: Iterable[str], shards: int = 1, *, eager: bool = False) -> None:
        self.shard = EagerShard if eager else LiveShard
        self._fresh = False
        super().__init__(partitions, shards)

    def add(self, partition: str, watermark: int, items: Sequence[Match]) -> None:
        super().add(partition, watermark, items)
        self._fresh |= bool(items)

    @property
    def live(self) -> LiveShard:
        """The only shard."""
        (shard,) = self.shards
        assert isinstance(shard, LiveShard)
        return shard

    def throw_away(self) -> None:
        """Restart from a snapshot, with a store that forgets what is not final."""
        self.restart()
        announced = self.store.forget_open_questions()
        self.live.show_again(announced)

    def ask(self, until: int, *, settle: bool = False) -> dict[str, list[Row]]:
        """What a reader sees once everything up to `until` has been published."""
        for shard in self.shards:
            assert isinstance(shard, LiveShard)
            if self._fresh or not settle:
                self.store.publish(shard.publish(until))
            if settle:
                self.store.publish(shard.publish(until, settle=True))
        self._fresh = False
        return self.store.contents()


# ---------------------------------------------------------------- timelines

UNITS = {"us": 1, "s": S, "m": M, "h": H, "d": D}


def instant(text: str) -> int:
    """`08:14:22` on the tests' day, or `5m`, `1h-1us`, `5m+1us` after its 08:00."""
    if ":" in text:
        return int(datetime.fromisoformat(f"2025-03-26T{text}+00:00").timestamp() * S + 0.5)
    parts = re.findall(r"([+-]?)(\d+)(us|s|m|h|d)", text)
    assert "".join(map("".join, parts)) == text, text
    return START + sum((-1 if sign == "-" else 1) * int(n) * UNITS[unit] for sign, n, unit in parts)


def told(text: str, words: int = 3) -> list[tuple[Any, ...]]:
    """Lines of `time word … rest` as tuples; `-` is None."""
    lines = [line.split(None, words - 1) for line in text.strip().splitlines()]
    return [(instant(line[0]), *(None if word == "-" else word for word in line[1:])) for line in lines]


@dataclass(frozen=True)
class Story:
    """What came of it. A timeline entry is (at, status, reason), an alert (at, kind, tenant)."""

    tables: dict[str, list[Row]]

    @property
    def incidents(self) -> list[Row]:
        return sorted(self.tables["incidents"], key=lambda row: (row["opened_at"], row["group_key"]))

    @property
    def incident(self) -> Row:
        (only,) = self.incidents
        return only

    @property
    def transitions(self) -> list[Row]:
        return sorted(self.tables["transitions"], key=lambda row: (row["at"], row["n"]))

    @property
    def timeline(self) -> list[tuple[Any, ...]]:
        return [(row["at"], row["to_status"], row["reason"]) for row in self.transitions]

    @property
    def window_counts(self) -> list[int | None]:
        return [row["window_count"] for row in self.transitions]

    @property
    def alerts(self) -> list[tuple[Any, ...]]:
        alerts = [(row["at"], row["kind"], row["tenant"]) for row in self.tables["alerts"]]
        return sorted(alerts, key=lambda alert: (alert[0], alert[1], alert[2] or ""))

    @property
    def opened(self) -> list[int]:
        return [row["opened_at"] for row in self.incidents]

    @property
    def tenants(self) -> dict[str, int]:
        return {row["tenant"]: row["event_count"] for row in self.tables["incident_tenants"]}


def read(text: str, policies: dict[str, Policy]) -> tuple[list[Match], int]:
    """The matches a script describes and its end: the line `<time> end`, else the last match.

    A line is a time and words: `match` (default), `witness` or `resolve`; `x5` for five of them; `high`; and
    `tenant=`, `key=`, `value=`, `item=`, `severity=`, `policy=`, `source=`, `partition=`.
    """
    out: list[Match] = []
    until = None
    for line in text.strip().splitlines():
        time, *words = line.split("#")[0].split()
        fields: Row = {"at": instant(time), "partition": "p", "policy": next(iter(policies.values()))}
        times = 1
        for word in words:
            name, _, value = word.partition("=")
            if name == "end":
                times, until = 0, instant(time)
            elif name in ("witness", "resolve"):
                fields["kind"] = {"witness": oracle.WITNESS, "resolve": oracle.RESOLVE}[name]
            elif name == "high":
                fields["confidence"] = 2
            elif re.fullmatch(r"x\d+", name):
                times = int(name[1:])
            elif name == "policy":
                fields["policy"] = policies[value]
            elif name == "severity":
                fields["severity"] = SEVERITIES.index(value)
            elif name == "value":
                fields["measure"] = float(value)
            elif name == "key":
                fields["group_key"] = value
            else:
                assert name in ("tenant", "item", "source", "partition") or word == "match", word
                if value:
                    fields[name] = value
        for _ in range(times):
            out.append(Match(offset=len(out), **fields))
    return out, until if until is not None else max(m.at for m in out)


def play(text: str, rule: Policy | dict[str, Policy]) -> Story:
    """The incidents of a script, after checking that the engine tells what the oracle tells, however it is fed."""
    script, until = read(text, rule if isinstance(rule, dict) else {"": rule})
    script.sort(key=lambda m: m.at)
    wanted = expected(oracle.run(script, until))
    partitions = sorted({m.partition for m in script})

    whole = Plant(partitions)
    for name in partitions:
        own = [m for m in script if m.partition == name]
        whole.add(name, own[-1].at, sorted(own, key=lambda m: m.offset))
    assert whole.finish(until) == wanted, "in one batch"

    piecemeal = Plant(partitions)
    for each in script:
        piecemeal.add(each.partition, each.at, [each])
        piecemeal.settle()
        piecemeal.restart()
    assert piecemeal.finish(until) == wanted, "one by one, restarted after each"
    return Story(wanted)
