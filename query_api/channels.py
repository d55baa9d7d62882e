"""Channels: where a workspace's alerts go."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field, StrictBool
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from connectors.control import Channel
from connectors.control.channels import webhook_host
from connectors.control.providers import PROVIDERS
from query_api.caller import CallerDep
from query_api.envelope import SURFACE, ok
from query_api.services import ServicesDep
from query_api.wire import Envelope, Wire

router = APIRouter(prefix=f"{SURFACE}/workspaces/me/channels", tags=["Channels"])

_RESOLVED = 2.0  # seconds a resolver has; where none answers, the address is checked when something is sent

Provider = Annotated[str, Path(json_schema_extra={"enum": list(PROVIDERS)})]


class Setting(Wire):
    """config: slack and teams `webhookUrl`; pagerduty `routingKey`; opsgenie `apiKey` and, if you like, `region`."""

    config: Annotated[
        dict[str, Any], Field(examples=[{"webhookUrl": "https://hooks.slack.com/services/T000/B000/XXXX"}])
    ]
    is_enabled: StrictBool = True


class ChannelBody(Wire):
    """A channel, without what it takes to use it. config: null where it has to be set again (the key file is new)."""

    provider: str
    is_enabled: bool
    config: Annotated[dict[str, str] | None, Field(examples=[{"webhookUrl": "https://hooks.slack.com/***"}])]
    created_at: datetime
    updated_at: datetime


@router.put("/{provider}", summary="Set a notification channel", response_model=Envelope[ChannelBody])
async def put(provider: Provider, body: Setting, caller: CallerDep, services: ServicesDep) -> Response:
    """Replaces what it was. A webhook must be https and must not lead into a private network."""
    host, private = webhook_host(provider, body.config), services.settings.private_webhooks
    addresses = await _resolve(host) if host is not None and not private else []
    channel = await run_in_threadpool(
        services.control.channels.put,
        caller.workspace,
        provider,
        body.config,
        enabled=body.is_enabled,
        addresses=addresses,
        private=private,
    )
    return ok(_body(channel).body())


@router.delete("/{provider}", summary="Remove a notification channel", response_model=Envelope[None])
def remove(provider: Provider, caller: CallerDep, services: ServicesDep) -> Response:
    """Nothing is sent there any more."""
    services.control.channels.remove(caller.workspace, provider)
    return ok(None, "Channel removed.")


def channel_bodies(channels: Sequence[Channel]) -> list[ChannelBody]:
    """Return the channels as they are shown."""
    return [_body(channel) for channel in channels]


def _body(channel: Channel) -> ChannelBody:
    return ChannelBody(
        provider=channel.provider,
        is_enabled=channel.is_enabled,
        config=channel.config,
        created_at=channel.created_at,
        updated_at=channel.updated_at,
    )


async def _resolve(host: str) -> list[str]:
    """Return the addresses of a host, none where no resolver knows it or answers in time."""
    found: list[Any] = []
    with suppress(OSError, UnicodeError, TimeoutError):
        found = await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo(host, 443), _RESOLVED)
    return [str(address[4][0]) for address in found]
