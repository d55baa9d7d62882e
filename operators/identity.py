"""Names that depend on the log alone (DESIGN S12): the same episode has the same id in every replay."""

from base64 import b32encode
from hashlib import blake2b


def incident_id(workspace: str, rule_id: str, group_key: str, opened_at: int) -> str:
    """`inc_` and a 128-bit BLAKE2b hash of the episode in base32; `opened_at` in µs since 1970, UTC."""
    return "inc_" + _hash(workspace, rule_id, group_key, str(opened_at))


def alert_id(incident: str, kind: str, cycle: int, tenant: str | None) -> str:
    """What the alert says, in words: it is sent once however often it is computed."""
    who = () if tenant is None else (tenant,)
    return ".".join((incident, kind, str(cycle), *who))


def _hash(*parts: str) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        # A length before each part: ("a", "bc") and ("ab", "c") are different names.
        digest.update(len(data).to_bytes(4, "big") + data)
    return b32encode(digest.digest()).decode("ascii").rstrip("=").lower()
