"""How much a workspace may ask of us in a minute; and how often a password may be guessed.

Fixed windows, counted in this process or, where several API nodes share a limit, in Redis. When Redis does not answer
each node counts for itself: a limit that is off is better than a service that is.
"""

from __future__ import annotations

import math
import time

import limits.aio
import limits.strategies
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.util import WindowStats

from query_api.envelope import ApiError, ErrorCode
from query_api.logs import Log
from query_api.settings import ServiceSettings, SettingsError

_GUESSING = 15  # minutes
_PATIENCE = 0.5  # seconds that Redis has for an answer
_PAUSE = 5.0  # seconds until Redis is asked again after it gave none
_STRANGERS = 10  # an account may be tried from so many addresses before all of them have to wait


class Rates:
    """The limits of one service. Methods are called from the event loop and raise ApiError RateLimited."""

    def __init__(self, settings: ServiceSettings, log: Log) -> None:
        self._requests = RateLimitItemPerMinute(settings.requests_per_minute, 1, "requests")
        self._events = RateLimitItemPerMinute(settings.events_per_minute, 1, "events")
        self._sign_ins = RateLimitItemPerMinute(settings.sign_ins_per_minute, 1, "sign-ins")
        self._attempts = RateLimitItemPerMinute(settings.password_attempts, _GUESSING, "attempts")
        self._account = RateLimitItemPerMinute(settings.password_attempts * _STRANGERS, _GUESSING, "account")
        self._here = limits.strategies.FixedWindowRateLimiter(MemoryStorage())
        self._shared = _redis(settings.redis_url) if settings.redis_url else None
        self._retry = 0.0
        self._log = log

    async def request(self, who: str) -> None:
        """Count one request of a workspace."""
        await self._take(self._requests, who)

    async def events(self, workspace: str, count: int) -> None:
        """Count the events of a batch. One larger than the limit itself passes when nothing else has in this minute."""
        await self._take(self._events, workspace, min(count, self._events.amount))

    async def sign_in(self, address: str) -> None:
        """Count one request to register or to log in, from a client's address."""
        await self._take(self._sign_ins, address)

    async def attempt(self, account: str, address: str) -> None:
        """Count a password that is about to be tried."""
        await self._take(self._attempts, f"{account} {address}")
        await self._take(self._account, account)

    async def succeeded(self, account: str, address: str) -> None:
        """Forget the attempts: the password was right."""
        if self._shared is not None:
            try:
                await self._shared.clear(self._attempts, f"{account} {address}")
                return
            except StorageError:
                pass  # the next count notices, too, and says so
        self._here.clear(self._attempts, f"{account} {address}")

    async def _take(self, limit: RateLimitItem, who: str, cost: int = 1) -> None:
        if self._shared is not None and time.monotonic() >= self._retry:
            try:
                if not await _hit(self._shared, limit, who, cost):
                    raise _refused(await self._shared.get_window_stats(limit, who))
                return
            except StorageError as wrong:
                self._retry = time.monotonic() + _PAUSE
                self._log.warning("Redis does not answer, limits are counted here", error=type(wrong).__name__)
        here = self._here
        if not ((cost == 1 or here.test(limit, who, cost=cost)) and here.hit(limit, who, cost=cost)):
            raise _refused(here.get_window_stats(limit, who))


def _redis(url: str) -> limits.aio.strategies.FixedWindowRateLimiter:
    scheme = url if url.startswith("async+") else f"async+{url}"
    try:
        storage = storage_from_string(
            scheme,
            implementation="redispy",
            wrap_exceptions=True,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
        )
    except ConfigurationError as wrong:
        raise SettingsError(f"TOCSIN_REDIS_URL cannot be used: {wrong}") from None
    assert isinstance(storage, limits.aio.storage.Storage)
    return limits.aio.strategies.FixedWindowRateLimiter(storage)


async def _hit(
    limiter: limits.aio.strategies.FixedWindowRateLimiter, limit: RateLimitItem, who: str, cost: int
) -> bool:
    # A batch that does not fit must not use up what is left for smaller ones.
    if cost > 1 and not await limiter.test(limit, who, cost=cost):
        return False
    return await limiter.hit(limit, who, cost=cost)


def _refused(window: WindowStats) -> ApiError:
    seconds = max(1, math.ceil(window.reset_time - time.time()))
    message = f"Rate limit exceeded. Try again in {seconds} seconds."
    return ApiError(ErrorCode.RATE_LIMITED, message, retry_after=seconds)
