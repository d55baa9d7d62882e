"""The HTTP server around the application: one process, one event loop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event as Flag
from types import FrameType

import uvicorn
from fastapi import FastAPI

GRACE = 10  # seconds for requests under way when it is told to stop


class AddressError(OSError):
    """The address cannot be listened on; the text says why."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises AddressError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as wrong:
        raise AddressError(f"cannot listen on {host}:{port}: {wrong.strerror or wrong}") from wrong
    return listener


@contextmanager
def told_to_stop() -> Iterator[Flag]:
    """A flag for SIGINT and SIGTERM, for the time before there is a server to stop: what has begun ends as a whole."""
    told = Flag()
    with _handling(lambda number, frame: told.set()):
        yield told


def run(app: FastAPI, listener: socket.socket, told: Flag, *, stopping: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way. told: that it was told so before; stopping: called
    when stopping begins."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=75,
    )
    _Server(config, told, stopping).run(sockets=[listener])


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, told: Flag, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._told = told
        self._stopping = stopping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully when told to. Uvicorn raises the signal once more afterwards; but there is more to close."""
        with _handling(self.handle_exit):
            self.should_exit = self.should_exit or self._told.is_set()
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()  # streams end by themselves only when they are told
        await super().shutdown(sockets)
