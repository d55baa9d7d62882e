"""Answers of the database, kept in memory until somebody changes what they say."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """A bounded dict in front of a question. Thread-safe; `get` takes no lock.

    What was asked before a `forget` and answered after it is not kept: a key that is rotated while somebody looks it up
    does not come back. most: entries; the oldest go first. seconds: how long an answer counts, None for ever (this
    process is then the only one that writes).
    """

    def __init__(self, most: int, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._kept: dict[K, tuple[V, float]] = {}
        self._lock = threading.Lock()
        self._generation = 0

    def get(self, key: K) -> V | None:
        """Return the answer if it is here and still counts."""
        found = self._kept.get(key)
        if found is None or (self._seconds is not None and self._clock() >= found[1]):
            return None
        return found[0]

    def ask(self, key: K, question: Callable[[], V | None]) -> V | None:
        """Return the answer from here or else from the question. None is not kept: it may come true at any time."""
        found = self.get(key)
        if found is not None:
            return found
        generation = self._generation
        answer = question()
        if answer is not None:
            until = self._clock() + self._seconds if self._seconds is not None else 0.0
            with self._lock:
                if generation == self._generation:
                    self._kept[key] = (answer, until)
                    while len(self._kept) > self._most:
                        del self._kept[next(iter(self._kept))]
        return answer

    def forget(self) -> None:
        """Forget everything: after the change is committed, before anybody is told."""
        with self._lock:
            self._generation += 1
            self._kept.clear()
