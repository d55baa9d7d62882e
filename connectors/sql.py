"""Text inside SQL statements, for the few places that take no parameter: COPY, views, settings; frames as tables."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import polars as pl

# The one name under which statements read a frame.
SCRATCH = "incoming"


def literal(text: str) -> str:
    """Return `text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def scratch(con: duckdb.DuckDBPyConnection, frame: pl.DataFrame) -> Iterator[None]:
    """Let statements of `con` read `frame` as SCRATCH, without a copy."""
    con.register(SCRATCH, frame)
    try:
        yield
    finally:
        con.unregister(SCRATCH)
