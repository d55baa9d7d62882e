"""The store's tables: their columns, and how rows of each are written.

The same names and columns stand in `store.duckdb` and in the views of `analyst.duckdb`; `docs/store.md` says what they
mean. A column's DuckDB type follows from the type it has in frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from operators.classify import CLAIMS
from operators.events import CONFIGURATIONS, DEAD_LETTERS, EVENTS, TIMESTAMP
from operators.output import ALERTS, INCIDENT_TENANTS, INCIDENTS, TRANSITIONS
from operators.rollup import DIMENSIONS, KEYED, KEYS

STORE_VERSION = 3

_TYPES = {
    pl.String(): "VARCHAR",
    pl.Int64(): "BIGINT",
    pl.Float64(): "DOUBLE",
    pl.Boolean(): "BOOLEAN",
    TIMESTAMP: "TIMESTAMPTZ",
    pl.Date(): "DATE",
    pl.List(pl.Int16()): "SMALLINT[]",
    pl.List(pl.Int64()): "BIGINT[]",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table. Rows with an equal `key` are the same row.

    `upsert`: a row replaces the one with its key. Otherwise rows are appended; with a key, they may come a second time
    (with equal values) after a resume, without one they lie at a position of the log and are dropped beyond it.
    """

    columns: Mapping[str, pl.DataType]
    key: tuple[str, ...] = ()
    upsert: bool = False

    @property
    def by_position(self) -> bool:
        """True where a row belongs to one record of the log."""
        return not self.key


TABLES: dict[str, Table] = {
    "events": Table(EVENTS),
    "claims": Table({"partition": pl.String(), **CLAIMS}),
    "dead_letters": Table(DEAD_LETTERS),
    "configurations": Table(CONFIGURATIONS),
    "incidents": Table(INCIDENTS, key=("id",), upsert=True),
    "incident_tenants": Table(INCIDENT_TENANTS, key=("incident_id", "tenant"), upsert=True),
    "transitions": Table(TRANSITIONS, key=("incident_id", "n")),
    "alerts": Table(ALERTS, key=("id",)),
    "rollup_1m": Table(
        {
            "minute": TIMESTAMP,
            **dict.fromkeys(DIMENSIONS, pl.String()),
            "count": pl.Int64(),
            "errors": pl.Int64(),
            "value_count": pl.Int64(),
            "value_sum": pl.Float64(),
        }
    ),
    "histogram_1m": Table(
        {
            "minute": TIMESTAMP,
            **dict.fromkeys(DIMENSIONS, pl.String()),
            "bin": pl.Int64(),
            "value": pl.Float64(),  # what stands for all values of the bin
            "count": pl.Int64(),
        }
    ),
    "rules": Table(
        {"rule_id": pl.String(), "version": pl.String(), "definition": pl.String()},
        key=("rule_id", "version"),
        upsert=True,
    ),
}

# Shown by views, each in its own way; every other table is one of the store's.
VIEWS = ("events", "rollup_1m", "histogram_1m")

# Rows of rollups of one key add up; they are not written through `store_rows`.
_ADDS_UP = ("start", "key", "session")

# What the store keeps for itself: how far it got, what it is, and which files of events count.
BOOKKEEPING: dict[str, Table] = {
    "positions": Table(
        {"partition": pl.String(), "next_offset": pl.Int64(), "watermark": TIMESTAMP}, key=("partition",), upsert=True
    ),
    "meta": Table({"key": pl.String(), "value": pl.String()}, key=("key",), upsert=True),
    "event_files": Table(
        {
            "path": pl.String(),  # relative to the data directory
            "day": pl.Date(),
            "rows": pl.Int64(),
            "bytes": pl.Int64(),
            "first_at": TIMESTAMP,
            "last_at": TIMESTAMP,
        },
        key=("path",),
    ),
    "event_spans": Table(
        {
            "path": pl.String(),
            "partition": pl.String(),
            "rows": pl.Int64(),
            "first_offset": pl.Int64(),
            "last_offset": pl.Int64(),
        },
        key=("path", "partition"),
    ),
    # Minutes that a replay wrote into files of the lake, at the position that the log had reached with each.
    "rollup_files": Table({"partition": pl.String(), "offset": pl.Int64(), "path": pl.String(), "rows": pl.Int64()}),
    "rollup_keys": Table(KEYS, key=("key",)),
    # At the position that the log had reached with each row, so that it goes where the log is taken back.
    "hot_rollups": Table({"partition": pl.String(), "offset": pl.Int64(), **KEYED}),
    # What nothing takes back any more.
    "rollup_minutes": Table(KEYED, key=_ADDS_UP),
    # Sums of these, see `connectors.rolled.LEVELS`; those that are open are of hours and days that go on, in pieces.
    "rollup_hours": Table(KEYED, key=_ADDS_UP),
    "rollup_sources": Table(KEYED, key=_ADDS_UP),
    "rollup_types": Table(KEYED, key=_ADDS_UP),
    "rollup_days": Table(KEYED, key=_ADDS_UP),
    "rollup_day_sources": Table(KEYED, key=_ADDS_UP),
    "open_hours": Table(KEYED, key=_ADDS_UP),
    "open_sources": Table(KEYED, key=_ADDS_UP),
    "open_types": Table(KEYED, key=_ADDS_UP),
    "open_days": Table(KEYED, key=_ADDS_UP),
    "open_day_sources": Table(KEYED, key=_ADDS_UP),
}


def sql_type(dtype: pl.DataType) -> str:
    """Return the DuckDB type of a frame's column."""
    return _TYPES[dtype]


def column_list(table: Table) -> str:
    """Return the quoted column names, comma-separated (`offset` and `at` are words of SQL)."""
    return ", ".join(f'"{name}"' for name in table.columns)


def no_rows(table: Table) -> str:
    """Return a SELECT of the table's columns that has no rows."""
    columns = ", ".join(f'NULL::{sql_type(dtype)} AS "{name}"' for name, dtype in table.columns.items())
    return f"SELECT {columns} LIMIT 0"


def create_table(name: str, table: Table) -> str:
    """Return the CREATE TABLE statement. No indexes: they slow a bulk insert, and columns are scanned fast."""
    columns = (f'"{column}" {sql_type(dtype)}' for column, dtype in table.columns.items())
    return f'CREATE TABLE "{name}" ({", ".join(columns)})'
