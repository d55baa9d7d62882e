"""Which rows of which table are a workspace's own, and how to get at them without a copy of the others'.

Everything that shows a person tables of one workspace goes by this catalogue. A new table of the store is in SHARES, or
in LEFT_OUT with the reason; a test sees to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from connectors import rolled
from connectors.event_catalogue import HOT
from connectors.manifest import Manifest
from connectors.schema import TABLES, column_list, create_table, no_rows
from connectors.sql import SCRATCH, scratch
from operators.rollup import rollup

_ITS_INCIDENTS = "t.incident_id IN (SELECT i.id FROM incidents i WHERE i.workspace = $workspace)"
_OWN = "t.workspace = $workspace"

# Of a table `t`: the condition for a row to be that of `$workspace`.
SHARES: dict[str, str] = {
    "events": _OWN,
    "claims": _OWN,
    "configurations": _OWN,
    "rollup_1m": _OWN,
    "histogram_1m": _OWN,
    "incidents": _OWN,
    "incident_tenants": _ITS_INCIDENTS,
    "transitions": _ITS_INCIDENTS,
    "alerts": _OWN,
    # A version tells what somebody has set: only those that are in the workspace's own incidents anyway.
    "rules": "(t.rule_id, t.version) IN (SELECT (i.rule_id, i.rule_version) FROM incidents i "
    "WHERE i.workspace = $workspace UNION SELECT (i.rule_id, s.rule_version) FROM incidents i "
    "JOIN transitions s ON s.incident_id = i.id WHERE i.workspace = $workspace)",
}
LEFT_OUT: dict[str, str] = {
    "dead_letters": "what could not be read does not say whose it is",
}

_UNWRITTEN = "mem_events"  # as `connectors.live_store` names them in its readers
_BATCH = 16_384  # rows


@dataclass(frozen=True, slots=True)
class File:
    """A file of events of all workspaces: its whole path, and between which `at` (µs) they lie where that is known."""

    path: str
    first_at: int | None = None
    last_at: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A workspace's rows of a table, to be read once; of `events` those that are in no file, and the files."""

    name: str
    rows: pa.RecordBatchReader
    files: tuple[File, ...] = ()


def definitions() -> Mapping[str, str]:
    """Return a CREATE TABLE statement for each table that workspaces share."""
    return {name: create_table(name, TABLES[name]) for name in SHARES}


def shares(con: duckdb.DuckDBPyConnection, workspace: str, names: Iterable[str]) -> Iterator[Share]:
    """Yield a workspace's rows of some tables, one after the other.

    con: sees one instant of a store or a lake, such as `LiveStore.reading` gives; it is in use until the next one.
    """
    there = _names(con)
    for name in names:
        with ExitStack() as stack:  # what a share reads of memory goes with it
            files: Iterable[File] = ()
            columns = column_list(TABLES[name])
            sources = [f'"{name}"']
            if name == "events":
                sources, files = _events(con, there)
            elif name in rolled.VIEWS and _UNWRITTEN in there:
                own = f"SELECT {rolled.READ_COLUMNS} FROM {_UNWRITTEN} t WHERE {_OWN}"
                stack.enter_context(scratch(con, rollup(con.sql(own, params={"workspace": workspace}).pl())))
                sources = [f"({rolled.view(name, rolled.with_more(SCRATCH))})"]
            every = " UNION ALL ".join(f"SELECT {columns} FROM {source}" for source in sources) or no_rows(TABLES[name])
            select = f"SELECT {columns} FROM ({every}) t WHERE {SHARES[name]}"
            rows = con.sql(select, params={"workspace": workspace}).to_arrow_reader(_BATCH)
            yield Share(name, rows, tuple(files))


def _names(con: duckdb.DuckDBPyConnection) -> set[str]:
    """The tables and views that a connection sees."""
    names = "SELECT table_name FROM duckdb_tables() UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal"
    return {name for (name,) in con.execute(names).fetchall()}


def _events(con: duckdb.DuckDBPyConnection, there: set[str]) -> tuple[list[str], Iterable[File]]:
    """The tables of events that are in no file yet, and the files."""
    [(data,)] = con.execute("SELECT getvariable('tocsin_data')").fetchall()
    if HOT not in there:  # a lake: as of its last publication
        listed = Manifest.read(Path(data) / "lake").events
        return [], [File(f"{data}/{path}") for path in listed]
    rows = con.execute("SELECT path, epoch_us(first_at), epoch_us(last_at) FROM event_files ORDER BY path").fetchall()
    return [HOT, *({_UNWRITTEN} & there)], [File(f"{data}/{path}", first, last) for path, first, last in rows]
