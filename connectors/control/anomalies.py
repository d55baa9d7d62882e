"""Anomalies: what an identity did that it does not usually do, and whether somebody has looked at it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import and_, func, or_, select

from connectors.control.database import Database, upsert
from connectors.control.ids import is_id
from connectors.control.models import AnomalyRow
from connectors.control.text import note, storable

Status = Literal["open", "acknowledged"]
_AT_ONCE = 500  # ids of one statement


@dataclass(frozen=True, slots=True)
class Found:
    """What a detection found. id: `anom_` and 26 characters, the same whenever the same thing is found again.

    score: how far from usual; evidence: what JSON can say.
    """

    id: str
    nhi_id: str
    nhi_label: str | None
    type: str
    severity: str
    detected_at: datetime
    score: float
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An anomaly as it is now. acknowledged_by: the id of a person, or what else stands for who did it."""

    id: str
    nhi_id: str
    nhi_label: str | None
    type: str
    severity: str
    detected_at: datetime
    score: float
    evidence: dict[str, Any]
    status: Status
    note: str | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class Anomalies:
    """Recording, listing and acknowledging them. now: the time, UTC."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def record(self, workspace: str, found: Collection[Found]) -> int:
        """Record what was found; how many are new. What is there already keeps its place in time, its status and note.

        Any number of callers may do this at once.
        """
        # Sorted: two that record the same ones at once wait for each other in the same order.
        rows = [_values(workspace, one) for one in sorted(found, key=lambda one: one.id)]
        if not rows:
            return 0
        with self._database.writing() as session:
            known = 0
            ids = sorted({row["id"] for row in rows})
            for start in range(0, len(ids), _AT_ONCE):
                some = and_(AnomalyRow.workspace_id == workspace, AnomalyRow.id.in_(ids[start : start + _AT_ONCE]))
                known += session.scalar(select(func.count()).select_from(AnomalyRow).where(some)) or 0
            insert = upsert(session, AnomalyRow)
            fresh = {name: insert.excluded[name] for name in ("nhi_label", "severity", "score", "evidence")}
            session.execute(
                insert.on_conflict_do_update(index_elements=["workspace_id", "id"], set_=fresh),
                rows,
            )
        return len(ids) - known

    def page(
        self,
        workspace: str,
        *,
        limit: int,
        after: tuple[datetime, str] | None = None,
        status: Status | None = None,
        nhi: str | None = None,
        type: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> tuple[list[Anomaly], bool]:
        """Return anomalies, the latest first, and whether there are more.

        after: `detected_at` and id of the last one seen; start: inclusive; end: exclusive.
        """
        chosen = select(AnomalyRow).where(AnomalyRow.workspace_id == workspace)
        if status is not None:
            chosen = chosen.where(AnomalyRow.status == status)
        if nhi is not None:
            chosen = chosen.where(AnomalyRow.nhi_id == storable(nhi))
        if type is not None:
            chosen = chosen.where(AnomalyRow.type == storable(type))
        if start is not None:
            chosen = chosen.where(AnomalyRow.detected_at >= start)
        if end is not None:
            chosen = chosen.where(AnomalyRow.detected_at < end)
        if after is not None:
            at, ident = after
            same = and_(AnomalyRow.detected_at == at, AnomalyRow.id > ident)
            chosen = chosen.where(or_(AnomalyRow.detected_at < at, same))
        with self._database.reading() as session:
            ordered = chosen.order_by(AnomalyRow.detected_at.desc(), AnomalyRow.id).limit(limit + 1)
            rows = session.scalars(ordered).all()
        return [_anomaly(row) for row in rows[:limit]], len(rows) > limit

    def get(self, workspace: str, anomaly: str) -> Anomaly | None:
        """Return an anomaly of the workspace."""
        if not is_id(anomaly):
            return None
        with self._database.reading() as session:
            row = session.get(AnomalyRow, (workspace, anomaly))
        return None if row is None else _anomaly(row)

    def acknowledge(self, workspace: str, anomaly: str, said: str | None, by: str | None) -> Anomaly | None:
        """Mark it as seen, and return it; None where there is none. by: who did it.

        May be repeated: who was first and when stays; the note is the last one that was given. Raises Refused for a
        note that cannot be one.
        """
        checked = note(said)
        if not is_id(anomaly):
            return None
        with self._database.writing() as session:
            row = session.get(AnomalyRow, (workspace, anomaly), with_for_update=True)
            if row is None:
                return None
            if row.status != "acknowledged":
                row.status, row.acknowledged_at, row.acknowledged_by = "acknowledged", self._now(), by
            if checked is not None:
                row.note = checked
        return _anomaly(row)

    def counts(self, workspace: str, start: datetime, end: datetime, *, status: Status | None = None) -> dict[str, int]:
        """Return how many each identity has in [start, end), by `nhi_id`; those without any are left out."""
        span = and_(AnomalyRow.workspace_id == workspace, AnomalyRow.detected_at >= start, AnomalyRow.detected_at < end)
        counted = select(AnomalyRow.nhi_id, func.count()).where(span).group_by(AnomalyRow.nhi_id)
        if status is not None:
            counted = counted.where(AnomalyRow.status == status)
        with self._database.reading() as session:
            return {row[0]: row[1] for row in session.execute(counted)}


def _values(workspace: str, found: Found) -> dict[str, Any]:
    return {
        "workspace_id": workspace,
        "id": found.id,
        "nhi_id": storable(found.nhi_id),
        "nhi_label": None if found.nhi_label is None else storable(found.nhi_label),
        "type": storable(found.type),
        "severity": found.severity,
        "detected_at": found.detected_at,
        "score": found.score,
        "evidence": orjson.dumps(dict(found.evidence)).decode(),
        "status": "open",
    }


def _anomaly(row: AnomalyRow) -> Anomaly:
    status: Any = row.status
    return Anomaly(
        id=row.id,
        nhi_id=row.nhi_id,
        nhi_label=row.nhi_label,
        type=row.type,
        severity=row.severity,
        detected_at=row.detected_at,
        score=row.score,
        evidence=orjson.loads(row.evidence),
        status=status,
        note=row.note,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
    )
