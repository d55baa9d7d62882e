"""The store's catalogue of event files: which of them count, and the view `events` that shows them.

The catalogue and the view change in the transaction of a flush, together with its positions and the hot rows; so a
reader sees a flush as a whole, and an event exactly once, whether it is still hot or in a file by now.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import duckdb
import polars as pl

from connectors.event_files import EventFile, events_select
from connectors.schema import BOOKKEEPING, column_list
from connectors.sql import SCRATCH, scratch

# The native table of events that are in no file yet.
HOT = "hot_events"


def paths(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the paths of all files that count, relative to the data directory; in the order of their names."""
    return [path for (path,) in con.execute("SELECT path FROM event_files ORDER BY path").fetchall()]


def sizes(con: duckdb.DuckDBPyConnection) -> list[tuple[str, int]]:
    """Return the path and number of rows of every file, those of a day together and in the order of their numbers."""
    rows = con.execute('SELECT path, "rows" FROM event_files ORDER BY "day", length(path), path').fetchall()
    return [(path, count) for path, count in rows]


def change(
    con: duckdb.DuckDBPyConnection, data: Path, gone: Collection[str] = (), new: Iterable[EventFile] = ()
) -> None:
    """Take files out of the catalogue, put others in, and let the view show what counts now."""
    added = list(new)
    if gone:
        with scratch(con, pl.DataFrame({"path": list(gone)}, schema={"path": pl.String()})):
            for table in ("event_files", "event_spans"):
                con.execute(f"DELETE FROM {table} WHERE path IN (SELECT path FROM {SCRATCH})")
    for name, rows in (("event_files", _files(added)), ("event_spans", _spans(added))):
        columns = column_list(BOOKKEEPING[name])
        with scratch(con, rows):
            con.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {SCRATCH}")
    show(con, data)


def show(con: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Let the view `events` show the hot rows and the files that count, in the directory where they are now."""
    con.execute(f"CREATE OR REPLACE VIEW events AS {events_select(data, paths(con), HOT)}")


def beyond(con: duckdb.DuckDBPyConnection, positions: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Return the files that lie wholly beyond positions (partition -> next offset), and those that do in part."""
    frame = pl.DataFrame(
        list(positions.items()), schema={"partition": pl.String(), "next_offset": pl.Int64()}, orient="row"
    )
    with scratch(con, frame):
        rows = con.execute(
            f"SELECT s.path, bool_and(s.first_offset >= coalesce(p.next_offset, 0)) "
            f"FROM event_spans s LEFT JOIN {SCRATCH} p USING (partition) "
            f"GROUP BY s.path HAVING bool_or(s.last_offset >= coalesce(p.next_offset, 0)) ORDER BY s.path"
        ).fetchall()
    return [path for path, wholly in rows if wholly], [path for path, wholly in rows if not wholly]


def mergeable(files: Iterable[tuple[str, int]], least: int, most: int) -> list[list[str]]:
    """Return groups of neighbouring files of a day that are worth one file.

    files: path and rows, as `sizes` gives them. least: files that make it worth while, two or more. most: rows of the
    result. Unless any two are worth it, a file with more rows than all others of its group together stays as it is: so
    a row is rewritten a logarithmic number of times, though a small file comes every minute.
    """
    found: list[list[str]] = []
    group: list[tuple[str, int]] = []

    def end() -> None:
        while least > 2 and group and 2 * max(rows for _, rows in group) > sum(rows for _, rows in group):
            # What lies behind the large one may still be a group.
            del group[: max(range(len(group)), key=lambda n: group[n][1]) + 1]
        if len(group) >= least:
            found.append([path for path, _ in group])
        group.clear()

    folder = ""
    for path, rows in files:
        if (here := path.rpartition("/")[0]) != folder or sum(n for _, n in group) + rows > most:
            end()
            folder = here
        if rows < most // 2:
            group.append((path, rows))
        else:
            end()
    end()
    return found


def _files(files: Iterable[EventFile]) -> pl.DataFrame:
    rows = [(file.path, file.day, file.rows, file.bytes, file.first_at, file.last_at) for file in files]
    columns = BOOKKEEPING["event_files"].columns
    whole = {**columns, "first_at": pl.Int64(), "last_at": pl.Int64()}
    return pl.DataFrame(rows, schema=whole, orient="row").cast(
        {name: columns[name] for name in ("first_at", "last_at")}
    )


def _spans(files: Iterable[EventFile]) -> pl.DataFrame:
    rows = [
        (file.path, span.partition, span.rows, span.first_offset, span.last_offset)
        for file in files
        for span in file.spans
    ]
    return pl.DataFrame(rows, schema=dict(BOOKKEEPING["event_spans"].columns), orient="row")
