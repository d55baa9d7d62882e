"""What a key may be limited to. A new scope is a line here; the endpoints that need it name it."""

from collections.abc import Collection

from connectors.control.errors import Refused

SCOPES = {
    "logs:read": "Guardians' verdicts: summaries, time series, by guardian.",
    "mcp:read": "Tool calls: tools, sessions, changes of configuration.",
    "nhi:read": "Identities: risk, posture, anomalies.",
    "sql:read": "One's own SQL over the workspace's data.",
    "events:write": "Sending events.",
}


def checked(scopes: Collection[str]) -> frozenset[str]:
    """Return the scopes. Raises Refused for none, and for one that is not in the catalogue."""
    if not scopes or not SCOPES.keys() >= set(scopes):
        raise Refused(f"scopes must be one or more of {', '.join(SCOPES)}.")
    return frozenset(scopes)
