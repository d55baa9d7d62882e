"""Events as Parquet files of the lake, by day: written once, straight from the frames that are flushed.

    lake/events/date=2025-03-26/part-000012.parquet     events whose `at` lies on that day (UTC), in the order they came

A file holds the columns EVENTS. Its `id` is null where the producer gave none: the position is in the file already, and
views spell it out (`events_select`). What is constant or null costs next to nothing.

Guarantee: a file is there as a whole, on disk, or not at all; it never changes, and its name is never used again while
somebody may know it. Which files count is not said here but in the store's catalogue (`connectors.event_catalogue`).
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from connectors.durable import sync
from connectors.schema import TABLES, no_rows
from connectors.sql import literal
from operators.events import DAY, EVENTS

FOLDER = "lake/events"
# Rows of a group: what a reader can skip, and what one of its threads takes.
ROW_GROUP = 122_880
_EPOCH = date(1970, 1, 1)
_NUMBER = re.compile(r"part-(\d+)\.parquet$")


@dataclass(frozen=True, slots=True)
class Span:
    """A partition's rows in a file: how many, and the lowest and highest offset."""

    partition: str
    rows: int
    first_offset: int
    last_offset: int


@dataclass(frozen=True, slots=True)
class EventFile:
    """A file: its path relative to the data directory, size in bytes, `at` of its earliest and latest event in µs."""

    path: str
    day: date
    rows: int
    bytes: int
    first_at: int
    last_at: int
    spans: tuple[Span, ...]


def by_day(events: pl.DataFrame) -> list[tuple[date, pl.DataFrame]]:
    """Return the rows of each day of `at`, in their order. events: EVENTS columns."""
    if events.is_empty():
        return []
    days = events["at"].to_physical() // DAY
    first, last = days.min(), days.max()
    if first == last:
        return [(_day(first), events)]
    return [(_day(day), events.filter(days == day)) for day in days.unique().sort()]


def split(events: pl.DataFrame, least: int) -> tuple[list[tuple[date, pl.DataFrame]], list[pl.DataFrame]]:
    """Return the days that have at least so many rows, and the rows of all other days."""
    days = by_day(events)
    large = [(day, rows) for day, rows in days if rows.height >= least]
    return large, [rows for _, rows in days if rows.height < least]


def write(data: Path, day: date, events: pl.DataFrame, number: int) -> EventFile:
    """Write one day's events (EVENTS columns) as the file of that number; it is durable when this returns.

    Costs about 0.5 µs of CPU an event. Raises OSError, and PolarsError for columns of other types.
    """
    path = data / FOLDER / f"date={day}" / f"part-{number:06d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    frame = events.select(pl.col(name).cast(dtype) for name, dtype in EVENTS.items())
    # Level 1: half the size of Snappy or LZ4 for a tenth more time.
    frame.write_parquet(aside, compression="zstd", compression_level=1, row_group_size=ROW_GROUP, statistics=True)
    # The transaction that names the file is durable; so must be the file, before it.
    sync(aside)
    os.replace(aside, path)
    for folder in (path.parent, path.parent.parent):
        sync(folder)
    at = frame["at"].to_physical()
    size = path.stat().st_size
    return EventFile(str(path.relative_to(data)), day, frame.height, size, _int(at.min()), _int(at.max()), spans(frame))


def read(data: Path, paths: Sequence[str]) -> pl.DataFrame:
    """Return the rows of files, in their order: EVENTS columns."""
    return pl.read_parquet([data / path for path in paths], hive_partitioning=False, glob=False)


def spans(events: pl.DataFrame) -> tuple[Span, ...]:
    """Return where in the log the rows lie, by partition."""
    offset = pl.col("offset")
    rows = events.group_by("partition").agg(pl.len().cast(pl.Int64), offset.min().alias("a"), offset.max().alias("b"))
    return tuple(Span(*row) for row in rows.sort("partition").iter_rows())


def number_of(path: str) -> int:
    """Return the number in a file's name."""
    found = _NUMBER.search(path)
    return int(found[1]) if found else 0


def present(data: Path) -> set[str]:
    """Return the paths of all files that are there, whether they count or not."""
    return {str(path.relative_to(data)) for path in (data / FOLDER).glob("date=*/*") if path.is_file()}


def sweep(data: Path, keep: set[str]) -> set[str]:
    """Remove every file that is not to be kept, half-written ones too; return what is left."""
    found = present(data)
    for path in found - keep:
        (data / path).unlink()
    for folder in {(data / path).parent for path in found - keep}:
        if not any(folder.iterdir()):
            folder.rmdir()
    return found & keep


def root(data: Path) -> str:
    """Return SQL for the data directory: where it is now, unless `SET VARIABLE tocsin_data` says otherwise."""
    return f"coalesce(getvariable('tocsin_data'), {literal(str(data.resolve()))})"


def events_select(data: Path, paths: Iterable[str], *tables: str) -> str:
    """Return the SELECT of a view over files and native tables of EVENTS columns, with every `id` in full."""
    columns = ", ".join(f'"{name}"' for name in EVENTS)
    shown = columns.replace('"id"', """coalesce(id, partition || ':' || "offset") AS id""", 1)
    sources = list(tables)
    listed = ", ".join(literal(path) for path in paths)
    if listed:
        # One list, one prefix: a thousand files bind in 2 ms.
        files = f"list_transform([{listed}], lambda path: {root(data)} || '/' || path)"
        sources.append(f"read_parquet({files}, hive_partitioning = false)")
    parts = [f"SELECT {columns} FROM {source}" for source in sources]
    return f"SELECT {shown} FROM ({' UNION ALL '.join(parts) or no_rows(TABLES['events'])})"


def _day(number: object) -> date:
    return _EPOCH + timedelta(days=_int(number))


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
