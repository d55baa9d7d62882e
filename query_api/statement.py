"""One SQL statement that asks and changes nothing: what a person may send, whoever runs it."""

import duckdb

# Of these EXPLAIN could still wrap something that writes; whoever runs it forbids writing as well.
_ASKING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
_SEVERAL = {"MULTI": "a PIVOT whose values are not listed: write PIVOT … ON column IN (…)"}


class StatementError(ValueError):
    """The text is no such statement; the error says why."""


def reading_statement(text: str) -> str:
    """Return the statement without what ends it. Raises StatementError, and duckdb.Error where it is no SQL."""
    statements = duckdb.extract_statements(text)
    if len(statements) != 1:
        raise StatementError(f"expected one SQL statement, got {len(statements)}")
    try:
        kind = statements[0].type
    except ValueError as wrong:  # one that DuckDB has and its Python module does not
        raise StatementError("only statements that read are possible") from wrong
    if kind not in _ASKING:
        raise StatementError(f"only statements that read are possible, not {_SEVERAL.get(kind.name, kind.name)}")
    end = len(text.encode())
    for begin, token in reversed(duckdb.tokenize(text)):
        if token != duckdb.token_type.comment and text.encode()[begin : begin + 1] != b";":
            break
        end = begin
    return text.encode()[:end].decode()
