"""Replaying files: prepare a data directory, run the dataflow in one process or several, publish what came of it."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from types import FrameType

from bytewax._bytewax import cluster_main, init_db_dir, run_main
from bytewax.recovery import RecoveryConfig

from connectors import lake
from connectors.store import OutdatedStoreError, Store, StoreError
from flows import cluster
from flows.board import Board
from flows.dataflow import build, rules_of
from flows.plan import PLAN_FILE, Plan
from flows.snapshots import OutdatedSnapshotsError
from flows.versions import RuleVersions

FINISHED = "finished"
BOARD_FILE = "board.bin"
TICK = 0.1  # seconds between looks at the progress


class ReplayError(Exception):
    """The replay cannot start or go on; the text says in one sentence why and what to do."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a replay is: bytes of the inputs as they lie on disk (of topics: messages), and records."""

    bytes_read: int
    bytes_total: int
    records: int
    of_topics: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended. counts: see `flows.sink.Counts`, and rows of incidents by status."""

    finished: bool
    counts: dict[str, int]
    seconds: float


Watch = Callable[[Progress], None]


@contextmanager
def held(data: Path) -> Iterator[None]:
    """Hold a data directory, made if need be, from before a replay is prepared until it is over.

    Raises ReplayError where another process holds it. The lock is the directory's own and goes with the process.
    """
    fresh = not data.exists()
    data.mkdir(parents=True, exist_ok=True)
    directory = os.open(data, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ReplayError(f"{data} is in use by another process: wait for it, or name another directory") from None
    finally:
        os.close(directory)
        if fresh and not any(data.iterdir()):
            data.rmdir()


def prepare(plan: Plan, data: Path, *, overwrite: bool = False) -> None:
    """Make an empty store for a plan.

    Raises ReplayError where one is there, StoreError where it cannot be replaced, RuleError for unusable rules.
    """
    rules = rules_of(plan)
    store = data / "store.duckdb"
    if store.exists() and not overwrite:
        resume = "--resume goes on with it, " if (data / "recovery" / PLAN_FILE).exists() else ""
        raise ReplayError(
            f"{data} holds the results of an earlier run: {resume}--overwrite replaces it, "
            "--data names another directory"
        )
    if store.exists():
        with suppress(OutdatedStoreError):  # that may go, but not one that is being written, nor a newer version's
            Store.open(store, read_only=True).close()
    for old in (store, data / "store.duckdb.wal", data / "analyst.duckdb", data / "lake", data / "recovery"):
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    recovery = data / "recovery"
    recovery.mkdir(parents=True)
    init_db_dir(recovery, plan.shards)  # type: ignore[no-untyped-call]
    with Store.create(store, plan.shards) as fresh:
        fresh.flush({"rules": RuleVersions(rules).told({})}, {})
    # Last: with the plan in place the run can be resumed.
    plan.write(recovery)


def resumable(data: Path, workers: int | None) -> Plan:
    """The plan of an interrupted run. Raises ReplayError where there is nothing to resume."""
    recovery = data / "recovery"
    try:
        plan = Plan.read(recovery)
    except FileNotFoundError:
        raise ReplayError(
            f"there is nothing to resume in {data}: start with `tocsin replay FILE --data {data}`"
        ) from None
    except OutdatedSnapshotsError:
        raise ReplayError(
            f"another version of Tocsin began the replay in {data}: finish it with that one, or replay anew with "
            "--overwrite"
        ) from None
    with Store.open(data / "store.duckdb", read_only=True) as store:
        if store.meta().get(FINISHED):
            raise ReplayError(f"the replay in {data} is complete: there is nothing to resume")
        if store.shards != plan.shards:
            raise ReplayError(
                f"the store in {data} has {store.shards} shards, but its recovery state {plan.shards}: they do not "
                "belong together; replay anew with --overwrite"
            )
    for item in plan.inputs:
        if item.is_topic:
            continue
        if item.path == "-":
            raise ReplayError("standard input cannot be resumed: replay anew with --overwrite")
        if not Path(item.path).exists():
            raise ReplayError(f"{item.path} is gone: put it back to resume, or replay anew with --overwrite")
    return plan if workers is None else replace(plan, workers=workers)


def run(plan: Plan, data: Path, *, resumed: bool = False, watch: Watch | None = None) -> Result:
    """Run a prepared plan to its end, or until Ctrl-C. Raises ReplayError where a part of it failed."""
    began = time.monotonic()
    recovery = data / "recovery"
    board = Board(recovery / BOARD_FILE, [item.name for item in plan.inputs], create=True)
    stop = Flag()
    with _signals(stop), _watching(plan, board, watch):
        try:
            if plan.workers > 1:
                cluster.run(plan, data, resumed=resumed, stop=stop)
            else:
                execute(plan, data, board, stop, resumed=resumed)
        except (ReplayError, cluster.WorkerDied) as error:
            raise ReplayError(str(error)) from error
        except Exception as error:
            raise ReplayError(_cause(error)) from error
    finished = board.finished and not stop.is_set()
    return Result(finished, _conclude(data, finished), time.monotonic() - began)


def execute(plan: Plan, data: Path, board: Board, stop: Flag, *, resumed: bool, index: int = 0,
            addresses: list[str] | None = None) -> None:  # fmt: skip
    """Run the dataflow in this process: all of it, or as the worker `index` of a cluster."""
    flow = build(plan, data, board, stop, resumed=resumed)
    epoch, recovery = timedelta(seconds=plan.epoch), RecoveryConfig(str(data / "recovery"))  # type: ignore[no-untyped-call]
    if addresses is None:
        run_main(flow, epoch_interval=epoch, recovery_config=recovery)  # type: ignore[no-untyped-call]
    else:
        cluster_main(flow, addresses, index, epoch_interval=epoch, recovery_config=recovery)  # type: ignore[no-untyped-call]


def _conclude(data: Path, finished: bool) -> dict[str, int]:
    """Publish the lake, note the end, and count."""
    with Store.open(data / "store.duckdb") as store:
        lake.publish(store, data, last=True)
        if finished:  # last: with this note there is nothing left that could be resumed
            store.flush({}, {}, {FINISHED: "true"})
        counts = {key[6:]: int(value) for key, value in sorted(store.meta().items()) if key.startswith("count.")}
        by_status = store.cursor().execute("SELECT lower(status), count(*) FROM incidents GROUP BY ALL").fetchall()
        return counts | dict(by_status)


def _cause(error: BaseException) -> str:
    """The sentence at the bottom of what Bytewax wraps around an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) if isinstance(error, (StoreError, ValueError, OSError)) else f"{type(error).__name__}: {error}"


@contextmanager
def _signals(stop: Flag) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the run at a whole batch; a second one ends it at once."""
    before: dict[signal.Signals, object] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


@contextmanager
def _watching(plan: Plan, board: Board, watch: Watch | None) -> Iterator[None]:
    """Report progress from a thread of its own, and once more at the end."""
    if watch is None:
        yield
        return
    total = sum((item.size or 0) - item.begin for item in plan.inputs)
    of_topics = plan.inputs[0].is_topic
    over = Flag()

    def look() -> None:
        while not over.wait(TICK):
            watch(Progress(board.bytes_read, total, board.records, of_topics))

    thread = Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        watch(Progress(board.bytes_read, total, board.records, of_topics))
