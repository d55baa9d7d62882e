"""How a question is put to the store: fixed SQL with named parameters, answered as a frame with times in UTC."""

import polars as pl
from duckdb import DuckDBPyConnection, IOException


class QueryError(ValueError):
    """A question that has no answer as it was put; the text says why and what to ask instead."""


def fetch(con: DuckDBPyConnection, sql: str, **values: object) -> pl.DataFrame:
    """Return the rows of `sql`, whose `$name` parameters are `values`.

    Raises QueryError where files of events cannot be read: somebody has removed them.
    """
    try:
        frame: pl.DataFrame = con.sql(sql, params=values).pl()
    except IOException as wrong:
        raise QueryError(f"events cannot be read: {str(wrong).partition(chr(10))[0]}") from wrong
    return frame
