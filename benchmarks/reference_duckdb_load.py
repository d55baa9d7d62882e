"""The yardstick for storing everything: DuckDB alone reads the JSON lines into a table of a database file.

Explicit columns, the payload kept as JSON text, times as timestamps; no detection, nothing else.

    python -m benchmarks.reference_duckdb_load bench-data/events.jsonl --out bench-data/load.duckdb
"""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb

LOAD = """
    create table events as
    select time, workspace, integrationKey as source, eventType as type, errorCode as code, tenantId as tenant,
        rawPayload as attributes
    from read_json($file, format = 'newline_delimited', columns = {
        time: 'TIMESTAMPTZ', workspace: 'VARCHAR', integrationKey: 'VARCHAR', eventType: 'VARCHAR',
        errorCode: 'VARCHAR', tenantId: 'VARCHAR', rawPayload: 'VARCHAR'})
"""


def run(file: Path, out: Path, threads: int = 2) -> int:
    """Load a file into a new database; returns the number of events."""
    out.unlink(missing_ok=True)
    with duckdb.connect(str(out), config={"threads": threads}) as con:
        con.execute("set timezone = 'UTC'")
        con.execute(LOAD, {"file": str(file)})
        rows = con.sql("select count(*) from events").fetchall()
    return int(rows[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(description="JSON lines into a DuckDB table.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="database, replaced")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(f"{run(options.file, options.out, options.threads):,} events")


if __name__ == "__main__":
    main()
