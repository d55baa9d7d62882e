"""The HTTP server around the application: one process, one event loop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def run(app: FastAPI, listener: socket.socket, *, stopping: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is under way. stopping: called when that begins."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=75,
    )
    _Server(config, stopping).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully when told to. Uvicorn raises the signal once more afterwards; but there is more to close."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()  # streams end by themselves only when they are told
        await super().shutdown(sockets)
