"""How many, how long, how much: rows of the rollups for a question, exact to the microsecond at both ends.

Whole days come from rows of days, where these tell enough apart; the hours before and after from rows of hours, the
minutes before and after these from rows of minutes; the parts of a minute at both ends from the events themselves, as
does what is shown and not yet written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from duckdb import DuckDBPyConnection

from connectors.rolled import HOT, LEVELS, MINUTES, READ_COLUMNS, told
from operators.events import DAY, EVENTS, HOUR, MINUTE
from operators.rollup import DIMENSIONS, MILLIONTHS, READS, WHOLE, merged, rollup
from query_api.fetch import fetch

_STARTS = {
    MINUTE: "epoch_us(start)",
    HOUR: "epoch_us(date_trunc('hour', start))",
    DAY: "epoch_us(date_trunc('day', start))",
    WHOLE: "0::BIGINT",
}
BY = tuple(name for name in DIMENSIONS if name != "workspace")
Span = tuple[int, int]  # µs, the end exclusive
_TOLD = ("count", "errors", "values", "sum", "bins", "bin_counts")
_EVENTS = {name: EVENTS[name] for name in READS}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at. start, end: µs since 1970, UTC; `end` is exclusive. streams: of these, all where there are none.

    where: by dimension the values that count, None among them for events that have none. by: the dimensions to tell
    apart. grain: µs, a divisor of all buckets that the rows are to be put into: MINUTE, HOUR, DAY or WHOLE, each
    cheaper than the one before. values: with histograms, for percentiles.
    """

    workspace: str
    streams: tuple[str, ...]
    start: int
    end: int
    where: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    by: tuple[str, ...] = ()
    grain: int = MINUTE
    values: bool = False


def select(con: DuckDBPyConnection, wanted: Wanted) -> pl.DataFrame:
    """Return `start` (Int64, µs: where the row's bucket of `grain` begins), the dimensions `by`, and what adds up:
    `count`, `errors`, `values` (events with a value), `sum` (of these, in their unit); with `values` also `bins` and
    `bin_counts`, see `operators.histogram`.

    Rows of equal start and dimensions may come several times; `operators.rollup.added` adds them up. In no order. A
    bucket that the window cuts holds only what lies within the window. Raises QueryError.
    """
    rows = [_stored(con, wanted, *piece) for piece in _pieces(wanted)]
    spans = _edges(wanted)
    if spans:
        rows.append(_of_events(con, wanted, "events", spans))
    whole = _whole(wanted)
    if whole and _is_unwritten(con):
        rows.append(_of_events(con, wanted, "mem_events", [whole]))
    return pl.concat(rows) if rows else _shaped(merged(rollup(pl.DataFrame(schema=_EVENTS))), wanted)


def _whole(wanted: Wanted) -> Span | None:
    """The whole minutes of the window."""
    first, last = -(-wanted.start // MINUTE) * MINUTE, wanted.end // MINUTE * MINUTE
    return (first, last) if first < last else None


def _edges(wanted: Wanted) -> list[Span]:
    """What no whole minute covers."""
    whole = _whole(wanted)
    spans = [(wanted.start, wanted.end)] if whole is None else [(wanted.start, whole[0]), (whole[1], wanted.end)]
    return [(start, end) for start, end in spans if start < end]


def _pieces(wanted: Wanted) -> list[tuple[tuple[str, ...], Span]]:
    """Which rows tell of the whole minutes: tables and spans. What is hot is in minutes."""
    span = _whole(wanted)
    if span is None:
        return []
    used = {_column(wanted, name) for name in (*wanted.by, *wanted.where)}
    tables: tuple[str, ...] = (MINUTES, HOT)
    pieces = []
    for size in sorted({level.size for level in LEVELS}):
        fitting = [level for level in LEVELS if level.size == size and used <= set(level.keeps)]
        first, last = -(-span[0] // size) * size, span[1] // size * size
        if size > wanted.grain or not fitting or first >= last:
            break
        narrowest = min(fitting, key=lambda level: len(level.keeps))
        pieces += [(tables, (span[0], first)), (tables, (last, span[1]))]
        tables, span = (narrowest.name, narrowest.pieces, HOT), (first, last)
    return [(tables, span) for tables, span in (*pieces, (tables, span)) if span[0] < span[1]]


def _column(wanted: Wanted, name: str) -> str:
    """Where a dimension is kept: the guardian of a verdict is its source, and more rows tell sources apart."""
    return "source" if name == "guardian" and wanted.streams == ("verdict",) else name


def _stored(con: DuckDBPyConnection, wanted: Wanted, tables: Sequence[str], span: Span) -> pl.DataFrame:
    condition, values = _conditions(wanted)
    by = "".join(f'"{_column(wanted, name)}", ' for name in wanted.by)
    if wanted.values:
        sums, group = '"count", errors, value_count, total / 1e6, bins, bin_counts', ""
    else:
        sums = 'sum("count")::BIGINT, sum(errors)::BIGINT, sum(value_count)::BIGINT, sum(total) / 1e6'
        group = f" GROUP BY {', '.join(str(n + 1) for n in range(len(wanted.by) + 1))}"
    rows = fetch(
        con,
        f"SELECT {_STARTS[wanted.grain]}, {by}{sums} FROM {told(*tables)} "
        "WHERE start >= make_timestamptz($first::BIGINT) AND start < make_timestamptz($last::BIGINT) "
        f"AND {condition}{group}",
        **values,
        first=span[0],
        last=span[1],
    )
    rows.columns = ["start", *wanted.by, *_TOLD[: len(rows.columns) - 1 - len(wanted.by)]]
    return rows.cast({"sum": pl.Float64, **({"bins": pl.List(pl.Int16)} if wanted.values else {})})


def _of_events(con: DuckDBPyConnection, wanted: Wanted, table: str, spans: Sequence[Span]) -> pl.DataFrame:
    times = " OR ".join(
        f"time >= make_timestamptz({start}::BIGINT) AND time < make_timestamptz({end}::BIGINT)" for start, end in spans
    )
    streams = {"streams": list(wanted.streams)} if wanted.streams else {}
    stream = " AND list_contains($streams, stream)" if streams else ""
    events = fetch(
        con,
        f"SELECT {READ_COLUMNS} FROM {table} WHERE ({times}) AND workspace = $workspace{stream}",
        workspace=wanted.workspace,
        **streams,
    )
    rows = rollup(events)
    for name, accepted in wanted.where.items():
        rows = rows.filter(pl.col(name).is_in(pl.lit(pl.Series(accepted, dtype=pl.String)).implode(), nulls_equal=True))
    return _shaped(rows, wanted)


def _shaped(rows: pl.DataFrame, wanted: Wanted) -> pl.DataFrame:
    return merged(rows, wanted.grain, wanted.by).select(
        pl.col("start").to_physical(),
        *wanted.by,
        "count",
        "errors",
        pl.col("value_count").alias("values"),
        (pl.col("total") / MILLIONTHS).alias("sum"),
        *(("bins", "bin_counts") if wanted.values else ()),
    )


def _conditions(wanted: Wanted) -> tuple[str, dict[str, object]]:
    """What rows must be like, as SQL with its values."""
    parts, found = ["workspace = $workspace"], dict[str, object](workspace=wanted.workspace)
    if wanted.streams:
        parts.append("list_contains($streams, stream)")
        found["streams"] = list(wanted.streams)
    for name, accepted in wanted.where.items():
        column = f'"{_column(wanted, name)}"'
        some = f"list_contains($is_{name}, {column})"
        parts.append(f"({some} OR {column} IS NULL)" if None in accepted else some)
        found[f"is_{name}"] = [text for text in accepted if text is not None]
    return " AND ".join(parts), found


def _is_unwritten(con: DuckDBPyConnection) -> bool:
    """Whether the connection shows events that are not yet written."""
    sql = "SELECT count(*) FROM duckdb_views() WHERE view_name = 'mem_events'"
    return bool(con.execute(sql).fetchall()[0][0])
