"""Bring the control database up to date, and tell whether models and migrations agree."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from connectors.control.database import Database
from connectors.control.errors import ControlError

_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Run the migrations that are missing, in one transaction; of several processes that start at once, one does it.

    Raises ControlError where a newer Tocsin wrote the database.
    """
    with database.alone() as connection:
        try:
            command.upgrade(config(connection), "head")
        except CommandError as wrong:
            raise ControlError(f"The control database was written by a newer Tocsin ({wrong}).") from wrong


def config(connection: Connection) -> Config:
    """Return what Alembic's commands need to work on this connection."""
    made = Config()
    made.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made
