"""The tables of the control database. A change here needs a migration; a test compares the two."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    Uuid,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

# Constraints have names that do not depend on the database, so that a migration can say which one it means.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcTime(TypeDecorator[datetime]):
    """A time with its offset, UTC; SQLite would forget the offset."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(naming_convention=_NAMES)


class UserRow(Base):
    """A person. `email` as given; `email_key` is what makes it unique."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    email: Mapped[str] = mapped_column(String(320))
    email_key: Mapped[str] = mapped_column(String(1024), unique=True)
    name: Mapped[str | None] = mapped_column(String(200))
    password_hash: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcTime())


class WorkspaceRow(Base):
    """An isolated customer. The windows are seconds; null: the default."""

    __tablename__ = "workspaces"

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    is_active: Mapped[bool] = mapped_column(Boolean())
    recovery_seconds: Mapped[int | None] = mapped_column(Integer())
    close_seconds: Mapped[int | None] = mapped_column(Integer())
    cooldown_seconds: Mapped[int | None] = mapped_column(Integer())
    created_at: Mapped[datetime] = mapped_column(UtcTime())


class MembershipRow(Base):
    """Who belongs to which workspace."""

    __tablename__ = "memberships"
    __table_args__ = (Index(None, "workspace_id"),)

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(UtcTime())


class ApiKeyRow(Base):
    """A key of a workspace: its SHA-256 and how it begins. Revoked ones stay, to tell when; one at most is not."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index(None, "workspace_id"),
        Index(
            "uq_api_keys_current",
            "workspace_id",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    prefix: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[datetime] = mapped_column(UtcTime())
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime())


class TenantRow(Base):
    """A customer of a workspace; `external_id` is what events call it."""

    __tablename__ = "tenants"
    __table_args__ = (Index(None, "workspace_id", "external_id", unique=True),)

    id: Mapped[str] = mapped_column(Uuid(as_uuid=False), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    external_id: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(Boolean())
    created_at: Mapped[datetime] = mapped_column(UtcTime())
    deactivated_at: Mapped[datetime | None] = mapped_column(UtcTime())


class ChannelRow(Base):
    """Where alerts go. `config` is encrypted JSON text."""

    __tablename__ = "channels"

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True)
    provider: Mapped[str] = mapped_column(String(20), primary_key=True)
    config: Mapped[bytes] = mapped_column(LargeBinary())
    is_enabled: Mapped[bool] = mapped_column(Boolean())
    created_at: Mapped[datetime] = mapped_column(UtcTime())
    updated_at: Mapped[datetime] = mapped_column(UtcTime())


class AccessKeyRow(Base):
    """A further key of a workspace: as `ApiKeyRow`, named and limited to `scopes`, which are separated by spaces."""

    __tablename__ = "access_keys"
    __table_args__ = (
        Index(
            "uq_access_keys_current",
            "workspace_id",
            "name",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(200))
    scopes: Mapped[str] = mapped_column(String(1000))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    prefix: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[datetime] = mapped_column(UtcTime())
    revoked_at: Mapped[datetime | None] = mapped_column(UtcTime())


class JobRow(Base):
    """Work that is done behind the answer. `request` and `result` are JSON text.

    While it runs, `claim` is the secret of who runs it, until `claimed_until`; `attempts` counts who began.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "workspace_id", "created_at"), Index(None, "status", "created_at"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(40))
    status: Mapped[str] = mapped_column(String(20))
    request: Mapped[str] = mapped_column(Text())
    result: Mapped[str | None] = mapped_column(Text())
    error: Mapped[str | None] = mapped_column(Text())
    requested_by: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcTime())
    started_at: Mapped[datetime | None] = mapped_column(UtcTime())
    finished_at: Mapped[datetime | None] = mapped_column(UtcTime())
    claim: Mapped[str | None] = mapped_column(String(40))
    claimed_until: Mapped[datetime | None] = mapped_column(UtcTime())
    attempts: Mapped[int] = mapped_column(Integer())


class AnomalyRow(Base):
    """Something an identity did that it does not usually do. `evidence` is JSON text."""

    __tablename__ = "anomalies"
    __table_args__ = (Index(None, "workspace_id", "detected_at", "id"),)

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    nhi_id: Mapped[str] = mapped_column(Text())  # as long as an event may call it
    nhi_label: Mapped[str | None] = mapped_column(Text())
    type: Mapped[str] = mapped_column(Text())
    severity: Mapped[str] = mapped_column(String(20))
    detected_at: Mapped[datetime] = mapped_column(UtcTime())
    score: Mapped[float] = mapped_column(Double())
    evidence: Mapped[str] = mapped_column(Text())
    status: Mapped[str] = mapped_column(String(20))
    note: Mapped[str | None] = mapped_column(Text())
    acknowledged_at: Mapped[datetime | None] = mapped_column(UtcTime())
    acknowledged_by: Mapped[str | None] = mapped_column(String(100))
