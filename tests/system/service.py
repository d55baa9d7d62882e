"""The live service as a process, as an operator starts it: on a free port of this machine, stopped by its id."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.system.runs import COMMAND, PATIENCE, ROOT, environment, until

PASSWORD = "correct horse battery"
_URL = re.compile(r"listens on (http://\S+)")
_KEY = re.compile(r"key (sg_[0-9a-f]{48})\b")


@dataclass(frozen=True)
class Team:
    """A workspace and who may use it. token: of its user, for this workspace."""

    id: str
    key: str
    token: str
    email: str

    @property
    def by_key(self) -> dict[str, str]:
        """The header that says who asks."""
        return {"X-Api-Key": self.key}


class Service:
    """`tocsin serve` on a data directory; may be started, stopped and killed many times.

    output: everything that all its processes have printed. demo_key: the newest, with `--demo`.
    """

    command = "serve"

    def __init__(self, data: Path, *args: str | Path, env: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.demo_key: str | None = None
        self.url = ""
        self._args = [str(arg) for arg in args]
        self._env = {**environment(), "TOCSIN_LOG_FORMAT": "json", "TOCSIN_LOG_LEVEL": "warning", **(env or {})}
        self._printed = data.with_name(f"{data.name}.out")
        self._process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(timeout=PATIENCE)

    def start(self, *, ready: bool = True, port: int = 0) -> Service:
        """Start it; wait until it answers, and until it is ready."""
        before = len(self.output)
        self.launch(port=port)
        assert until(lambda: _URL.search(self.output, before) is not None or self._ended), "it does not start"
        found = _URL.search(self.output, before)
        assert found is not None, f"it ended: {self.output[before:][-5000:]}"
        self.url = found[1]
        self.client.base_url = httpx.URL(self.url)
        if "--demo" in self._args:
            assert until(lambda: _KEY.search(self.output, before) is not None), self.output[before:]
            self.demo_key = _KEY.findall(self.output[before:])[-1]
        if ready:
            self.wait_ready()
        return self

    def launch(self, *, port: int = 0) -> None:
        """Start it; wait for nothing."""
        assert self._process is None, "it runs already"
        with self._printed.open("ab") as out:
            self._process = subprocess.Popen(
                [*COMMAND, self.command, "--data", str(self.data), "--port", str(port), *self._args], cwd=ROOT,
                env=self._env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self) -> None:
        """Wait until it says that it is ready, and has caught up with its log."""

        said = "nothing"

        def is_ready() -> bool:
            nonlocal said
            with suppress(httpx.TransportError):
                answer = self.client.get("/-/ready")
                said = answer.text
                return answer.status_code == 200 and answer.json()["lag_records"] == 0
            assert not self._ended, self.output[-5000:]
            return False

        assert until(is_ready), f"it does not become ready, and says {said}: {self.output[-5000:]}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop and wait; its exit code."""
        self.signal(number)
        return self.wait()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""
        process, self._process = self._process, None
        assert process is not None
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise

    def kill(self) -> None:
        """`kill -9`."""
        process, self._process = self._process, None
        assert process is not None
        assert process.poll() is None, f"it was gone already: {self.output[-5000:]}"
        process.kill()
        process.wait(PATIENCE)

    def close(self) -> None:
        """Leave nothing of it behind."""
        self.client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._printed.read_text() if self._printed.exists() else ""

    @property
    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    # ------------------------------------------------------------ what people do with it

    def team(self, name: str = "My Team") -> Team:
        """Sign up and make a workspace, over HTTP."""
        email = f"{name.lower().replace(' ', '.')}@example.com"
        account = {"email": email, "password": PASSWORD}
        session = self.data_of(self.client.post("/api/v1/auth/register", json=account))
        bearer = {"Authorization": f"Bearer {session['token']}"}
        made = self.data_of(self.client.post("/api/v1/workspaces", headers=bearer, json={"name": name}))
        scoped = self.data_of(self.client.post("/api/v1/auth/login", json=account))
        return Team(made["workspace"]["id"], made["apiKey"], scoped["token"], email)

    def send(self, team: Team, event: Mapping[str, Any], **headers: str) -> dict[str, Any]:
        """Send one event; what became of it."""
        found: dict[str, Any] = self.data_of(
            self.client.post("/api/v1/events", headers=team.by_key | headers, json=dict(event))
        )
        return found

    def get(self, team: Team, path: str, **parameters: Any) -> Any:
        """Ask as a workspace; the data of the answer."""
        return self.data_of(self.client.get(path, headers=team.by_key, params=parameters))

    @staticmethod
    def data_of(answer: httpx.Response) -> Any:
        """The data of a success."""
        assert answer.status_code in (200, 201, 202), f"{answer.status_code} {answer.text}"
        return answer.json()["data"]


@contextmanager
def serving(data: Path, *args: str | Path, env: Mapping[str, str] | None = None) -> Iterator[Service]:
    """A running service; nothing of it is left afterwards."""
    service = Service(data, *args, env=env)
    try:
        yield service.start()
    finally:
        service.close()


def patiently(what: str, seconds: float = PATIENCE) -> Iterator[float]:
    """Try again until the loop is left; fails after `seconds`."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        yield limit - time.monotonic()
        time.sleep(0.05)
    raise AssertionError(f"it did not happen: {what}")
