"""What became of single records, for callers who wait: out of a commit, or of the store for what was committed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from connectors.pipeline import Outcome
from flows.live_source import PARTITION
from operators.live import Publication

_EVENT_COLUMNS = ("offset", "id", "workspace", "rule_id", "group_key", "confidence", "at")
_EVENT = 'SELECT "offset", id, workspace, rule_id, group_key, confidence, epoch_us("at") FROM events'
_INCIDENT = """
SELECT id, status, epoch_us(opened_at) = $4 FROM incidents
WHERE workspace = $1 AND rule_id = $2 AND group_key = $3
  AND epoch_us(first_event_at) <= $4 AND epoch_us(last_event_at) >= $4
ORDER BY opened_at DESC LIMIT 1
"""
_TENANTS = "SELECT tenant FROM incident_tenants WHERE incident_id = $1 ORDER BY tenant"


def of_commit(
    asked: Iterable[tuple[int, int]],
    events: Sequence[pl.DataFrame],
    dead_letters: Sequence[pl.DataFrame],
    publication: Publication | None,
    partition: str = PARTITION,
) -> dict[int, Outcome]:
    """The outcomes of the records asked for (first offset, how many), as far as this commit of a partition tells;
    without tenants. Not of those whose incident was taken back in the same commit."""
    wanted = np.array(sorted({offset for first, count in asked for offset in range(first, first + count)}), np.int64)
    if not len(wanted):
        return {}
    found: dict[int, Outcome] = {}
    of: dict[tuple[int, str], tuple[str, bool]] = {}
    status: dict[str, str] = {}
    gone: frozenset[str] = frozenset()
    if publication is not None:
        gone = frozenset(publication.gone.incidents)
        for offset, rule, *told in _rows(publication.members, wanted, "rule_id", "incident_id", "opened"):
            of[offset, rule] = (told[0], told[1])
        incidents = publication.output.incidents
        status = dict(zip(incidents["id"].to_list(), incidents["status"].to_list(), strict=True))
    for frame in events:
        for offset, identity, rule, confidence in _rows(frame, wanted, "id", "rule_id", "confidence"):
            incident, opened = of.get((offset, rule), (None, False))
            if incident in gone and incident not in status:
                continue
            found[offset] = Outcome(
                offset,
                identity or f"{partition}:{offset}",
                rule_id=rule,
                confidence=confidence,
                incident_id=incident,
                status=status.get(incident) if incident is not None else None,
                is_new=opened,
            )
    for frame in dead_letters:
        for offset, error in _rows(frame, wanted, "error"):
            found[offset] = Outcome(offset, f"{partition}:{offset}", error=error)
    return found


def _rows(frame: pl.DataFrame, offsets: NDArray[np.int64], *columns: str) -> Iterable[tuple[Any, ...]]:
    """The offset and some columns of the rows with these offsets."""
    if not frame.height:
        return ()
    here = np.isin(frame["offset"].to_numpy(), offsets).nonzero()[0]
    chosen = (frame[name] if len(here) == frame.height else frame[name][here] for name in ("offset", *columns))
    return zip(*(column.to_list() for column in chosen), strict=True)


def of_store(con: duckdb.DuckDBPyConnection, offset: int, line: bytes, partition: str = PARTITION) -> Outcome:
    """What became of a committed record; line: as it is in the log. A repeated one has the first one's answer (S5)."""
    here = _one(con, f'{_EVENT} WHERE partition = $1 AND "offset" = $2', [partition, offset])
    if here is not None:
        return _outcome(con, here, partition, duplicate=False)
    error = con.execute(
        'SELECT error FROM dead_letters WHERE partition = $1 AND "offset" = $2', [partition, offset]
    ).fetchone()
    if error is not None:
        return Outcome(offset, f"{partition}:{offset}", error=error[0])
    record = orjson.loads(line)
    identity, source = record.get("id"), record.get("source", record.get("integrationKey"))
    if record.get("record") in (None, "event") and identity is not None:
        values = [record.get("workspace"), str(source), str(identity), offset, record["ingested_at"], partition]
        first = _one(
            con,
            f'{_EVENT} WHERE workspace = $1 AND source = $2 AND id = $3 AND "offset" < $4 AND partition = $6 '
            "AND ingested_at >= CAST($5 AS TIMESTAMPTZ) - INTERVAL 24 HOUR "
            'ORDER BY "offset" DESC LIMIT 1',
            values,
        )
        if first is not None:
            return _outcome(con, first, partition, duplicate=True)
    return Outcome(offset, f"{partition}:{offset}")


def _one(con: duckdb.DuckDBPyConnection, sql: str, values: list[Any]) -> dict[str, Any] | None:
    found = con.execute(sql, values).fetchone()
    return None if found is None else dict(zip(_EVENT_COLUMNS, found, strict=True))


def _outcome(con: duckdb.DuckDBPyConnection, event: dict[str, Any], partition: str, *, duplicate: bool) -> Outcome:
    incident, status, opened, tenants = None, None, False, ()
    if event["rule_id"] is not None:
        key = [event["workspace"], event["rule_id"], event["group_key"], event["at"]]
        found = con.execute(_INCIDENT, key).fetchone()
        if found is not None:
            incident, status, opened = found
            tenants = tuple(name for (name,) in con.execute(_TENANTS, [incident]).fetchall())
    offset = int(event["offset"])
    return Outcome(
        offset,
        event["id"] or f"{partition}:{offset}",
        duplicate=duplicate,
        rule_id=event["rule_id"],
        confidence=event["confidence"],
        incident_id=incident,
        status=status,
        is_new=bool(opened),
        tenants=tenants,
    )
