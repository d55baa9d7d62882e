"""What was seen of non-human identities, from rows of the rollups of stream `identity`.

An identity is a `source`. Its events: `tool_attempt` with code `allowed` or `denied`, `spend` with a value in USD, and
what says something about it: `tier`, `federation`. All but the last two are its activity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from operators.events import HOUR
from operators.histogram import Floats, Ints, quantiles
from operators.scores import LOOKBACK, Spend

STREAM = "identity"
ATTEMPT, SPEND, TIER, FEDERATION = "tool_attempt", "spend", "tier", "federation"
DENIED, ALLOWED = "denied", "allowed"
STATEMENTS = (TIER, FEDERATION)  # about the identity; everything else is something that it did
BY = ("source", "type", "code", "guardian", "label")  # the dimensions that `Past` reads
P99 = 0.99


@dataclass(frozen=True, slots=True)
class Counted:
    """What adds up over a window, and what came before.

    activity: events that are no statements; covered: those of them that name a guardian. spent: USD. silence: the
    longest, µs; known: seen in the lookback, too. label: the last one before the window's end.
    """

    events: int = 0
    activity: int = 0
    covered: int = 0
    attempts: int = 0
    denied: int = 0
    allowed: int = 0
    spent: float = 0.0
    spend: Spend = field(default_factory=Spend)
    silence: int = LOOKBACK
    known: bool = False
    label: str | None = None


class Past:
    """Rows of `query_api.rollups.select`, with `BY` and histograms, by identity and time.

    identities: those with rows, in order. A row counts at its start; see `placed` for those that a window cuts.
    """

    def __init__(self, rows: pl.DataFrame) -> None:
        # What has no source is nobody's.
        rows = rows.filter(pl.col("source").is_not_null()).sort(BY[0], "start", *BY[1:])
        rows = rows.with_columns(pl.col("source").rle_id().alias("number"))
        self.identities: tuple[str, ...] = tuple(rows["source"].unique(maintain_order=True).to_list())
        self._number = {name: n for n, name in enumerate(self.identities)}
        size = len(self.identities)
        activity = rows.filter(~_in("type", STATEMENTS))
        attempts = rows.filter(_in("type", (ATTEMPT,)))
        labelled = rows.filter(pl.col("label").is_not_null())
        self._all = _Rows(rows, size)
        self._activity = _Rows(activity, size)
        self._covered = _Rows(activity.filter(pl.col("guardian").is_not_null()), size)
        self._attempts = _Rows(attempts, size)
        self._denied = _Rows(attempts.filter(_in("code", (DENIED,))), size)
        self._allowed = _Rows(attempts.filter(_in("code", (ALLOWED,))), size)
        self._spend = _Spends(rows.filter(_in("type", (SPEND,)) & (pl.col("values") > 0)), size)
        self._labelled, self._labels = _Rows(labelled, size), labelled["label"].to_list()
        self._baselines: dict[tuple[int, int], tuple[float | None, float | None]] = {}

    def seen(self, identity: str, start: int, end: int) -> Counted:
        """Return what was seen of an identity in a window (µs, `end` exclusive), and before: see `before`."""
        number = self._number.get(identity)
        if number is None:
            return Counted()
        known_from, known_to = before(start)
        first, last = self._all.place(number, start), self._all.place(number, end)
        earlier = self._all.slice(number, known_from, known_to)
        known = earlier.start < earlier.stop
        since = _hour(int(self._all.start[earlier.stop - 1])) if known else known_from
        hours = self._all.start[first:last] // HOUR * HOUR
        spends = self._spend
        labels = self._labelled.slice(number, known_from, end)
        return Counted(
            events=self._all.count(number, start, end),
            activity=self._activity.count(number, start, end),
            covered=self._covered.count(number, start, end),
            attempts=self._attempts.count(number, start, end),
            denied=self._denied.count(number, start, end),
            allowed=self._allowed.count(number, start, end),
            spent=float(spends.sum[spends.slice(number, start, end)].sum()),
            spend=Spend(
                *spends.p99_and_hour(number, start, end),
                *self._baseline(number, known_from, known_to),
                known=spends.values(number, known_from, known_to),
            ),
            silence=min(int(np.diff([since, *hours.tolist(), end]).max()), LOOKBACK),
            known=known,
            label=self._labels[labels.stop - 1] if labels.start < labels.stop else None,
        )

    def active(self, start: int, end: int) -> list[str]:
        """Return the identities with events within a span, in order."""
        within = ((name, self._all.slice(number, start, end)) for name, number in self._number.items())
        return [name for name, rows in within if rows.start < rows.stop]

    def hours(self, identity: str, start: int, end: int) -> dict[str, Floats]:
        """Return an identity's hours (`start` and `end` are whole ones): denied attempts, USD spent, and all activity.

        From the hour of its first event on: before, it did not keep silent, it was not there.
        """
        number = self._number[identity]
        first = self._all.place(number, start)
        if first < self._all.slice(number, start, end).stop:
            start = max(start, _hour(int(self._all.start[first])))
        return {
            "activity": self._activity.hours(number, start, end),
            "denied": self._denied.hours(number, start, end),
            "spent": self._spend.hours(number, start, end),
        }

    def _baseline(self, number: int, start: int, end: int) -> tuple[float | None, float | None]:
        """As all windows that start within an hour have the same, it is remembered."""
        key = (number, start)
        if key not in self._baselines:
            self._baselines[key] = self._spend.p99_and_hour(number, start, end)
        return self._baselines[key]


def before(start: int) -> tuple[int, int]:
    """Return the span that a window is compared with: LOOKBACK, up to the hour in which the window starts."""
    return _hour(start) - LOOKBACK, _hour(start)


def placed(rows: pl.DataFrame, start: int) -> pl.DataFrame:
    """Rows of a window, the bucket that the window's start cuts put where the window starts."""
    return rows.with_columns(pl.col("start").clip(lower_bound=start))


def _hour(instant: int) -> int:
    return instant // HOUR * HOUR


def _in(column: str, values: Sequence[str]) -> pl.Expr:
    return pl.col(column).is_in(values).fill_null(False)


class _Rows:
    """Rows of some kind, sorted by the number of the identity and start. size: how many identities there are."""

    def __init__(self, rows: pl.DataFrame, size: int) -> None:
        self.start: Ints = rows["start"].to_numpy()
        self._offsets = np.searchsorted(rows["number"].to_numpy(), np.arange(size + 1))
        self._amount = rows["count"].to_numpy().astype(np.float64)
        self._counted = np.concatenate([[0], rows["count"].to_numpy().cumsum(dtype=np.int64)])

    def place(self, number: int, instant: int) -> int:
        """Where an identity's rows from an instant on begin."""
        low, high = self._offsets[number], self._offsets[number + 1]
        return int(low + np.searchsorted(self.start[low:high], instant))

    def slice(self, number: int, start: int, end: int) -> slice:
        """An identity's rows within a window."""
        return slice(self.place(number, start), self.place(number, end))

    def count(self, number: int, start: int, end: int) -> int:
        """An identity's events within a window."""
        rows = self.slice(number, start, end)
        return int(self._counted[rows.stop] - self._counted[rows.start])

    def hours(self, number: int, start: int, end: int) -> Floats:
        """How much there was in each hour of a span."""
        rows = self.slice(number, start, end)
        at = (self.start[rows] - start) // HOUR
        return np.bincount(at, self._amount[rows], (end - start) // HOUR).astype(np.float64)


class _Spends(_Rows):
    """Rows with values and their histograms."""

    def __init__(self, rows: pl.DataFrame, size: int) -> None:
        super().__init__(rows, size)
        self.sum = self._amount = rows["sum"].to_numpy()
        self._valued = np.concatenate([[0], rows["values"].to_numpy().cumsum(dtype=np.int64)])
        self._starts = np.concatenate([[0], rows["bins"].list.len().to_numpy().cumsum(dtype=np.int64)])
        self._bins = rows["bins"].explode(empty_as_null=False).to_numpy()
        self._counts = rows["bin_counts"].explode(empty_as_null=False).to_numpy().astype(np.int64)

    def values(self, number: int, start: int, end: int) -> int:
        """How many spends have a value."""
        rows = self.slice(number, start, end)
        return int(self._valued[rows.stop] - self._valued[rows.start])

    def p99_and_hour(self, number: int, start: int, end: int) -> tuple[float | None, float | None]:
        """The 99th percentile of an identity's spends within a window, and the most within an hour."""
        rows = self.slice(number, start, end)
        size = rows.stop - rows.start
        if not size:
            return None, None
        starts = self._starts[rows.start : rows.stop + 1]
        within = slice(starts[0], starts[-1])
        zeros = np.zeros(size, np.int64)
        p99 = quantiles(zeros, starts - starts[0], self._bins[within], self._counts[within], 1, (P99,))
        hours = np.unique(self.start[rows] // HOUR, return_inverse=True)[1]
        return float(p99[0, 0]), float(np.bincount(hours, self.sum[rows]).max())
