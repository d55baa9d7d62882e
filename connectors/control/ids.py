"""Names of things that nobody can guess: a prefix that says what it is, and 128 random bits in base32."""

import base64
import re
import secrets

_FORM = re.compile(r"[A-Za-z0-9_]{1,40}")


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 26 characters of a-z, 2-7."""
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(16)).decode().rstrip('=').lower()}"


def is_id(text: str) -> bool:
    """Whether `text`, from anybody, may be an id at all: not every database takes every character."""
    return _FORM.fullmatch(text) is not None
