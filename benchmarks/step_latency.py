"""What a step of the live pipeline costs before the store: intake, classification, detection, in CPU ms.

python -m benchmarks.step_latency [--steps N] [--sizes 1,10,100,1000]: batches of so many records arrive every 50 ms of
the log's time, on a shard that is warm: half of them match, some forty keys are open, and the matches of the allowed
lateness, 30 s, are pending.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import orjson

from connectors import rulefiles
from connectors.formats import jsonl
from connectors.formats.types import Decoded, DecodeOptions
from flows.live_detect import LiveDetect
from flows.live_progress import LiveProgress
from flows.steps import classify, share, store
from flows.versions import RuleVersions
from operators.classify import Classifier
from operators.intake import Intake

T = TypeVar("T")

SIZES = (1, 10, 100, 1000)
WARM = 30.0  # seconds of the log's time before the clock runs
STEP = 0.05  # seconds between batches
BEGIN = datetime(2026, 1, 31, 8, 30, tzinfo=UTC)
KINDS = (("auth_failed", "401"), ("request_completed", "200"), ("request_timeout", None), ("deploy_finished", None))


def batches(size: int, steps: int) -> Iterator[Decoded]:
    """Decoded batches of `size` records, as the log's reader makes them."""
    for step in range(steps):
        lines = []
        for n in range(step * size, (step + 1) * size):
            kind, code = KINDS[n % len(KINDS)]
            at = (BEGIN + timedelta(seconds=step * STEP)).isoformat()
            body = {"time": at, "ingested_at": at, "workspace": f"w{n % 5}", "source": f"s{n * 7 % 40}", "type": kind}
            lines.append(orjson.dumps(body | {"code": code, "tenant": f"t{n % 30}", "attributes": {"n": n}}))
        yield jsonl.decode(b"\n".join(lines) + b"\n", DecodeOptions())


class Stopwatch:
    """CPU seconds of this thread, by what was done."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def time(self, name: str, task: Callable[[], T]) -> T:
        """Do it and add what it took."""
        began = time.thread_time()
        done = task()
        self.spent[name] = self.spent.get(name, 0.0) + time.thread_time() - began
        return done


def run(size: int, steps: int) -> dict[str, float]:
    """CPU ms a step, by part, for batches of `size` records."""
    rules = rulefiles.load((), with_builtin=True)
    intake, classifier, versions = Intake("log"), Classifier(rules), RuleVersions(rules)
    detect = LiveDetect("0", ["log"], LiveProgress(), (), {}, None)
    warm = int(WARM / STEP)
    watch = Stopwatch()
    for number, decoded in enumerate(batches(size, warm + steps)):
        if number == warm:
            watch = Stopwatch()
        (batch,) = watch.time("intake", lambda d=decoded: intake.take(d.frame, d.rejects, d.records))  # type: ignore[misc]
        pair = watch.time("classify", lambda b=batch: classify(classifier, True, b))  # type: ignore[misc]
        watch.time("detect", lambda p=pair: detect.on_batch([part for _, part in share(1, p)]))  # type: ignore[misc]
        watch.time("rows", lambda p=pair: store(p[0], p[1], versions, events=True))  # type: ignore[misc]
    return {name: 1e3 * spent / steps for name, spent in watch.spent.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="steps measured of each size")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="records a batch")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many runs counts")
    options = parser.parse_args()
    print(f"{'records':>8}" + "".join(f"{name:>10}" for name in ("intake", "classify", "detect", "rows", "all")))
    for size in map(int, options.sizes.split(",")):
        best = min((run(size, options.steps) for _ in range(options.repeat)), key=lambda spent: sum(spent.values()))
        print(f"{size:>8}" + "".join(f"{ms:>10.2f}" for ms in (*best.values(), sum(best.values()))))


if __name__ == "__main__":
    main()
