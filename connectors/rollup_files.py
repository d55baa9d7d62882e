"""Minutes of rollups as Parquet files of the lake: what a replay flushes goes there at once, and nowhere else.

    lake/rollup_1m/part-000012.parquet      minutes of one flush: ROLLUP, a key in one row or several

Guarantee: as that of the files of events. A file is whole and durable before the transaction that makes it count, and
nobody sees one that does not; it never changes. Its rows are of one flush, which no snapshot divides, so that a file
counts or goes as a whole. Left over after a crash: files that do not count; `sweep` removes them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import duckdb
import polars as pl

from connectors.durable import sync
from connectors.event_files import number_of, root
from connectors.sql import literal

FOLDER = "lake/rollup_1m"


def paths(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the paths of the files that count, relative to the data directory, in the order of their names."""
    return [path for (path,) in con.execute("SELECT path FROM rollup_files ORDER BY path").fetchall()]


def last_number(data: Path) -> int:
    """Return the highest number that a file has, whether it counts or not."""
    return max((number_of(path.name) for path in (data / FOLDER).glob("part-*.parquet")), default=0)


def write(data: Path, minutes: pl.DataFrame, number: int) -> str:
    """Write rows (ROLLUP) as the file of that number, durably; return its path. Raises OSError."""
    path = data / FOLDER / f"part-{number:06d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    minutes.write_parquet(aside, compression="zstd", compression_level=1, statistics=True)
    sync(aside)
    os.replace(aside, path)
    sync(path.parent)
    return str(path.relative_to(data))


def sweep(data: Path, keep: Collection[str]) -> None:
    """Remove the files that are not to be kept, half-written ones too."""
    for path in (data / FOLDER).glob("part-*"):
        if str(path.relative_to(data)) not in keep:
            path.unlink()


def source(data: Path, listed: Iterable[str]) -> str | None:
    """Return SQL for the rows of some files, None for none."""
    names = ", ".join(literal(path) for path in listed)
    if not names:
        return None
    files = f"list_transform([{names}], lambda path: {root(data)} || '/' || path)"
    return f"read_parquet({files}, hive_partitioning = false)"
