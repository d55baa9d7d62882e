"""The policies a shard has met, as columns: what the engine looks up by the `policy` number of a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from operators.events import SEVERITIES
from operators.policy import Policy

Column = NDArray[np.int64]


class Policies:
    """An append-only list of policies and its columns. Picklable; durations in µs, 0 where there is none."""

    def __init__(self, policies: Sequence[Policy] = ()) -> None:
        self.items: list[Policy] = list(policies)
        self._index = {policy: n for n, policy in enumerate(self.items)}
        self._columns()

    def __len__(self) -> int:
        return len(self.items)

    def numbers(self, policies: Sequence[Policy]) -> Column:
        """The number of each policy here; new ones are added."""
        before = len(self.items)
        for policy in policies:
            if policy not in self._index:
                self._index[policy] = len(self.items)
                self.items.append(policy)
        if len(self.items) > before:
            self._columns()
        return np.array([self._index[policy] for policy in policies], np.int64)

    def _columns(self) -> None:
        items = self.items
        self.recovery = _column([p.recovery for p in items])
        self.close = _column([p.close for p in items])
        self.cooldown = _column([p.cooldown for p in items])
        self.window = _column([p.threshold.window if p.threshold else 0 for p in items])
        self.alert_count = _column([p.alert_count or 0 for p in items])
        self.alert_window = _column([p.alert_window or 0 if p.alert_count else 0 for p in items])
        self.retention = np.maximum(self.window, self.alert_window)
        self.severity = _column([SEVERITIES.index(p.severity) if p.severity else -1 for p in items])

    def __getstate__(self) -> list[Policy]:
        return self.items

    def __setstate__(self, items: list[Policy]) -> None:
        self.__init__(items)  # type: ignore[misc]


def _column(values: list[int]) -> Column:
    return np.array(values, np.int64)
