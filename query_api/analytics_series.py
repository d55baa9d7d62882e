"""The answer to a question of GET /v1/analytics/query, before it is written in any format."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from duckdb import DuckDBPyConnection
from numpy.typing import NDArray

from operators.buckets import Grid, previous
from operators.histogram import Ints
from operators.measures import PERCENTILES, Measured, Numbers, measured
from operators.series import Key, Ranked, groups_of, keys, labels, ranked, taken
from query_api.analytics_question import Question
from query_api.rollups import Wanted, select

MOST_NUMBERS = 500_000  # in one answer, about 4 MB of JSON

# The lowest of all partitions: what is shown has come at least as far. A partition that had no event says nothing.
_WATERMARK = "SELECT epoch_us(min(watermark)) FROM positions"


@dataclass(frozen=True, slots=True)
class Side:
    """What happened in one window. total: by series; cells: by series and bucket, one series behind the other."""

    grid: Grid
    total: Measured
    cells: Measured

    def values(self, measure: str) -> NDArray[np.int64] | NDArray[np.float64]:
        """A measure as [series, bucket]."""
        return self.cells.values[measure].reshape(-1, self.grid.count)

    @property
    def count(self) -> NDArray[np.int64]:
        """The events as [series, bucket]."""
        return self.cells.count.reshape(-1, self.grid.count)


@dataclass(frozen=True, slots=True)
class Answer:
    """Series of measures, the most important first.

    keys: of each series the values of what it is grouped by; None for all other groups together, which come last.
    labels: what people call them. groups: how many there are, shown or not. truncated: not all that was asked for is
    there. before: the window just before. complete_through: µs, up to which all events have come that were not late; at
    most the window's end, None where it is not known. kept: the buckets that are shown.
    """

    question: Question
    keys: list[Key | None]
    labels: list[str | None]
    groups: int
    truncated: bool
    now: Side
    before: Side | None
    kept: Ints
    complete_through: int | None

    @property
    def settled(self) -> bool:
        """Whether only late events can change it."""
        return self.complete_through == self.question.grid.end


def answer(con: DuckDBPyConnection, question: Question, workspace: str, *, catching_up: bool) -> Answer:
    """Ask the store. catching_up: what was shown before may be missing, so that nothing is known to be complete."""
    [(watermark,)] = con.execute(_WATERMARK).fetchall()
    grids = [question.grid]
    if question.compare:
        grids.append(previous(question.grid, question.bucket, question.zone))
    known = watermark is not None and not catching_up
    complete = min(watermark, question.grid.end) if known else None
    return composed(question, [_rows(con, question, workspace, grid) for grid in grids], grids, complete)


def composed(question: Question, rows: list[pl.DataFrame], grids: list[Grid], complete: int | None) -> Answer:
    """What rows of `select` say. rows, grids: of the window, and of the one before; complete: see Answer."""
    columns, measures = question.columns, question.measured
    whole = rows[0] if len(rows) == 1 else pl.concat(one.select(question.by) for one in rows)
    groups = groups_of(whole, columns)
    numbers = np.split(groups.number, np.cumsum([one.height for one in rows])[:-1])
    seconds = float(grids[0].seconds().sum())
    room = MOST_NUMBERS // (len(rows) * len(measures) * grids[0].count) - 1
    limit = min(question.limit, room)
    few = groups.count <= limit
    ranking = measured(rows[0], numbers[0], groups.count, seconds, measures if few else measures[:1])
    if columns:
        rank = ranked(ranking.values[measures[0]].astype(np.float64), ranking.count, limit)
    else:
        rank = Ranked(np.zeros(1, np.int64), np.zeros(1, np.int64))
    there = int(np.count_nonzero(ranking.count)) if columns else 1
    chosen = len(rank.chosen)
    rest = groups.count > chosen and question.other
    shown = chosen + rest
    sides: list[Side] = []
    for one, number, grid in zip(rows, numbers, grids, strict=True):
        slot = rank.slot[number]
        total = taken(ranking, rank.chosen) if few and not sides and not rest else None
        sides.append(_side(one, slot, chosen + 1, shown, grid, measures, total))
    count = np.sum([side.count.sum(axis=0) for side in sides], axis=0)
    return Answer(
        question,
        [*keys(whole, columns, groups.shown[rank.chosen]), *([None] * rest)],
        [
            *(labels(rows[0], rank.slot[numbers[0]], chosen) if question.labelled else [None] * chosen),
            *([None] * rest),
        ],
        there,
        (there > chosen and not question.other) or chosen < min(question.limit, there),
        sides[0],
        sides[1] if len(sides) > 1 else None,
        np.flatnonzero(count) if question.fill == "none" else np.arange(grids[0].count),
        complete,
    )


def _rows(con: DuckDBPyConnection, question: Question, workspace: str, grid: Grid) -> pl.DataFrame:
    wanted = Wanted(
        workspace,
        question.streams,
        grid.start,
        grid.end,
        question.where,
        question.by,
        grid.grain,
        question.values,
    )
    return select(con, wanted)


def _side(
    rows: pl.DataFrame,
    slot: Ints,
    slots: int,
    shown: int,
    grid: Grid,
    measures: tuple[str, ...],
    total: Measured | None,
) -> Side:
    """total: of the series, where they are known."""
    seconds = grid.seconds()
    if total is None:
        total = taken(measured(rows, slot, slots, float(seconds.sum()), measures), np.arange(shown))
    if grid.count == 1:
        cells = total
    else:
        place = slot * grid.count + grid.of(rows["start"].to_numpy())
        all_cells = measured(rows, place, slots * grid.count, np.tile(seconds, slots), measures)
        cells = taken(all_cells, np.arange(shown * grid.count))
    return Side(grid, _rounded(total), _rounded(cells))


def _rounded(found: Measured) -> Measured:
    """Percentiles are within 1 %: six digits say all there is to be said, and make an answer half as long."""
    values = {name: _digits(of) if name in PERCENTILES else of for name, of in found.values.items()}
    return Measured(found.count, values)


def _digits(values: Numbers) -> Numbers:
    size = np.abs(np.where(np.isnan(values) | (values == 0), 1.0, values))
    places = 5 - np.floor(np.log10(size)).astype(np.int64)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    rounded: NDArray[np.float64] = np.rint(values * up / down) * down / up
    return rounded
