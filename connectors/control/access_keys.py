"""Further keys of a workspace: named, limited to scopes, shown once, stored as SHA-256 (`keys` looks them up)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from connectors.control import scopes, text
from connectors.control.database import Database
from connectors.control.errors import Forbidden, Missing, Taken
from connectors.control.ids import is_id, new_id
from connectors.control.keys import Keys, digest, new_key, prefix
from connectors.control.models import AccessKeyRow, WorkspaceRow

MOST = 100  # keys of a workspace at a time


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key as it may be shown. prefix: how it begins."""

    id: str
    name: str
    scopes: tuple[str, ...]
    prefix: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewAccessKey:
    """A key that was just made, which nobody can see again."""

    info: AccessKey
    key: str

    def __repr__(self) -> str:
        return f"NewAccessKey({self.info!r}, ***)"


class AccessKeys:
    """Making, listing and revoking them. now: the time, UTC."""

    def __init__(self, database: Database, keys: Keys, now: Callable[[], datetime]) -> None:
        self._database, self._keys, self._now = database, keys, now

    def create(self, workspace: str, name: str, wanted: Collection[str]) -> NewAccessKey:
        """Make a key that may do what `wanted` names. Raises Refused, Missing, Taken; Forbidden for one too many."""
        named, allowed, key = text.clean(name, "name", text.NAME_LIMIT), scopes.checked(wanted), new_key()
        row = AccessKeyRow(
            id=new_id("key"),
            workspace_id=workspace,
            name=named,
            scopes=" ".join(sorted(allowed)),
            digest=digest(key),
            prefix=prefix(key),
            created_at=self._now(),
        )
        try:
            with self._database.writing() as session:
                if session.get(WorkspaceRow, workspace, with_for_update=True) is None:
                    raise Missing("Workspace not found.")
                current = select(func.count()).select_from(AccessKeyRow).where(_current(workspace))
                if (session.scalar(current) or 0) >= MOST:
                    raise Forbidden(f"The workspace has {MOST} keys already: revoke one first.")
                session.add(row)
        except IntegrityError:
            raise Taken("There is a key with this name already.") from None
        return NewAccessKey(_info(row), key)

    def page(
        self, workspace: str, *, limit: int, after: tuple[datetime, str] | None = None
    ) -> tuple[list[AccessKey], bool]:
        """Return keys that work, the oldest first, and whether there are more. after: of the last one seen."""
        chosen = select(AccessKeyRow).where(_current(workspace))
        if after is not None:
            made, ident = after
            chosen = chosen.where(
                or_(AccessKeyRow.created_at > made, and_(AccessKeyRow.created_at == made, AccessKeyRow.id > ident))
            )
        with self._database.reading() as session:
            ordered = chosen.order_by(AccessKeyRow.created_at, AccessKeyRow.id).limit(limit + 1)
            rows = session.scalars(ordered).all()
        return [_info(row) for row in rows[:limit]], len(rows) > limit

    def revoke(self, workspace: str, key: str) -> None:
        """Revoke a key. It does not work any more when this returns. key: its id. Raises Missing."""
        if not is_id(key):
            raise Missing("There is no such key.")
        with self._database.writing() as session:
            gone = session.execute(
                update(AccessKeyRow)
                .where(_current(workspace), AccessKeyRow.id == key)
                .values(revoked_at=self._now())
                .returning(AccessKeyRow.id)
            ).all()
        if not gone:
            raise Missing("There is no such key.")
        self._keys.forget()


def _current(workspace: str) -> ColumnElement[bool]:
    return and_(AccessKeyRow.workspace_id == workspace, AccessKeyRow.revoked_at.is_(None))


def _info(row: AccessKeyRow) -> AccessKey:
    return AccessKey(row.id, row.name, tuple(row.scopes.split()), row.prefix, row.created_at)
