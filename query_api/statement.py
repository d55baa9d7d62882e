"""One SQL statement that asks and changes nothing: what a person may send, whoever runs it."""

import duckdb

# Of these EXPLAIN could still wrap something that writes; whoever runs it forbids writing as well.
_ASKING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
_SEVERAL = {"MULTI": "a PIVOT whose values are not listed: write PIVOT … ON column IN (…)"}


class StatementError(ValueError):
    """The text is no such statement; the error says why."""


def reading_statement(text: str) -> str:
    """Return the statement without what ends it. Raises StatementError, and duckdb.Error where it is no SQL."""
    statements = _parsed(text)
    if len(statements) != 1:
        raise StatementError(f"expected one SQL statement, got {len(statements)}")
    if statements[0].type not in _ASKING:
        name = statements[0].type.name
        raise StatementError(f"only statements that read are possible, not {_SEVERAL.get(name, name)}")
    end = len(text.encode())
    for begin, kind in reversed(duckdb.tokenize(text)):
        if kind != duckdb.token_type.comment and text.encode()[begin : begin + 1] != b";":
            break
        end = begin
    return text.encode()[:end].decode()


def _parsed(text: str) -> list[duckdb.Statement]:
    try:
        return duckdb.extract_statements(text)
    except ValueError as wrong:  # a kind of statement that the Python module does not know
        raise StatementError("only statements that read are possible") from wrong
