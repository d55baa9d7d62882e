"""Control databases for tests: SQLite always, PostgreSQL where there is one.

TOCSIN_TEST_POSTGRES names an empty database to use; else Debian's PostgreSQL, if it is installed, is started on a free
port of the loopback interface and stopped again.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import create_engine, text

from connectors.control import Control
from connectors.control.database import Database, parse_url

_PATIENCE = 30.0  # seconds until it answers

T = TypeVar("T")


def workspace_of(control: Control) -> str:
    """Make a user and a workspace; its id."""
    user = control.users.register(f"{time.monotonic_ns()}@example.com", "correct horse")
    return control.workspaces.create(user.id, "My Team").workspace.id


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """Do it in `count` threads that start together."""
    ready = threading.Barrier(count)

    def start(n: int) -> T:
        ready.wait()
        return work(n)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(start, range(count)))


def emptied(url: str) -> None:
    """Take everything out of a PostgreSQL database."""
    database = Database(url)
    with database.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    database.close()


@contextmanager
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL database; skips the test where there is none."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is not installed: pip install 'tocsin[postgres]'")
    given = os.environ.get("TOCSIN_TEST_POSTGRES")
    if given:
        emptied(given)
        yield given
        return
    found = programs()
    if found is None:
        pytest.skip("There is no PostgreSQL: install Debian's postgresql, or set TOCSIN_TEST_POSTGRES.")
    with server(found) as url:
        yield url


def programs() -> Path | None:
    """Return where PostgreSQL's programs are, the newest version."""
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda at: -int(at.parts[-2])):
        if (directory / "initdb").exists():
            return directory
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """The address of a database of its own, while it runs. programs: where PostgreSQL's are."""
    # The server refuses to run as root, and its user must be able to reach the directory.
    user = "postgres" if os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="tocsin-postgres-"))
    if user is not None:
        shutil.chown(directory, user)
    data, port = directory / "data", _free_port()
    initdb = [programs / "initdb", "-D", data, "-U", "tocsin", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=directory)
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    command = [programs / "postgres", "-D", data, "-p", str(port)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd=directory)
    try:
        url = f"postgresql://tocsin@127.0.0.1:{port}/postgres"
        _wait(url, server, directory / "log")
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    engine = create_engine(parse_url(url))
    last = time.monotonic() + _PATIENCE
    while True:
        try:
            engine.connect().close()
            engine.dispose()
            return
        except Exception:
            if server.poll() is not None or time.monotonic() > last:
                raise AssertionError(f"PostgreSQL did not start: {log.read_text()}") from None
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
