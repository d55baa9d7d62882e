"""The control database as the rest of the service sees it."""

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from connectors.control.access_keys import AccessKeys
from connectors.control.anomalies import Anomalies
from connectors.control.channels import Channels
from connectors.control.database import Database
from connectors.control.jobs import Jobs
from connectors.control.keys import Keys
from connectors.control.migrate import migrate
from connectors.control.secret_file import SecretFile
from connectors.control.tenants import TenantInfo, Tenants
from connectors.control.tokens import Tokens
from connectors.control.users import Users
from connectors.control.workspaces import Workspaces

# Several API nodes may share a PostgreSQL database: what one of them changes, the others see within this time.
SHARED_FRESHNESS = 1.0  # seconds


class Control:
    """Users, workspaces, keys, tenants, channels, jobs, anomalies.

    Thread-safe; methods wait for the database unless they say not.
    """

    def __init__(self, database: Database, secret: SecretFile, clock: Callable[[], float] = time.time) -> None:
        """clock: seconds since 1970."""
        freshness = SHARED_FRESHNESS if database.shared else None

        def now() -> datetime:
            return datetime.fromtimestamp(clock(), UTC)

        self._database = database
        self.keys = Keys(database, freshness)
        self.users = Users(database, now)
        self.workspaces = Workspaces(database, self.keys, now, freshness)
        self.tenants = Tenants(database, now, freshness)
        self.access_keys = AccessKeys(database, self.keys, now)
        self.jobs = Jobs(database, now)
        self.anomalies = Anomalies(database, now)
        self.channels = Channels(database, secret.derive("channels"), now)
        self.tokens = Tokens(secret.derive("tokens"), clock)

    @classmethod
    def open(cls, url: str, secret_path: Path, clock: Callable[[], float] = time.time) -> "Control":
        """Open the database and bring it up to date; make it and the key file where there are none.

        url: sqlite:///<file> or postgresql://user@host/database. Raises ControlError with a sentence for the operator.
        """
        secret = SecretFile.open(secret_path)
        database = Database(url)
        try:
            migrate(database)
            return cls(database, secret, clock)
        except BaseException:
            database.close()
            raise

    def tenant_states(self, workspace: str, tenants: Collection[str]) -> dict[str, bool]:
        """Return for each external id whether that tenant is active; unknown ones are registered, as active."""
        return self.tenants.states(workspace, tenants)

    def known_tenant_states(self, workspace: str, tenants: Collection[str]) -> dict[str, bool] | None:
        """Return what `tenant_states` would if all of it is in memory, else None. Never waits."""
        return self.tenants.known_states(workspace, tenants)

    def tenant_names(self, workspace: str, external_ids: Collection[str]) -> dict[str, TenantInfo]:
        """Return those of the tenants that are registered, by external id."""
        return self.tenants.named(workspace, external_ids)

    def ping(self) -> None:
        """Raises ControlUnavailable where the database does not answer."""
        self._database.ping()

    def close(self) -> None:
        """Close all connections to the database."""
        self._database.close()
