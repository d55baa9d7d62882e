"""A person's own SQL, read-only: one statement that asks and changes nothing."""

import duckdb
import polars as pl
from duckdb import DuckDBPyConnection

from query_api.fetch import QueryError
from query_api.statement import StatementError, reading_statement


def run_sql(con: DuckDBPyConnection, text: str) -> pl.DataFrame:
    """Return the rows of one SELECT, FROM, DESCRIBE, SUMMARIZE or EXPLAIN. Raises QueryError with DuckDB's reason.

    con: a connection from `connectors.reader`, which neither writes nor reads other files.
    """
    try:
        return _frame(con.sql(reading_statement(text)))
    except (duckdb.Error, StatementError) as wrong:
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
