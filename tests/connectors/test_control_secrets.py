"""Keys, passwords, tokens, the key file, addresses of webhooks: what must hold even when somebody tries."""

import base64
import hashlib
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.control import Control, ControlError, Denied
from connectors.control.addresses import host_of, refusal
from connectors.control.cache import Cache
from connectors.control.keys import new_key, prefix
from connectors.control.passwords import Passwords
from connectors.control.secret_file import SecretFile
from connectors.control.tokens import Tokens


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """Control over SQLite."""
    opened = Control.open(f"sqlite:///{tmp_path}/control.sqlite", tmp_path / "secret.key")
    yield opened
    opened.close()


def test_a_stolen_database_opens_nothing(control: Control, tmp_path: Path) -> None:
    """It holds hashes: no key, no password."""
    user = control.users.register("ada@example.com", "correct horse")
    key = control.workspaces.create(user.id, "My Team").api_key
    with sqlite3.connect(tmp_path / "control.sqlite") as database:
        dump = "\n".join(database.iterdump())
        ((digest, shown),) = database.execute("SELECT digest, prefix FROM api_keys").fetchall()
        ((hashed,),) = database.execute("SELECT password_hash FROM users").fetchall()
    assert key not in dump
    assert key[10:] not in dump
    assert "correct horse" not in dump
    assert digest == hashlib.sha256(key.encode()).digest()
    assert shown == prefix(key) == key[:10]
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_keys_are_random_and_of_the_documented_form() -> None:
    """`sg_` and 48 hex characters."""
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"sg_[0-9a-f]{48}", key) for key in keys)


def test_secrets_are_not_in_the_text_of_objects(control: Control) -> None:
    """Objects end up in tracebacks."""
    user = control.users.register("ada@example.com", "correct horse")
    made = control.workspaces.create(user.id, "My Team")
    token = control.tokens.issue(user.id, None)
    text = f"{made!r} {made} {token!r} {control.keys.owner(made.api_key)!r} {SecretFile(b'x' * 32)!r}"
    assert made.api_key not in text
    assert token.text not in text


def test_a_key_that_is_looked_up_while_it_is_rotated_does_not_come_back() -> None:
    """The old answer arrives after everything was forgotten; kept, it would let the old key in for ever."""
    cache: Cache[str, str] = Cache(10, None)
    asked, rotated = threading.Event(), threading.Event()

    def slow() -> str:
        asked.set()
        rotated.wait(5)
        return "valid"

    lookup = threading.Thread(target=cache.ask, args=("key", slow))
    lookup.start()
    asked.wait(5)
    cache.forget()
    rotated.set()
    lookup.join()
    assert cache.get("key") is None


def test_a_tenant_that_is_looked_up_while_it_is_deactivated_does_not_come_back(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same race for deactivation."""
    user = control.users.register("ada@example.com", "correct horse")
    workspace = control.workspaces.create(user.id, "My Team").workspace.id
    tenant = control.tenants.create(workspace, "acme").id
    rows = control.tenants._rows

    def overtaken(*asked: object) -> object:
        found = rows(*asked)  # type: ignore[arg-type]
        control.tenants.set_active(workspace, tenant, False)
        return found

    monkeypatch.setattr(control.tenants, "_rows", overtaken)
    control.tenant_states(workspace, ["acme"])
    monkeypatch.undo()
    assert control.tenant_states(workspace, ["acme"]) == {"acme": False}


def test_memory_is_bounded_and_answers_age() -> None:
    """Random keys must not fill it; where others write, too, nothing counts for long."""
    now = 0.0
    cache: Cache[int, int] = Cache(3, 1.0, lambda: now)
    for n in range(5):
        assert cache.ask(n, lambda n=n: n + 10) == n + 10  # type: ignore[misc]
    assert [cache.get(n) for n in range(5)] == [None, None, 12, 13, 14]
    now = 0.999
    assert cache.get(4) == 14
    now = 1.0
    assert cache.get(4) is None
    assert cache.ask(9, lambda: None) is None


def test_a_hash_of_older_parameters_is_renewed_at_login(control: Control, tmp_path: Path) -> None:
    """So that raising them reaches everybody, in time."""
    from argon2 import PasswordHasher

    control.users.register("ada@example.com", "correct horse")
    old = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("correct horse")
    with sqlite3.connect(tmp_path / "control.sqlite") as database:
        database.execute("UPDATE users SET password_hash = ?", (old,))
    control.users.login("ada@example.com", "correct horse")
    with sqlite3.connect(tmp_path / "control.sqlite") as database:
        ((hashed,),) = database.execute("SELECT password_hash FROM users").fetchall()
    assert "m=19456,t=2,p=1" in hashed
    with pytest.raises(Denied):
        control.users.login("ada@example.com", "correct horsf")


def test_nobodys_password_is_nobodys() -> None:
    """The hash that stands in for unknown users opens nothing."""
    passwords = Passwords()
    assert not passwords.holds(None, "the password of nobody")
    assert not passwords.holds("damaged", "x")


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é", "." * 10, "e30.e30."])
def test_nonsense_is_no_token(text: str) -> None:
    """Denied, never another error."""
    with pytest.raises(Denied):
        Tokens(b"k" * 32, lambda: 0.0).read(text)


@given(st.text())
def test_no_text_breaks_the_reading_of_tokens(text: str) -> None:
    """Headers are whatever somebody sends."""
    with pytest.raises(Denied):
        Tokens(b"k" * 32, lambda: 0.0).read(text)


def test_a_token_with_wrong_types_is_denied() -> None:
    """Signed by us or not, claims are checked."""
    import jwt

    key = b"k" * 32
    good = {"iss": "tocsin", "sub": "u", "iat": 0, "exp": 10, "wsp": "w"}
    tokens = Tokens(key, lambda: 5.0)
    assert tokens.read(jwt.encode(good, key)).workspace == "w"
    for change in ({"exp": "10"}, {"exp": 10.5}, {"wsp": 7}, {"iss": "other"}, {"exp": None}):
        with pytest.raises(Denied):
            tokens.read(jwt.encode(good | change, key))
    for missing in ("exp", "sub", "iss", "iat"):
        with pytest.raises(Denied):
            tokens.read(jwt.encode({name: value for name, value in good.items() if name != missing}, key))


def test_the_key_file_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    """0600, 32 bytes, nothing left beside it; each purpose has its own key."""
    path = tmp_path / "data" / "secret.key"
    made = SecretFile.open(path)
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert len(base64.urlsafe_b64decode(path.read_bytes())) == 32
    assert os.listdir(path.parent) == ["secret.key"]
    assert SecretFile.open(path).derive("tokens") == made.derive("tokens") != made.derive("channels")


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 44, base64.urlsafe_b64encode(b"x" * 31)])
def test_a_damaged_key_file_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    """A new one would make every channel unreadable."""
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ControlError, match="damaged"):
        SecretFile.open(path)
    assert path.read_bytes() == content


def test_a_key_file_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """With the command that mends it."""
    path = tmp_path / "secret.key"
    SecretFile.open(path)
    path.chmod(0o644)
    with pytest.raises(ControlError, match=f"chmod 600 {path}"):
        SecretFile.open(path)


PUBLIC = ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946")
OURS = (
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::a00:1",
    "2002:a00:1::",
)


@pytest.mark.parametrize("address", OURS)
def test_no_address_of_ours_is_sent_to(address: str) -> None:
    """As a name's address, and written in the URL."""
    assert refusal("https://hooks.example.com/x", [*PUBLIC, address])
    literal = address.partition("%")[0]
    assert refusal(f"https://[{literal}]/x" if ":" in literal else f"https://{literal}/x")


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost/x",
        "https://LOCALHOST./x",
        "https://a.localhost/x",
        "https://printer/x",
        "https://db.internal/x",
        "https://nas.local/x",
        "https://127.1/x",
        "https://2130706433/x",
        "https://0x7f.0.0.1/x",
        "https://017700000001/x",
        "https://127.0.0.1./x",
        "https://[::ffff:7f00:1]/x",
        "http://hooks.example.com/x",
        "ftp://hooks.example.com/x",
        "//hooks.example.com/x",
        "hooks.example.com",
        "https://",
        "https:///x",
        "https://user:password@hooks.example.com/x",
        "https://hooks.example.com@127.0.0.1/x",
        "https://hooks.example.com\\@127.0.0.1/x",
        "https://hooks.example.com:port/x",
        "https://[::1/x",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\n",
        "https://höoks.example.com/",
        "https://hooks.example.com/" + "x" * 2048,
    ],
)
def test_what_leads_elsewhere_is_refused(url: str) -> None:
    """However it is written."""
    assert refusal(url, PUBLIC)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T.../B.../...",
        "https://hooks.example.com:8443/x?y=z#w",
        "https://93.184.216.34/x",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/x",
        "https://xn--hks-0qa.example.com/",
    ],
)
def test_what_leads_outside_is_allowed(url: str) -> None:
    """Also where no resolver answers."""
    assert refusal(url, PUBLIC) is None
    assert refusal(url) is None


def test_a_private_installation_allows_its_own() -> None:
    """But no other scheme, and no password in the URL."""
    assert refusal("http://127.0.0.1:9000/hook", ["127.0.0.1"], private=True) is None
    assert refusal("file:///etc/passwd", private=True)
    assert refusal("http://user@printer/", private=True)


def test_only_names_are_resolved() -> None:
    """An address needs no resolver."""
    assert host_of("https://hooks.example.com/x") == "hooks.example.com"
    assert host_of("https://93.184.216.34/x") is None
    assert host_of("https://[::1") is None


@given(st.text(max_size=80))
def test_no_text_breaks_the_check(text: str) -> None:
    """It refuses or allows, whatever stands there."""
    refusal(text)
    refusal(f"https://{text}/x")
    host_of(f"https://{text}")
