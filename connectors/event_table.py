"""The events of a store: hot rows in a native table, all others in files that the catalogue names.

An event is written once. Many at a time go straight into files; few at a time, as a live service has them, are hot
first, in the transaction of their flush, and `stage_hot` writes them out together later.

Every change has two halves. `stage…` writes files, which nobody sees yet; `apply`, within the transaction of whoever
calls it, makes them count and lets go of what they replace. After a crash in between, or an error, the files are left
over; the next `open` removes them. So does it with files that no longer count, unless a publication still shows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from connectors import event_catalogue as catalogue
from connectors import event_files as files
from connectors.event_catalogue import HOT
from connectors.event_files import EventFile
from connectors.manifest import Manifest
from connectors.schema import TABLES, column_list
from connectors.sql import SCRATCH, scratch
from connectors.store_file import StoreError

# Rows of one day that are worth a file of their own. Below, an event costs three times as much, but no file.
BULK = 50_000
# Rows of a merged file, at most: they are in memory while it is written.
MERGED = 500_000
_COLUMNS = column_list(TABLES["events"])


@dataclass(frozen=True, slots=True)
class Staged:
    """One half of a change. files: written. gone: paths that no longer count. hot: rows to append. cooled: all hot rows
    are in the files now."""

    files: Sequence[EventFile] = ()
    gone: Sequence[str] = ()
    hot: Sequence[pl.DataFrame] = ()
    cooled: bool = False


class EventTable:
    """The events of an open store, in the hands of its writer. con: the store's; data: the data directory."""

    def __init__(self, con: duckdb.DuckDBPyConnection, data: Path) -> None:
        self._con, self._data = con, data
        self._number = 0

    def open(self) -> None:
        """Remove what a crash or an error left over, and show the files where they lie now.

        Raises StoreError where files that count are missing: what is there stays as it is.
        """
        counting, manifest = set(catalogue.paths(self._con)), Manifest.read(self._data / "lake")
        missing = sorted(counting - files.present(self._data))
        if missing:
            raise StoreError(
                f"{len(missing):,} of {len(counting):,} files of events are missing, {self._data / missing[0]} for "
                "one: put them back, or replay again with --overwrite"
            )
        known = files.sweep(self._data, counting | manifest.known) | manifest.known
        self._number = max(map(files.number_of, known), default=0)
        catalogue.show(self._con, self._data)

    def sweep(self, keep: set[str]) -> None:
        """Remove files that do not count, but for those to be kept."""
        files.sweep(self._data, {*catalogue.paths(self._con), *keep})

    @property
    def hot_rows(self) -> int:
        """How many events are in no file yet."""
        [(rows,)] = self._con.execute(f"SELECT count(*) FROM {HOT}").fetchall()
        return int(rows)

    def stage(self, events: pl.DataFrame) -> Staged:
        """Write the days of which there are many events; the others are to become hot. events: EVENTS columns."""
        large, small = files.split(events, BULK)
        return Staged([self._file(day, rows) for day, rows in large], hot=small)

    def stage_hot(self) -> Staged:
        """Write all hot rows."""
        rows = self._con.sql(f"SELECT {_COLUMNS} FROM {HOT}").pl()
        return Staged([self._file(day, part) for day, part in files.by_day(rows)], cooled=True)

    def stage_merged(self, paths: Sequence[str]) -> Staged:
        """Write the rows of some files of a day as one."""
        [(day, rows)] = files.by_day(files.read(self._data, paths))
        return Staged([self._file(day, rows)], gone=paths)

    def stage_before(self, positions: Mapping[str, int]) -> Staged:
        """Prepare to drop what lies beyond positions (partition -> next offset): files that lie there in part are
        written anew without it."""
        wholly, partly = catalogue.beyond(self._con, positions)
        limits = pl.DataFrame(
            list(positions.items()), schema={"partition": pl.String(), "next_offset": pl.Int64()}, orient="row"
        )
        kept = []
        for path in partly:
            rows = files.read(self._data, [path]).join(limits, on="partition", how="left", maintain_order="left")
            [(day, rest)] = files.by_day(rows.filter(pl.col("offset") < pl.col("next_offset").fill_null(0)))
            kept.append(self._file(day, rest))
        return Staged(kept, gone=[*wholly, *partly])

    def apply(self, staged: Staged) -> None:
        """Make a change, within a transaction."""
        if staged.cooled:
            self._con.execute(f"DELETE FROM {HOT}")
        for rows in staged.hot:
            with scratch(self._con, rows):
                self._con.execute(f"INSERT INTO {HOT} ({_COLUMNS}) SELECT {_COLUMNS} FROM {SCRATCH}")
        if staged.gone or staged.files:
            catalogue.change(self._con, self._data, staged.gone, staged.files)

    def mergeable(self, least: int) -> list[list[str]]:
        """Return groups of at least so many small files of a day that are worth one file."""
        return catalogue.mergeable(catalogue.sizes(self._con), least, MERGED)

    def _file(self, day: date, rows: pl.DataFrame) -> EventFile:
        self._number += 1
        return files.write(self._data, day, rows, self._number)
