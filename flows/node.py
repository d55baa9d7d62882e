"""An API node: it appends what comes to the log's topic, and answers from a store of its own that follows the workers.

Any number of nodes do the same side by side. Nothing here decides anything: a node that is thrown away is made anew
from the topics.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Lock, Thread

import orjson
import structlog

from connectors import lake, rulefiles
from connectors.kafka.envelope import Pieces, unpacked
from connectors.kafka.log import Delivered, KafkaLog
from connectors.kafka.reader import Reader
from connectors.kafka.runs import MessageRun
from connectors.kafka.settings import KafkaError, KafkaSettings
from connectors.kafka.tail import piece_header
from connectors.kafka.topics import Topic, Topics
from connectors.live_store import LiveStore
from connectors.log import Appended, LogBusy, LogUnavailable
from connectors.log_lines import lines
from connectors.pipeline import Health, Outcome, Receipt, Unavailable
from flows import live_data, outcomes, results
from flows.desk import Desk, Waiter
from flows.kafka_data import topic_ids
from flows.live import RETRY, wall_clock
from flows.live_sink import MOST_WAITING, WRITE_NOW, Seen, Watch
from flows.materialize import Applied, Materializer, Message, Missing, Place, Recent
from flows.replay import ReplayError, held
from flows.serving import Serving, cause
from flows.tenants import Tenants
from operators.clock import NEVER
from operators.live import merged
from operators.rules import Rule

FEED = 10**12  # between the first numbers of two nodes' feeds; all below 2**53, for clients in JavaScript
MAINTAIN = 10.0  # seconds between clean-ups of the store
PUBLISH = 300.0  # seconds between publications of the lake
LOOK = 1.0  # seconds between looks at the ends of the topics
MANY = 100  # records from which on sending is worth a thread
PATIENCE = 60.0  # seconds at the start for Kafka and the workers to be there
SILENCE = 15.0  # seconds without progress after which the workers count as gone
TOPICS = "topics"  # in `meta`: which topics the store was made from

logger = structlog.get_logger("tocsin.pipeline")


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How a node runs. rules: those that the workers run with. most_lag: records that may wait to be processed before
    new ones are refused. rebuild: make the store anew from the topics first."""

    kafka: KafkaSettings
    rules: tuple[str, ...] = ()
    builtin: bool = True
    most_lag: int = 1_000_000
    rebuild: bool = False
    clock: Callable[[], int] = wall_clock


class NodePipeline(Serving):
    """A `connectors.pipeline.Pipeline` over Kafka. Use `start`, and `stop` in the end."""

    def __init__(
        self, data: Path, options: NodeOptions, rules: tuple[Rule, ...], topics: dict[str, Topic], held: ExitStack
    ) -> None:
        kafka = options.kafka
        self.data, self.options, self.rules = data, options, rules
        super().__init__(LiveStore.open(data / live_data.STORE_FILE))
        held.callback(lambda: self._store.close())
        self._log_topic = topics[kafka.log]
        self._log = KafkaLog(kafka, self._log_topic.partitions, options.clock)
        held.callback(self._log.close)
        self._admin = Topics(kafka)
        self._shards = topics[kafka.results].partitions
        self._places = [(name, n) for name in (kafka.records, kafka.results) for n in range(topics[name].partitions)]
        self._connect()
        held.callback(lambda: self._reader.close())
        self._desks: dict[str, Desk] = {}
        self._lines: dict[tuple[str, int], bytes] = {}  # as they are in the log, of those who wait
        self._lock = Lock()
        self._ends: dict[str, int] = {}  # of the log, as far as is known
        self._progressed = time.monotonic()
        self._behind_since: float | None = None
        self._trouble: str | None = "starting"
        self._kafka_trouble: str | None = None
        self._catching_up: dict[Place, int] = {}
        self._watchers: list[Watch] = []
        self._live: dict[int, int] = {}
        self._thread = Thread(target=self._follow, name="results", daemon=True)
        self._looker = Thread(target=self._look, name="kafka ends", daemon=True)
        self._held = held.pop_all()

    @classmethod
    def start(
        cls, data: Path, options: NodeOptions, watch: Sequence[Watch] = (), told: Flag | None = None
    ) -> NodePipeline:
        """Open a data directory, made if need be, and start. watch: told of every batch of messages. told: set when
        nobody waits for it any more.

        Raises ReplayError where another process holds it or it does not fit the topics, KafkaError, StoreError,
        RuleError.
        """
        rules = rulefiles.load(options.rules, with_builtin=options.builtin)
        topics = _known(options.kafka, told or Flag())
        with ExitStack() as stack:
            stack.enter_context(held(data))
            if options.rebuild:
                live_data.remove(data)
            live_data.check(data)
            _fit(data, options.kafka, topics)
            pipeline = cls(data, options, rules, topics, stack)
        pipeline._watchers += watch
        try:
            pipeline._begin()
        except BaseException:
            pipeline._held.close()
            raise
        for thread in (pipeline._thread, pipeline._writer, pipeline._looker):
            thread.start()
        return pipeline

    def stop(self) -> None:
        """Write what waits, close everything. What was accepted is in Kafka."""
        self._stop.set()
        for thread in (self._thread, self._looker):
            if thread.is_alive():
                thread.join()
        self._stop_writing()
        with suppress(Exception):  # what is not written comes again
            self._store.write()
            self._publish_lake()
        for desk in self._desks.values():
            desk.give_up()
        self._held.close()

    # ------------------------------------------------------------ the door

    async def submit(self, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float) -> Receipt:
        """Append records and wait for what becomes of them: see `connectors.pipeline.Pipeline`."""
        self._refuse_if_behind()
        loop = asyncio.get_running_loop()
        began = loop.time()
        delivered = await self._append(bodies, workspace)
        left = max(timeout - (loop.time() - began), 0.0)
        with self._lock:
            for partition, end in delivered.ends.items():
                name = self._partition(partition)
                self._ends[name] = max(self._ends.get(name, 0), end)
        assert delivered.first is not None
        number, offset = delivered.first
        first = self._partition(number)
        if detail:
            with self._lock:
                self._lines[first, offset] = lines(bodies[:1], workspace, self.options.clock())[0].text
            try:
                receipt = await self._wait(loop, first, offset, left, detail=True)
                others = {n: end for n, end in delivered.ends.items() if n != number}
            finally:
                with self._lock:
                    self._lines.pop((first, offset), None)
        else:
            receipt, others = None, delivered.ends
        waits = [self._wait(loop, self._partition(n), end - 1, left, detail=False) for n, end in others.items()]
        receipts = await asyncio.gather(*waits)
        done = all(each.done for each in (*receipts, *([receipt] if receipt else [])))
        return Receipt(offset, len(bodies), done, receipt.outcomes if receipt else (), first)

    def health(self) -> Health:
        """How it does, now."""
        lag = self._lag()
        waited = time.monotonic() - self._behind_since if self._behind_since is not None else 0.0
        trouble = self._trouble
        if trouble is None and lag and waited > SILENCE and time.monotonic() - self._progressed > SILENCE:
            trouble = f"the workers have said nothing for {time.monotonic() - self._progressed:.0f} s"
        return Health(
            # Who takes every node away because the workers are silent would lose what they could still accept.
            takes=self._trouble is None,
            flow=trouble,
            log=self._kafka_trouble or self._log.trouble,
            store=self._store_trouble,
            lag_records=lag,
            lag_seconds=waited if lag else 0.0,
            catching_up=sum(
                max(end - (self._materializer.position(place) or 0), 0) for place, end in self._catching_up.items()
            ),
        )

    # ------------------------------------------------------------ sending

    async def _append(self, bodies: Sequence[bytes], workspace: str) -> Delivered:
        """Append to Kafka. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        try:
            if len(bodies) == 1 and _concerns_all(bodies[0]):
                sending = self._log.append_everywhere(bodies[0], workspace)
            elif len(bodies) > MANY:
                sending = await loop.run_in_executor(None, self._log.append, bodies, workspace)
            else:
                sending = self._log.append(bodies, workspace)
            return await asyncio.wrap_future(sending)
        except LogBusy as busy:
            raise Unavailable(str(busy), busy.retry_after) from None
        except LogUnavailable as wrong:
            raise Unavailable(str(wrong), max(wrong.retry_after, 2)) from None

    def _refuse_if_behind(self) -> None:
        lag = self._lag()
        if lag > self.options.most_lag:
            raise Unavailable(f"{lag:,} accepted records wait to be processed; try again later", retry_after=2)

    async def _wait(
        self, loop: asyncio.AbstractEventLoop, partition: str, offset: int, timeout: float, *, detail: bool
    ) -> Receipt:
        """Wait until a record is processed and can be queried."""
        waiter = Waiter(loop, 1, detail)
        waiter.timer = loop.call_later(timeout, waiter.expire)
        appended: Future[Appended] = Future()
        appended.set_result(Appended(offset, 1, 0))
        self._desk(partition).wait(waiter, appended, lambda error: error)
        return await waiter.answer

    def _desk(self, partition: str) -> Desk:
        with self._lock:
            if partition not in self._desks:
                self._desks[partition] = Desk(lambda first, count: self._look_up(partition, first))
                self._desks[partition].committed(self._materializer.committed(partition), {})
            return self._desks[partition]

    def _look_up(self, partition: str, offset: int) -> tuple[Outcome, ...]:
        """The outcome of a record that is in the store. In the desk's own thread."""
        with self._lock:
            line = self._lines.get((partition, offset), b"{}")
        with self._store.reading() as con:
            return (outcomes.of_store(con, offset, line, partition),)

    def _partition(self, number: int) -> str:
        return f"{self._log_topic.name}-{number}"

    def _lag(self) -> int:
        """Records of the log that are accepted and not yet to be queried, as far as is known."""
        with self._lock:
            ends = dict(self._ends)
        lag = sum(max(end - self._materializer.committed(name), 0) for name, end in ends.items())
        if not lag:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = time.monotonic()
        return lag

    # ------------------------------------------------------------ following

    def _connect(self) -> None:
        """Go on from what the store has."""
        self._materializer = Materializer(self._store, self._shards)
        self._pieces = {place: Pieces() for place in self._places}
        self._begins: dict[Place, int] = {}
        self._recent, self._tenants = Recent(), Tenants(self._store)
        self._reader = Reader(self.options.kafka, f"{self.options.kafka.prefix}.api", headers=True)

    def _reopen(self) -> None:
        """After something failed in the middle: begin again behind what is written. Raises StoreError, KafkaError."""
        self._reader.close()
        self._store.close()
        self._store = LiveStore.open(self.data / live_data.STORE_FILE)
        self._connect()
        self._begin()

    def _begin(self) -> None:
        """Read every topic of results from where the store is."""
        for name in {name for name, _ in self._places}:
            partitions = sum(1 for topic, _ in self._places if topic == name)
            firsts, ends = self._admin.ends(name, partitions, first=True), self._admin.ends(name, partitions)
            for n in range(partitions):
                place, at = (name, n), self._materializer.position((name, n))
                if at is None and firsts[n] > 0:
                    raise KafkaError(
                        f"{name}-{n} begins with message {firsts[n]:,}: what came before is gone, so a new node cannot "
                        "be made from it; copy the data directory of another node, or let a worker --rebuild"
                    )
                self._reader.begin(place, firsts[n] if at is None else at)
                if ends[n] > (at or 0):
                    self._catching_up[place] = ends[n]

    def _follow(self) -> None:
        """Apply messages as they come; where that fails (a full disk, for one), begin again. In a thread of its own."""
        pause = 0.0
        while not self._stop.is_set():
            try:
                if pause:
                    self._reopen()
                self._follow_on()
                return
            except (Missing, ValueError) as wrong:  # it does not go away by itself
                self._trouble = f"missing from Kafka: {wrong}" if isinstance(wrong, Missing) else str(wrong)
                logger.error("results not followed", reason=self._trouble)
                return
            except Exception as error:
                self._trouble = str(error) if isinstance(error, KafkaError) else cause(error)
                pause = min(2 * pause, RETRY[1]) or RETRY[0]
                logger.error("results not followed", reason=self._trouble, again_in=pause)
                self._stop.wait(pause)

    def _follow_on(self) -> None:
        """Apply messages until told to stop. Raises what goes wrong."""
        maintained = published = time.monotonic()
        while not self._stop.is_set():
            messages = self._messages()
            if messages:
                self._apply(messages)
            self._trouble = None
            if time.monotonic() - maintained > MAINTAIN:
                maintained = time.monotonic()
                self._store.write()
                if self._materializer.forgotten != NEVER:
                    self._store.maintain(self._materializer.forgotten, None)
            if time.monotonic() - published > PUBLISH:
                published = time.monotonic()
                self._publish_lake()

    def _messages(self) -> list[Message]:
        """What has come, of all places; none where nothing came in time."""
        self._reader.wait(0.25)
        found: list[Message] = []
        for place in self._places:
            run = self._reader.take(place, 16 << 20)
            if not isinstance(run, MessageRun):
                continue
            parts = self._pieces[place]
            for offset, message in enumerate(run.messages, run.first):
                header = piece_header(message)
                if header.startswith(b"1/"):
                    self._begins[place] = offset
                whole = parts.add(header, message.value() or b"")
                if whole is not None:
                    body = results.read(unpacked(whole))
                    found.append(Message(place, self._begins.get(place, offset), offset + 1, body))
        return found

    def _apply(self, messages: Sequence[Message]) -> None:
        began = time.monotonic()
        applied = self._materializer.apply(messages)
        self._progressed = time.monotonic()
        if self._store.waiting >= WRITE_NOW:
            self._write_now.set()
            if self._store.waiting >= MOST_WAITING:
                self._store.write()
        self._answer(applied)
        for told in applied.told:
            self._live[told.shard] = told.published.live
        for place, end in list(self._catching_up.items()):
            if (self._materializer.position(place) or 0) >= end:
                self._catching_up.pop(place, None)
        seen = Seen(applied.counts, time.monotonic() - began, sum(self._live.values()))
        for watch in self._watchers:
            watch(seen)

    def _answer(self, applied: Applied) -> None:
        """Tell those whose records are complete."""
        self._recent.add(applied)
        with self._lock:
            desks = dict(self._desks)
        for partition, desk in desks.items():
            upto = self._materializer.committed(partition)
            asked = desk.asked(upto)
            found: dict[int, Outcome] = {}
            if asked:
                publications = self._recent.publications(partition)
                publication = merged(publications) if publications else None
                events = self._recent.frames(partition, "events")
                letters = self._recent.frames(partition, "dead_letters")
                answers = outcomes.of_commit(asked, events, letters, publication, partition)
                found = self._tenants.complete(publication, answers)
            desk.committed(upto, found)
        self._recent.forget(self._materializer.committed)

    def _look(self) -> None:
        """Ask Kafka now and then how far the log is: others append to it, too. In a thread of its own."""
        while not self._stop.wait(LOOK):
            try:
                ends = self._admin.ends(self._log_topic.name, self._log_topic.partitions, timeout=5.0)
            except KafkaError as wrong:
                self._kafka_trouble = str(wrong)
                continue
            self._kafka_trouble = None
            with self._lock:
                for number, end in enumerate(ends):
                    name = self._partition(number)
                    self._ends[name] = max(self._ends.get(name, 0), end)

    def _publish_lake(self) -> None:
        with self._store.exclusive() as store:
            lake.publish(store, self.data)


def _known(kafka: KafkaSettings, told: Flag) -> dict[str, Topic]:
    """The topics; whoever starts everything at once need not think of the order. Raises KafkaError."""
    give_up, waits = time.monotonic() + PATIENCE, False
    while True:
        try:
            return topic_ids(Topics(kafka), kafka)
        except KafkaError as missing:
            if told.is_set() or time.monotonic() > give_up:
                raise
            if not waits:
                logger.info("waiting for Kafka and the workers", reason=str(missing))
            waits = True
            told.wait(0.5)


def _fit(data: Path, kafka: KafkaSettings, topics: dict[str, Topic]) -> None:
    """Note which topics a new store is made from. Raises ReplayError where one was made from others."""
    path = data / live_data.STORE_FILE
    identity = orjson.dumps({name: topic.id for name, topic in sorted(topics.items())}).decode()
    if not path.exists():
        shards = topics[kafka.results].partitions
        with LiveStore.create(path, shards, feed=FEED * secrets.randbelow(8_000)) as store:
            store.note({TOPICS: identity})
        return
    with LiveStore.open(path) as store:
        known = store.meta().get(TOPICS)
    if known is None:
        raise ReplayError(f"{data} belongs to a service with a log of its own: name another directory with --data")
    if known != identity:
        raise ReplayError(
            f"the topics were made anew since {data} was: start once with --rebuild, which makes the store from them"
        )


def _concerns_all(body: bytes) -> bool:
    """Whether it is configuration: every partition must know of it, as each follows what it has read."""
    if b'"configure"' not in body:
        return False
    record = orjson.loads(body)
    return isinstance(record, dict) and record.get("record") == "configure"
