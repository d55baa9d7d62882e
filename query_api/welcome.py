"""What `tocsin serve` says on a terminal, and the workspace that `--demo` makes for trying it."""

from __future__ import annotations

import secrets

from rich.console import Console

from connectors.control import Control
from connectors.control.errors import Taken

DEMO_USER, DEMO_WORKSPACE = "demo@tocsin.localhost", "Demo"


def demo_key(control: Control) -> str:
    """Return a new key of the demo workspace, which is made if need be; the key before it stops working.

    Nobody can sign in as its user: the password is random and forgotten.
    """
    workspaces = control.workspaces
    try:
        user = control.users.register(DEMO_USER, secrets.token_urlsafe(32), DEMO_WORKSPACE)
    except Taken:
        known = control.users.find_by_email(DEMO_USER)
        own = workspaces.of_user(known.id) if known is not None else []
        if own:
            return workspaces.rotate_key(own[0].id).api_key
        raise
    return workspaces.create(user.id, DEMO_WORKSPACE).api_key


def show_welcome(console: Console, url: str, key: str | None) -> None:
    """Print where the service is, and with a key three lines that work when pasted."""
    console.print(f"Tocsin listens on {url}", highlight=False)
    console.print(f"API documentation: {url}/docs", highlight=False)
    if key is None:
        console.print(f"Sign up: POST {url}/api/v1/auth/register, then POST {url}/api/v1/workspaces", highlight=False)
        return
    event = (
        '{"integrationKey": "payments-service", "eventType": "token_refresh_failed", '
        '"errorCode": "401", "tenantId": "acme-corp"}'
    )
    console.print(f"\nWorkspace {DEMO_WORKSPACE}, key {key}\n(new with every start; the one before no longer works)\n")
    for line in (
        f"curl -X POST {url}/api/v1/events -H 'X-Api-Key: {key}' -H 'Content-Type: application/json' -d '{event}'",
        f"curl {url}/api/v1/incidents -H 'X-Api-Key: {key}'",
        f"curl -N {url}/api/v1/stream -H 'X-Api-Key: {key}'",
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
