"""A person's own SQL, read-only: one statement that asks and changes nothing."""

import duckdb
import polars as pl
from duckdb import DuckDBPyConnection

from query_api.fetch import QueryError

# Of these EXPLAIN could still wrap something that writes; the connection itself is read-only as well.
_ASKING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def run_sql(con: DuckDBPyConnection, text: str) -> pl.DataFrame:
    """Return the rows of one SELECT, FROM, DESCRIBE, SUMMARIZE or EXPLAIN. Raises QueryError with DuckDB's reason.

    con: a connection from `connectors.reader`, which neither writes nor reads other files.
    """
    try:
        statements = con.extract_statements(text)
        if len(statements) != 1:
            raise QueryError(f"expected one SQL statement, got {len(statements)}")
        if statements[0].type not in _ASKING:
            raise QueryError(f"only statements that read are possible, not {statements[0].type.name}")
        frame: pl.DataFrame = con.sql(statements[0]).pl()
        return frame
    except duckdb.Error as wrong:
        raise QueryError(str(wrong).strip()) from wrong
