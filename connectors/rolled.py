"""Rollups in the store: minutes as `operators.rollup` makes them, and hours as sums of them, for those who ask less.

What a flush brings is rolled up and written in its transaction, with the position it reaches. So rollups are exactly
once as events are: where a run goes on from a snapshot, rows beyond it go, and come again. A late event is one more row
of its own minute: rows of a key add up, wherever they stand. `fold` makes one of those that no snapshot can take back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb
import polars as pl

from connectors.pipeline import RolledUp
from connectors.schema import BOOKKEEPING, column_list
from connectors.sql import SCRATCH, literal, scratch
from operators.adding import MOST
from operators.events import MINUTE
from operators.frames import empty
from operators.histogram import SQL_VALUE
from operators.rollup import DIMENSIONS, NO_SESSIONS, READS, ROLLUP, keyed, levels, merged

KEYS = "rollup_keys"
MINUTES, HOURS, SOURCES = LEVELS = ("rollup_minutes", "rollup_hours", "rollup_sources")
# Rows of minutes that are worth folding.
FOLD = 20_000
VIEWS = ("rollup_1m", "histogram_1m")
AGAIN = "rolled_again"  # in `meta`: how often rows were replaced
_COLUMNS = column_list(BOOKKEEPING[MINUTES])
_KEY_COLUMNS = column_list(BOOKKEEPING[KEYS])
_TOLD = ", ".join(f'"{name}"' for name in ROLLUP)


def write(con: duckdb.DuckDBPyConnection, events: pl.DataFrame) -> None:
    """Roll up what a flush brings, in its transaction. events: EVENTS columns."""
    for part in events.partition_by("partition", maintain_order=True):
        partition, offset = part["partition"][0], int(part["offset"].max())  # type: ignore[arg-type]
        for name, rolled in zip(LEVELS, levels(part.select(READS)), strict=True):
            _insert(con, name, *rolled.keyed(), partition, offset)


def told(name: str) -> str:
    """Return SQL for the rows of a level with their dimensions as texts: ROLLUP, beside their position."""
    dimensions = ", ".join(f'k."{dimension}"' for dimension in NO_SESSIONS)
    return f"(SELECT r.*, {dimensions} FROM {name} r JOIN {KEYS} k USING (key))"


def with_more(minutes: str) -> str:
    """Return SQL for the rows of minutes, and for some (ROLLUP) that are not among them."""
    return f"(SELECT {_TOLD} FROM {told(MINUTES)} UNION ALL SELECT {_TOLD} FROM {minutes})"


def fold(con: duckdb.DuckDBPyConnection, upto: Mapping[str, int] | None = None, least: int = FOLD) -> bool:
    """Make one row of those with equal keys, in a transaction, where there are so many new ones of minutes; return
    whether there are. upto: by partition the offset before which nothing is taken back any more; None: nothing is."""
    new, values = _before(upto)
    [(count,)] = con.execute(f"SELECT count(*) FROM {MINUTES} WHERE {new}", values).fetchall()
    if count < max(least, 1):
        return False
    for name in LEVELS:
        # With those of the same time that were folded before, so that there is one row a key.
        chosen = f'({new} OR "offset" IS NULL AND start IN (SELECT start FROM {name} WHERE {new}))'
        rows = con.sql(f"SELECT {_TOLD} FROM {told(name)} WHERE {chosen}", params=values).pl()
        con.execute(f"DELETE FROM {name} WHERE {chosen}", values)
        if rows.height:
            _insert(con, name, *keyed(merged(rows)))
    return True


def replace(
    con: duckdb.DuckDBPyConnection,
    workspace: str,
    start: int,
    end: int,
    upto: Mapping[str, int] | None,
) -> RolledUp:
    """Make a workspace's rows of the whole hours [start, end), µs, once more of its events, in a transaction.

    Rows that a snapshot may take back stay as they are, see `fold`.
    """
    new, reached = _before(upto)
    span = {"workspace": workspace, "start": start, "end": end}
    within = (
        "workspace = $workspace AND {0} >= make_timestamptz($start::BIGINT) AND {0} < make_timestamptz($end::BIGINT)"
    )
    reads = ", ".join(f'"{name}"' for name in READS)
    events = con.sql(
        f"SELECT {reads} FROM events WHERE {within.format('time')} AND {new}", params={**span, **reached}
    ).pl()
    chosen = f'("offset" IS NULL OR {new}) AND {within.format("start")}'
    mine = f"key IN (SELECT key FROM {KEYS} WHERE workspace = $workspace)"
    gone = chosen.replace("workspace = $workspace", mine, 1)
    changed, before, count = 0, 0, 0
    found = [rolled.frame() for rolled in levels(events)] if events.height else [empty(ROLLUP)] * len(LEVELS)
    for name, rows in zip(LEVELS, found, strict=True):
        held = merged(con.sql(f"SELECT {_TOLD} FROM {told(name)} WHERE {chosen}", params={**span, **reached}).pl())
        rows = merged(rows)
        if name == MINUTES:
            before, count, changed = int(held["count"].sum()), max(held.height, rows.height), _different(held, rows)
        if not held.equals(rows):
            con.execute(f"DELETE FROM {name} WHERE {gone}", {**span, **reached})
            if rows.height:
                _insert(con, name, *keyed(rows))
    return RolledUp((end - start) // MINUTE, count, changed, before, events.height)


def _different(before: pl.DataFrame, after: pl.DataFrame) -> int:
    """How many rows (ROLLUP) are not the same."""
    key = ["start", *DIMENSIONS]
    gone = before.join(after, on=before.columns, how="anti", nulls_equal=True)
    come = after.join(before, on=after.columns, how="anti", nulls_equal=True)
    return pl.concat([gone.select(key), come.select(key)]).unique().height


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


def views(source: str) -> dict[str, str]:
    """Return the SELECTs of both views."""
    return {name: view(name, source) for name in VIEWS}


def days(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Return the days (UTC) that there are, ascending, each with a text that is another one once its rows are."""
    sums = "sum(\"count\") || ' ' || sum(errors) || ' ' || sum(total)"
    again = f"coalesce((SELECT value FROM meta WHERE key = '{AGAIN}'), '0')"
    day = "strftime(start, '%Y-%m-%d')"
    sql = f"SELECT {day} AS day, {sums} || ' ' || {again} FROM {SOURCES} GROUP BY day ORDER BY day"
    return dict(con.execute(sql).fetchall())


def write_day(con: duckdb.DuckDBPyConnection, day: str, folder: Path) -> None:
    """Write a day's minutes as `data.parquet` in `folder`: ROLLUP, a key in one row or several."""
    folder.mkdir(parents=True)
    first = f"{literal(f'{day}T00:00:00Z')}::TIMESTAMPTZ"
    con.execute(
        f"COPY (SELECT {_TOLD} FROM {told(MINUTES)} WHERE start >= {first} AND start < {first} + INTERVAL 1 DAY) "
        f"TO {literal(str(folder / 'data.parquet'))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    )


def _before(upto: Mapping[str, int] | None) -> tuple[str, dict[str, object]]:
    """A condition for rows with a position that nothing takes back any more, and its values."""
    if upto is None:
        return '"offset" IS NOT NULL', {}
    reached = "list_extract($reached, list_position($partitions, partition))"
    return f'"offset" < {reached}', {"partitions": list(upto), "reached": list(upto.values())}


def _insert(
    con: duckdb.DuckDBPyConnection,
    name: str,
    rows: pl.DataFrame,
    keys: pl.DataFrame,
    partition: str | None = None,
    offset: int | None = None,
) -> None:
    """Write rows (KEYED) at a position, and those of their keys (KEYS) that are new."""
    with scratch(con, keys):
        known = f"EXISTS (SELECT 1 FROM {KEYS} k WHERE k.key = {SCRATCH}.key)"
        con.execute(f"INSERT INTO {KEYS} ({_KEY_COLUMNS}) SELECT {_KEY_COLUMNS} FROM {SCRATCH} WHERE NOT {known}")
    place = pl.lit(partition, pl.String).alias("partition"), pl.lit(offset, pl.Int64).alias("offset")
    with scratch(con, rows.with_columns(place)):
        con.execute(f"INSERT INTO {name} ({_COLUMNS}) SELECT {_COLUMNS} FROM {SCRATCH}")
