"""How a question is put to the store: fixed SQL with named parameters, answered as a frame with times in UTC."""

import polars as pl
from duckdb import DuckDBPyConnection


class QueryError(ValueError):
    """A question that has no answer as it was put; the text says why and what to ask instead."""


def fetch(con: DuckDBPyConnection, sql: str, **values: object) -> pl.DataFrame:
    """Return the rows of `sql`, whose `$name` parameters are `values`."""
    frame: pl.DataFrame = con.sql(sql, params=values).pl()
    return frame
