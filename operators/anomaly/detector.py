"""A streaming detector for one series: each value gets a p-value, judged by nothing but the values before it.

Several questions are asked of a value. Have the last 1, 4, 19 and 60 values been seen like this before (`novelty`)? Is
their mean departure from the baseline over 6 and 24 buckets unusual? Each question has a statistic, and a p-value of
it among its own earlier ones (`tail`). The value's p-value is the harmonic mean of theirs (Wilson 2019): it needs no
independence, and a single very small one is enough, at the price of a factor of their number.

The baseline is the median of the same phase in the last cycles, or of the last values where the series has no period
(`period`). Departures from it are asked about where there is a period; and, with their sign, where only one direction
counts, since a distance has none. Novelty then counts while the value is on that side of the baseline.

D. J. Wilson (2019), The harmonic mean p-value for combining dependent tests, PNAS 116
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.anomaly.compiled import compiled
from operators.anomaly.novelty import novelties
from operators.anomaly.period import find_period
from operators.anomaly.tail import exceeded, p_value

Floats = NDArray[np.float64]

MEMORY = 8192  # buckets: four weeks of 5 minutes, so that three cycles of a week fit
LAGS = (1, 4, 19, 60)  # values in the windows that are compared with earlier ones
SPANS = (6, 24)  # buckets over which departures from the baseline are averaged
CYCLES = 4  # that the seasonal baseline looks back
RECENT = 288  # values that the baseline of a series without a period looks back
FIRST_SEARCH = 64  # values before a period is looked for; again whenever there is a tenth more
LEVEL = 0.01  # p-value of an alarm

BOTH, HIGH, LOW = 0, 1, -1

_LAGS, _SPANS = np.array(LAGS), np.array(SPANS)
_DEPARTURE = len(LAGS)  # the rows of a detector's views: novelty by lags, departure, its means by spans
_ROWS = len(LAGS) + 1 + len(SPANS)
_PERIOD, _SEARCH, _USED, _SEEN = range(4)


@dataclass(slots=True)
class Scores:
    """What was said of n values; float64[n], period int64[n].

    p_value: of a value as unusual as this one; 1 where nothing can be said yet, and where there is no value.
    baseline: what was expected, NaN at first. low, high: where p_value is at most `level`, the band about the baseline
    outside of which a share of `level` of the earlier values were, or would be; else NaN.
    period: of the baseline, in buckets, 0 for none.
    """

    p_value: Floats
    baseline: Floats
    low: Floats
    high: Floats
    period: NDArray[np.int64]


@dataclass(slots=True)
class Detector:
    """The state of one series: plain arrays of at most 2 · MEMORY buckets, that can be pickled.

    direction: which departures count, HIGH, LOW or BOTH. resolution: a difference in values below it says nothing; None
    takes a thousandth of the spread seen. level: of bands.
    """

    direction: int = BOTH
    resolution: float | None = None
    level: float = LEVEL
    _values: Floats = field(default_factory=lambda: np.empty(0))
    _views: Floats = field(default_factory=lambda: np.empty((_ROWS, 0)))
    _state: NDArray[np.int64] = field(default_factory=lambda: np.array([0, FIRST_SEARCH, 0, 0]))
    _spread: Floats = field(default_factory=lambda: np.zeros(1))

    @property
    def period(self) -> int:
        """Return the period found, in buckets; 0 for none."""
        return int(self._state[_PERIOD])

    def update(self, value: float) -> float:
        """Take the next bucket's value, NaN for none, and return its score: 1 − p-value, in [0, 1]."""
        return 1.0 - float(self.extend(np.array([value])).p_value[0])

    def extend(self, values: Floats) -> Scores:
        """Take the next buckets' values (float64[n], NaN for none): the same as one by one, and faster."""
        n = len(values)
        new = np.ascontiguousarray(values, np.float64)
        said = np.full((5, n), np.nan)
        fine = -1.0 if self.resolution is None else self.resolution
        done = 0
        while done < n:
            self._make_room(n - done)
            end = min(n, done + len(self._values) - int(self._state[_USED]))
            at = (self._values, self._views, self._state, self._spread)
            _extend(new[done:end], *at, self.direction, fine, self.level, said[:, done:end])
            done = end
        return Scores(said[0], said[1], said[2], said[3], said[4].astype(np.int64))

    def _make_room(self, wanted: int) -> None:
        """See that there is room for at least one value. Where values lie changes no result."""
        used, room = int(self._state[_USED]), len(self._values)
        if used < room:
            return
        kept = min(used, MEMORY)
        size = min(max(64, 2 * kept, kept + wanted), 2 * MEMORY)
        values, views = np.zeros(size), np.zeros((_ROWS, size))
        values[:kept], views[:, :kept] = self._values[used - kept : used], self._views[:, used - kept : used]
        self._values, self._views = values, views
        self._state[_USED] = kept


@compiled
def _extend(
    new: Any,
    values: Any,
    views: Any,
    state: Any,
    spread: Any,
    direction: int,
    resolution: float,
    level: float,
    said: Any,
) -> None:
    room = np.empty(MEMORY)
    for i in range(len(new)):
        at = state[_USED]
        first = max(0, at - MEMORY)
        if state[_SEEN] >= state[_SEARCH]:
            _search(values, views, at, first, state, spread)
        baseline = _baseline(values, at, first, state[_PERIOD])
        missing = np.isnan(new[i])
        known = not np.isnan(baseline)
        # What is missing is filled in, so that the windows around it can be compared.
        value = (baseline if known else 0.0) if missing else new[i]
        fine = resolution if resolution >= 0 else max(1e-3 * spread[0], 1e-12 * abs(baseline if known else value))
        fine = max(fine, 1e-300)
        values[at] = value
        views[_DEPARTURE, at] = np.nan if missing or not known else value - baseline
        novelties(values, at, first, _LAGS, room, views[:_DEPARTURE, at])
        _average(views, at, first)
        said[0, i] = 1.0 if missing else _combined(views, at, first, state[_PERIOD] > 0, direction, fine)
        said[1, i], said[4, i] = baseline, state[_PERIOD]
        if said[0, i] <= level and known:
            departures = views[_DEPARTURE, first:at]
            said[2, i] = baseline - exceeded(level / 2, -departures, fine)
            said[3, i] = baseline + exceeded(level / 2, departures, fine)
        state[_USED] += 1
        state[_SEEN] += 1


@compiled
def _search(values: Any, views: Any, at: int, first: int, state: Any, spread: Any) -> None:
    """Look for a period, and how far the values are spread."""
    past = values[first:at]
    period = find_period(past)
    if period != state[_PERIOD]:
        # Departures are compared with earlier ones, so these must be from the same baseline.
        for then in range(first, at):
            if then - first < 2 * period:
                views[_DEPARTURE, then] = np.nan
            elif not np.isnan(views[_DEPARTURE, then]):
                views[_DEPARTURE, then] = values[then] - _baseline(values, then, first, period)
            _average(views, then, first)
    state[_PERIOD] = period
    state[_SEARCH] = state[_SEEN] + len(past) // 10 + 1
    ordered = np.sort(past)
    last = len(past) - 1
    spread[0] = ordered[int(0.95 * last)] - ordered[int(0.05 * last)]


@compiled
def _baseline(values: Any, at: int, first: int, period: int) -> float:
    """Return what is expected of the value at `at`."""
    if at == first:
        return np.nan
    if period == 0 or at - first < 2 * period:
        return float(np.median(values[max(first, at - RECENT) : at]))
    like = np.empty(3 * CYCLES)
    count = 0
    for cycle in range(1, CYCLES + 1):
        for near in range(-1, 2):  # a cycle may be a bucket longer or shorter
            other = at - cycle * period + near
            if other >= first:
                like[count] = values[other]
                count += 1
    return float(np.median(like[:count]))


@compiled
def _average(views: Any, at: int, first: int) -> None:
    """Work out the mean departures up to `at`; NaN where more than half is missing."""
    for n in range(len(_SPANS)):
        total, count = 0.0, 0
        for back in range(min(_SPANS[n], at - first + 1)):
            departure = views[_DEPARTURE, at - back]
            if not np.isnan(departure):
                total += departure
                count += 1
        views[_DEPARTURE + 1 + n, at] = total / count if 2 * count >= _SPANS[n] else np.nan


@compiled
def _combined(views: Any, at: int, first: int, seasonal: bool, direction: int, fine: float) -> float:
    """Return the harmonic mean of the questions' p-values."""
    asked, inverse = 0, 0.0
    for n in range(_DEPARTURE):
        view = views[n, at]
        if np.isnan(view):
            continue
        asked += 1
        counts = view > fine and (direction == BOTH or _leans(views, at, first, _LAGS[n], direction))
        inverse += 1.0 / p_value(view, views[n, first:at], fine) if counts else 1.0
    for n in range(len(_SPANS)):
        row = _DEPARTURE + 1 + n
        view = views[row, at]
        if np.isnan(view) or (direction == BOTH and not seasonal):
            continue
        asked += 1
        earlier = views[row, first:at]
        if direction == BOTH:
            view, earlier = abs(view), np.abs(earlier)
        else:
            view, earlier = direction * view, direction * earlier
        finer = fine / _SPANS[n]  # a difference of that much in one bucket
        inverse += 1.0 / p_value(view, earlier, finer) if view > finer else 1.0
    return min(1.0, asked / inverse) if asked else 1.0


@compiled
def _leans(views: Any, at: int, first: int, lags: int, direction: int) -> bool:
    """Tell whether the value, and the last values together, are on that side of the baseline."""
    total = 0.0
    for back in range(min(lags, at - first + 1)):
        departure = views[_DEPARTURE, at - back]
        if not np.isnan(departure):
            total += departure
    return direction * views[_DEPARTURE, at] > 0 and direction * total > 0
