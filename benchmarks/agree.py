"""Do two programs find the same incidents? Compares by workspace, rule, group and `opened_at`, and what happened since.

python -m benchmarks.agree bench-data/reference.parquet data/store.duckdb
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb

REFERENCE = """
    select workspace, rule_id, source as group_key, epoch_us(opened_at::timestamp) as opened_us,
        epoch_us(first_event_at::timestamp) as first_us, epoch_us(last_event_at::timestamp) as last_us,
        event_count::bigint as events, reopen_count::bigint as reopens
"""
STORE = REFERENCE.replace("source as group_key", "group_key").replace("::timestamp", "")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many incidents either side has, how many rows differ, and the first few that do."""

    reference: int
    other: int
    different: int
    examples: tuple[str, ...]


def _rows(con: duckdb.DuckDBPyConnection, name: str, file: Path) -> None:
    """A table `name` of comparable rows from a store, a Parquet or a JSON lines file."""
    if file.suffix == ".duckdb":
        con.execute(f"attach '{file}' as store_{name} (read_only)")
        con.execute(f"create table {name} as {STORE} from store_{name}.incidents")
    elif file.suffix == ".parquet":
        con.execute(f"create table {name} as {REFERENCE} from read_parquet($file)", {"file": str(file)})
    else:
        con.execute(f"create table {name} as {REFERENCE} from read_json($file)", {"file": str(file)})


def compare(reference: Path, other: Path) -> Agreement:
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    _rows(con, "a", reference)
    _rows(con, "b", other)
    con.execute("create table d as select 'only in the reference' as side, * from (from a except all from b)")
    con.execute("insert into d select 'only in the other' as side, * from (from b except all from a)")

    def count(table: str) -> int:
        return int(con.sql(f"select count(*) from {table}").fetchall()[0][0])

    rows = con.sql("from d order by workspace, rule_id, group_key, opened_us, side limit 6").fetchall()
    return Agreement(count("a"), count("b"), count("d"), tuple(str(row) for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the incidents of two programs.")
    parser.add_argument("reference", type=Path, help="Parquet or JSON lines of a reference")
    parser.add_argument("other", type=Path, help="the same, or a store")
    options = parser.parse_args()
    result = compare(options.reference, options.other)
    print(f"{result.reference:,} and {result.other:,} incidents, {result.different:,} rows differ")
    for example in result.examples:
        print(" ", example)
    sys.exit(1 if result.different else 0)


if __name__ == "__main__":
    main()
