"""Text inside SQL statements, for the few places that take no parameter: COPY, views, settings."""


def literal(text: str) -> str:
    """Return `text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
