"""Who may do what, and what they asked for: users, workspaces, API keys, tenants, channels, jobs and anomalies, in
SQLite or PostgreSQL."""

from connectors.control.access_keys import AccessKey, NewAccessKey
from connectors.control.anomalies import Anomaly, Found
from connectors.control.channels import Channel
from connectors.control.control import Control
from connectors.control.errors import (
    ControlError,
    ControlUnavailable,
    Denied,
    Forbidden,
    Full,
    Missing,
    Refused,
    Taken,
)
from connectors.control.jobs import Job
from connectors.control.keys import KeyOwner
from connectors.control.scopes import SCOPES
from connectors.control.tenants import TenantInfo
from connectors.control.tokens import Claims, Token
from connectors.control.users import User
from connectors.control.workspaces import NewKey, Window, Windows, Workspace

__all__ = [
    "SCOPES",
    "AccessKey",
    "Anomaly",
    "Channel",
    "Claims",
    "Control",
    "ControlError",
    "ControlUnavailable",
    "Denied",
    "Forbidden",
    "Found",
    "Full",
    "Job",
    "KeyOwner",
    "Missing",
    "NewAccessKey",
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
