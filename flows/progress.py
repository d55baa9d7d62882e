"""A replay's progress on standard error: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from flows.replay import Progress, Watch

EVERY = 10.0  # seconds between lines where nobody watches


@contextmanager
def shown(stream: TextIO | None = None) -> Iterator[Watch]:
    """A function to report progress to; what it shows is gone, or complete, at the end."""
    console = Console(file=stream or sys.stderr, stderr=stream is None)
    began = time.monotonic()
    if not console.is_terminal:
        yield _Lines(console, began)
        return
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True, refresh_per_second=5) as bar:
        task = bar.add_task("Replaying", total=None, rate="", amount="")

        def show(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.bytes_read,
                total=progress.bytes_total or None,
                rate=f"{_rate(progress, began):,.0f} events/s",
                amount="" if progress.of_topics else f"{decimal(progress.bytes_read)}/{decimal(progress.bytes_total)}",
            )

        yield show


class _Lines:
    """Plain lines, none for a run that is over before the first is due."""

    def __init__(self, console: Console, began: float) -> None:
        self._console, self._began, self._next = console, began, began + EVERY

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() < self._next:
            return
        self._next += EVERY
        share = f"{100 * progress.bytes_read / progress.bytes_total:.0f} %, " if progress.bytes_total else ""
        rate = _rate(progress, self._began)
        left = (
            (progress.bytes_total - progress.bytes_read)
            / max(progress.bytes_read, 1)
            * (time.monotonic() - self._began)
        )
        eta = f", {left:.0f} s left" if progress.bytes_total and progress.bytes_read else ""
        self._console.print(
            f"{share}{progress.records:,} events, {rate:,.0f} events/s{eta}", highlight=False, soft_wrap=True
        )


def _rate(progress: Progress, began: float) -> float:
    return progress.records / max(time.monotonic() - began, 0.001)
