"""A table as a file: Parquet, CSV or JSON lines, times in RFC 3339. Written aside and renamed."""

import os
from pathlib import Path

from duckdb import DuckDBPyConnection, IOException

from connectors.schema import TABLES
from connectors.sql import literal
from operators.events import TIMESTAMP
from query_api.fetch import QueryError

FORMATS = {
    ".parquet": "FORMAT parquet, COMPRESSION zstd",
    ".csv": "FORMAT csv, HEADER true",
    ".jsonl": "FORMAT json",
}


def export_table(con: DuckDBPyConnection, table: str, target: Path) -> Path:
    """Write `table` to `target`, a file whose name says the format or a directory (as Parquet); return the file.

    con: may write files. Raises QueryError on an unknown table or format, and where a file cannot be read or written.
    """
    if table not in TABLES:
        raise QueryError(f"there is no table {table}; tables are {', '.join(TABLES)}")
    file = target if target.suffix in FORMATS else target / f"{table}.parquet"
    if target.suffix and target.suffix not in FORMATS:
        raise QueryError(f"cannot write {target.suffix} files; name a directory or one of {', '.join(FORMATS)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(file.name + ".new")
    try:
        con.execute(f"COPY ({_select(table, file.suffix)}) TO {literal(str(aside))} ({FORMATS[file.suffix]})")
        os.replace(aside, file)
    except IOException as wrong:
        raise QueryError(f"cannot export {table}: {str(wrong).partition(chr(10))[0]}") from wrong
    finally:
        aside.unlink(missing_ok=True)
    return file


def _select(table: str, suffix: str) -> str:
    columns = []
    for name, dtype in TABLES[table].columns.items():
        quoted = f'"{name}"'
        if dtype == TIMESTAMP and suffix != ".parquet":
            columns.append(f"strftime({quoted} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ') AS {quoted}")
        elif name in ("attributes", "definition") and suffix == ".jsonl":
            columns.append(f"CAST({quoted} AS JSON) AS {quoted}")  # an object again, not text in text
        else:
            columns.append(quoted)
    order = {"events": '"at", partition, "offset"', "transitions": "incident_id, n", "incidents": "opened_at, id"}
    return f'SELECT {", ".join(columns)} FROM "{table}" ORDER BY {order.get(table, "ALL")}'
