"""Reading what a data directory holds: from the store, or from the lake while somebody else has the store open.

Guarantee: read-only, and no file outside the data directory's lake can be read through the connection.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from connectors import lake
from connectors.store_file import StoreError, StoreLockedError, check_version, confine, connect


@dataclass(frozen=True, slots=True)
class Reading:
    """A connection, and where it reads: `store` (all that was flushed) or `lake` (as of the last publication)."""

    connection: duckdb.DuckDBPyConnection
    origin: str


def open_reader(data: Path, *, writes_files: bool = False) -> Reading:
    """Open `data` for reading. Raises StoreError where there is nothing to read, with what to do about it.

    writes_files: for exports, which never run a person's own SQL; without it the connection touches no other file.
    """
    path = data / "store.duckdb"
    if not path.exists() and not (data / "lake").exists():
        raise StoreError(
            f"there is no store in {data}: `tocsin replay` and `tocsin serve` make one, --data names another directory"
        )
    try:
        return Reading(_store(path, writes_files), "store")
    except StoreError as wrong:
        if path.exists() and not isinstance(wrong, StoreLockedError):
            raise
        try:
            return Reading(lake.connect(data, writes_files=writes_files), "lake")
        except FileNotFoundError:
            raise StoreError(
                f"{wrong}, and nothing has been published in {data / 'lake'} yet: wait for it, or ask the service's API"
            ) from None


def _store(path: Path, writes_files: bool) -> duckdb.DuckDBPyConnection:
    con = connect(path, read_only=True)
    try:
        check_version(path, con)
    except StoreError:
        con.close()
        raise
    if not writes_files:
        confine(con, path.parent)
    return con
