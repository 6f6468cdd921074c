"""The connection to a tier that processes share: bounded in time and number, and behind a breaker.

Requests use it only while it is known to work. When it fails several times in a row, or too often, they pass it by at
no cost, and only :meth:`Link.trial`, which no request waits for, finds out when it works again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiocache.backends.redis import RedisCache
from aiocache.serializers import NullSerializer
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from broker.adapters.patience import Patience
from broker.domain.state import Breaker
from broker.policy.breaker import BreakerSettings, CircuitBreaker, Rejected, Ticket
from broker.ports.clock import Clock

CONNECTIONS = 8
"""Connections of one process; a call that finds all of them in use waits for one as part of its time."""
TRIAL_SECONDS = 1.0
"""Longest trial."""
PATIENCE = 2.0
"""Seconds that a call may take when it is the event loop that is late."""
_BREAKER = BreakerSettings(in_a_row=3, least_calls=20, first_open=0.5, longest_open=4.0, successes=1)
FAULTS = (TimeoutError, RedisError, OSError, RuntimeError)
"""What a call ends with when the tier does not do it; uvloop raises the last where a connection has just been cut."""
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class FaultError(Exception):
    """The tier did not do it; ``said`` tells whether it answered at all."""

    def __init__(self, cause: str, *, said: bool = False) -> None:
        super().__init__(cause)
        self.said = said


class Link:
    """Calls of a tier at ``url``, each in at most ``timeout`` seconds. ``random`` gives [0, 1)."""

    def __init__(
        self, url: str, prefix: str, timeout: float, clock: Clock, random: Callable[[], float]
    ) -> None:
        self.url, self.prefix, self.timeout = url, prefix, timeout
        self._clock = clock
        self._breaker = CircuitBreaker(_BREAKER, random)
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._known = False
        self.cache = RedisCache(
            serializer=NullSerializer(encoding=None),
            namespace=prefix,
            timeout=None,
            connection_pool_class=self._pool,
        )

    def _pool(self, **_given: object) -> ConnectionPool:
        """In place of the pool of host and port that aiocache makes: an address says more, as passwords and TLS."""
        return ConnectionPool.from_url(
            self.url, max_connections=CONNECTIONS + 1, retry=Retry(NoBackoff(), 1), socket_timeout=TRIAL_SECONDS,
            socket_connect_timeout=TRIAL_SECONDS, protocol=2,  # the third one has nothing that is needed here
        )  # fmt: skip

    @property
    def up(self) -> bool:
        """Whether requests use it."""
        return self._known and self._breaker.leave is not None

    async def call(self, work: Callable[[RedisCache], Awaitable[T]], within: float | None = None) -> T:
        """What ``work`` gives. Raises `FaultError` for every fault, at once while the tier is not up."""
        ticket = self._breaker.leave
        if ticket is None or not self._known:
            raise FaultError("not up")
        least = self.timeout if within is None else min(within, self.timeout)
        try:
            async with Patience(least, PATIENCE):
                await self._places.acquire()
        except TimeoutError:
            raise FaultError("busy") from None  # of this process, and no fault of the tier
        try:
            return await self._measured(ticket, work, least, short=2 * least < self.timeout)
        finally:
            self._places.release()

    async def trial(self, work: Callable[[RedisCache], Awaitable[T]]) -> T | Rejected:
        """The same for work that no request waits for: it decides whether requests may use the tier again."""
        ticket = self._breaker.admit(self._clock.monotonic())
        if isinstance(ticket, Rejected):
            return ticket
        began, was_up = self._clock.monotonic(), self.up

        async def tried(cache: RedisCache) -> T:
            done = await work(cache)
            if not was_up:  # it must also be as quick as requests want it
                async with asyncio.timeout(self.timeout):
                    await cache.client.ping()
            return done

        try:
            done = await self._measured(ticket, tried, TRIAL_SECONDS, short=False)
        except FaultError:
            self._tell()
            raise
        if not self._known:
            _LOG.info(
                "the shared tier of the cache answers in %.0f ms", 1e3 * (self._clock.monotonic() - began)
            )
        self._known = True
        self._tell()
        return done

    async def _measured(
        self, ticket: Ticket, work: Callable[[RedisCache], Awaitable[T]], seconds: float, *, short: bool
    ) -> T:
        began, cancelled = self._clock.monotonic(), cancellations()
        try:
            async with Patience(seconds, PATIENCE):
                done = await work(self.cache)
        except ResponseError as error:
            self._breaker.succeeded(ticket, self._clock.monotonic())
            raise FaultError(type(error).__name__, said=True) from error
        except FAULTS as error:
            if cancellations() > cancelled:
                self._breaker.released(ticket, self._clock.monotonic())
                raise asyncio.CancelledError from error
            now, cause = self._clock.monotonic(), type(error).__name__
            if short and isinstance(error, TimeoutError):
                self._breaker.released(
                    ticket, now
                )  # the caller was in more of a hurry than the tier is held to
            else:
                self._breaker.unreachable(cause, began, now)
            self._tell()
            raise FaultError(cause) from error
        except BaseException:
            self._breaker.released(ticket, self._clock.monotonic())
            raise
        self._breaker.succeeded(ticket, self._clock.monotonic())
        if cancellations() > cancelled:
            raise asyncio.CancelledError
        return done

    def _tell(self) -> None:
        for news in self._breaker.news():
            if news.before is Breaker.CLOSED:
                _LOG.warning("the shared tier of the cache is passed by: %s (%s)", news.reason, news.cause)
            elif news.after is Breaker.CLOSED:
                _LOG.info("the shared tier of the cache is used again")

    def key(self, kind: str, name: str = "") -> str:
        """The full name of a key."""
        return f"{self.prefix}:{kind}:{name}" if name else f"{self.prefix}:{kind}"

    async def close(self) -> None:
        """Lets the connections go."""
        try:
            await self.cache.client.aclose()
        except FAULTS as error:
            _LOG.debug("a connection of the shared tier did not close: %s", error)


def cancellations() -> int:
    """How often the running task was cancelled. Some paths of redis-py catch that and go on, so it is looked at."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def script(cache: RedisCache, text: str, keys: list[str], *arguments: bytes | str | int) -> Any:
    """Runs a script of the server (Lua); it works on names as they are in the tier."""
    return await cache.client.eval(text, len(keys), *keys, *arguments)
