"""What one client may take of the service: requests a minute, bytes, seconds, places."""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from query_api.envelope import ApiError
from query_api.logs import make_log
from query_api.rates import Rates
from query_api.settings import ServiceSettings, SettingsError
from tests.query_api.service import PASSWORD, Service, serving

ME = "/api/v1/workspaces/me"


def test_too_many_requests_in_the_documented_shape(tmp_path: Path) -> None:
    """The envelope, `statusCode`, and the same number in the sentence and in Retry-After."""
    with serving(tmp_path, requests_per_minute=3) as service:
        team, other = service.team("Mine"), service.team("Other")
        for _ in range(3):
            assert service.get(ME, headers=team.by_key).status_code == 200
        answer = service.get(ME, headers=team.by_key)
        seconds = int(answer.headers["Retry-After"])
        assert answer.status_code == 429
        assert 1 <= seconds <= 60
        assert answer.json() == {
            "isSuccess": False,
            "errorCode": 6,
            "message": f"Rate limit exceeded. Try again in {seconds} seconds.",
            "statusCode": 429,
        }
        assert service.get(ME, headers=team.by_token).status_code == 429, "a token is the same workspace"
        assert service.get(ME, headers=other.by_key).status_code == 200, "another workspace has its own limit"


def test_strangers_may_not_try_for_ever(tmp_path: Path) -> None:
    """Registrations and logins are counted by the client's address."""
    with serving(tmp_path, sign_ins_per_minute=2) as service:
        for n in range(2):
            body = {"email": f"a{n}@example.com", "password": PASSWORD}
            assert service.post("/api/v1/auth/register", json=body).status_code == 201
        assert service.post("/api/v1/auth/login", json=body).status_code == 429
        assert service.post("/api/v1/auth/register", json=body).status_code == 429


def _rates(**settings: object) -> Rates:
    return Rates(ServiceSettings.model_validate(settings), make_log(level="error"))


def test_events_of_a_batch_are_counted_one_by_one() -> None:
    """A batch that does not fit leaves room for those that do."""
    rates = _rates(events_per_minute=100)

    async def counted() -> None:
        await rates.events("a", 60)
        with pytest.raises(ApiError, match="Rate limit exceeded"):
            await rates.events("a", 60)
        await rates.events("a", 40)
        with pytest.raises(ApiError, match="Rate limit exceeded"):
            await rates.events("a", 1)
        await rates.events("b", 1_000)  # larger than the limit: alone in its minute it passes

    asyncio.run(counted())


def test_without_redis_each_node_counts_for_itself() -> None:
    """A limit that is off is better than a service that is; and it does not wait for Redis each time."""
    rates = _rates(redis_url="redis://127.0.0.1:1/0", requests_per_minute=2)

    async def counted() -> float:
        await rates.request("a")
        began = time.perf_counter()
        await rates.request("a")
        with pytest.raises(ApiError, match="Rate limit exceeded"):
            await rates.request("a")
        return time.perf_counter() - began

    assert asyncio.run(counted()) < 0.4


def _slow(service: Service, seconds: float) -> None:
    @service.app.get("/api/v1/slow")
    async def slow() -> Response:
        await asyncio.sleep(seconds)
        return Response("late")

    @service.app.post("/api/v1/read")
    async def read(request: Request) -> Response:
        return Response(str(len(await request.body())))


def test_an_answer_that_takes_too_long_is_504(tmp_path: Path) -> None:
    """The place is free again afterwards."""
    with serving(tmp_path, deadline_seconds=0.1, max_concurrency=1) as service:
        _slow(service, 60)
        for _ in range(3):
            answer = service.get("/api/v1/slow")
            assert (answer.status_code, answer.json()["errorCode"]) == (504, 11)


def test_one_request_too_many_at_once_is_503(tmp_path: Path) -> None:
    """At once, with when to try again; whether we are well is still answered."""
    with serving(tmp_path, max_concurrency=2) as service:
        _slow(service, 0.5)

        async def crowd() -> list[int]:
            asked = [service.client.get("/api/v1/slow") for _ in range(3)]
            asked += [service.client.get(path) for path in ("/health", "/-/ready", "/metrics")]
            answers: list[httpx.Response] = await asyncio.gather(*asked)
            assert answers[2].headers["Retry-After"] == "1"
            return [answer.status_code for answer in answers]

        assert service.runner.run(crowd()) == [200, 200, 503, 200, 200, 200]
        assert service.get("/api/v1/slow").status_code == 200


def test_a_live_feed_takes_no_place_and_has_no_deadline(tmp_path: Path) -> None:
    """Dashboards stay connected for hours."""
    with serving(tmp_path, max_concurrency=1, deadline_seconds=0.1) as service:

        @service.app.get("/api/v1/feed")
        async def feed() -> StreamingResponse:
            async def lines() -> AsyncIterator[bytes]:
                for _ in range(6):
                    yield b"data: x\n\n"
                    await asyncio.sleep(0.05)

            return StreamingResponse(lines(), media_type="text/event-stream")

        async def beside() -> tuple[httpx.Response, httpx.Response]:
            open_feed = asyncio.create_task(service.client.get("/api/v1/feed"))
            await asyncio.sleep(0.05)
            return await service.client.get("/api/v1/nothing"), await open_feed

        other, fed = service.runner.run(beside())
        assert other.status_code == 404
        assert fed.text.count("data: x") == 6


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large_is_413(tmp_path: Path, chunked: bool) -> None:
    """Whether its length is stated or turns out; to the byte."""

    async def chunks(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 100):
            yield b"x" * min(100, size - start)

    with serving(tmp_path, body_limit_bytes=1024) as service:
        _slow(service, 0)
        for size, status in ((1024, 200), (1025, 413)):
            answer = service.post("/api/v1/read", content=chunks(size) if chunked else b"x" * size)
            assert answer.status_code == status, answer.text
        assert (answer.json()["errorCode"], answer.json()["isSuccess"]) == (7, False)
        assert answer.headers["Connection"] == "close"
        body = b'{"email":"' + b"x" * 2000
        json = {"Content-Type": "application/json"}
        validated = service.post("/api/v1/auth/login", content=chunks(2000) if chunked else body, headers=json)
        assert validated.status_code == 413


def test_settings_come_from_the_environment() -> None:
    """Empty is unset; what is none of ours is left alone."""
    settings = ServiceSettings.from_env(
        {
            "TOCSIN_REQUESTS_PER_MINUTE": "7",
            "TOCSIN_REDIS_URL": "",
            "TOCSIN_PRIVATE_WEBHOOKS": "true",
            "TOCSIN_DATA": "x",
        }
    )
    assert (settings.requests_per_minute, settings.redis_url, settings.private_webhooks) == (7, None, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TOCSIN_REQUESTS_PER_MINUTE", "many"), ("TOCSIN_DEADLINE_SECONDS", "0"), ("TOCSIN_LOG_FORMAT", "xml")],
)
def test_a_setting_that_makes_no_sense_is_named(name: str, value: str) -> None:
    """The service does not start with half of what was meant."""
    with pytest.raises(SettingsError, match=f"^{name} must be "):
        ServiceSettings.from_env({name: value})


@contextmanager
def _redis() -> Iterator[str]:
    """A Redis: TOCSIN_TEST_REDIS, or Debian's redis-server on a free port, stopped again."""
    given = os.environ.get("TOCSIN_TEST_REDIS")
    program = shutil.which("redis-server")
    if given:
        yield given
        return
    if program is None:
        pytest.skip("There is no Redis: install Debian's redis-server, or set TOCSIN_TEST_REDIS.")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = subprocess.Popen(
        [program, "--port", str(port), "--save", "", "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


def test_nodes_share_their_limits_in_redis() -> None:
    """Two nodes are not twice the limit; a right password forgives on both."""
    with _redis() as url:

        async def counted() -> None:
            who = f"w{time.monotonic_ns()}"
            one, other = (
                _rates(redis_url=url, requests_per_minute=4, events_per_minute=100, password_attempts=2)
                for _ in range(2)
            )
            for node in (one, other, one, other):
                await node.request(who)
            with pytest.raises(ApiError, match="Rate limit exceeded"):
                await one.request(who)
            await one.events(who, 60)
            with pytest.raises(ApiError, match="Rate limit exceeded"):
                await other.events(who, 60)
            await other.events(who, 40)
            await one.attempt(who, "address")
            await other.attempt(who, "address")
            with pytest.raises(ApiError, match=r"Try again in (899|900) seconds"):
                await one.attempt(who, "address")
            await one.succeeded(who, "address")
            await other.attempt(who, "address")

        asyncio.run(counted())
