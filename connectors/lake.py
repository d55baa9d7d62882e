"""The lake: the store's tables as Parquet, for analysts and archives, readable while the store is in use.

    lake/events/date=2025-03-26/part-000012.parquet     what came since the last publication, by day of `at` (UTC)
    lake/claims/part-000012.parquet                     likewise, not by day
    lake/incidents/data.parquet                         and every other table: as of the last publication
    lake/manifest.json                                  the number of the last publication and how far it got
    analyst.duckdb                                      a view for each table; open it read-only

Guarantee: files are written aside and renamed; a publication that was interrupted is undone by the next one. Each small
table is replaced as a whole. Events show up a moment before their incidents. Lost when the lake is deleted: nothing,
the next publication writes all.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from connectors.schema import TABLES, Table, column_list, sql_type
from connectors.sql import literal
from connectors.store import Store

# Tables that only grow: published in parts.
_GROWING = ("events", "claims")
# Against zstd and version 1: 1.4 times as fast, a third larger.
_PARQUET = "FORMAT parquet, COMPRESSION snappy, PARQUET_VERSION V2"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The last complete publication: its number, next offset by partition, and a digest of the views it needs."""

    number: int = 0
    positions: dict[str, int] | None = None
    views: str = ""

    @staticmethod
    def read(lake: Path) -> "Manifest":
        """Return the manifest of a lake; that of an empty one where there is none."""
        try:
            body = json.loads((lake / "manifest.json").read_text())
        except FileNotFoundError:
            return Manifest()
        return Manifest(body["number"], body["positions"], body["views"])

    def write(self, lake: Path) -> None:
        """Put this in place of the old one, at once."""
        aside = lake / "manifest.json.new"
        body = {"number": self.number, "positions": self.positions, "views": self.views}
        aside.write_text(json.dumps(body, indent=1, sort_keys=True))
        os.replace(aside, lake / "manifest.json")


def publish(store: Store, data: Path) -> Manifest:
    """Bring `data`/lake and `data`/analyst.duckdb up to what the store holds now; return what was published."""
    lake = data / "lake"
    last = Manifest.read(lake)
    number = last.number + 1
    _undo(lake, number)
    staging = lake / ".staging"
    staging.mkdir(parents=True)
    con = store.cursor()
    try:
        con.execute("BEGIN")  # one snapshot: rows and positions fit together
        positions = dict(con.execute("SELECT partition, next_offset FROM positions").fetchall())
        published = last.positions or {}
        _stage(con, staging, number, published)
        con.execute("COMMIT")
    finally:
        con.close()
    for path in sorted(staging.rglob("*.parquet")):
        target = lake / path.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    shutil.rmtree(staging)
    views = view_statements(data)
    digest = hashlib.blake2b("\n".join(views).encode(), digest_size=8).hexdigest()
    if digest != last.views or not (data / "analyst.duckdb").exists():
        _write_views(data, views)
    # A store that resumed may be behind what was published; the rows come again as they were.
    reached = {name: max(offset, published.get(name, 0)) for name, offset in positions.items()}
    manifest = Manifest(number, published | reached, digest)
    manifest.write(lake)
    return manifest


def connect(data: Path, *, writes_files: bool = False) -> duckdb.DuckDBPyConnection:
    """Return a connection that sees the lake's tables. Raises FileNotFoundError where nothing was published.

    Unless it `writes_files` (exports) it touches no file outside the lake.
    """
    if not (data / "lake" / "manifest.json").exists():
        raise FileNotFoundError(f"nothing has been published in {data / 'lake'}")
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    if not writes_files:
        con.execute(f"SET allowed_directories = [{literal(str((data / 'lake').resolve()) + '/')}]")
        con.execute("SET enable_external_access = false")
    for statement in view_statements(data):
        con.execute(statement)
    return con


def view_statements(data: Path) -> list[str]:
    """Return CREATE VIEW statements for the lake as it is.

    Views name the directory as it was when they were made; after a move, or in a container, an analyst says
    `SET VARIABLE tocsin_data = '/where/it/is/now'`.
    """
    root = f"coalesce(getvariable('tocsin_data'), {literal(str(data.resolve()))})"
    found = []
    for name, table in TABLES.items():
        pattern = next(_patterns(data / "lake", name), None)
        source = f"read_parquet({root} || '/lake/{pattern}')" if pattern else _nothing(table)
        found.append(f'CREATE VIEW "{name}" AS SELECT {column_list(table)} FROM {source}')
    return found


def _patterns(lake: Path, name: str) -> Iterator[str]:
    """Yield the file pattern of a table, where files of it exist."""
    for pattern in (f"{name}/date=*/*.parquet", f"{name}/*.parquet"):
        if next(lake.glob(pattern), None):
            yield pattern


def _nothing(table: Table) -> str:
    columns = ", ".join(f'NULL::{sql_type(dtype)} AS "{name}"' for name, dtype in table.columns.items())
    return f"(SELECT {columns} LIMIT 0)"


def _stage(con: duckdb.DuckDBPyConnection, staging: Path, number: int, published: dict[str, int]) -> None:
    """Write this publication's files into `staging`, laid out as in the lake."""
    schema = {"partition": pl.String(), "next_offset": pl.Int64()}
    frame = pl.DataFrame(list(published.items()), schema=schema, orient="row")
    con.register("published", frame)
    for name, table in TABLES.items():
        folder = staging / name
        columns = column_list(table)
        if name not in _GROWING:
            folder.mkdir()
            target = literal(str(folder / "data.parquet"))
            con.execute(f'COPY (SELECT {columns} FROM "{name}") TO {target} ({_PARQUET})')
            continue
        new = (
            f'FROM "{name}" t WHERE "offset" >= '
            f"coalesce((SELECT p.next_offset FROM published p WHERE p.partition = t.partition), 0)"
        )
        if "at" in table.columns:
            _stage_by_day(con, folder, f"part-{number:06d}.parquet", columns, new)
        elif con.execute(f"SELECT 1 {new} LIMIT 1").fetchall():
            folder.mkdir()
            target = literal(str(folder / f"part-{number:06d}.parquet"))
            con.execute(f"COPY (SELECT {columns} {new}) TO {target} ({_PARQUET})")
    con.unregister("published")


def _stage_by_day(con: duckdb.DuckDBPyConnection, folder: Path, file: str, columns: str, rows: str) -> None:
    """Write `rows` a day at a time: PARTITION_BY holds all days open, in three times the time and unbounded memory."""
    days = con.execute(f'SELECT DISTINCT CAST("at" AS DATE) AS d {rows} ORDER BY d').fetchall()
    for (day,) in days:
        target = folder / f"date={day}" / file
        target.parent.mkdir(parents=True)
        within = f"\"at\" >= TIMESTAMPTZ '{day} 00:00:00Z' AND \"at\" < TIMESTAMPTZ '{day} 00:00:00Z' + INTERVAL 1 DAY"
        con.execute(f"COPY (SELECT {columns} {rows} AND {within}) TO {literal(str(target))} ({_PARQUET})")


def _undo(lake: Path, number: int) -> None:
    """Remove what an interrupted publication `number`, or one of a deleted manifest, left behind."""
    shutil.rmtree(lake / ".staging", ignore_errors=True)
    for name in _GROWING:
        for path in lake.glob(f"{name}/**/part-*.parquet"):
            if int(path.stem.removeprefix("part-")) >= number:
                path.unlink()


def _write_views(data: Path, views: list[str]) -> None:
    fresh = data / "analyst.duckdb.new"
    fresh.unlink(missing_ok=True)
    with duckdb.connect(str(fresh)) as con:
        for statement in views:
            con.execute(statement)
    os.replace(fresh, data / "analyst.duckdb")
