"""The door between the HTTP surfaces and the dataflow: `flows.live` provides it, `query_api` goes through it.

Neither imports the other: the API appends records to the log through this door, waits until they are processed and
committed, and reads the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import duckdb


class Unavailable(Exception):
    """The record was not taken, and nothing of it is kept. retry_after: seconds until it is worth trying again."""

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record.

    event_id: the producer's id, else its position. error: why it is a dead letter. rule_id, confidence: of the first
    rule that claims it. incident_id, status, tenants: of the incident it belongs to, None while there is none. is_new:
    this very event opened it.
    """

    offset: int
    event_id: str
    error: str | None = None
    duplicate: bool = False
    rule_id: str | None = None
    confidence: str | None = None
    incident_id: str | None = None
    status: str | None = None
    is_new: bool = False
    tenants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Records that are in the log, durably: offsets [first, first + count) of a partition; where the log has several
    partitions, `first` is that of one of the records.

    done: they are processed and committed to the store. outcomes: one a record, where they were asked for and are done.
    """

    first: int
    count: int
    done: bool
    outcomes: tuple[Outcome, ...] = ()
    partition: str = "log"


@dataclass(frozen=True, slots=True)
class Health:
    """How the pipeline does. lag: accepted records that are not yet committed, and the age in seconds of the oldest.

    flow, log, store: None where it works, else what is wrong with it. catching_up: records that were in the log when
    the dataflow began and that it has not come to yet; what was shown before may be missing until then. takes: records
    are taken whatever the dataflow does, since others do that work.
    """

    flow: str | None
    log: str | None
    store: str | None
    lag_records: int
    lag_seconds: float
    catching_up: int = 0
    takes: bool = False


@dataclass(frozen=True, slots=True)
class RolledUp:
    """Stored rollups of a workspace's minutes, made anew from its events and compared with what they said before.

    minutes: how many were looked at. rows: of the rollups, before or after; changed: those of them that were missing,
    were too many or said something else. before, after: events that the rollups counted, and count now.
    """

    minutes: int
    rows: int
    changed: int
    before: int
    after: int


class Pipeline(Protocol):
    """The door. Methods that wait are called from the event loop; `reading` and `roll_up` from any thread."""

    async def submit(self, bodies: Sequence[bytes], workspace: str, *, detail: bool, timeout: float) -> Receipt:
        """Append records to the log, in order and together, and wait for what becomes of them.

        bodies: JSON objects, each without line breaks and with at least one member; the log adds `workspace` and
        `ingested_at` behind them, so that theirs never count. detail: with outcomes. timeout: seconds; when the
        records are durable by then but not committed, the receipt says done=False. Raises Unavailable.
        """
        ...

    def reading(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection that sees everything committed up to now, and nothing newer while it lasts."""
        ...

    def health(self) -> Health:
        """How it does, now."""
        ...

    async def changed(self, after: int, timeout: float) -> int:
        """Wait until the feed has entries beyond number `after`, or for `timeout` seconds; its last number."""
        ...

    def roll_up(self, workspace: str, start: int, end: int) -> RolledUp:
        """Make a workspace's rollups of the hours around [start, end) anew from its events, and say what that changed.

        start, end: µs since 1970, UTC. Takes its time; doing it again changes nothing more. Raises
        Unavailable.
        """
        ...
