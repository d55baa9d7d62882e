"""A node's store is what the messages before its positions say, whatever happened to workers and nodes on the way.

TOCSIN_CHAOS_ROUNDS=20 for many examples.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats.types import DecodeOptions
from connectors.kafka.envelope import Envelope, unpacked
from connectors.kafka.messages import MessageFormat
from connectors.kafka.settings import KafkaSettings
from connectors.live_store import LiveStore
from connectors.schema import TABLES
from flows import kafka_sinks, materialize, results
from flows.detect import ShardInput, by_shard
from flows.kafka_sinks import Outlets, RecordsPart, ShardPart, Watch
from flows.kafka_source import KafkaInput
from flows.live_detect import Published
from flows.materialize import Applied, Materializer, Message, Missing, Place, Recent
from flows.results import Begun, Records, Told
from flows.sink import Counts, Stored
from operators.clock import NEVER
from operators.events import EVENTS
from operators.live import Gone, Publication
from operators.output import MEMBERS, NO_OUTPUT, Output
from tests import oracle
from tests.connectors.changes import alert, hit, live, moved
from tests.harness import KEYS, START, TIMES, D, Row, expected, matches, ordered, rows, unnamed
from tests.stores import rows as table
from tests.strategies import Scenario, scenarios

EXAMPLES = 30 * int(os.environ.get("TOCSIN_CHAOS_ROUNDS", "0")) or 25
SETTINGS = KafkaSettings("nowhere:1", prefix="t")
FORM = MessageFormat("jsonl", DecodeOptions())
RECORDS, RESULTS = SETTINGS.records, SETTINGS.results
Tables = dict[str, dict[tuple[Any, ...], Row]]
ROLLED = (
    'SELECT epoch_us("minute"), workspace, stream, source, type, "count" FROM rollup_1m',
    "SELECT epoch_us(date_trunc('minute', time)), workspace, stream, source, type, count(*) FROM events GROUP BY ALL",
)


# ---------------------------------------------------------------- Kafka and the workers


class Bus:
    """The topics in memory. What a process has sent arrives later, some of it when the process is long dead."""

    def __init__(self) -> None:
        self.topics: dict[Place, list[results.Records | Begun | Told]] = {}

    def read(self, place: Place) -> list[results.Records | Begun | Told]:
        return self.topics.setdefault(place, [])


class Outbox:
    """A process's messages on their way, in order within a partition."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: dict[Place, list[tuple[bytes, Callable[[int], None] | None]]] = {}

    def send(self, topic: str, value: bytes | None, *, partition: int = -1, sent: Any = None, **_: Any) -> None:
        if topic in (RECORDS, RESULTS):
            self._waiting.setdefault((topic, partition), []).append((value or b"", sent))

    def deliver(self, most: int) -> None:
        """Up to so many messages of each partition arrive."""
        for place, waiting in self._waiting.items():
            for value, sent in waiting[:most]:
                topic = self._bus.read(place)
                topic.append(results.read(unpacked(value)))
                if sent is not None:
                    sent(len(topic) - 1)
            del waiting[:most]

    def flush(self) -> None:
        self.deliver(1 << 30)


@dataclass(frozen=True)
class Snapshot:
    """What a cluster goes on from: how much of each partition is read, and the states of its parts."""

    read: Mapping[str, int]
    parts: Mapping[str, bytes]
    open: frozenset[Any]  # incidents that its shards show: key and opening


NOTHING = Snapshot({}, {}, frozenset())


class Cluster:
    """All workers of a cluster. They live and die together."""

    def __init__(self, scenario: Scenario, shards: int, bus: Bus) -> None:
        self.bus, self.shards = bus, shards
        self.rows = {name: scenario.stamped(name) for name in scenario.records}
        self._scenario, self._names = scenario, sorted(scenario.records)
        self.snapshots = [NOTHING]
        self.dead: list[Outbox] = []
        self.begun: list[tuple[Snapshot, list[int]]] = []  # of what, and as which runs
        self.begin(NOTHING)

    def begin(self, snapshot: Snapshot) -> None:
        """Start from a snapshot: every partition and every shard is told once where it is."""
        self.outbox = Outbox(self.bus)
        outlets = Outlets(SETTINGS, self.outbox, None, Watch())  # type: ignore[arg-type]
        self._read = {name: snapshot.read.get(name, 0) for name in self._names}
        accepted = {name: self._next(name, len(self.rows[name])) for name in self._names}
        self._records = {
            name: RecordsPart(outlets, KafkaInput(name, ("t.log", n), FORM), n, snapshot.parts.get(name))
            for n, name in enumerate(self._names)
        }
        self._detect = [
            ShardPart(outlets, n, self._names, accepted, self._scenario.lateness, snapshot.parts.get(str(n)))
            for n in range(self.shards)
        ]
        self._queues: list[list[ShardInput]] = [[] for _ in self._detect]
        for name in self._names:
            self._give(name, [])
        for n in range(self.shards):
            self.work(n)
        self.begun.append((snapshot, [part._run for part in self._detect]))

    def feed(self, name: str, most: int) -> None:
        """The next records of a partition."""
        at = self._read[name]
        self._read[name] = min(at + most, len(self.rows[name]))
        self._give(name, self.rows[name][at : self._read[name]])

    def work(self, shard: int) -> None:
        """A shard takes all that waits for it."""
        queue, self._queues[shard] = self._queues[shard], []
        if queue:
            self._detect[shard].write_batch(queue)

    def snapshot(self, parts: int | None = None) -> None:
        """As at the end of an epoch. parts: so many of them come to it, and then the cluster dies."""
        for n in range(self.shards):
            self.work(n)
        every = {**self._records, **{str(n): shard for n, shard in enumerate(self._detect)}}
        states = {name: part.snapshot() for name, part in list(every.items())[:parts]}
        if len(states) == len(every):
            shown = [Model.of(self.bus.read((RESULTS, n))) for n in range(self.shards)]
            stands = frozenset(key for model in shown for key in model.open())
            self.snapshots.append(Snapshot(dict(self._read), states, stands))

    def crash(self) -> None:
        """All die; what they have sent may still arrive. Others go on from the last complete snapshot."""
        self.dead.append(self.outbox)
        self.begin(self.snapshots[-1])

    def end(self, at: int) -> None:
        """Everything is read, and then nothing happens up to an instant."""
        for name in self._names:
            self.feed(name, 1 << 30)
        for n in range(self.shards):
            self.work(n)
        for name in self._names:
            after = self._next(name, len(self.rows[name])) + 1
            self._records[name].write_batch([stored(name, [], after, at)])
            for n in range(self.shards):
                self._queues[n].append(ShardInput(name, at, at, False, None, at, after))
                self.work(n)
        self.outbox.flush()

    def _give(self, name: str, batch: list[Row]) -> None:
        after = self._next(name, self._read[name])
        high = self.rows[name][self._read[name] - 1]["ingested_at"] if self._read[name] else NEVER
        watermark = high - self._scenario.lateness if high != NEVER else NEVER
        self._records[name].write_batch([stored(name, batch, after, watermark)])
        claimed = self._scenario.claimed(name, batch)
        shared = by_shard(matches(claimed), self.shards) if claimed else {}
        for n in range(self.shards):
            self._queues[n].append(ShardInput(name, watermark, high, False, shared.get(n), high, after))

    def _next(self, name: str, read: int) -> int:
        return self.rows[name][read - 1]["offset"] + 1 if read else 0


def stored(name: str, batch: list[Row], after: int, watermark: int) -> Stored:
    """Classified records of a partition: some of what a row has."""
    known = ("time", "ingested_at", "at", "id", "workspace", "stream", "source", "type", "offset", "late")
    columns = {}
    for column, dtype in EVENTS.items():
        values = [row.get(column) if column in known else None for row in batch]
        if column == "partition":
            values = [name] * len(batch)
        plain = pl.Series(column, values, pl.Int64).cast(dtype) if column in {*TIMES, "at"} else None
        columns[column] = plain if plain is not None else pl.Series(column, values, dtype)
    none = {each: pl.DataFrame(schema=dict(TABLES[each].columns)) for each in ("claims", "dead_letters", "rules")}
    counts = Counts(records=max(len(batch), watermark != NEVER), events=len(batch))
    return Stored(name, after, watermark, pl.DataFrame(columns), **none, counts=counts, settings={})


# ---------------------------------------------------------------- what a reader should see


class Model:
    """A shard's rows in plain dicts."""

    def __init__(self) -> None:
        self.tables: Tables = {name: {} for name in KEYS}

    @classmethod
    def of(cls, messages: list[Any]) -> Model:
        """What its messages come to: the first of a new run voids what is not settled, older runs say nothing."""
        made, run, begins = cls(), 0, False
        for body in messages:
            if body.run > run:
                run, begins = body.run, True
            if isinstance(body, Told) and body.run == run:
                made.show(plain(body), void=begins)
                begins = False
        return made

    def show(self, told: tuple[Gone, Mapping[str, list[tuple[Any, Row]]]], *, void: bool) -> None:
        gone, output = told
        if void:
            unsettled = {key[0] for key, row in self.tables["incidents"].items() if not row["settled"]}
            for name in KEYS:
                keeps = (lambda key, row: key[0] not in unsettled) if name == "incident_tenants" else settled_row
                self.tables[name] = {key: row for key, row in self.tables[name].items() if keeps(key, row)}
        steps = dict(reversed(gone.steps))
        for name, held in self.tables.items():
            for key, row in list(held.items()):
                of = row.get("incident_id", row.get("id"))
                if (
                    of in gone.incidents
                    or (name == "transitions" and row["n"] >= steps.get(of, 1 << 40))
                    or (name == "alerts" and row["id"] in gone.alerts)
                    or (name == "incident_tenants" and of in gone.tenants)
                ):
                    del held[key]
            held.update(output[name])

    def open(self) -> list[Any]:
        """The incidents that are not over: key and opening."""
        shown = self.tables["incidents"].values()
        names = ("workspace", "rule_id", "group_key", "opened_at")
        return [tuple(row[name] for name in names) for row in shown if row["status"] != "Closed"]


def settled_row(_: Any, row: Row) -> bool:
    return bool(row["settled"])


_plain: dict[int, Any] = {}


def plain(told: Told) -> tuple[Gone, Mapping[str, list[tuple[Any, Row]]]]:
    """A publication in plain values; made once for each message."""
    if id(told) not in _plain:
        publication = told.published.publication
        output = {
            name: [(tuple(row[column] for column in KEYS[name]), row) for row in rows(frame)]
            for name, frame in publication.output.tables().items()
        }
        _plain[id(told)] = told, (publication.gone, output)
    return _plain[id(told)][1]  # type: ignore[no-any-return]


# ---------------------------------------------------------------- a node


class Node:
    """A node's store, and how far it has read."""

    def __init__(self, bus: Bus, folder: Path, cluster: Cluster) -> None:
        self.bus, self.path, self.shards = bus, folder / "store.duckdb", cluster.shards
        self.partitions = sorted(cluster.rows)
        self.places = [(RECORDS, n) for n in range(len(cluster.rows))] + [(RESULTS, n) for n in range(self.shards)]
        self.begin()

    def begin(self) -> None:
        self.store = LiveStore.open(self.path)
        self.materializer = Materializer(self.store, self.shards)
        self.at = {place: self.materializer.position(place) or 0 for place in self.places}
        self.check()

    def restart(self) -> None:
        """Killed: what was not written is lost."""
        self.store.close()
        self.begin()

    def read(self, place: int, most: int) -> None:
        """The next messages of a partition, and of those behind it one each."""
        found: list[Message] = []
        for n, each in enumerate(self.places[place % len(self.places) :]):
            at = self.at[each]
            for body in self.bus.read(each)[at : at + (1 if n else most)]:
                found.append(Message(each, self.at[each], self.at[each] + 1, body))
                self.at[each] += 1
        self.materializer.apply(found)
        self.check()

    def catch_up(self) -> None:
        """All that has arrived, in one go."""
        found = []
        for each in self.places:
            for body in self.bus.read(each)[self.at[each] :]:
                found.append(Message(each, self.at[each], self.at[each] + 1, body))
                self.at[each] += 1
        self.materializer.apply(found)
        self.check()

    def maintain(self) -> None:
        self.store.write()
        if self.materializer.forgotten != NEVER:
            self.store.maintain(self.materializer.forgotten, None)
            note("maintained")
        self.store.fold(least=1)
        self.check()

    def check(self) -> None:
        """It shows what the messages before its positions say, no more and no less."""
        seen, wanted = self.contents(), self.wanted()
        for name in KEYS:
            assert seen[name] == wanted[name], name
        records = {n: self.bus.read((RECORDS, n))[: self.at[RECORDS, n]] for n in range(len(self.partitions))}
        told = {
            (name, offset)
            for n, name in enumerate(self.partitions)
            for body in records[n]
            for offset in (body.tables["events"]["offset"].to_list() if "events" in body.tables else ())  # type: ignore[union-attr]
        }
        assert self.ask('SELECT partition, "offset" FROM events ORDER BY ALL') == sorted(told)
        rolled, counted = (self.store.cursor().execute(f"{sql} ORDER BY ALL").fetchall() for sql in ROLLED)
        assert rolled == counted  # of what is written: each event once, whoever sent it again

    def contents(self) -> dict[str, list[Row]]:
        """What a reader sees."""
        with self.store.reading() as con:
            con.execute("SET TimeZone = 'UTC'")
            frames = {name: con.sql(f"FROM {name}").pl().cast(dict(TABLES[name].columns)) for name in KEYS}
        return {name: ordered(name, rows(frame)) for name, frame in frames.items()}

    def wanted(self) -> dict[str, list[Row]]:
        models = [Model.of(self.bus.read((RESULTS, n))[: self.at[RESULTS, n]]) for n in range(self.shards)]
        return {name: ordered(name, (row for m in models for row in m.tables[name].values())) for name in KEYS}

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self.store.reading() as con:
            return con.execute(sql).fetchall()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store to start with."""
    folder = tmp_path_factory.mktemp("empty")
    LiveStore.create(folder / "store.duckdb", shards=2).close()
    return folder


@contextmanager
def scene(empty: Path, scenario: Scenario, shards: int) -> Iterator[tuple[Cluster, Node]]:
    bus = Bus()

    def tail(_: KafkaSettings, topic: str, partition: int, offset: int) -> list[Envelope]:
        return [envelope_of(body) for body in bus.read((topic, partition))[offset:]]

    with tempfile.TemporaryDirectory() as outer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_sinks, "tail", tail)
        folder = shutil.copytree(empty, Path(outer) / "data")
        _plain.clear()
        cluster = Cluster(scenario, shards, bus)
        node = Node(bus, folder, cluster)
        try:
            yield cluster, node
        finally:
            node.store.close()


def envelope_of(body: Any) -> Envelope:
    return results.of_begun(body) if isinstance(body, Begun) else results.of_told(body)


KINDS = (
    ["flow"] * 4 + ["feed"] * 2 + ["work"] * 2 + ["deliver"] * 2 + ["read"] * 3 + ["late"] * 2 + ["snapshot"] * 3
    + ["crash"] * 3 + ["stop", "write", "maintain", "maintain", "restart", "restart"]
)  # fmt: skip
DEEDS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 7)), min_size=15, max_size=45)


@given(scenarios(size=20), st.integers(1, 2), DEEDS)
@settings(max_examples=EXAMPLES)
def test_a_store_is_what_the_messages_say(
    empty: Path, scenario: Scenario, shards: int, deeds: list[tuple[str, int]]
) -> None:
    """Workers die between any two messages, some of which arrive when others have taken over; nodes die between any
    two writes. At every moment a reader sees what was told up to there, and in the end what all records come to."""
    with scene(empty, scenario, shards) as (cluster, node):
        for deed, n in deeds:
            do(cluster, node, deed, n)
        end = max(scenario.end, START) + 3 * D
        cluster.end(end)
        for outbox in cluster.dead:
            outbox.flush()
        node.catch_up()
        node.store.write()
        assert_nothing_is_missing_after_a_restart(cluster)
        assert unnamed(final(node.contents())) == unnamed(expected(oracle.run(scenario.matches, end)))
        assert_all_is_known(cluster, node)


def do(cluster: Cluster, node: Node, deed: str, n: int) -> None:
    """Something happens."""
    if deed == "flow":
        for name in cluster.rows:
            cluster.feed(name, 1 + n // 2)
        for shard in range(cluster.shards):
            cluster.work(shard)
        if n % 2:
            cluster.snapshot()
        cluster.outbox.flush()
        node.catch_up()
    elif deed == "feed":
        cluster.feed(sorted(cluster.rows)[n % len(cluster.rows)], 1 + n // 2)
    elif deed == "work":
        cluster.work(n % cluster.shards)
    elif deed == "deliver":
        cluster.outbox.deliver(1 + n)
    elif deed == "snapshot":
        cluster.snapshot()
    elif deed == "crash":
        if n >= 5:  # at the end of an epoch that does not complete
            cluster.snapshot(n - 5)
        cluster.crash()
        note("workers die")
    elif deed == "stop":
        cluster.snapshot()
        cluster.crash()
    elif deed == "late" and cluster.dead:
        cluster.dead[n % len(cluster.dead)].deliver(1 + n)
    elif deed == "read":
        node.read(n, 1 + n)
    elif deed == "write":
        node.store.write()
    elif deed == "maintain":
        node.maintain()
    elif deed == "restart":
        node.restart()
        note("a node dies")


def final(contents: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows without the column `settled`, which says so of all of them."""
    assert all(row.get("settled", True) for held in contents.values() for row in held)
    return {name: [{k: v for k, v in row.items() if k != "settled"} for row in held] for name, held in contents.items()}


def assert_nothing_is_missing_after_a_restart(cluster: Cluster) -> None:
    """With the first word of those who take over, all is there that was open where they go on from."""
    for snapshot, runs in cluster.begun:
        found: list[Any] = []
        for n, run in enumerate(runs):
            messages = cluster.bus.read((RESULTS, n))
            first = next((k for k, body in enumerate(messages) if isinstance(body, Told) and body.run == run), None)
            if first is None or any(body.run > run for body in messages[:first]):  # they died before it was heard
                break
            found += Model.of(messages[: first + 1]).open()
        else:
            assert snapshot.open <= set(found)


def assert_all_is_known(cluster: Cluster, node: Node) -> None:
    """Every record is there once, all of it is complete, and who follows the news has heard everything, once."""
    offsets = {(name, row["offset"]) for name, held in cluster.rows.items() for row in held}
    assert node.ask('SELECT partition, "offset" FROM events ORDER BY ALL') == sorted(offsets)
    for name, held in cluster.rows.items():
        assert node.materializer.committed(name) == (held[-1]["offset"] + 2 if held else 1)
    news = node.ask("SELECT kind, incident_id, name FROM feed")
    assert len(news) == len(set(news))
    steps = node.ask("SELECT 'transition', incident_id, n::VARCHAR FROM transitions")
    alerts = node.ask("SELECT 'alert', incident_id, id FROM alerts")
    assert {*steps, *alerts} <= set(news)


# ---------------------------------------------------------------- one thing at a time


@dataclass
class Bench:
    """A store and what applies messages to it. Offsets count up by themselves."""

    path: Path
    shards: int = 1
    offsets: dict[Place, Iterator[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.exists():
            LiveStore.create(self.path, self.shards).close()
        self.store = LiveStore.open(self.path)
        self.materializer = Materializer(self.store, self.shards)

    def restart(self) -> None:
        self.store.close()
        self.__post_init__()

    def take(self, *bodies: Records | Begun | Told) -> Applied:
        """Messages, together."""
        return self.materializer.apply([self.message(body) for body in bodies])

    def message(self, body: Records | Begun | Told) -> Message:
        place = (RECORDS, 0) if isinstance(body, Records) else (RESULTS, body.shard)
        first = next(self.offsets.setdefault(place, count()))
        return Message(place, first, first + 1, body)

    def ask(self, sql: str) -> list[Any]:
        with self.store.reading() as con:
            return [row[0] for row in con.execute(sql).fetchall()]

    @property
    def incidents(self) -> list[Any]:
        return self.ask("SELECT id FROM incidents ORDER BY id")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "store.duckdb")
    yield made
    made.store.close()


def records(first: int, after: int, partition: str = "p") -> Records:
    """Events of a partition."""
    batch = [{"offset": n, "time": START, "ingested_at": START, "at": START} for n in range(first, after)]
    made = stored(partition, batch, after, START)
    return Records(partition, first, after, START, {"events": made.events}, {}, Counts(records=after - first))  # type: ignore[dict-item]


def told(
    run: int, *incidents: Row, reached: int = 0, shard: int = 0, members: int = 0, gone: Gone | None = None, **more: Any
) -> Told:
    """What a shard says of some incidents."""
    output = Output(**(NO_OUTPUT.tables() | {"incidents": table("incidents", *incidents)} | more))
    belong = [(0, n, "auth_failure", "i", False) for n in range(members)]
    publication = Publication(output, gone or Gone(), pl.DataFrame(belong, MEMBERS, orient="row"), NO_OUTPUT)
    return Told(shard, run, 0, NEVER, Published(str(shard), {"p": reached}, START, publication, 1, NEVER, ("p",)))


def test_records_that_come_again_count_once(bench: Bench) -> None:
    """Whoever took over begins earlier, and cuts them otherwise."""
    first = bench.take(records(0, 3), records(0, 2), records(1, 5), records(4, 5))
    assert [(each.first, each.next) for each in first.records] == [(0, 3), (3, 5)]
    bench.restart()  # nothing of it was written
    bench.take(records(0, 3))
    bench.store.write()
    bench.restart()
    bench.take(records(0, 4), records(4, 5))
    assert bench.ask('SELECT "offset" FROM events ORDER BY ALL') == [0, 1, 2, 3, 4]


def test_missing_records_are_not_passed_over(bench: Bench) -> None:
    """A dashboard without an hour of events looks as if nothing had happened."""
    bench.take(records(0, 3))
    with pytest.raises(Missing, match="records 3 to 4 of p"):
        bench.take(records(5, 6))


def test_what_a_shard_had_not_settled_stays_until_it_says_more(bench: Bench) -> None:
    """A worker takes some seconds to come back: meanwhile its open incidents are still there."""
    bench.take(told(1, live("final", settled=True), live("a"), live("b"), reached=1))
    bench.take(Begun(0, 2))
    assert bench.incidents == ["a", "b", "final"]
    bench.store.write()
    bench.restart()
    assert bench.incidents == ["a", "b", "final"]
    bench.offsets = {(RESULTS, 0): count(bench.materializer.position((RESULTS, 0)) or 0)}
    bench.take(Begun(0, 2), told(1, live("of the dead")), told(2, live("b", 5)))
    assert bench.incidents == ["b", "final"]
    assert bench.ask("SELECT event_count FROM incidents WHERE id = 'b'") == [5]


def test_a_node_that_dies_before_a_shard_says_more_reads_again_that_it_began(bench: Bench) -> None:
    """Else what the dead worker had shown would never go."""
    bench.take(told(1, live("a")))
    bench.store.write()
    bench.take(Begun(0, 2), records(0, 1))
    bench.store.write()
    bench.restart()
    assert bench.materializer.position((RESULTS, 0)) == 1
    assert bench.materializer.position((RECORDS, 0)) == 1
    bench.offsets[RESULTS, 0] = count(1)
    bench.take(Begun(0, 2), told(2))
    assert bench.incidents == []


def test_a_node_that_dies_knows_whose_word_counts(bench: Bench) -> None:
    """What the worker says next must not take back what it said before."""
    bench.take(Begun(0, 2), told(2, live("a")))
    bench.store.write()
    bench.restart()
    bench.take(told(1, live("of the dead")), told(2, live("b")))
    assert bench.incidents == ["a", "b"]


def test_a_run_that_nobody_announced_voids_all_the_same(bench: Bench) -> None:
    """A node that begins to read behind the beginning of a run."""
    bench.take(told(1, live("a")), told(3, live("b")), told(2, live("c")))
    assert bench.incidents == ["b"]


def test_other_shards_keep_what_is_theirs(tmp_path: Path) -> None:
    """Only the shard that begins anew says everything again."""
    bench = Bench(tmp_path / "store.duckdb", shards=64)
    names = [("default", "auth_failure", row["group_key"]) for row in (live("a"), live("b"))]
    one, other = (materialize.shard_of(name, 64) for name in names)
    assert one != other
    bench.take(told(1, live("a"), shard=one), told(1, live("b"), shard=other))
    bench.take(Begun(one, 2), told(2, shard=one))
    assert bench.incidents == ["b"]
    bench.store.close()


def test_everything_of_a_void_incident_goes_but_what_is_settled(bench: Bench) -> None:
    """Its settled steps stay, since they are told once."""
    rows_of = {
        "incident_tenants": table("incident_tenants", hit("a", "acme")),
        "transitions": table("transitions", moved("a", 0, settled=True), moved("a", 1)),
        "alerts": table("alerts", alert("x", "a", settled=True), alert("y", "a")),
    }
    bench.take(told(1, live("a"), **rows_of), told(2))
    assert (bench.incidents, bench.ask("SELECT tenant FROM incident_tenants")) == ([], [])
    assert (bench.ask("SELECT n FROM transitions"), bench.ask("SELECT id FROM alerts")) == ([0], ["x"])


def test_what_is_complete_is_known_after_a_restart(tmp_path: Path) -> None:
    """A node that took its whole log for a backlog would refuse all events while the workers are away."""
    bench = Bench(tmp_path / "store.duckdb", shards=2)
    bench.take(records(0, 9), told(1, reached=7, shard=0))
    assert bench.materializer.committed("p") == 0  # the other shard has said nothing yet
    bench.take(told(1, reached=8, shard=1), told(1, reached=9, shard=1))
    assert bench.materializer.committed("p") == 7
    bench.store.write()
    bench.restart()
    assert bench.materializer.committed("p") == 7
    assert bench.materializer.committed("unknown") == 0
    bench.store.close()


def test_what_nobody_may_forget_is_what_every_shard_says(tmp_path: Path) -> None:
    """An incident moves to the past only where the shard that knows least will not touch it again."""
    bench = Bench(tmp_path / "store.duckdb", shards=2)
    said = [Told(n, 1, 0, START + n, told(1, shard=n).published) for n in range(2)]
    bench.take(said[1])
    assert bench.materializer.forgotten == NEVER
    bench.take(said[0])
    assert bench.materializer.forgotten == START
    bench.store.close()


# ---------------------------------------------------------------- who waits


def applied(*bodies: Records | Told) -> Applied:
    return Applied(
        Counts(),
        [body for body in bodies if isinstance(body, Records)],
        [body for body in bodies if isinstance(body, Told)],
    )


def offsets(recent: Recent) -> list[int]:
    return [n for frame in recent.frames("p", "events") for n in frame["offset"].to_list()]


def members(recent: Recent) -> list[int]:
    return [n for publication in recent.publications("p") for n in publication.members["offset"].to_list()]


def test_what_is_complete_is_not_kept() -> None:
    """Memory is for those who wait."""
    recent = Recent()
    recent.add(applied(records(0, 2), records(2, 4), told(1, reached=2, members=1), told(1, reached=4, members=2)))
    recent.forget(lambda partition: 2)
    assert (offsets(recent), members(recent)) == ([2, 3], [0, 1])
    recent.forget(lambda partition: 4)
    assert (offsets(recent), members(recent)) == ([], [])


@pytest.mark.parametrize("limit", ["RECENT", "RECENT_ROWS"])
def test_a_backlog_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A new node reads records for hours before the shards' results reach them."""
    monkeypatch.setattr(materialize, limit, 3)
    recent = Recent()
    for n in range(100):
        recent.add(applied(records(n, n + 1)))
        recent.forget(lambda partition: 0)
    assert offsets(recent) == [97, 98, 99]


def test_half_of_an_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a record whose incident was let go nobody may learn that it has none: it is looked up."""
    monkeypatch.setattr(materialize, "RECENT", 2)
    recent = Recent()
    recent.add(applied(records(0, 10), told(1, reached=3, members=3), told(1, reached=5), told(1, reached=7)))
    recent.forget(lambda partition: 0)
    assert (offsets(recent), members(recent)) == ([3, 4, 5, 6, 7, 8, 9], [])
    assert recent.frames("p", "dead_letters") == []


def test_the_members_of_other_partitions_are_not_mine() -> None:
    """Their offsets are other records'."""
    recent = Recent()
    recent.add(applied(told(1, reached=3, members=3)))
    assert [each.members.height for each in recent.publications("q")] == [0]
