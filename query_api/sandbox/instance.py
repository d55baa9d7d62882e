"""A DuckDB in memory that holds one workspace's rows, and from then on cannot be changed or get at anything else."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs

THREADS = 2
# Out of the way of who lists the tables; it holds the workspace's own rows like all others.
_ROWS = "unfiled.events"
# Few values each: read as what they are in the file, a dictionary, which is twice as fast.
_REPEATING = ["workspace", "stream", "source", "type", "severity", "partition", "rule_id", "confidence"]
# Whatever path these name, the statement named it.
_ABOUT_THE_TEXT = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.PermissionException)
_LOCAL = pyarrow.fs.LocalFileSystem()


class Gone(Exception):
    """A file of events is not there any more."""


class _Files(ds.FileSystemDataset):  # type: ignore[misc]  # of a package without types
    """Files that are read a little ahead, not a lot: else ten rows of large payloads would take gigabytes."""

    def scanner(self, **wanted: Any) -> ds.Scanner:
        return super().scanner(**wanted, batch_size=16_384, batch_readahead=4, fragment_readahead=1)


def opened(memory: str, definitions: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    """Return an empty instance with these tables. memory: what it may take, `512MB`."""
    con = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory,
            "threads": THREADS,
            "temp_directory": "",  # what does not fit into memory does not go anywhere else
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",  # else the names of our variables would be tables
        },
    )
    con.execute("SET TimeZone = 'UTC'")
    con.execute("CREATE SCHEMA unfiled")
    for name, definition in definitions.items():
        con.execute(definition if name != "events" else definition.replace('"events"', _ROWS, 1))
    if "events" in definitions:
        _show_events(con)
    return con


def mentioned(sql: str, tables: Iterable[str]) -> list[str]:
    """Return the tables that a statement can possibly read: it has to name them somewhere in its text."""
    return [name for name in tables if re.search(rf"(?<![a-z0-9_]){name}(?![a-z0-9_])", sql, re.IGNORECASE)]


def fill(con: duckdb.DuckDBPyConnection, name: str, rows: pa.RecordBatchReader) -> None:
    """Take over rows of a table; of `events` those that are in no file."""
    con.register("incoming", rows)
    con.execute(f"INSERT INTO {_ROWS if name == 'events' else name} BY NAME FROM incoming")
    con.unregister("incoming")


def attach_files(con: duckdb.DuckDBPyConnection, workspace: str, files: Sequence[Any]) -> None:
    """Let `events` show a workspace's rows of files, too, without reading them yet.

    files: path, and between which `at` (µs) its events lie. The condition is a part of the data set itself: no
    statement gets at the rest. Raises Gone.
    """
    if not files:
        return
    try:
        kind = ds.ParquetFileFormat(read_options=ds.ParquetReadOptions(dictionary_columns=_REPEATING))
        schema = kind.inspect(files[0][0], _LOCAL)
        fragments = [kind.make_fragment(path, _LOCAL, _between(schema, *bounds)) for path, *bounds in files]
        every = _Files(fragments, schema, kind, _LOCAL)
    except (OSError, pa.ArrowException) as wrong:
        raise Gone from wrong
    _show_events(con, every.filter(pc.field("workspace") == workspace))


def lock(con: duckdb.DuckDBPyConnection) -> None:
    """No file, no network, no change to settings or tables from here on; this cannot be taken back."""
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    con.execute("BEGIN TRANSACTION READ ONLY")


def gone(wrong: Exception, files: Sequence[Any]) -> bool:
    """Whether an error is that a file could not be read. Its text would tell where our files are."""
    if isinstance(wrong, _ABOUT_THE_TEXT):
        return False
    roots = {str(Path(path).parents[1]) for path, *_ in files}
    return any(root in str(wrong) for root in roots)


def _between(schema: pa.Schema, first: int | None, last: int | None) -> pc.Expression | None:
    """What holds for all rows of a file: lets a question about another day pass it by."""
    if first is None or last is None:
        return None
    low, high = (pa.scalar(at, pa.int64()).cast(schema.field("at").type) for at in (first, last))
    return (pc.field("at") >= low) & (pc.field("at") <= high)


def _show_events(con: duckdb.DuckDBPyConnection, files: ds.Dataset | None = None) -> None:
    columns = [f'"{name}"' for name, *_ in con.execute(f"DESCRIBE {_ROWS}").fetchall()]
    every = con.sql(f"FROM {_ROWS}")
    if files is not None:
        every = con.from_arrow(files).project(", ".join(columns)).union(every)
    # An event that was given no id goes by its position, as everywhere.
    spelt = {'"id"': "coalesce(id, partition || ':' || \"offset\") AS id"}
    every.project(", ".join(spelt.get(name, name) for name in columns)).create_view("events", replace=True)
