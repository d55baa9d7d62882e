"""A store that is served: read by many, written a few times a second, its news followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread

import duckdb
import structlog

from connectors.live_store import LiveStore, StoreClosedError
from connectors.pipeline import RolledUp, Unavailable
from connectors.store import StoreError

WRITE_EVERY = 0.25  # seconds between writes of what the store shows
AGAIN = 1.0  # seconds after a write that failed

logger = structlog.get_logger("tocsin.pipeline")


class Serving:
    """Half of a `connectors.pipeline.Pipeline`: what needs nothing but the store."""

    def __init__(self, store: LiveStore) -> None:
        self._store = store
        self._stop = Flag()
        self._followers: set[_Follower] = set()
        self._feed_end = store.feed_end
        self._write_now = Flag()
        self._store_trouble: str | None = None
        self.last_write_seconds = 0.0
        self._writer = Thread(target=self._keep_writing, name="store", daemon=True)

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the store as it is now. Raises Unavailable where it is being opened again."""
        with opened(), self._store.reading() as connection:
            yield connection

    def active(self) -> dict[str, int]:
        """How many incidents are `Open` and `Recovering`. Raises Unavailable."""
        with opened():
            return self._store.active()

    @property
    def store_waiting(self) -> int:
        """Events that are shown and not yet written."""
        return self._store.waiting

    def roll_up(self, workspace: str, start: int, end: int) -> RolledUp:
        """Make rollups anew: see `connectors.pipeline.Pipeline`. Raises Unavailable."""
        raise Unavailable("There are no stored rollups to compare with.")

    async def changed(self, after: int, timeout: float) -> int:
        """Wait until the feed has entries beyond number `after`, or for `timeout` seconds; its last number."""
        if self._feed_end > after or self._stop.is_set():
            return self._feed_end
        follower = _Follower(asyncio.get_running_loop())
        self._followers.add(follower)
        try:
            if self._feed_end <= after:
                await asyncio.wait_for(follower.event.wait(), timeout)
        except TimeoutError:
            pass
        finally:
            self._followers.discard(follower)
        return self._feed_end

    def _stop_writing(self) -> None:
        """Let the writer end, and whoever follows know. `_stop` is set."""
        self._write_now.set()
        if self._writer.is_alive():
            self._writer.join()
        for follower in list(self._followers):
            follower.wake()

    def _keep_writing(self) -> None:
        """Write what the store shows, a few times a second. In a thread of its own."""
        while not self._stop.is_set():
            self._write_now.wait(WRITE_EVERY)
            self._write_now.clear()
            began = time.monotonic()
            try:
                if self._store.write():
                    self.last_write_seconds = time.monotonic() - began
                self._store_trouble = None
            except Exception as error:  # what waits stays shown, and the dataflow stops at its next snapshot
                if self._store_trouble is None:
                    logger.error("store not written", reason=cause(error), again_in=AGAIN)
                self._store_trouble = cause(error)
                self._stop.wait(AGAIN)
            if self._store.feed_end > self._feed_end:
                self._feed_end = self._store.feed_end
                for follower in list(self._followers):
                    follower.wake()


class _Follower:
    """Somebody who waits for news in an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.event = loop, asyncio.Event()

    def wake(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.event.set)
        except RuntimeError:  # the loop is closed
            pass


@contextmanager
def opened() -> Iterator[None]:
    """Let a store that is being opened again be one that may be asked later."""
    try:
        yield
    except StoreClosedError as closed:
        raise Unavailable(f"{closed}; try again") from None


def cause(error: BaseException) -> str:
    """The sentence at the bottom of what Bytewax wraps around an error."""
    while error.__cause__ is not None and not isinstance(error, StoreError):
        error = error.__cause__
    return str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
