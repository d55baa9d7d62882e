"""Users: people with an e-mail address and a password."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from connectors.control import text
from connectors.control.database import Database
from connectors.control.errors import Denied, Refused, Taken
from connectors.control.models import UserRow
from connectors.control.passwords import Passwords


@dataclass(frozen=True, slots=True)
class User:
    """A person."""

    id: str
    email: str
    name: str | None


class Users:
    """Registration and login. now: the time, UTC."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database, self._now = database, now
        self._passwords = Passwords()

    def register(self, email: str, password: str, name: str | None = None) -> User:
        """Add a user. Raises Refused where a value makes no sense, Taken where the address has an account."""
        address = text.email(email)
        named = text.clean(name, "name", text.NAME_LIMIT) if name is not None else None
        user = User(str(uuid.uuid4()), address, named)
        row = UserRow(
            id=user.id,
            email=address,
            email_key=text.email_key(address),
            name=named,
            password_hash=self._passwords.hash(password),
            created_at=self._now(),
        )
        try:
            with self._database.writing() as session:
                session.add(row)
        except IntegrityError:
            raise Taken("There is an account with this email already.") from None
        return user

    def login(self, email: str, password: str) -> User:
        """Return the user. Raises Denied, the same way and as slowly, for an unknown address and a wrong password."""
        row = self._by_address(email)
        if not self._passwords.holds(row.password_hash if row else None, password) or row is None:
            raise Denied("Email or password is wrong.")
        if self._passwords.outdated(row.password_hash):
            fresh = self._passwords.hash(password)
            with self._database.writing() as session:
                session.execute(update(UserRow).where(UserRow.id == row.id).values(password_hash=fresh))
        return User(row.id, row.email, row.name)

    def _by_address(self, email: str) -> UserRow | None:
        try:
            sought = text.email_key(text.email(email))
        except Refused:
            return None  # no address, so nobody's
        with self._database.reading() as session:
            return session.scalar(select(UserRow).where(UserRow.email_key == sought))

    def find_by_email(self, email: str) -> User | None:
        """Return the user with this address."""
        row = self._by_address(email)
        return None if row is None else User(row.id, row.email, row.name)

    def find(self, user: str) -> User | None:
        """Return the user with this id."""
        with self._database.reading() as session:
            row = session.get(UserRow, user)
        return None if row is None else User(row.id, row.email, row.name)
