"""How answers look: drawn and coloured on a terminal, plain and stable in a pipe.

In a pipe a table is one line a row, columns aligned with two spaces, nothing cut, times in RFC 3339, `-` for null.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

STATUS_STYLES = {"Open": "bold red", "Recovering": "yellow", "Closed": "green"}
SEVERITY_STYLES = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "dim"}
_STYLES = {"status": STATUS_STYLES, "severity": SEVERITY_STYLES}
_RIGHT = {"events", "tenants", "reopened", "duration", "count"}

Row = Sequence[object]


def moment(value: datetime | None, terminal: bool) -> str:
    """Return an instant in UTC: for people to the second (finer where it is), for machines in RFC 3339."""
    if value is None:
        return "-"
    utc = value.astimezone(UTC)
    fraction = f".{utc.microsecond:06d}".rstrip("0") if utc.microsecond else ""
    return f"{utc:%Y-%m-%d %H:%M:%S}{fraction}" if terminal else f"{utc:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def length(value: timedelta) -> str:
    """Return a duration in its two largest units: `2d 3h`, `1h 5m`, `5m 10s`, `12s`, `0.25s`."""
    seconds = value.total_seconds()
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    rest = round(seconds)
    for size, name, small, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if rest >= size:
            many, left = rest // size, rest % size // small
            return f"{many}{name} {left}{small_name}" if left else f"{many}{name}"
    return f"{rest}s"


def plural(count: int, noun: str) -> str:
    """Return `1 event`, `2 events`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def table(console: Console, columns: Sequence[str], rows: Sequence[Row], spare: Sequence[str] = ()) -> None:
    """Print rows under `columns`; a column named `status` or `severity` is coloured by what it says.

    spare: columns that a narrow terminal does without, the first of them first.
    """
    texts = [[cell(value, console.is_terminal) for value in row] for row in rows]
    if not console.is_terminal:
        plain(console, columns, texts)
        return
    widths = {name: 2 + max([len(name), *(len(row[i]) for row in texts)]) for i, name in enumerate(columns)}
    for name in spare:
        if sum(widths.values()) - 2 > console.width:
            widths.pop(name, None)
    texts = [[text for name, text in zip(columns, row, strict=True) if name in widths] for row in texts]
    columns = [name for name in columns if name in widths]
    drawn = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        whole = name in ("id", *_RIGHT)
        drawn.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=whole, overflow="fold")
    styles = [_STYLES.get(name, {}) for name in columns]
    for row in texts:
        drawn.add_row(*(Text(text, style.get(text, "")) for style, text in zip(styles, row, strict=True)))
    console.print(drawn)


def plain(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, whatever the width."""
    widths = [max([len(name), *(len(row[i]) for row in rows)]) for i, name in enumerate(columns)]
    for row in (columns, *rows):
        line(console, "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def line(console: Console, text: str | Text = "") -> None:
    """Print one line as it is: no wrapping, no markup."""
    console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)


def frame(console: Console, rows: pl.DataFrame) -> None:
    """Print a frame as a table."""
    table(console, rows.columns, list(rows.iter_rows()))


def cell(value: object, terminal: bool) -> str:
    """Return a value as the text of one cell: control characters of foreign data never reach a terminal."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return moment(value, terminal)
    if isinstance(value, timedelta):
        return length(value)
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))
