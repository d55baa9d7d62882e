"""Jobs: work that is done behind the answer, by whichever node takes it first.

Guarantee: a job that was created is run until it has an end, at least once; it is finished exactly once. Who takes a
job holds a claim on it and renews that while it works. A job whose claim ran out is taken again, at most `ATTEMPTS`
times; who lost a claim cannot finish the job any more.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson
from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import aliased

from connectors.control.database import Database
from connectors.control.errors import Full, Missing
from connectors.control.ids import is_id, new_id
from connectors.control.models import JobRow, WorkspaceRow

Status = Literal["queued", "running", "succeeded", "failed"]
ATTEMPTS = 3  # a job that brings down whoever runs it must not do so for ever
KEPT = 1_000  # finished jobs of a workspace
WAITING = 100  # jobs of a workspace that have no end yet

_PREFIXES = {"rollup": "rlp"}  # of the ids, by kind; `job` where there is none
_GONE = "The job was begun several times and never came to its end."


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is now. claim: for who has just taken it."""

    id: str
    workspace: str
    kind: str
    status: Status
    request: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    requested_by: str | None
    claim: str | None = field(default=None, repr=False)


class Jobs:
    """Creating, taking and ending them. now: the time, UTC."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now

    def create(self, workspace: str, kind: str, request: Mapping[str, Any], *, by: str | None = None) -> Job:
        """Queue a job, and forget the oldest finished ones. request: what JSON can say; by: who asked for it.

        Raises Missing for an unknown workspace, Full where too many wait already.
        """
        row = JobRow(
            id=new_id(_PREFIXES.get(kind, "job")),
            workspace_id=workspace,
            kind=kind,
            status="queued",
            request=_json(request),
            requested_by=by,
            created_at=self._now(),
            attempts=0,
        )
        mine = JobRow.workspace_id == workspace
        with self._database.writing() as session:
            if session.get(WorkspaceRow, workspace, with_for_update=True) is None:
                raise Missing("Workspace not found.")
            waiting = session.scalar(select(func.count()).select_from(JobRow).where(mine, _UNDER_WAY))
            if (waiting or 0) >= WAITING:
                raise Full(f"{WAITING} jobs of this workspace wait already. Try again when some of them are done.")
            kept = select(JobRow.id).where(mine, ~_UNDER_WAY).order_by(JobRow.created_at.desc(), JobRow.id).limit(KEPT)
            session.execute(delete(JobRow).where(mine, ~_UNDER_WAY, JobRow.id.not_in(kept)))
            session.add(row)
        return _job(row)

    def get(self, workspace: str, job: str) -> Job | None:
        """Return a job of the workspace."""
        if not is_id(job):
            return None
        with self._database.reading() as session:
            row = session.scalar(select(JobRow).where(JobRow.workspace_id == workspace, JobRow.id == job))
        return None if row is None else _job(row)

    def take(self, kinds: Collection[str], seconds: float) -> Job | None:
        """Take a job of one of these kinds that nobody runs, for so long; None where there is none.

        The workspaces take turns: first the one whose last job began longest ago, of that the oldest job.
        """
        now = self._now()
        with self._database.reading() as session:
            # Most often there is nothing to do: then nobody has to wait for us to find that out.
            if session.scalar(select(JobRow.id).where(_free(kinds, now)).limit(1)) is None:
                return None
        others = aliased(JobRow)
        begun = (
            select(func.max(others.started_at))
            .where(others.workspace_id == JobRow.workspace_id)
            .correlate(JobRow)
            .scalar_subquery()
        )
        order = (begun.asc().nulls_first(), JobRow.created_at, JobRow.id)
        with self._database.writing() as session:
            session.execute(
                update(JobRow)
                .where(_free(kinds, now), JobRow.attempts >= ATTEMPTS)
                .values(status="failed", error=_GONE, finished_at=now, claim=None, claimed_until=None)
            )
            # On PostgreSQL nodes that ask at once pass over what another one is taking; on SQLite they queue up.
            chosen = select(JobRow).where(_free(kinds, now)).order_by(*order).limit(1)
            row = session.scalar(chosen.with_for_update(skip_locked=True, of=JobRow))
            if row is None:
                return None
            row.status, row.started_at, row.attempts = "running", now, row.attempts + 1
            row.claim, row.claimed_until = new_id("claim"), now + timedelta(seconds=seconds)
        return _job(row, row.claim)

    def renew(self, job: Job, seconds: float) -> bool:
        """Hold the job for so long from now. False: somebody else has it, or it is over."""
        return self._change(job, claimed_until=self._now() + timedelta(seconds=seconds))

    def finish(self, job: Job, result: Mapping[str, Any]) -> bool:
        """End it well. result: what JSON can say. False: it was not this claim's to end any more."""
        return self._end(job, status="succeeded", result=_json(result))

    def fail(self, job: Job, error: str) -> bool:
        """End it badly. error: a sentence for who asked. False: it was not this claim's to end any more."""
        return self._end(job, status="failed", error=error)

    def release(self, job: Job) -> bool:
        """Put it back, as if it had not been begun: who runs it stops."""
        return self._change(
            job, status="queued", started_at=None, claim=None, claimed_until=None, attempts=JobRow.attempts - 1
        )

    def recover(self) -> None:
        """Let what was running when this process died be taken again at once; nothing where others may be running it.

        To be called before any job is taken.
        """
        if self._database.shared:
            return
        with self._database.writing() as session:
            session.execute(update(JobRow).where(JobRow.status == "running").values(claimed_until=self._now()))

    def _end(self, job: Job, **values: Any) -> bool:
        return self._change(job, finished_at=self._now(), claim=None, claimed_until=None, **values)

    def _change(self, job: Job, **values: Any) -> bool:
        held = and_(JobRow.id == job.id, JobRow.status == "running", JobRow.claim == job.claim)
        with self._database.writing() as session:
            changed = session.execute(update(JobRow).where(held).values(**values).returning(JobRow.id)).all()
        return bool(changed)


_UNDER_WAY = JobRow.status.in_(("queued", "running"))


def _free(kinds: Collection[str], now: datetime) -> ColumnElement[bool]:
    lost = and_(JobRow.status == "running", JobRow.claimed_until <= now)
    return and_(JobRow.kind.in_(sorted(kinds)), or_(JobRow.status == "queued", lost))


def _json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(value)).decode()


def _job(row: JobRow, claim: str | None = None) -> Job:
    status: Any = row.status
    return Job(
        id=row.id,
        workspace=row.workspace_id,
        kind=row.kind,
        status=status,
        request=orjson.loads(row.request),
        result=None if row.result is None else orjson.loads(row.result),
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        requested_by=row.requested_by,
        claim=claim,
    )
