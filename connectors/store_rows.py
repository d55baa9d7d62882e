"""Rows of the store's native tables: appended, or in place of those with their key. Within the writer's transaction."""

import duckdb
import polars as pl

from connectors.schema import BOOKKEEPING, TABLES, column_list
from connectors.sql import SCRATCH, scratch
from connectors.store_file import StoreError

_ALL = {**TABLES, **BOOKKEEPING}


def check_columns(name: str, frame: pl.DataFrame) -> None:
    """Raise StoreError where a frame does not have exactly the columns of a table."""
    if name not in TABLES:
        raise StoreError(f"the store has no table {name}")
    missing = [column for column in TABLES[name].columns if column not in frame.columns]
    unknown = [column for column in frame.columns if column not in TABLES[name].columns]
    if missing or unknown:
        raise StoreError(f"rows for {name} lack {missing} and have {unknown} too many")


def write(con: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame, *, repeating: bool) -> None:
    """Write rows of a table, not `events`; of those with one key the last counts. repeating: they may be there."""
    if frame.is_empty():
        return
    table = _ALL[name]
    if table.key:
        frame = frame.unique(list(table.key), keep="last", maintain_order=True)
    columns = column_list(table)
    with scratch(con, frame):
        if table.upsert or (table.key and repeating):
            same = " AND ".join(f'"{name}"."{column}" = i."{column}"' for column in table.key)
            con.execute(f'DELETE FROM "{name}" USING {SCRATCH} i WHERE {same}')
        con.execute(f'INSERT INTO "{name}" ({columns}) SELECT {columns} FROM {SCRATCH}')
