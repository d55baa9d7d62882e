"""Tenants: a workspace's customers. Events name them by external id; one not yet known is registered, as active."""

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from connectors.control import text
from connectors.control.database import Database, upsert
from connectors.control.errors import Missing, Taken
from connectors.control.models import TenantRow

_AT_ONCE = 1_000  # rows of one statement: databases bound the number of parameters
_KNOWN = 1_000_000  # tenants in memory, of all workspaces together


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """A customer of a workspace."""

    id: str
    external_id: str
    name: str
    is_active: bool
    created_at: datetime


class Tenants:
    """Registration and activation. now: the time, UTC. freshness: seconds, see `cache.Cache`."""

    def __init__(self, database: Database, now: Callable[[], datetime], freshness: float | None) -> None:
        self._database, self._now = database, now
        self._known = _States(freshness)

    def known_states(self, workspace: str, tenants: Collection[str]) -> dict[str, bool] | None:
        """Return what `states` would if all of it is in memory, else None. Never waits."""
        return self._known.get(workspace, tenants)

    def states(self, workspace: str, tenants: Collection[str]) -> dict[str, bool]:
        """Return for each external id whether that tenant is active. Unknown ones are registered, as active.

        Any number of callers may do this at once for the same ids. A deactivation counts from the moment it returned.
        Raises Refused for an id that cannot be one; then none is registered.
        """
        found = self._known.get(workspace, tenants)
        if found is not None:
            return found
        for tenant in tenants:
            text.exact(tenant, "tenantId", text.EXTERNAL_ID_LIMIT)
        generation = self._known.generation
        states = {row.external_id: row.is_active for row in self._rows(workspace, tenants)}
        unknown = [tenant for tenant in tenants if tenant not in states]
        if unknown:
            self._register(workspace, unknown)
            states |= {row.external_id: row.is_active for row in self._rows(workspace, unknown)}
        self._known.keep(workspace, states, generation)
        return states

    def named(self, workspace: str, external_ids: Collection[str]) -> dict[str, TenantInfo]:
        """Return those that are registered, by external id."""
        return {row.external_id: _info(row) for row in self._rows(workspace, external_ids)}

    def page(self, workspace: str, *, active: bool | None, offset: int, limit: int) -> tuple[list[TenantInfo], int]:
        """Return tenants by external id, and how many there are. active: only these; None for all."""
        chosen = select(TenantRow).where(TenantRow.workspace_id == workspace)
        if active is not None:
            chosen = chosen.where(TenantRow.is_active == active)
        with self._database.reading() as session:
            total = session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
            rows = session.scalars(chosen.order_by(TenantRow.external_id).offset(offset).limit(limit)).all()
        return [_info(row) for row in rows], total

    def create(self, workspace: str, external_id: str, name: str | None = None) -> TenantInfo:
        """Add a tenant; its name is the external id unless there is another. Raises Refused, Taken."""
        sought = text.clean(external_id, "externalId", text.EXTERNAL_ID_LIMIT)
        named = text.clean(name, "name", text.NAME_LIMIT) if name is not None else sought
        info = TenantInfo(str(uuid.uuid4()), sought, named, True, self._now())
        try:
            with self._database.writing() as session:
                session.execute(insert(TenantRow).values(_row(workspace, info)))
        except IntegrityError:
            raise Taken("There is a tenant with this externalId already.") from None
        return info

    def set_active(self, workspace: str, tenant: str, active: bool) -> TenantInfo:
        """Deactivate a tenant, or activate it again; either may be repeated. tenant: its id. Raises Missing."""
        with self._database.writing() as session:
            row = session.scalar(
                select(TenantRow).where(TenantRow.workspace_id == workspace, TenantRow.id == _uuid(tenant))
            )
            if row is None:
                raise Missing("Tenant not found.")
            if row.is_active != active:
                row.is_active, row.deactivated_at = active, None if active else self._now()
        self._known.change(workspace, row.external_id, active)
        return _info(row)

    def _rows(self, workspace: str, external_ids: Collection[str]) -> list[TenantRow]:
        rows: list[TenantRow] = []
        with self._database.reading() as session:
            for some in _parts(list(external_ids)):
                rows += session.scalars(
                    select(TenantRow).where(TenantRow.workspace_id == workspace, TenantRow.external_id.in_(some))
                )
        return rows

    def _register(self, workspace: str, external_ids: Sequence[str]) -> None:
        now = self._now()
        # Sorted: two that register the same ones at once wait for each other in the same order.
        infos = [TenantInfo(str(uuid.uuid4()), one, one, True, now) for one in sorted(set(external_ids))]
        with self._database.writing() as session:
            for some in _parts(infos):
                session.execute(upsert(session, TenantRow).on_conflict_do_nothing(), [_row(workspace, i) for i in some])


class _States:
    """Which tenants are active, in memory. Like `cache.Cache`, for many keys at a time."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._of: dict[str, tuple[dict[str, bool], float]] = {}
        self._lock = threading.Lock()
        self.generation = 0

    def get(self, workspace: str, tenants: Collection[str]) -> dict[str, bool] | None:
        found = self._of.get(workspace)
        if found is None or (self._seconds is not None and time.monotonic() >= found[1]):
            return None
        states = found[0]
        try:
            return {tenant: states[tenant] for tenant in tenants}
        except KeyError:
            return None

    def keep(self, workspace: str, states: dict[str, bool], generation: int) -> None:
        with self._lock:
            if generation != self.generation:
                return  # asked before a change, so possibly what was true before it
            known, until = self._of.get(workspace, ({}, 0.0))
            now = time.monotonic()
            if workspace not in self._of or (self._seconds is not None and now >= until):
                known, until = {}, now + (self._seconds or 0.0)
            if sum(len(states) for states, _ in self._of.values()) + len(states) > _KNOWN:
                self._of.clear()
                known = {}
            known.update(states)
            self._of[workspace] = (known, until)

    def change(self, workspace: str, tenant: str, active: bool) -> None:
        with self._lock:
            self.generation += 1
            found = self._of.get(workspace)
            if found is not None:
                found[0][tenant] = active


def _row(workspace: str, info: TenantInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "workspace_id": workspace,
        "external_id": info.external_id,
        "name": info.name,
        "is_active": info.is_active,
        "created_at": info.created_at,
    }


def _info(row: TenantRow) -> TenantInfo:
    return TenantInfo(row.id, row.external_id, row.name, row.is_active, row.created_at)


def _uuid(tenant: str) -> str:
    """Return the id in its usual spelling. Raises Missing: what is no id is nobody's."""
    try:
        return str(uuid.UUID(tenant))
    except ValueError:
        raise Missing("Tenant not found.") from None


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))
