"""An HTTP client that costs little beside the server it measures: raw requests over connections that are kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Client:
    """Any number of requests at a time to one port of this machine. headers: sent with each."""

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        self._port = port
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._idle: list[Connection] = []

    async def get(self, path: str) -> tuple[int, bytes]:
        """Ask; the status and the body."""
        return await self._request("GET", path, "", b"")

    async def post(self, path: str, body: bytes, kind: str = "application/json") -> tuple[int, bytes]:
        """Send a body; the status and the body of the answer."""
        return await self._request("POST", path, f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n", body)

    async def _request(self, method: str, path: str, headers: str, body: bytes) -> tuple[int, bytes]:
        reader, writer = (
            self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        )
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{self._headers}{headers}\r\n".encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        answer = await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
        self._idle.append((reader, writer))
        return int(head.split(" ", 2)[1]), answer

    async def until_served(self) -> None:
        """Wait until somebody listens. Raises RuntimeError where nobody does for half a minute."""
        for _ in range(600):
            with contextlib.suppress(OSError):
                self._idle.append(await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20))
                return
            await asyncio.sleep(0.05)
        raise RuntimeError("the server does not come up")

    def close(self) -> None:
        """Let go of the connections."""
        while self._idle:
            self._idle.pop()[1].close()


def quantiles(seconds: Sequence[float], at: Sequence[float] = (0.5, 0.9, 0.99, 1)) -> list[float]:
    """Latencies at these shares of the requests, in ms; NaN where there was no request."""
    ordered = sorted(seconds)
    if not ordered:
        return [float("nan")] * len(at)
    return [ordered[min(len(ordered) - 1, int(len(ordered) * q))] * 1e3 for q in at]
