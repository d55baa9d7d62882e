"""Channels: where a workspace's alerts go. What it takes to send there is encrypted at rest and never shown again."""

import base64
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import delete, select

from connectors.control.addresses import host_of, refusal
from connectors.control.database import Database, upsert
from connectors.control.errors import Missing, Refused
from connectors.control.models import ChannelRow
from connectors.control.providers import check, redact, settings


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as it may be shown. config: redacted; None where the key file that it was encrypted with is gone."""

    provider: str
    is_enabled: bool
    config: dict[str, str] | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class OpenChannel:
    """A channel to send to, with its secrets; they are not in its text form."""

    provider: str
    config: dict[str, str]

    def __repr__(self) -> str:
        return f"OpenChannel({self.provider}, ***)"


class Channels:
    """Setting, removing and opening them. key: 32 bytes. now: the time, UTC."""

    def __init__(self, database: Database, key: bytes, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def put(
        self,
        workspace: str,
        provider: str,
        config: Mapping[str, object],
        *,
        enabled: bool = True,
        addresses: Collection[str] = (),
        private: bool = False,
    ) -> Channel:
        """Set a channel, replacing what it was. Raises Refused with a sentence that names the field.

        addresses: what the webhook's host (`webhook_host`) resolves to, as far as known. private: webhooks in our own
        network are allowed.
        """
        checked = check(provider, config)
        for name, setting in settings(provider).items():
            problem = refusal(checked[name], addresses, private=private) if setting.url else None
            if problem is not None:
                raise Refused(f"config.{name} {problem}.")
        now = self._now()
        values = {"config": self._encrypt(workspace, provider, checked), "is_enabled": enabled, "updated_at": now}
        place = {"workspace_id": workspace, "provider": provider}
        with self._database.writing() as session:
            created_at = session.scalars(
                upsert(session, ChannelRow)
                .values(**place, **values, created_at=now)
                .on_conflict_do_update(index_elements=list(place), set_=values)
                .returning(ChannelRow.created_at)
            ).one()
        return Channel(provider, enabled, redact(provider, checked), created_at, now)

    def remove(self, workspace: str, provider: str) -> None:
        """Remove a channel. Raises Refused for an unknown provider, Missing where there is none."""
        settings(provider)
        with self._database.writing() as session:
            gone = session.execute(
                delete(ChannelRow)
                .where(ChannelRow.workspace_id == workspace, ChannelRow.provider == provider)
                .returning(ChannelRow.provider)
            ).all()
        if not gone:
            raise Missing("There is no such channel.")

    def of(self, workspace: str) -> list[Channel]:
        """Return the workspace's channels, redacted, by provider."""
        return [
            Channel(
                row.provider,
                row.is_enabled,
                redact(row.provider, config) if (config := self._decrypt(row)) is not None else None,
                row.created_at,
                row.updated_at,
            )
            for row in self._rows(workspace)
        ]

    def enabled(self, workspace: str) -> list[OpenChannel]:
        """Return the channels to send to, with their secrets; without those that `of` shows as no longer readable."""
        opened = [(row.provider, self._decrypt(row)) for row in self._rows(workspace) if row.is_enabled]
        return [OpenChannel(provider, config) for provider, config in opened if config is not None]

    def _rows(self, workspace: str) -> list[ChannelRow]:
        with self._database.reading() as session:
            chosen = select(ChannelRow).where(ChannelRow.workspace_id == workspace).order_by(ChannelRow.provider)
            return list(session.scalars(chosen))

    def _encrypt(self, workspace: str, provider: str, config: dict[str, str]) -> bytes:
        # Bound to its place, so that a row copied to another workspace does not open there.
        return self._fernet.encrypt(json.dumps([workspace, provider, config]).encode())

    def _decrypt(self, row: ChannelRow) -> dict[str, str] | None:
        try:
            workspace, provider, config = json.loads(self._fernet.decrypt(row.config))
        except InvalidToken:
            return None
        opened: dict[str, str] = config
        return opened if (workspace, provider) == (row.workspace_id, row.provider) else None


def webhook_host(provider: str, config: Mapping[str, object]) -> str | None:
    """Return the host whose name has to be resolved before `Channels.put`. Raises Refused as that does."""
    checked = check(provider, config)
    for name, setting in settings(provider).items():
        if setting.url:
            return host_of(checked[name])
    return None
