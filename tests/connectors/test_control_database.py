"""The control database: migrations, both kinds of database, many at once."""

import time
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, text

from connectors.control import Control, ControlError, ControlUnavailable, Missing, Refused, Taken
from connectors.control.database import Database, parse_url
from connectors.control.migrate import config, migrate
from connectors.control.models import Base
from tests.connectors.control_databases import at_once, workspace_of


def test_migrations_make_what_the_models_say(url: str) -> None:
    """A column that only one of them has would fail at the first customer, not here."""
    database = Database(url)
    migrate(database)
    with database.alone() as connection:
        command.check(config(connection))
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    migrate(database)  # again: nothing to do
    with database.alone() as connection:
        command.downgrade(config(connection), "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    database.close()


def test_nodes_that_start_at_once_migrate_once(url: str, tmp_path: Path) -> None:
    """And use the same key file."""
    opened = at_once(4, lambda _: Control.open(url, tmp_path / "secret.key"))
    token = opened[0].tokens.issue("somebody", None).text
    assert {one.tokens.read(token).user for one in opened} == {"somebody"}
    for one in opened:
        one.close()


def test_a_database_of_a_newer_tocsin_is_left_alone(url: str, tmp_path: Path) -> None:
    """Going back to an older version must not damage anything."""
    Control.open(url, tmp_path / "secret.key").close()
    database = Database(url)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(ControlError, match="newer Tocsin"):
        Control.open(url, tmp_path / "secret.key")


def test_everything_works_on_both(control: Control) -> None:
    """The whole facade once, on each kind of database."""
    user = control.users.register("Ada@Example.com", "correct horse", "Ada")
    assert control.users.login("ada@example.com", "correct horse") == user == control.users.find(user.id)
    with pytest.raises(Taken):
        control.users.register("ADA@example.com", "correct horse")
    made = control.workspaces.create(user.id, "My Team")
    workspace = made.workspace.id
    assert control.workspaces.of_user(user.id) == [made.workspace] == [control.workspaces.find(workspace)]
    owner = control.keys.owner(made.api_key)
    assert owner is not None
    assert (owner.workspace, owner.name, owner.is_active) == (workspace, "My Team", True)
    changed = control.workspaces.change(workspace, name="Renamed", windows={"close": 60})
    assert (changed.name, changed.windows.close, changed.windows.recovery) == ("Renamed", 60, None)
    membership = control.workspaces.membership(user.id, workspace)
    assert membership is not None
    assert membership.name == "Renamed"
    rotated = control.workspaces.rotate_key(workspace)
    assert control.keys.owner(made.api_key) is None
    assert control.keys.owner(rotated.api_key) is not None
    assert control.tenant_states(workspace, ["acme", "beta"]) == {"acme": True, "beta": True}
    acme = control.tenant_names(workspace, ["acme", "unknown"])["acme"]
    assert control.tenants.set_active(workspace, acme.id, False).is_active is False
    assert control.tenant_states(workspace, ["acme", "beta"]) == {"acme": False, "beta": True}
    assert control.tenants.page(workspace, active=False, offset=0, limit=10)[1] == 1
    first = control.channels.put(workspace, "opsgenie", {"apiKey": "12345678", "region": "eu"})
    control.channels.put(workspace, "opsgenie", {"apiKey": "87654321"}, enabled=False)
    assert [one.created_at for one in control.channels.of(workspace)] == [first.created_at]
    control.channels.remove(workspace, "opsgenie")
    with pytest.raises(Missing):
        control.channels.remove(workspace, "opsgenie")
    for nobodys in (workspace, "nonsense"):
        with pytest.raises(Missing):
            control.workspaces.create("00000000-0000-0000-0000-000000000000", nobodys)
    control.ping()


def test_tenants_seen_first_by_many_at_once_are_registered_once(control: Control) -> None:
    """Batches come side by side, each with the same new customers."""
    workspace = workspace_of(control)
    names = [f"tenant-{n}" for n in range(1500)]  # more than one statement takes
    answers = at_once(4, lambda n: control.tenants.states(workspace, names[n::-1] + names[n:]))
    assert all(answer == dict.fromkeys(names, True) for answer in answers)
    assert control.tenants.page(workspace, active=None, offset=0, limit=1)[1] == len(names)


def test_channels_set_at_once_are_one(control: Control) -> None:
    """The last one wins, none fails."""
    workspace = workspace_of(control)
    at_once(4, lambda n: control.channels.put(workspace, "pagerduty", {"routingKey": f"key-number-{n}"}))
    assert len(control.channels.of(workspace)) == 1


def test_rotations_at_once_leave_one_key(control: Control) -> None:
    """Whoever was last."""
    workspace = workspace_of(control)
    keys = [made.api_key for made in at_once(4, lambda _: control.workspaces.rotate_key(workspace))]
    assert sum(control.keys.owner(key) is not None for key in keys) == 1


@pytest.mark.parametrize("tenant", ["", "   ", "x" * 256, "a\x00b"])
def test_what_cannot_be_a_tenant_registers_nothing(control: Control, tenant: str) -> None:
    """PostgreSQL, for one, would fail on some of them."""
    workspace = workspace_of(control)
    with pytest.raises(Refused, match=r"^tenantId "):
        control.tenant_states(workspace, ["fine", tenant])
    assert control.tenants.page(workspace, active=None, offset=0, limit=1)[1] == 0


@pytest.mark.parametrize("name", ["ascii", "späße", "日本語", "a' OR '1'='1", "100%", "a\\b", "👋"])
def test_text_comes_back_as_it_went_in(control: Control, name: str) -> None:
    """In every alphabet."""
    workspace = workspace_of(control)
    assert control.workspaces.change(workspace, name=name).name == name
    assert control.tenant_states(workspace, [name]) == {name: True}
    assert control.tenant_names(workspace, [name])[name].name == name


def test_several_nodes_share_a_postgres(server: str, tmp_path: Path) -> None:
    """What one changes the others see within a second."""
    one, other = (Control.open(server, tmp_path / "secret.key") for _ in range(2))
    workspace = workspace_of(one)
    key = one.workspaces.rotate_key(workspace).api_key
    assert other.keys.owner(key) is not None
    assert other.tenant_states(workspace, ["acme"]) == {"acme": True}
    one.tenants.set_active(workspace, one.tenant_names(workspace, ["acme"])["acme"].id, False)
    one.workspaces.rotate_key(workspace)
    time.sleep(1.05)
    assert other.keys.cached(key) is None
    assert other.keys.owner(key) is None
    assert other.tenant_states(workspace, ["acme"]) == {"acme": False}
    one.close()
    other.close()


def test_sqlite_lies_beside_the_data_and_is_ours_alone(tmp_path: Path) -> None:
    """Hashes and encrypted settings are nobody else's to copy."""
    control = Control.open(f"sqlite:///{tmp_path}/deep/control.sqlite", tmp_path / "secret.key")
    workspace_of(control)
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in (tmp_path / "deep").iterdir()}
    assert set(modes.values()) == {"0o600"}
    assert "control.sqlite-wal" in modes
    control.close()


def test_a_writer_waits_for_another(tmp_path: Path) -> None:
    """Instead of failing because the database is locked."""
    control = Control.open(f"sqlite:///{tmp_path}/control.sqlite", tmp_path / "secret.key")
    workspace = workspace_of(control)
    at_once(16, lambda n: control.tenants.create(workspace, f"tenant-{n}"))
    assert control.tenants.page(workspace, active=None, offset=0, limit=1)[1] == 16
    control.close()


@pytest.mark.parametrize("url", ["mysql://root@host/x", "sqlite://", "sqlite:///:memory:", "nonsense", ""])
def test_other_addresses_are_refused(url: str) -> None:
    """With a sentence, at the start."""
    with pytest.raises(ControlError):
        parse_url(url)


def test_a_password_in_the_address_is_not_told(tmp_path: Path) -> None:
    """Nobody listens there, and the error says no more."""
    pytest.importorskip("psycopg")
    with pytest.raises(ControlUnavailable) as caught:
        Control.open("postgresql://tocsin:hunter2@127.0.0.1:1/tocsin", tmp_path / "secret.key")
    assert "hunter2" not in str(caught.value)
