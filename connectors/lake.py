"""The lake: what the store holds as Parquet, for analysts and archives, readable while the store is in use.

    lake/events/date=2025-03-26/part-000012.parquet   the events themselves, by day of `at` (UTC): the store's own files
    lake/claims/part-000012.parquet                   what came since the last publication
    lake/rollup_1m/date=2025-03-26/data.parquet       minutes, by day: as of the last publication in which it changed
    lake/rollup_1m/part-000012.parquet                minutes of one flush of a replay: the store's own files
    lake/incidents/data.parquet                       and every other table: as of the last publication
    lake/manifest.json                                the last publication: number, how far it got, files of events
    analyst.duckdb                                    a view for each table; open it read-only

Guarantee: files are written aside and renamed; a publication that was interrupted is undone by the next one. Each small
table is replaced as a whole. `analyst.duckdb` names the event files that counted when it was published, no others: what
a flush has written and not committed, or a resumed run has taken back, is not in it. An incident shows up a moment
before its last events. A crash at any point leaves the last `analyst.duckdb` whole, and every file that it names.

Lost when somebody removes `lake/events`: the events; there is no other copy. With the parts of `lake/rollup_1m` goes
what a replay rolled up. What a publication only adds to, claims and changed days of rollups, comes again as a whole
where `lake/manifest.json` is removed, too. All other tables come again with the next publication.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl

from connectors import event_catalogue as catalogue
from connectors import rolled, rollup_files
from connectors.event_files import events_select, root
from connectors.manifest import Manifest
from connectors.schema import TABLES, VIEWS, Table, column_list, no_rows
from connectors.sql import literal
from connectors.store import Store
from connectors.store_file import confine, settle
from operators.rollup import ROLLUP

# Published in parts, since it only grows.
_GROWING = "claims"
# Publications for which a file stays that no longer counts: an hour, where there is one a minute.
KEPT = 60
# Against zstd and version 1: 1.4 times as fast, a third larger.
_PARQUET = "FORMAT parquet, COMPRESSION snappy, PARQUET_VERSION V2"


def publish(store: Store, data: Path, *, last: bool = False) -> Manifest:
    """Bring `data`/lake and `data`/analyst.duckdb up to what the store holds now; return what was published.

    To be called by the store's writer. Hot rows become files, and many small files few. last: nobody will publish for a
    while, so files that no longer count go at once.
    """
    lake = data / "lake"
    before = Manifest.read(lake)
    number = before.number + 1
    _undo(lake, number)
    # First: what is merged below may be in the hands of a reader of the store that has just begun.
    kept = {path: since for path, since in before.kept.items() if number - since < KEPT}
    store.sweep({*before.events, *kept})
    store.roll()
    store.merge()
    staging = lake / ".staging"
    staging.mkdir(parents=True)
    con = store.cursor()
    try:
        con.execute("BEGIN")  # one snapshot: rows, files and positions fit together
        positions = dict(con.execute("SELECT partition, next_offset FROM positions").fetchall())
        events, minutes = catalogue.paths(con), rollup_files.paths(con)
        _stage(con, staging, number, before.positions)
        days = rolled.days(con)
        for day in days:
            if days[day] != before.rollups.get(day):
                rolled.write_day(con, day, staging / "rollup_1m" / f"date={day}")
        con.execute("COMMIT")
    finally:
        con.close()
    for path in sorted(staging.rglob("*.parquet")):
        target = lake / path.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    shutil.rmtree(staging)
    for day in set(before.rollups).difference(days):  # a resumed run took it back
        shutil.rmtree(lake / "rollup_1m" / f"date={day}", ignore_errors=True)
    views = view_statements(data, events, minutes)
    digest = hashlib.blake2b("\n".join(views).encode(), digest_size=8).hexdigest()
    if digest != before.views or not (data / "analyst.duckdb").exists():
        # The files it names must outlive a crash between these two lines, whatever a resumed run takes back.
        both = tuple(dict.fromkeys((*before.rollup_files, *minutes)))
        replace(before, kept={**kept, **dict.fromkeys(events, number)}, rollup_files=both).write(lake)
        _write_views(data, views)
    kept = {path: since for path, since in kept.items() if path not in events}
    kept |= dict.fromkeys(set(before.events).difference(events), number)
    # A store that resumed may be behind what was published; the rows come again as they were.
    reached = {name: max(offset, before.positions.get(name, 0)) for name, offset in positions.items()}
    manifest = Manifest(
        number,
        {**before.positions, **reached},
        tuple(events),
        {} if last else kept,
        digest,
        days,
        tuple(minutes),
    )
    manifest.write(lake)
    if last:
        store.sweep()
    return manifest


def connect(data: Path, *, writes_files: bool = False) -> duckdb.DuckDBPyConnection:
    """Return a connection that sees the lake's tables. Raises FileNotFoundError where nothing was published.

    Unless it `writes_files` (exports) it touches no file outside the lake.
    """
    manifest = Manifest.read(data / "lake")
    if not manifest.number:
        raise FileNotFoundError(f"nothing has been published in {data / 'lake'}")
    con = duckdb.connect()
    settle(con, data)
    if not writes_files:
        confine(con, data)
    for statement in view_statements(data, manifest.events, manifest.rollup_files):
        con.execute(statement)
    return con


def view_statements(data: Path, events: Iterable[str], minutes: Sequence[str]) -> list[str]:
    """Return CREATE VIEW statements for the lake as it is, with these files of events and of minutes.

    Views name the directory as it was when they were made; after a move, or in a container, an analyst says
    `SET VARIABLE tocsin_data = '/where/it/is/now'`.
    """
    found = []
    for name, table in TABLES.items():
        if name == "events":
            select = events_select(data, events)
        elif name in rolled.VIEWS:
            sources = [_files(data, "rollup_1m", "date=*/*.parquet"), rollup_files.source(data, minutes)]
            parts = [f"SELECT {rolled.COLUMNS} FROM {source}" for source in sources if source is not None]
            select = rolled.view(name, f"({' UNION ALL '.join(parts) or no_rows(Table(ROLLUP))})")
        else:
            select = f"SELECT {column_list(table)} FROM {_files(data, name, '*.parquet') or f'({no_rows(table)})'}"
        found.append(f'CREATE VIEW "{name}" AS {select}')
    return found


def _files(data: Path, name: str, pattern: str) -> str | None:
    """Return SQL for the files of a table, None where there are none."""
    if next((data / "lake" / name).glob(pattern), None) is None:
        return None
    return f"read_parquet({root(data)} || '/lake/{name}/{pattern}', hive_partitioning = false)"


def _stage(con: duckdb.DuckDBPyConnection, staging: Path, number: int, published: Mapping[str, int]) -> None:
    """Write this publication's files into `staging`, laid out as in the lake. Events have files, rollups come later."""
    for name, table in TABLES.items():
        if name in VIEWS:
            continue
        select, file = f'SELECT {column_list(table)} FROM "{name}"', "data.parquet"
        if name == _GROWING:
            select, file = f"{select} t WHERE {_is_new(con, published)}", f"part-{number:06d}.parquet"
            if not con.execute(f"{select} LIMIT 1").fetchall():
                continue
        (staging / name).mkdir()
        con.execute(f"COPY ({select}) TO {literal(str(staging / name / file))} ({_PARQUET})")


def _is_new(con: duckdb.DuckDBPyConnection, published: Mapping[str, int]) -> str:
    """Return SQL for what lies beyond what was published, of a table `t`."""
    schema = {"partition": pl.String(), "next_offset": pl.Int64()}
    con.register("published", pl.DataFrame(list(published.items()), schema=schema, orient="row"))
    known = "SELECT p.next_offset FROM published p WHERE p.partition = t.partition"
    return f'"offset" >= coalesce(({known}), 0)'


def _undo(lake: Path, number: int) -> None:
    """Remove what an interrupted publication `number`, or one of a deleted manifest, left behind."""
    shutil.rmtree(lake / ".staging", ignore_errors=True)
    for path in lake.glob(f"{_GROWING}/part-*.parquet"):
        if int(path.stem.removeprefix("part-")) >= number:
            path.unlink()


def _write_views(data: Path, views: list[str]) -> None:
    fresh = data / "analyst.duckdb.new"
    fresh.unlink(missing_ok=True)
    with duckdb.connect(str(fresh)) as con:
        for statement in views:
            con.execute(statement)
    os.replace(fresh, data / "analyst.duckdb")
