"""Tokens of people: JSON Web Tokens (RFC 7519), HS256, an hour long, for one workspace or for none yet."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

import jwt

from connectors.control.errors import Denied

LIFETIME = 3600  # seconds
_ALGORITHM = "HS256"
_ISSUER = "tocsin"
_REQUIRED = ["exp", "iat", "sub", "iss"]


@dataclass(frozen=True, slots=True)
class Token:
    """A token to hand out. expires_at: seconds since 1970."""

    text: str
    expires_at: int

    def __repr__(self) -> str:
        return f"Token(***, expires_at={self.expires_at})"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: who, and for which workspace (None: for none yet)."""

    user: str
    workspace: str | None


class Tokens:
    """Signs and reads. clock: seconds since 1970."""

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key, self._clock = key, clock

    def issue(self, user: str, workspace: str | None) -> Token:
        """Return a token that counts for an hour."""
        now = int(self._clock())
        claims = {"iss": _ISSUER, "sub": user, "iat": now, "exp": now + LIFETIME, "jti": uuid.uuid4().hex}
        if workspace is not None:
            claims["wsp"] = workspace
        return Token(jwt.encode(claims, self._key, algorithm=_ALGORITHM), now + LIFETIME)

    def read(self, text: str) -> Claims:
        """Return what the token says. Raises Denied where it is forged, damaged or expired."""
        try:
            claims = jwt.decode(
                text,
                self._key,
                algorithms=[_ALGORITHM],  # never what the token itself names
                issuer=_ISSUER,
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
            )
        except (jwt.InvalidTokenError, ValueError):
            raise Denied("The token is not valid.") from None
        user, workspace, expires_at = claims["sub"], claims.get("wsp"), claims["exp"]
        if not isinstance(expires_at, int) or not isinstance(workspace, str | None):
            raise Denied("The token is not valid.")
        if self._clock() >= expires_at:
            raise Denied("The token has expired.")
        return Claims(user, workspace)
