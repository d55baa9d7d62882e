"""API keys: `sg_` and 48 hex characters, shown once, stored as SHA-256.

A workspace has one key that may do everything (`api_keys`) and further ones that are limited (`access_keys`).

192 random bits need no slow hash: there is nothing to guess. The lookup is by digest, so its timing tells nothing
about a key; the digest found is compared in constant time all the same.
"""

import hashlib
import hmac
import re
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Select, SQLColumnExpression, null, select, update
from sqlalchemy.orm import Session

from connectors.control.cache import Cache
from connectors.control.database import Database
from connectors.control.models import AccessKeyRow, ApiKeyRow, WorkspaceRow

_PREFIX = 10  # `sg_` and seven of the 48: enough to recognise a key by
_FORM = re.compile(r"sg_[0-9a-f]{48}")
_KNOWN = 10_000  # keys in memory


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """The workspace a key belongs to. scopes: what the key is limited to; None: everything."""

    workspace: str
    name: str
    is_active: bool
    digest: bytes = field(repr=False)
    scopes: frozenset[str] | None = None


class Keys:
    """Whose key is it? Answers from memory once asked. freshness: seconds, see `Cache`."""

    def __init__(self, database: Database, freshness: float | None) -> None:
        self._database = database
        self._cache: Cache[bytes, KeyOwner] = Cache(_KNOWN, freshness)

    def cached(self, key: str) -> KeyOwner | None:
        """Return the owner if it is in memory: a dict lookup, never waits."""
        return _same(self._cache.get(digest(key)), key)

    def owner(self, key: str) -> KeyOwner | None:
        """Return the owner, None for an unknown or rotated key. May ask the database."""
        if _FORM.fullmatch(key) is None:
            return None
        sought = digest(key)
        return _same(self._cache.ask(sought, lambda: self._find(sought)), key)

    def forget(self) -> None:
        """Forget what is in memory: a key was rotated, or a workspace has changed."""
        self._cache.forget()

    def _find(self, sought: bytes) -> KeyOwner | None:
        with self._database.reading() as session:
            found = session.execute(_owner(ApiKeyRow, null()).where(ApiKeyRow.digest == sought)).one_or_none()
            if found is None:
                found = session.execute(
                    _owner(AccessKeyRow, AccessKeyRow.scopes).where(AccessKeyRow.digest == sought)
                ).one_or_none()
        if found is None:
            return None
        scopes = None if found.scopes is None else frozenset(found.scopes.split())
        return KeyOwner(found.id, found.name, found.is_active, bytes(found.digest), scopes)


def new_key() -> str:
    """Return a new key."""
    return f"sg_{secrets.token_hex(24)}"


def prefix(key: str) -> str:
    """Return how the key begins: what may be stored and shown."""
    return key[:_PREFIX]


def digest(key: str) -> bytes:
    """Return the key's SHA-256: 32 bytes."""
    return hashlib.sha256(key.encode(errors="replace")).digest()


def store_key(session: Session, workspace: str, key: str, now: datetime) -> None:
    """Revoke the workspace's keys and make `key` its only one, in the caller's transaction."""
    session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.workspace_id == workspace, ApiKeyRow.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    session.add(
        ApiKeyRow(id=str(uuid.uuid4()), workspace_id=workspace, digest=digest(key), prefix=prefix(key), created_at=now)
    )


def _same(owner: KeyOwner | None, key: str) -> KeyOwner | None:
    return owner if owner is not None and hmac.compare_digest(owner.digest, digest(key)) else None


def _owner(table: type[ApiKeyRow] | type[AccessKeyRow], scopes: SQLColumnExpression[Any]) -> Select[Any]:
    workspace = (WorkspaceRow.id, WorkspaceRow.name, WorkspaceRow.is_active)
    columns: list[Any] = [*workspace, table.digest, scopes.label("scopes")]
    return select(*columns).join(table, table.workspace_id == WorkspaceRow.id).where(table.revoked_at.is_(None))
