"""Keys that are limited to scopes, in both kinds of database and across nodes."""

import time
from pathlib import Path

import pytest

from connectors.control import SCOPES, Control, Forbidden, Missing, Refused, Taken
from tests.connectors.control_databases import at_once, workspace_of


def test_a_limited_key_knows_its_scopes(control: Control) -> None:
    """And the workspace's own key has none."""
    workspace = workspace_of(control)
    made = control.access_keys.create(workspace, " Dashboard ", ["nhi:read", "logs:read"])
    owner = control.keys.owner(made.key)
    assert owner is not None
    assert (owner.workspace, owner.scopes) == (workspace, frozenset({"nhi:read", "logs:read"}))
    full = control.keys.owner(control.workspaces.rotate_key(workspace).api_key)
    assert full is not None
    assert full.scopes is None
    assert (made.info.name, made.info.prefix) == ("Dashboard", made.key[:10])
    assert control.access_keys.page(workspace, limit=10) == ([made.info], False)


def test_a_revoked_key_is_nobodys(control: Control) -> None:
    """And a name is free once its key is revoked, not before."""
    workspace, other = workspace_of(control), workspace_of(control)
    made = control.access_keys.create(workspace, "Dashboard", SCOPES)
    with pytest.raises(Taken):
        control.access_keys.create(workspace, "Dashboard", ["logs:read"])
    for nobodys in (made.info.id, "nothing", "a\0b"):
        with pytest.raises(Missing):
            control.access_keys.revoke(other, nobodys)
    assert control.keys.owner(made.key) is not None
    control.access_keys.revoke(workspace, made.info.id)
    assert control.keys.cached(made.key) is None
    assert control.keys.owner(made.key) is None
    with pytest.raises(Missing):
        control.access_keys.revoke(workspace, made.info.id)
    control.access_keys.create(workspace, "Dashboard", ["logs:read"])


@pytest.mark.parametrize("scopes", [[], ["logs:reed"], ["logs:read", ""]])
def test_scopes_are_of_the_catalogue(control: Control, scopes: list[str]) -> None:
    """The sentence has the list."""
    with pytest.raises(Refused, match="logs:read, mcp:read, nhi:read"):
        control.access_keys.create(workspace_of(control), "Dashboard", scopes)


def test_keys_made_at_once_stay_within_the_limit(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where two are made at the same time."""
    from connectors.control import access_keys

    monkeypatch.setattr(access_keys, "MOST", 3)
    workspace = workspace_of(control)

    def create(n: int) -> bool:
        try:
            control.access_keys.create(workspace, f"Key {n}", ["logs:read"])
        except Forbidden:
            return False
        return True

    assert sum(at_once(6, create)) == 3
    with pytest.raises(Missing):
        control.access_keys.create("00000000-0000-0000-0000-000000000000", "x", ["logs:read"])


def test_another_node_learns_of_a_revocation_within_a_second(server: str, tmp_path: Path) -> None:
    """As for a rotated key."""
    one, other = (Control.open(server, tmp_path / "secret.key") for _ in range(2))
    workspace = workspace_of(one)
    made = one.access_keys.create(workspace, "Dashboard", ["logs:read"])
    assert other.keys.owner(made.key) is not None
    one.access_keys.revoke(workspace, made.info.id)
    time.sleep(1.05)
    assert other.keys.cached(made.key) is None
    assert other.keys.owner(made.key) is None
    one.close()
    other.close()
