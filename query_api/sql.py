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
        return _frame(con.sql(statements[0]))
    except duckdb.Error as wrong:
        raise QueryError(str(wrong).strip()) from wrong


def _frame(answer: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """The rows as a frame; intervals as text, for which Polars has no type."""
    columns = zip(answer.columns, answer.types, strict=True)
    names = [f'"{name.replace(chr(34), 2 * chr(34))}"' for name in answer.columns]
    texts = [
        f"CAST({quoted} AS VARCHAR) AS {quoted}" if str(kind) == "INTERVAL" else quoted
        for quoted, (_, kind) in zip(names, columns, strict=True)
    ]
    frame: pl.DataFrame = (answer.project(", ".join(texts)) if texts != names else answer).pl()
    return frame
