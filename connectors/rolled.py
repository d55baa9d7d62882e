"""Rollups in the store: minutes as `operators.rollup` makes them, and hours as sums of them, for those who ask less.

    flush ──► hot_rollups: minutes, each row at the position that the log had reached with it
    fold ───► rollup_minutes
         └──► open_hours, open_days, … ──(the hour, or the day, is over)──► rollup_hours, rollup_days, …

What a flush brings is rolled up and written in its transaction. So rollups are exactly once as events are: where a run
goes on from a snapshot, hot rows beyond it go, and come again. `fold` adds up those that no snapshot can take back, and
makes hours of them. A late event is one more row of its own minute, and hour: rows of a key add up, wherever they
stand. Rows that are deleted stay in the way of readers until all of their group are, hence tables that become empty.

A replay writes minutes into files instead (`connectors.rollup_files`), and no hours: nobody serves its store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from connectors import rollup_files
from connectors.pipeline import RolledUp
from connectors.schema import BOOKKEEPING, column_list
from connectors.sql import SCRATCH, literal, scratch
from operators.adding import MOST
from operators.events import DAY, HOUR, MINUTE
from operators.histogram import SQL_VALUE
from operators.rollup import DIMENSIONS, NO_SESSIONS, READS, ROLLUP, keyed, merged, rollup

KEYS, HOT = "rollup_keys", "hot_rollups"
MINUTES = "rollup_minutes"


@dataclass(frozen=True, slots=True)
class Level:
    """Sums of minutes. name: the table; pieces: that of the same of buckets that go on. size: of a bucket, µs. keeps:
    the dimensions that are told apart."""

    name: str
    pieces: str
    size: int
    keeps: tuple[str, ...]


# The fewer rows a question has to read, the sooner it is answered.
LEVELS = (
    Level("rollup_hours", "open_hours", HOUR, NO_SESSIONS),
    Level("rollup_sources", "open_sources", HOUR, ("workspace", "stream", "source", "label")),
    Level("rollup_types", "open_types", HOUR, ("workspace", "stream", "type", "environment", "tag")),
    Level("rollup_days", "open_days", DAY, NO_SESSIONS),
    Level("rollup_day_sources", "open_day_sources", DAY, ("workspace", "stream", "source", "type", "label")),
)
# Hot rows that are worth folding.
FOLD = 20_000
MOST_FOLDED = 200_000  # at once: whoever writes waits meanwhile, less than a second
VIEWS = ("rollup_1m", "histogram_1m")
AGAIN = "rolled_again"  # in `meta`: how often rows were replaced
COLUMNS = ", ".join(f'"{name}"' for name in ROLLUP)
READ_COLUMNS = ", ".join(f'"{name}"' for name in READS)


def write(con: duckdb.DuckDBPyConnection, events: pl.DataFrame) -> None:
    """Roll up what a flush brings, in its transaction. events: EVENTS columns."""
    for part, partition, offset in _parts(events):
        _insert(con, HOT, rollup(part), partition, offset)


def write_file(con: duckdb.DuckDBPyConnection, data: Path, events: pl.DataFrame, number: int) -> int:
    """Roll up what a flush of a replay brings into files, and let them count, in its transaction. number: of the last
    file; returned is that of the last one now."""
    for part, partition, offset in _parts(events):
        number += 1
        rows = rollup(part)
        path = rollup_files.write(data, rows, number)
        con.execute("INSERT INTO rollup_files VALUES ($1, $2, $3, $4)", [partition, offset, path, rows.height])
    if events.height:
        show(con, data)
    return number


def _parts(events: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, str, int]]:
    """Events by partition, each with its name and last offset."""
    if not events.height:
        return
    needed = events.select("partition", "offset", *READS)
    column = needed["partition"]
    # Most flushes are of one partition: then nothing is copied.
    parts = [needed] if (column == column[0]).all() else needed.partition_by("partition", maintain_order=True)
    for part in parts:
        yield part, part["partition"][0], int(part["offset"].max())  # type: ignore[arg-type]


def told(*tables: str) -> str:
    """Return SQL for the rows of some tables with their dimensions as texts: ROLLUP."""
    kept = ", ".join(f'"{name}"' for name in ROLLUP if name not in NO_SESSIONS)
    rows = " UNION ALL ".join(f"SELECT key, {kept} FROM {table}" for table in tables)
    dimensions = ", ".join(f'k."{dimension}"' for dimension in NO_SESSIONS)
    return f"(SELECT r.*, {dimensions} FROM ({rows}) r JOIN {KEYS} k USING (key))"


def with_more(minutes: str) -> str:
    """Return SQL for the rows of minutes, and for some (ROLLUP) that are not among them."""
    return f"(SELECT {COLUMNS} FROM {told(MINUTES, HOT)} UNION ALL SELECT {COLUMNS} FROM {minutes})"


def fold(con: duckdb.DuckDBPyConnection, upto: Mapping[str, int] | None = None, least: int = FOLD) -> bool:
    """Add up hot rows, in a transaction, where there are so many; return whether there are. The oldest first.

    upto: by partition the offset before which nothing is taken back any more; None: nothing is.
    """
    new, values = _before(upto)
    [(count,)] = con.execute(f"SELECT count(*) FROM {HOT} WHERE {new}", values).fetchall()
    if count < max(least, 1):
        return False
    if count > MOST_FOLDED:
        oldest = f'SELECT partition, "offset" FROM {HOT} WHERE {new} ORDER BY "offset" LIMIT {MOST_FOLDED}'
        ends = con.execute(f'SELECT partition, max("offset") + 1 FROM ({oldest}) GROUP BY partition', values).fetchall()
        new, values = _before(dict(ends))
    rows = con.sql(f"SELECT {COLUMNS} FROM {told(f'(FROM {HOT} WHERE {new})')}", params=values).pl()
    con.execute(f"DELETE FROM {HOT} WHERE {new}", values)
    _insert(con, MINUTES, merged(rows))
    newest = int(rows["start"].to_physical().max())
    for level in LEVELS:
        end = newest // level.size * level.size
        sums = merged(rows, level.size, level.keeps)
        whole = f"FROM {level.pieces} WHERE epoch_us(start) < {end}"
        over = con.sql(f"SELECT {COLUMNS} FROM {told(f'({whole})')}").pl()
        con.execute(f"DELETE {whole}")
        is_over = pl.col("start").to_physical() < end
        _insert(con, level.name, merged(pl.concat([over, sums.filter(is_over)])))
        _insert(con, level.pieces, sums.filter(~is_over))
    return True


def replace(
    con: duckdb.DuckDBPyConnection, workspace: str, start: int, end: int, upto: Mapping[str, int] | None
) -> RolledUp:
    """Make a workspace's rows of an hour [start, end), µs, once more of its events, in a transaction.

    Rows that a snapshot may take back stay as they are, see `fold`.
    """
    new, reached = _before(upto)
    span = {"workspace": workspace, "start": start, "end": end, **reached}
    within = "{0} >= make_timestamptz($start::BIGINT) AND {0} < make_timestamptz($end::BIGINT)"
    events = f"SELECT {READ_COLUMNS} FROM events WHERE workspace = $workspace AND {within.format('time')} AND {new}"
    minutes = merged(rollup(con.sql(events, params=span).pl()))
    mine = f"key IN (SELECT key FROM {KEYS} WHERE workspace = $workspace) AND {within.format('start')}"
    hot = f"{mine} AND {new}"
    held = merged(
        con.sql(
            f"SELECT {COLUMNS} FROM {told(f'(FROM {MINUTES} WHERE {mine})', f'(FROM {HOT} WHERE {hot})')}", params=span
        ).pl()
    )
    changed = _different(held, minutes)
    values = {name: span[name] for name in ("workspace", "start", "end")}
    con.execute(f"DELETE FROM {HOT} WHERE {hot}", span)
    con.execute(f"DELETE FROM {MINUTES} WHERE {mine}", values)
    _insert(con, MINUTES, minutes)
    finest = LEVELS[0]
    for level in LEVELS:
        sums = minutes
        if level.size > HOUR:  # also of the other hours of the day
            first = start // level.size * level.size
            values |= {"start": first, "end": first + level.size}
            tables = (f"(FROM {name} WHERE {mine})" for name in (finest.name, finest.pieces))
            sums = con.sql(f"SELECT {COLUMNS} FROM {told(*tables)}", params=values).pl()
        for name in (level.name, level.pieces):
            con.execute(f"DELETE FROM {name} WHERE {mine}", values)
        _insert(con, level.name, merged(sums, level.size, level.keeps))
    before, after = int(held["count"].sum()), int(minutes["count"].sum())
    return RolledUp((end - start) // MINUTE, max(held.height, minutes.height), changed, before, after)


def _different(before: pl.DataFrame, after: pl.DataFrame) -> int:
    """How many rows (ROLLUP) are not the same."""
    key = ["start", *DIMENSIONS]
    gone = before.join(after, on=before.columns, how="anti", nulls_equal=True)
    come = after.join(before, on=after.columns, how="anti", nulls_equal=True)
    return pl.concat([gone.select(key), come.select(key)]).unique().height


def show(con: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Let the views show what is in the store, and the files that count."""
    files = rollup_files.source(data, rollup_files.paths(con))
    rows = f"SELECT {COLUMNS} FROM {told(MINUTES, HOT)}"
    every = rows if files is None else f"{rows} UNION ALL SELECT {COLUMNS} FROM {files}"
    for name in VIEWS:
        con.execute(f"CREATE OR REPLACE VIEW {name} AS {view(name, f'({every})')}")


def view(name: str, source: str) -> str:
    """Return the SELECT of `rollup_1m` or `histogram_1m` over rows of minutes, of which several may have one key."""
    key = ", ".join(f'"{dimension}"' for dimension in DIMENSIONS)
    if name == "rollup_1m":
        return (
            f'SELECT start AS "minute", {key}, sum("count")::BIGINT AS "count", sum(errors)::BIGINT AS errors, '
            f"sum(value_count)::BIGINT AS value_count, greatest(least(sum(total), {MOST}), -{MOST}) / 1e6 AS value_sum "
            f"FROM {source} GROUP BY ALL"
        )
    bins = f"SELECT start, {key}, unnest(bins)::BIGINT AS bin, unnest(bin_counts) AS n FROM {source}"
    return (
        f'SELECT start AS "minute", {key}, bin, {SQL_VALUE} AS "value", sum(n)::BIGINT AS "count" '
        f"FROM ({bins}) GROUP BY ALL"
    )


def days(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the days (UTC) of the store's rows, ascending, each with a text that is another one once they are."""
    columns = 'start, "count", errors, total'
    rows = " UNION ALL ".join(f"SELECT {columns} FROM {name}" for name in ("rollup_types", "open_types", HOT))
    sums = "sum(\"count\") || ' ' || sum(errors) || ' ' || sum(total)"
    again = f"coalesce((SELECT value FROM meta WHERE key = '{AGAIN}'), '0')"
    day = "strftime(start, '%Y-%m-%d')"
    sql = f"SELECT {day} AS day, {sums} || ' ' || {again} FROM ({rows}) GROUP BY day ORDER BY day"
    return dict(con.execute(sql).fetchall())


def write_day(con: duckdb.DuckDBPyConnection, day: str, folder: Path) -> None:
    """Write a day's minutes as `data.parquet` in `folder`: ROLLUP, a key in one row or several."""
    folder.mkdir(parents=True)
    first = f"{literal(f'{day}T00:00:00Z')}::TIMESTAMPTZ"
    within = f"start >= {first} AND start < {first} + INTERVAL 1 DAY"
    con.execute(
        f"COPY (SELECT {COLUMNS} FROM {told(MINUTES, HOT)} WHERE {within}) "
        f"TO {literal(str(folder / 'data.parquet'))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    )


def _before(upto: Mapping[str, int] | None) -> tuple[str, dict[str, object]]:
    """A condition for rows at a position that nothing takes back any more, and its values."""
    if upto is None:
        return "TRUE", {}
    reached = "list_extract($reached, list_position($partitions, partition))"
    return f'"offset" < {reached}', {"partitions": list(upto), "reached": list(upto.values())}


def _insert(
    con: duckdb.DuckDBPyConnection, name: str, rows: pl.DataFrame, partition: str = "", offset: int = 0
) -> None:
    """Write rows (ROLLUP), at a position where they are hot, and those of their keys that are new."""
    if not rows.height:
        return
    numbered, keys = keyed(rows)
    columns = column_list(BOOKKEEPING[KEYS])
    with scratch(con, keys):
        known = f"EXISTS (SELECT 1 FROM {KEYS} k WHERE k.key = {SCRATCH}.key)"
        con.execute(f"INSERT INTO {KEYS} ({columns}) SELECT {columns} FROM {SCRATCH} WHERE NOT {known}")
    if name == HOT:
        numbered = numbered.with_columns(pl.lit(partition).alias("partition"), pl.lit(offset, pl.Int64).alias("offset"))
    columns = column_list(BOOKKEEPING[name])
    with scratch(con, numbered):
        con.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {SCRATCH}")
