"""Opening the DuckDB file of a store: by whom, of which version, and the reasons why not."""

from pathlib import Path

import duckdb

from connectors.schema import STORE_VERSION
from connectors.sql import literal


class StoreError(Exception):
    """The store cannot be used; the text says why in one sentence."""


class StoreLockedError(StoreError):
    """Another process, or another connection of this one, holds the store."""


class OutdatedStoreError(StoreError):
    """An older version wrote the store. Nothing is wrong with it, but this one does not read its layout."""


def connect(path: Path, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Open the DuckDB file at `path`, in UTC, with its views over the directory it lies in now.

    Raises StoreError, StoreLockedError.
    """
    if not path.is_file():
        raise StoreError(f"there is no store at {path}")
    try:
        connection = duckdb.connect(str(path), read_only=read_only)
    except duckdb.Error as wrong:
        text = str(wrong)
        if "lock" in text or "different configuration" in text:
            raise StoreLockedError(f"{path} is in use by another process") from wrong
        raise StoreError(f"cannot open {path}: {first_line(wrong)}") from wrong
    settle(connection, path.parent)
    return connection


def settle(connection: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Let a connection, or a cursor of one, see times in UTC and the files of events where they are now."""
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET VARIABLE tocsin_data = {literal(str(data.resolve()))}")


def confine(connection: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Let a connection read the files of the lake and no others; this cannot be taken back."""
    connection.execute(f"SET allowed_directories = [{literal(str((data / 'lake').resolve()) + '/')}]")
    connection.execute("SET enable_external_access = false")


def check_version(path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Raise StoreError where the file is no store, or one that another version wrote."""
    try:
        rows = connection.execute("SELECT value FROM meta WHERE key = 'store_version'").fetchall()
    except duckdb.CatalogException:
        rows = []
    if not rows:
        raise StoreError(f"{path} is a DuckDB file, but no Tocsin store")
    version = int(rows[0][0])
    if version > STORE_VERSION:
        raise StoreError(
            f"{path} was written by a newer version of Tocsin (store version {version}, this one reads "
            f"{STORE_VERSION}); use that version, or replay into another directory"
        )
    if version < STORE_VERSION:
        raise OutdatedStoreError(
            f"{path} was written by an older version of Tocsin (store version {version}, this one reads "
            f"{STORE_VERSION}); replay again, with --overwrite or into another directory"
        )


def first_line(wrong: Exception) -> str:
    """Return the first line of an error's text."""
    return str(wrong).partition("\n")[0]
