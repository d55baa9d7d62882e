"""The live service's pipeline: the log, the dataflow that follows it, and the store it writes, in one process.

Records go into the log first; the dataflow reads them from there, as a replay of the log would. When it fails (a full
disk, for one) it is started again from its last snapshot, and what was accepted meanwhile is in the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Thread

import bytewax.operators as op
import structlog
from bytewax._bytewax import init_db_dir, run_main
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig

from connectors import rulefiles
from connectors.formats import jsonl
from connectors.live_store import LiveStore
from connectors.log import Log, LogBusy, LogDamaged, LogUnavailable
from connectors.pipeline import Health, Outcome, Receipt, Unavailable
from connectors.store import Position
from flows import live_data, outcomes
from flows.desk import Desk, Waiter
from flows.live_detect import LiveDetect
from flows.live_progress import LiveProgress
from flows.live_sink import LiveSink, Seen, Watch
from flows.live_source import PARTITION, LogSource
from flows.replay import held
from flows.serving import Serving, cause
from flows.sink import STORE
from flows.steps import classify, share, store
from flows.versions import RuleVersions
from operators.classify import Classifier
from operators.clock import DEFAULT_LATENESS, NEVER
from operators.events import SECOND
from operators.rules import Rule

SHARDS = 1  # more would only divide what one process does
EPOCH = timedelta(seconds=10)
RETRY = (1.0, 30.0)  # seconds before the dataflow is started again: at first, at most

logger = structlog.get_logger("tocsin.pipeline")


def wall_clock() -> int:
    """Now, in µs since 1970, UTC."""
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How the pipeline runs. lateness: µs. most_lag: accepted records that may wait before new ones are refused.
    rebuild: make everything anew from the log first."""

    rules: tuple[str, ...] = ()
    builtin: bool = True
    lateness: int = DEFAULT_LATENESS
    most_lag: int = 1_000_000
    epoch: timedelta = EPOCH
    rebuild: bool = False
    clock: Callable[[], int] = wall_clock


class LivePipeline(Serving):
    """A `connectors.pipeline.Pipeline`. Use `start`, and `stop` in the end."""

    def __init__(self, data: Path, options: LiveOptions, rules: tuple[Rule, ...], held: ExitStack) -> None:
        self.data, self.options, self.rules = data, options, rules
        super().__init__(_open_store(data))
        held.callback(lambda: self._store.close())
        self._log = Log.open(data / "log", clock=options.clock)
        held.callback(self._log.close)
        if self._log.repaired:
            logger.warning("log repaired", cut_bytes=self._log.repaired, next_offset=self._log.next_offset)
        stored = self._store.positions().get(PARTITION, Position(0)).next_offset
        _check_end(data, self._log.next_offset, stored)
        self._progress = LiveProgress(committed=stored)
        self._behind = self._log.next_offset  # what was in the log when the dataflow began
        self._desk = Desk(self._look_up)
        self._trouble: str | None = "starting"
        self._watchers: list[Watch] = []
        self._thread = Thread(target=self._run, name="dataflow", daemon=True)
        # Loading it takes a second, which nobody should wait for in the middle of the first large batch.
        self._scanner = Thread(target=jsonl.warm, name="scanner", daemon=True)
        self._held = held.pop_all()  # where this fails before, whoever gave it lets go of everything

    @classmethod
    def start(cls, data: Path, options: LiveOptions | None = None, watch: Sequence[Watch] = ()) -> LivePipeline:
        """Open a data directory, made if need be, and start. watch: told of every commit, in the writer's thread.

        Raises ReplayError where another process holds it, StoreError, LogDamaged, LogUnavailable, RuleError.
        """
        options = options or LiveOptions()
        rules = rulefiles.load(options.rules, with_builtin=options.builtin)
        with ExitStack() as stack:
            stack.enter_context(held(data))
            if options.rebuild:
                live_data.clear(data)
            live_data.check(data)
            pipeline = cls(data, options, rules, stack)
        pipeline._watchers += watch
        pipeline._thread.start()
        pipeline._writer.start()
        pipeline._scanner.start()
        return pipeline

    def stop(self) -> None:
        """Finish what is under way, take a snapshot, close everything. What was accepted is in the log."""
        self._stop.set()
        for thread in (self._thread, self._scanner):
            if thread.is_alive():
                thread.join()
        self._stop_writing()
        self._desk.give_up()
        self._held.close()

    # ------------------------------------------------------------ the door

    async def submit(self, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float) -> Receipt:
        """Append records and wait for what becomes of them: see `connectors.pipeline.Pipeline`."""
        lag = self._log.next_offset - self._progress.committed
        if lag > self.options.most_lag:
            raise Unavailable(f"{lag:,} accepted events wait to be processed; try again later", retry_after=2)
        loop = asyncio.get_running_loop()
        waiter = Waiter(loop, len(bodies), detail)
        try:
            appended = self._log.append(bodies, workspace)
        except LogBusy as busy:
            raise Unavailable(str(busy), getattr(busy, "retry_after", 1)) from None
        except LogUnavailable as wrong:
            raise Unavailable(str(wrong), getattr(wrong, "retry_after", 5)) from None
        waiter.timer = loop.call_later(timeout, waiter.expire)
        self._desk.wait(waiter, appended, _refused)
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            appended.cancel()  # whoever gave up may send it again: what is not being written yet never will be
            raise

    def health(self) -> Health:
        """How it does, now."""
        lag = self._log.next_offset - self._progress.committed
        now = self._progress.now
        age = (self.options.clock() - now) / SECOND if lag > 0 and now != NEVER else 0.0
        return Health(
            flow=self._trouble,
            log=self._log.trouble,
            store=self._store_trouble,
            lag_records=max(lag, 0),
            lag_seconds=age,
            catching_up=max(self._behind - self._progress.committed, 0),
        )

    def _safe(self) -> dict[str, int]:
        return {PARTITION: self._progress.safe}

    # ------------------------------------------------------------ the dataflow

    def _run(self) -> None:
        pause = 0.0
        while True:
            began = time.monotonic()
            try:
                if pause:
                    self._reopen()
                self._flow_once()
                self._trouble = "stopped"
                return
            except BaseException as error:  # Bytewax raises what Rust panics with, too
                self._trouble = cause(error)
                first = not pause or time.monotonic() - began > 60
                pause = RETRY[0] if first else min(2 * pause, RETRY[1])
                logger.error("dataflow failed", reason=self._trouble, again_in=pause)
            if self._stop.wait(pause):
                return

    def _flow_once(self) -> None:
        recovery = self.data / "recovery"
        if not recovery.exists():
            fresh = recovery.with_name("recovery.new")
            fresh.mkdir(exist_ok=True)
            init_db_dir(fresh, 1)  # type: ignore[no-untyped-call]
            live_data.mark(fresh)
            fresh.rename(recovery)
        announced = self._store.announced()
        self._behind = self._log.next_offset
        flow = self._build(announced)
        self._trouble = "starting"
        run_main(flow, epoch_interval=self.options.epoch, recovery_config=RecoveryConfig(str(recovery)))  # type: ignore[no-untyped-call]

    def _build(self, announced: list[tuple[tuple[str, str, str], int, str]]) -> Dataflow:
        options, progress, upto = self.options, self._progress, {PARTITION: self._behind}
        classifier, versions = Classifier(self.rules), RuleVersions(self.rules)
        flow = Dataflow("live")
        source = LogSource(self._log, options.clock, options.lateness, progress, self._stop)
        batches = op.input("records", flow, source)
        classified = op.map("classify", batches, partial(classify, classifier, True))
        shares = op.flat_map("shard", classified, partial(share, SHARDS))
        published = op.stateful_batch(
            "detect",
            shares,
            lambda state: LiveDetect("0", [PARTITION], progress, announced, upto, state, options.lateness),
        )
        outputs = op.map("published", published, lambda pair: (STORE, pair[1]))
        stored = op.map("stored", classified, lambda pair: (STORE, store(*pair, versions, events=True)))
        sink = LiveSink(self.data, self._store, self._desk, progress, SHARDS, self._watch, self._write_now)
        op.output("store", op.merge("all", stored, outputs), sink)
        return flow

    def _reopen(self) -> None:
        """A store whose writer failed in the middle: closed and opened anew. Raises StoreError."""
        self._store.close()
        self._store = _open_store(self.data)

    def _look_up(self, first: int, count: int) -> tuple[Outcome, ...]:
        """Outcomes of committed records from the store. In the desk's own thread."""
        found = []
        with self._store.reading() as con:
            for offset in range(first, first + count):
                line = self._log.read(offset, 1, 0.0)
                found.append(outcomes.of_store(con, offset, line.lines if line is not None else b"{}"))
        return tuple(found)

    def _watch(self, seen: Seen) -> None:
        self._trouble = None
        for watch in self._watchers:
            watch(seen)


def _open_store(data: Path) -> LiveStore:
    path = data / live_data.STORE_FILE
    return LiveStore.open(path) if path.exists() else LiveStore.create(path, SHARDS)


def _check_end(data: Path, written: int, stored: int) -> None:
    """Raises LogDamaged where the log has lost records: others would get their offsets, and pass for processed."""
    if written < stored:
        raise LogDamaged(
            f"the log in {data / 'log'} ends before record {written:,}, but {data / 'store.duckdb'} has what came of "
            f"{stored:,}: put the missing end of the log back, or start once with --rebuild, which goes on without it"
        )


def _refused(error: BaseException) -> BaseException:
    """What a caller is told where the log refuses."""
    return Unavailable(str(error), getattr(error, "retry_after", 5))
