"""A worker's own process: from its options to its exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from threading import Event as Flag
from threading import Timer

import structlog

from connectors.kafka.serdes import SerdeError
from connectors.kafka.settings import KafkaError, KafkaUnavailable
from connectors.lake_files import LakeError
from flows.kafka_data import Refused
from flows.kafka_sinks import OutdatedRecovery
from flows.kafka_worker import WorkerOptions, execute
from flows.supervisor import GRACE, REFUSED, SUPERVISED, outlive
from flows.worker_metrics import WorkerMetrics
from operators.rule_errors import RuleError

logger = structlog.get_logger("tocsin.worker")

_FINAL = (Refused, OutdatedRecovery, RuleError, SerdeError, LakeError)


def run(options: WorkerOptions, index: int, addresses: list[str], metrics_port: int | None) -> int:
    """Run until SIGTERM or SIGINT; the exit code. It may end the process itself: others may never answer."""
    stop = Flag()

    def told(*_: object) -> None:
        stop.set()
        # The others may go on, and then this one never comes to an end: what it has not told comes again.
        timer = Timer(GRACE / 2, os._exit, (0,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, told)
    signal.signal(signal.SIGTERM, told)
    if SUPERVISED in os.environ:
        outlive(os.getppid())
    metrics = WorkerMetrics(options.kafka)
    if metrics_port is not None:
        logger.info("metrics served", port=metrics.serve(metrics_port))
    try:
        execute(options, index, addresses, stop, metrics)
    except BaseException as error:  # Bytewax raises what Rust panics with, too
        return _ended(error, stop)
    return 0


def leave(code: int) -> None:
    """End the process now: everything is flushed, and libraries' threads have nothing more to say."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _ended(error: BaseException, stop: Flag) -> int:
    if stop.is_set():
        return 0
    for one in _chain(error):
        if isinstance(one, _FINAL):
            sys.stderr.write(f"tocsin: {one}\n")
            return REFUSED
        if isinstance(one, KafkaUnavailable):
            logger.error("Kafka unavailable", reason=str(one))
            return 3
        if isinstance(one, KafkaError):
            logger.error("worker stopped", reason=str(one))
            return 3
    logger.error("worker stopped", reason=f"{type(error).__name__}: {error}", exc_info=error)
    return 1


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it comes from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
