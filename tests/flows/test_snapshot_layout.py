"""No version of Tocsin goes on from snapshots that it cannot read: what is in them, by class, and their VERSION."""

from __future__ import annotations

import hashlib
import json
import pickle
import sqlite3
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from flows.snapshots import VERSION
from tests.flows.test_live import Clock, failed, running
from tests.system.runs import replay, until

KNOWN = (3, "7b3e0ae31e0b5ec8")
OURS = ("operators.", "flows.", "connectors.")


def layout(value: Any, found: dict[str, list[str]]) -> None:
    """Note of each class of ours, and of each structured array, what it is made of."""
    if isinstance(value, dict):
        for key, held in value.items():
            layout(key, found)
            layout(held, found)
    elif isinstance(value, list | tuple | set | frozenset):
        for held in value:
            layout(held, found)
    elif isinstance(value, np.ndarray) and value.dtype.names:
        found[f"rows of {', '.join(value.dtype.names)}"] = [str(value.dtype.fields[name]) for name in value.dtype.names]
    elif isinstance(value, pl.DataFrame):
        found[f"frame of {', '.join(value.columns)}"] = [str(dtype) for dtype in value.dtypes]
    if type(value).__module__.startswith(OURS) and not isinstance(value, Enum):
        parts = dict(_parts(value))
        found[f"{type(value).__module__}.{type(value).__qualname__}"] = sorted(parts)
        for held in parts.values():
            layout(held, found)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for cls in type(value).__mro__:
        for name in getattr(cls, "__slots__", ()):
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)


def snapshots(recovery: Path) -> Iterator[Any]:
    """The states in a recovery directory."""
    for path in sorted(recovery.glob("*.sqlite3")):
        with sqlite3.connect(path) as con:
            for (body,) in con.execute("SELECT ser_change FROM snaps WHERE ser_change IS NOT NULL"):
                state = pickle.loads(body)
                yield pickle.loads(state) if isinstance(state, bytes) else state


def test_a_change_of_what_snapshots_hold_comes_with_a_new_version(tmp_path: Path) -> None:
    """Somebody who updates would find a service that does not start, or one that goes on from nonsense.

    Where this fails, raise `flows.snapshots.VERSION` if a release has the old one, and write the new digest here.
    """
    clock = Clock()
    with running(tmp_path / "live", clock) as service:
        for number in range(12):
            service.send(failed(tenantId=f"t{number}", eventType=["auth_failed", "webhook_failed"][number % 2]))
            clock.sleep(20)
        assert until(lambda: any((tmp_path / "live" / "recovery").glob("*.sqlite3")))
    lines = [json.dumps(failed(time=f"2026-01-31T08:{n:02}:00Z", id=str(n))) + "\n" for n in range(50)]
    (tmp_path / "events.jsonl").write_text("".join(lines))
    replay(tmp_path / "replay", tmp_path / "events.jsonl", "--epoch", "0.05")
    found: dict[str, list[str]] = {}
    for data in ("live", "replay"):
        states = list(snapshots(tmp_path / data / "recovery"))
        assert len(states) >= 3
        for state in states:
            layout(state, found)
    assert {"operators.live.LiveShard", "operators.shard.Shard", "operators.intake.Intake"} <= set(found)
    text = json.dumps(found, sort_keys=True, indent=1)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert (VERSION, digest) == KNOWN, text
