"""Nobody who reads the logs can log in, send as a customer, or post to a customer's channel."""

import io
import json
import logging
from pathlib import Path

import pytest
import structlog
from starlette.responses import Response

from query_api import channels
from query_api.logs import adopt, configure, make_log
from query_api.pipeline import Unavailable
from tests.query_api.service import PASSWORD, Service

WEBHOOK = "https://hooks.slack.com/services/T000/B000/verysecret"


@pytest.fixture(autouse=True)
def unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks a resolver."""

    async def resolve(host: str) -> list[str]:
        return []

    monkeypatch.setattr(channels, "_resolve", resolve)


def test_a_day_of_use_leaves_no_secret_in_the_logs(service: Service) -> None:
    """Successes, mistakes, refusals and crashes of every kind that knows a secret."""

    @service.app.post("/api/v1/crash")
    async def crash() -> Response:
        raise RuntimeError(f"could not send {team.key} with {team.token}")

    team = service.team()
    old = team.key
    me, slack = "/api/v1/workspaces/me", "/api/v1/workspaces/me/channels/slack"
    service.ask("PUT", slack, headers=team.by_key, json={"config": {"webhookUrl": WEBHOOK}})
    service.ask("PUT", slack, headers=team.by_key, json={"config": {"webhookUrl": f"{WEBHOOK} "}, "isEnabled": "x"})
    service.post("/api/v1/auth/login", json={"email": team.email, "password": "another secret"})
    service.post("/api/v1/auth/register", json={"email": team.email, "password": PASSWORD, "name": "Ada"})
    service.post("/api/v1/auth/register", content=b'{"password": "another secret", ', headers=team.by_key)
    service.get(f"{me}?key={team.key}&token={team.token}", headers=team.by_key)
    service.get(f"/api/v1/nothing/{team.key}?token={team.token}")
    service.get(f"/{team.key}", headers={"X-Request-Id": team.key[:40]})
    service.post("/api/v1/crash", headers=team.by_key, json={"password": PASSWORD})
    service.pipeline.refusal = Unavailable("full")
    service.ask("PATCH", me, headers=team.by_token, json={"recoveryWindowSeconds": 60})
    new = service.post("/api/v1/workspaces/rotate-key", headers=team.by_key).json()["data"]["apiKey"]
    service.get(me, headers={"X-Api-Key": old})
    service.get(me, headers={"X-Api-Key": new})
    service.get(me, headers={"Authorization": f"Bearer {team.token[:-2]}xx"})
    limited = service.post("/v1/keys", headers={"X-Api-Key": new}, json={"name": "n", "scopes": ["logs:read"]}).json()
    service.get(me, headers={"X-Api-Key": limited["key"]})
    service.ask("DELETE", f"/v1/keys/{limited['key']}", headers={"X-Api-Key": new})
    logged = service.logged.getvalue()
    assert len(service.lines()) > 15
    assert "RuntimeError: could not send *** with ***" in logged
    secrets = [
        old,
        old[3:],
        new,
        new[3:],
        limited["key"][3:],
        team.token,
        team.token.split(".")[2],
        PASSWORD,
        "another secret",
        "verysecret",
    ]
    secrets += [(service.directory / "secret.key").read_text().strip(), "Ada", team.email, "recoveryWindowSeconds"]
    assert [secret for secret in secrets if secret in logged] == []


def test_a_line_says_what_an_operator_needs(service: Service) -> None:
    """Route rather than path, the client's own request id, which workspace, how long."""
    team = service.team()
    tenant = service.post("/api/v1/tenants", headers=team.by_key, json={"externalId": "acme"}).json()["data"]["id"]
    answer = service.ask("DELETE", f"/api/v1/tenants/{tenant}", headers=team.by_key | {"X-Request-Id": "req-7"})
    assert answer.headers["X-Request-Id"] == "req-7"
    line = service.lines()[-1]
    assert line.pop("ms") > 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "request_id": "req-7",
        "method": "DELETE",
        "route": "/api/v1/tenants/{tenant}",
        "status": 200,
        "workspace": team.id,
    }


@pytest.mark.parametrize("sent", ["", "x" * 65, "two words", 'quo"te', "new\tline"])
def test_a_request_id_that_makes_no_sense_is_replaced(service: Service, sent: str) -> None:
    """It ends up in other people's logs, too."""
    answer = service.get("/health", headers={"X-Request-Id": sent})
    assert answer.headers["X-Request-Id"] != sent
    assert len(answer.headers["X-Request-Id"]) == 32


def test_what_is_asked_every_second_is_not_logged(service: Service) -> None:
    """Unless it fails."""
    for path in ("/health", "/-/ready", "/metrics"):
        assert service.get(path).status_code == 200
    assert service.lines() == []


def test_a_crash_is_500_with_the_id_to_look_for(service: Service) -> None:
    """The caller learns nothing of our insides."""

    @service.app.get("/api/v1/crash")
    async def crash() -> Response:
        raise RuntimeError("insides")

    answer = service.get("/api/v1/crash")
    assert (answer.status_code, answer.json()["errorCode"]) == (500, 9)
    assert "insides" not in answer.text
    error = service.lines()[0]
    assert (error["level"], error["request_id"]) == ("error", answer.headers["X-Request-Id"])
    assert "insides" in error["exception"]


def test_on_a_terminal_lines_are_text_and_still_without_secrets() -> None:
    """The console renderer goes through the same blotting."""
    out = io.StringIO()
    log = make_log(out, "console")
    log.info("hello", api_key="sg_" + "a" * 48, note="with sg_" + "b" * 48, password="pw")
    try:
        raise RuntimeError("with sg_" + "e" * 48)
    except RuntimeError as wrong:
        log.error("crashed", exc_info=wrong)
    text = out.getvalue()
    assert "hello" in text
    assert "RuntimeError: with ***" in text
    assert not text.startswith("{")
    assert "aaaa" not in text
    assert "bbbb" not in text
    assert "pw" not in text


def test_what_libraries_log_comes_along_blotted(tmp_path: Path) -> None:
    """The server's own messages are lines like any other."""
    out = io.StringIO()
    adopt(make_log(out, "json"), "tocsin.test.library")
    logging.getLogger("tocsin.test.library").warning("invalid header %s", "sg_" + "c" * 48)
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["logger"]) == ("invalid header ***", "warning", "tocsin.test.library")


def test_a_log_that_nobody_reads_fails_no_request(service: Service) -> None:
    """`tocsin serve 2>&1 | head` must not take the service down."""
    service.logged.close()
    assert service.get("/api/v1/nothing").status_code == 404


def test_packages_without_a_logger_of_ours_write_the_same_lines() -> None:
    """The dataflow's lines stand between those of requests, on stderr, in the same form."""
    out = io.StringIO()
    before = structlog.get_config()
    try:
        configure(out, "json", "warning")
        log = structlog.get_logger("somewhere")
        log.info("not this one")
        log.warning("the dataflow stopped", note="sg_" + "d" * 48)
    finally:
        structlog.configure(**before)
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["note"]) == ("the dataflow stopped", "warning", "***")
