"""People and keys: who gets in, who does not, and what they are told."""

import sqlite3
import time
from typing import Any

import jwt
import pytest

from query_api.caller import CallerWith, caller, user
from query_api.openapi import document
from query_api.routes import operations
from tests.query_api.service import PASSWORD, Service

REGISTER, LOGIN, TOKEN = "/api/v1/auth/register", "/api/v1/auth/login", "/api/v1/auth/token"


def test_from_nothing_to_a_token_for_a_workspace(service: Service) -> None:
    """The quick start's way: register, create a workspace, log in."""
    registered = service.post(REGISTER, json={"email": "Ada@Example.com", "password": PASSWORD, "name": "Ada"})
    assert registered.status_code == 201
    data = registered.json()["data"]
    assert data["user"]["email"] == "Ada@Example.com"
    assert data["workspace"] is None
    bearer = {"Authorization": f"Bearer {data['token']}"}
    made = service.post("/api/v1/workspaces", headers=bearer, json={"name": "My Team"}).json()["data"]["workspace"]
    session = service.post(LOGIN, json={"email": "ada@example.COM", "password": PASSWORD}).json()["data"]
    assert session["workspace"] == {"id": made["id"], "name": "My Team"}
    me = service.get("/api/v1/workspaces/me", headers={"Authorization": f"Bearer {session['token']}"})
    assert me.json()["data"]["id"] == made["id"]


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@EXAMPLE.COM", " ada@example.com "])
def test_an_address_has_one_account_however_it_is_spelled(service: Service, email: str) -> None:
    """Two accounts of one address would be one that somebody else made."""
    assert service.post(REGISTER, json={"email": "Ada@example.com", "password": PASSWORD}).status_code == 201
    again = service.post(REGISTER, json={"email": email, "password": PASSWORD})
    assert (again.status_code, again.json()["errorCode"]) == (409, 5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"password": PASSWORD}, "email is required."),
        ({"email": "ada@example.com"}, "password is required."),
        ({"email": "ada", "password": PASSWORD}, "email must be an address like ada@example.com."),
        ({"email": "a@b@c", "password": PASSWORD}, "email must be an address like ada@example.com."),
        ({"email": "a\x00@b.c", "password": PASSWORD}, "email must not have control characters."),
        ({"email": "ada@example.com", "password": "7 chars"}, "password must have 8 to 1024 characters."),
        ({"email": "ada@example.com", "password": "x" * 1025}, "password must have 8 to 1024 characters."),
        ({"email": ["ada@example.com"], "password": PASSWORD}, "email must be a valid string."),
        ([], "Send a JSON object, with Content-Type: application/json."),
    ],
)
def test_what_cannot_be_registered_is_told_by_field(service: Service, body: Any, message: str) -> None:
    """A form shows the sentence as it is."""
    answer = service.post(REGISTER, json=body)
    assert answer.status_code == 400
    assert answer.json() == {"isSuccess": False, "errorCode": 4, "message": message}


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b'{"email": "a\\ud800@b.c", "password": "long enough"}', b"null", b""]
)
def test_a_body_that_is_no_text_is_a_validation_error(service: Service, body: bytes) -> None:
    """Never a 500, whatever arrives."""
    answer = service.post(REGISTER, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["errorCode"]) == (400, 4)


def test_a_wrong_password_and_an_unknown_address_look_the_same(service: Service) -> None:
    """Else anybody could find out who has an account."""
    service.post(REGISTER, json={"email": "ada@example.com", "password": PASSWORD})
    wrong = service.post(LOGIN, json={"email": "ada@example.com", "password": "not the password"})
    unknown = service.post(LOGIN, json={"email": "bob@example.com", "password": "not the password"})
    nonsense = service.post(LOGIN, json={"email": "bob", "password": "not the password"})
    assert wrong.status_code == unknown.status_code == nonsense.status_code == 401
    assert wrong.json() == unknown.json() == nonsense.json()


def test_passwords_are_hashed_for_unknown_addresses_too(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time an answer takes must not tell either; measured in hashes, clocks being what they are."""
    passwords = service.control.users._passwords
    asked: list[bool] = []
    holds = passwords.holds
    monkeypatch.setattr(passwords, "holds", lambda stored, given: asked.append(stored is None) or holds(stored, given))
    began = time.perf_counter()
    service.post(LOGIN, json={"email": "bob@example.com", "password": "not the password"})
    assert asked == [True]
    assert time.perf_counter() - began > 0.005


def test_guessing_is_throttled_and_a_right_password_forgives(service: Service) -> None:
    """Ten wrong ones in a quarter of an hour, then the right one is not tried any more, either."""
    account = {"email": "ada@example.com", "password": PASSWORD}
    service.post(REGISTER, json=account)
    for _ in range(9):
        assert service.post(LOGIN, json=account | {"password": "wrong one"}).status_code == 401
    assert service.post(LOGIN, json=account).status_code == 200
    for _ in range(10):
        assert service.post(LOGIN, json=account | {"password": "wrong one"}).status_code == 401
    throttled = service.post(LOGIN, json=account | {"email": "ADA@example.com"})
    assert (throttled.status_code, throttled.json()["statusCode"]) == (429, 429)
    assert 800 < int(throttled.headers["Retry-After"]) <= 900


def test_a_token_is_exchanged_for_another_workspace_of_ones_own(service: Service) -> None:
    """And only of one's own: of others nobody is told that they exist."""
    mine, theirs = service.team("Mine"), service.team("Theirs")
    second = service.post("/api/v1/workspaces", headers=mine.by_token, json={"name": "Second"}).json()["data"]
    wanted = second["workspace"]["id"]
    session = service.post(TOKEN, headers=mine.by_token, json={"workspaceId": wanted.upper()}).json()["data"]
    me = service.get("/api/v1/workspaces/me", headers={"Authorization": f"Bearer {session['token']}"}).json()["data"]
    assert me["id"] == wanted
    chosen = service.post(LOGIN, json={"email": mine.email, "password": PASSWORD, "workspaceId": wanted})
    assert chosen.json()["data"]["workspace"]["id"] == wanted
    for unknown in (theirs.id, "nonsense", "00000000-0000-0000-0000-000000000000"):
        assert service.post(TOKEN, headers=mine.by_token, json={"workspaceId": unknown}).status_code == 404
        login = {"email": mine.email, "password": PASSWORD, "workspaceId": unknown}
        assert service.post(LOGIN, json=login).status_code == 404


def test_a_token_without_a_workspace_only_makes_one(service: Service) -> None:
    """403 with what to do, since the token itself is right."""
    token = service.post(REGISTER, json={"email": "a@example.com", "password": PASSWORD}).json()["data"]["token"]
    answer = service.get("/api/v1/workspaces/me", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["errorCode"]) == (403, 3)
    assert "/api/v1/auth/token" in answer.json()["message"]


def test_a_token_counts_for_an_hour(service: Service) -> None:
    """To the second."""
    team = service.team()
    service.now += 3599
    assert service.get("/api/v1/workspaces/me", headers=team.by_token).status_code == 200
    service.now += 1
    late = service.get("/api/v1/workspaces/me", headers=team.by_token)
    assert (late.status_code, late.json()["message"]) == (401, "The token has expired.")


def _bad_credentials(service: Service) -> dict[str, dict[str, Any]]:
    team = service.team("Somebody")
    old = team.key
    new = service.post("/api/v1/workspaces/rotate-key", headers=team.by_key).json()["data"]["apiKey"]
    head, body, signature = team.token.split(".")
    claims = jwt.decode(team.token, options={"verify_signature": False})
    far = claims | {"exp": 4_000_000_000}
    expired = service.control.tokens.issue(claims["sub"], team.id).text
    service.now += 3600
    return {
        "none": {},
        "an empty key": {"X-Api-Key": ""},
        "an unknown key": {"X-Api-Key": "sg_" + "0" * 48},
        "a rotated key": {"X-Api-Key": old},
        "a key in capitals": {"X-Api-Key": new.upper()},
        "a key cut short": {"X-Api-Key": new[:-1]},
        "a key with more": {"X-Api-Key": new + "0"},
        "a key that is not ASCII": {"X-Api-Key": "sg_\xe9".encode("latin-1")},
        "an expired token": {"Authorization": f"Bearer {expired}"},
        "a changed signature": {"Authorization": f"Bearer {head}.{body}.{signature[:-4]}AAAA"},
        "another's signature": {"Authorization": f"Bearer {jwt.encode(far, 'x' * 32, algorithm='HS256')}"},
        "no signature": {"Authorization": f"Bearer {jwt.encode(far, None, algorithm='none')}"},
        "no token": {"Authorization": "Bearer "},
        "basic authentication": {"Authorization": "Basic YTpi"},
        "nonsense": {"Authorization": "Bearer nonsense"},
    }


def test_bad_credentials_get_401_at_every_operation(service: Service) -> None:
    """Every one that asks for credentials, so that a new one cannot forget to."""
    secured = [
        one
        for one in operations(service.app)
        if any(d.call in (caller, user) or isinstance(d.call, CallerWith) for d in one.dependant.dependencies)
    ]
    assert len(secured) > 8
    for name, headers in _bad_credentials(service).items():
        for operation in secured:
            path = operation.path.replace("{", "").replace("}", "")
            headers = headers | {"Content-Type": "application/json"}
            answer = service.ask(operation.method, path, headers=headers, content=b"{}")
            assert answer.status_code == 401, (name, operation.method, path, answer.text)
            if path.startswith("/api/v1"):
                assert answer.json()["isSuccess"] is False
                assert answer.json()["errorCode"] == 2
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_only_these_need_no_credentials(service: Service) -> None:
    """The list is short, and a new entry should be thought about."""
    document_ = document(service.app)
    free = {
        f"{method.upper()} {path}"
        for path, methods in document_["paths"].items()
        for method, operation in methods.items()
        if not operation.get("security")
    }
    assert free == {
        "GET /health",
        "GET /-/ready",
        "GET /metrics",
        "POST /api/v1/auth/register",
        "POST /api/v1/auth/login",
    }


def test_an_api_key_may_come_as_a_bearer_token(service: Service) -> None:
    """Exporters often can set nothing else."""
    team = service.team()
    answer = service.get("/api/v1/workspaces/me", headers={"Authorization": f"Bearer {team.key}"})
    assert answer.json()["data"]["id"] == team.id


def test_a_key_does_not_make_workspaces(service: Service) -> None:
    """Only people do."""
    team = service.team()
    assert service.post("/api/v1/workspaces", headers=team.by_key, json={"name": "x"}).status_code == 401


def test_somebody_elses_token_for_a_workspace_one_left(service: Service) -> None:
    """A token is as good as the membership behind it."""
    mine, theirs = service.team("Mine"), service.team("Theirs")
    me = service.control.tokens.read(mine.token).user
    forged = service.control.tokens.issue(me, theirs.id).text
    answer = service.get("/api/v1/workspaces/me", headers={"Authorization": f"Bearer {forged}"})
    assert answer.status_code == 401


def test_a_suspended_workspace_is_forbidden_at_once(service: Service) -> None:
    """By key and by token, also where both are in memory."""
    team = service.team()
    for headers in (team.by_key, team.by_token):
        assert service.get("/api/v1/workspaces/me", headers=headers).status_code == 200
    service.control.workspaces.set_active(team.id, False)
    for headers in (team.by_key, team.by_token):
        assert service.get("/api/v1/workspaces/me", headers=headers).status_code == 403
    service.control.workspaces.set_active(team.id, True)
    assert service.get("/api/v1/workspaces/me", headers=team.by_key).status_code == 200


def test_a_database_that_does_not_answer_is_503(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """With when to try again, and without what the driver said."""
    service.control.close()
    with sqlite3.connect(service.directory / "control.sqlite") as held:
        held.execute("DROP TABLE api_keys")
    answer = service.get("/api/v1/workspaces/me", headers={"X-Api-Key": "sg_" + "1" * 48})
    assert (answer.status_code, answer.json()["errorCode"]) == (503, 8)
    assert answer.headers["Retry-After"] == "1"
    assert "sqlite" not in answer.text
    assert "api_keys" not in answer.text
