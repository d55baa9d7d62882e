"""The key file `secret.key`: 32 random bytes, made at the first start, readable by its owner only.

Everything secret is derived from it (HKDF, RFC 5869), a key for each purpose, so that none says anything about another.
Whoever has the file can sign tokens and read channel settings; without it both must be made anew.
"""

import base64
import binascii
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connectors.control.errors import ControlError

_BYTES = 32


class SecretFile:
    """What is derived from the key file."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "SecretFile(***)"

    @staticmethod
    def open(path: Path) -> "SecretFile":
        """Read the file, or make it where there is none. Raises ControlError where it is unusable or open to all.

        Several processes may start at once: one of them makes the file, whole or not at all, all use that one.
        """
        try:
            if not path.exists():
                _make(path)
            mode = path.stat().st_mode
            text = path.read_bytes().strip()
        except OSError as wrong:
            raise ControlError(f"The key file {path} cannot be used: {wrong.strerror}.") from wrong
        if mode & 0o007:
            raise ControlError(f"The key file {path} can be read by everybody; run: chmod 600 {path}")
        try:
            key = base64.urlsafe_b64decode(text)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != _BYTES:
            raise ControlError(f"The key file {path} is damaged: it must hold {_BYTES} bytes in base64.")
        return SecretFile(key)

    def derive(self, purpose: str) -> bytes:
        """Return 32 bytes for one purpose, the same ones each time."""
        return HKDF(algorithm=SHA256(), length=_BYTES, salt=None, info=f"tocsin {purpose}".encode()).derive(self._key)


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(base64.urlsafe_b64encode(secrets.token_bytes(_BYTES)) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(aside, path)  # unlike a rename, never replaces one that somebody else just made
        except FileExistsError:
            pass
    finally:
        aside.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
