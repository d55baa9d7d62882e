"""The data directory of the live service: whether this version can go on with it, and how it is made anew.

Everything in it but the log and the accounts follows from the log.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl

from connectors.live_store import ORIGIN, SERVICE, LiveStore
from connectors.log_segments import segment_firsts
from connectors.store import OutdatedStoreError, StoreError
from connectors.store_file import connect
from flows.replay import ReplayError
from flows.snapshots import VERSION

STORE_FILE = "store.duckdb"
_VERSION_FILE = "version"
_DERIVED = (STORE_FILE, f"{STORE_FILE}.wal", "analyst.duckdb", "lake", "recovery", "recovery.new")


def mark(recovery: Path) -> None:
    """Note in a recovery directory which version's snapshots it will hold."""
    (recovery / _VERSION_FILE).write_text(version())


def version() -> str:
    """Whose snapshots this version can go on from."""
    return f"{VERSION}, hashes of Polars {pl.__version__}\n"


def check(data: Path) -> None:
    """Raise ReplayError where another version wrote the store or the snapshots; StoreError as `LiveStore.open`."""
    try:
        if (data / STORE_FILE).exists():
            LiveStore.open(data / STORE_FILE, read_only=True).close()
        recovery = data / "recovery"
        fits = not recovery.exists() or (recovery / _VERSION_FILE).read_text() == version()
    except (OutdatedStoreError, FileNotFoundError):
        fits = False
    if not fits:
        raise ReplayError(
            f"another version of Tocsin wrote {data}: start once with --rebuild, which makes everything anew from the "
            "log, or go on with that version"
        )


def clear(data: Path) -> None:
    """Remove everything that follows from the log. Raises ReplayError, StoreError where that would lose something."""
    store = data / STORE_FILE
    if store.exists() and _origin(store) != SERVICE:
        raise StoreError(
            f"{data} holds the results of a replay, not of the service: name another directory with --data"
        )
    firsts = segment_firsts(data / "log") if (data / "log").exists() else []
    if store.exists() and (not firsts or firsts[0] != 0):
        begins = f"begins with record {firsts[0]:,}" if firsts else "is empty"
        raise ReplayError(f"the log in {data} {begins}: what came before would be lost, so nothing was rebuilt")
    remove(data)


def remove(data: Path) -> None:
    """Remove everything that is made from elsewhere: the log, or topics."""
    for name in _DERIVED:
        path = data / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _origin(store: Path) -> str | None:
    """Who made a store, of whatever version."""
    with connect(store, read_only=True) as con:
        found = con.execute("SELECT value FROM meta WHERE key = $1", [ORIGIN]).fetchall()
    return str(found[0][0]) if found else None
