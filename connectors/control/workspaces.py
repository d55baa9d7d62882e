"""Workspaces: isolated customers, their members, their key and their windows."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select

from connectors.control import text
from connectors.control.cache import Cache
from connectors.control.database import Database
from connectors.control.errors import Forbidden, Missing
from connectors.control.keys import Keys, new_key, prefix, store_key
from connectors.control.models import ApiKeyRow, MembershipRow, UserRow, WorkspaceRow

_KNOWN = 10_000  # memberships in memory


Window = Literal["recovery", "close", "cooldown"]


@dataclass(frozen=True, slots=True)
class Windows:
    """The durations of an incident's lifecycle that a workspace chose, in seconds; None: the default."""

    recovery: int | None = None
    close: int | None = None
    cooldown: int | None = None


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace as people see it."""

    id: str
    name: str
    is_active: bool
    key_prefix: str
    windows: Windows
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewKey:
    """A workspace and its new key, which nobody can see again."""

    workspace: Workspace
    api_key: str

    def __repr__(self) -> str:
        return f"NewKey({self.workspace!r}, ***)"


@dataclass(frozen=True, slots=True)
class Membership:
    """A user's workspace, as a request needs to know it."""

    workspace: str
    name: str
    is_active: bool


class Workspaces:
    """Making, changing and finding them. now: the time, UTC. freshness: seconds, see `Cache`."""

    def __init__(self, database: Database, keys: Keys, now: Callable[[], datetime], freshness: float | None) -> None:
        self._database, self._keys, self._now = database, keys, now
        self._members: Cache[tuple[str, str], Membership] = Cache(_KNOWN, freshness)

    def create(self, user: str, name: str, *, most: int = 100) -> NewKey:
        """Make a workspace whose owner is `user`. most: how many one user may have.

        Raises Refused for a bad name, Missing for an unknown user, Forbidden for one workspace too many.
        """
        named, key, now = text.clean(name, "name", text.NAME_LIMIT), new_key(), self._now()
        row = WorkspaceRow(id=str(uuid.uuid4()), name=named, is_active=True, created_at=now)
        with self._database.writing() as session:
            if session.get(UserRow, user, with_for_update=True) is None:
                raise Missing("There is no such user.")
            mine = select(func.count()).select_from(MembershipRow).where(MembershipRow.user_id == user)
            if (session.scalar(mine) or 0) >= most:
                raise Forbidden(f"You have {most} workspaces already.")
            session.add(row)
            session.flush()
            session.add(MembershipRow(user_id=user, workspace_id=row.id, role="owner", created_at=now))
            store_key(session, row.id, key, now)
        return NewKey(_workspace(row, prefix(key)), key)

    def find(self, workspace: str) -> Workspace:
        """Return the workspace. Raises Missing."""
        with self._database.reading() as session:
            found = session.execute(_WITH_KEY.where(WorkspaceRow.id == workspace)).one_or_none()
        if found is None:
            raise Missing("Workspace not found.")
        return _workspace(*found)

    def of_user(self, user: str) -> list[Workspace]:
        """Return the workspaces that a user belongs to, the oldest first."""
        mine = select(MembershipRow.workspace_id).where(MembershipRow.user_id == user)
        with self._database.reading() as session:
            rows = session.execute(
                _WITH_KEY.where(WorkspaceRow.id.in_(mine)).order_by(WorkspaceRow.created_at, WorkspaceRow.id)
            ).all()
        return [_workspace(*row) for row in rows]

    def cached_membership(self, user: str, workspace: str) -> Membership | None:
        """Return what `membership` would if it is in memory; never waits."""
        return self._members.get((user, workspace))

    def membership(self, user: str, workspace: str) -> Membership | None:
        """Return the workspace where the user belongs to it, else None. May ask the database."""
        return self._members.ask((user, workspace), lambda: self._membership(user, workspace))

    def change(
        self, workspace: str, *, name: str | None = None, windows: Mapping[Window, int | None] | None = None
    ) -> Workspace:
        """Rename the workspace, change some of its windows (seconds; None: the default), or both.

        Raises Refused, Missing.
        """
        named = text.clean(name, "name", text.NAME_LIMIT) if name is not None else None
        with self._database.writing() as session:
            row = session.get(WorkspaceRow, workspace, with_for_update=True)
            if row is None:
                raise Missing("Workspace not found.")
            if named is not None:
                row.name = named
            for window, seconds in (windows or {}).items():
                setattr(row, f"{window}_seconds", seconds)
        self._forget()
        return self.find(workspace)

    def rotate_key(self, workspace: str) -> NewKey:
        """Give the workspace a new key. The old one does not work any more when this returns. Raises Missing."""
        key = new_key()
        with self._database.writing() as session:
            # Locked, so that of two rotations at once one key remains.
            row = session.get(WorkspaceRow, workspace, with_for_update=True)
            if row is None:
                raise Missing("Workspace not found.")
            store_key(session, workspace, key, self._now())
        self._keys.forget()
        return NewKey(_workspace(row, prefix(key)), key)

    def set_active(self, workspace: str, active: bool) -> None:
        """Suspend a workspace, or let it go on: its keys and tokens get 403 meanwhile. Raises Missing."""
        with self._database.writing() as session:
            row = session.get(WorkspaceRow, workspace, with_for_update=True)
            if row is None:
                raise Missing("Workspace not found.")
            row.is_active = active
        self._forget()

    def _forget(self) -> None:
        self._keys.forget()
        self._members.forget()

    def _membership(self, user: str, workspace: str) -> Membership | None:
        with self._database.reading() as session:
            found = session.execute(
                select(WorkspaceRow.id, WorkspaceRow.name, WorkspaceRow.is_active)
                .join(MembershipRow, MembershipRow.workspace_id == WorkspaceRow.id)
                .where(MembershipRow.user_id == user, WorkspaceRow.id == workspace)
            ).one_or_none()
        return None if found is None else Membership(*found)


_WITH_KEY = select(WorkspaceRow, ApiKeyRow.prefix).join(
    ApiKeyRow, (ApiKeyRow.workspace_id == WorkspaceRow.id) & ApiKeyRow.revoked_at.is_(None)
)


def _workspace(row: WorkspaceRow, key_prefix: str) -> Workspace:
    windows = Windows(row.recovery_seconds, row.close_seconds, row.cooldown_seconds)
    return Workspace(row.id, row.name, row.is_active, key_prefix, windows, row.created_at)
