"""Names that depend on the log alone (DESIGN S12): the same episode has the same id in every replay."""

from hashlib import blake2b

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]  # ten bits at a time; the library's base32 is ten times slower


def incident_id(workspace: str, rule_id: str, group_key: str, opened_at: int, again: int = 0) -> str:
    """`inc_` and a 128-bit BLAKE2b hash of the episode in base32; `opened_at` in µs since 1970, UTC.

    again: counts up while the id is taken; only a live store ever needs it.
    """
    return "inc_" + _hash(workspace, rule_id, group_key, str(opened_at), *([str(again)] if again else []))


def alert_id(incident: str, kind: str, cycle: int, tenant: str | None) -> str:
    """What the alert says, in words: it is sent once however often it is computed."""
    who = () if tenant is None else (tenant,)
    return ".".join((incident, kind, str(cycle), *who))


def anomaly_id(workspace: str, source: str, kind: str, begin: int) -> str:
    """`anom_` and a hash of what is unusual, whose, and the bucket's begin in µs: found again it has the same name."""
    return "anom_" + _hash(workspace, source, kind, str(begin))


def _hash(*parts: str) -> str:
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    # A length before each part: ("a", "bc") and ("ab", "c") are different names.
    whole = b"".join([len(data).to_bytes(4, "big") + data for data in encoded])
    digest = blake2b(whole, digest_size=16)
    bits = int.from_bytes(digest.digest(), "big") << 2  # 128 bits as 26 letters of five
    return "".join([_PAIRS[bits >> shift & 1023] for shift in range(120, -1, -10)])
