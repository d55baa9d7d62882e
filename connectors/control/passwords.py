"""Passwords: argon2id (RFC 9106), with OWASP's parameters: 19 MiB, two passes, one lane."""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from connectors.control.errors import Refused

SHORTEST, LONGEST = 8, 1024  # characters; long ones cost no more to hash, but have to arrive


class Passwords:
    """Hashes and checks. Each takes 19 MiB and some 20 ms of a core: callers bound how many run at once."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)
        self._nobody = self._hasher.hash("the password of nobody")

    def hash(self, password: str) -> str:
        """Return the hash to store. Raises Refused where the password is too short or too long."""
        if not SHORTEST <= len(password) <= LONGEST:
            raise Refused(f"password must have {SHORTEST} to {LONGEST} characters.")
        return self._hasher.hash(password)

    def holds(self, stored: str | None, password: str) -> bool:
        """Whether it is the password. Takes as long where there is no such user (`stored` None) as where there is."""
        try:
            self._hasher.verify(stored or self._nobody, password[:LONGEST])
        except (VerificationError, InvalidHashError):
            return False
        return stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)
