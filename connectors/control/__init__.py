"""Who may do what: users, workspaces, API keys, tenants and notification channels, in SQLite or PostgreSQL."""

from connectors.control.channels import Channel
from connectors.control.control import Control
from connectors.control.errors import (
    ControlError,
    ControlUnavailable,
    Denied,
    Forbidden,
    Missing,
    Refused,
    Taken,
)
from connectors.control.keys import KeyOwner
from connectors.control.tenants import TenantInfo
from connectors.control.tokens import Claims, Token
from connectors.control.users import User
from connectors.control.workspaces import NewKey, Window, Windows, Workspace

__all__ = [
    "Channel",
    "Claims",
    "Control",
    "ControlError",
    "ControlUnavailable",
    "Denied",
    "Forbidden",
    "KeyOwner",
    "Missing",
    "NewKey",
    "Refused",
    "Taken",
    "TenantInfo",
    "Token",
    "User",
    "Window",
    "Windows",
    "Workspace",
]
