"""Turns between processes: who answers a question that several are asked at once.

The turn is a key of the shared tier with an end of its own, and a token that nobody else has: whoever could set it
answers, puts the end off while it does, and takes the key away after its answer is written. The others wait until the
key is gone; a message only makes it sooner. When the process dies, so does the key. Nobody is ever kept from an answer:
who cannot ask whose turn it is takes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from broker.adapters.cache_link import FaultError, Link, script
from broker.adapters.cache_shared import SharedTier
from broker.ports.cache import Turn
from broker.ports.clock import Clock

SECONDS = 1.5
"""A turn that is not renewed for so long is over."""
LOOK = 0.1
"""Longest pause between two looks at the turn of another."""
_LOG = logging.getLogger(__name__)

_TAKE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
return 0
"""
_RENEW = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[i + 1] then redis.call('PEXPIRE', key, ARGV[1]) end
end
"""
_END = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('DEL', KEYS[2]) == 1 then redis.call('PUBLISH', KEYS[3], ARGV[2]) end
return 1
"""


class OwnTurn:
    """The turn of this process."""

    @property
    def mine(self) -> bool:
        """See :class:`broker.ports.cache.Turn`."""
        return True

    async def over(self, seconds: float) -> None:
        """See :class:`broker.ports.cache.Turn`."""


class OwnTurns:
    """A :class:`broker.ports.cache.Turns` where no tier is shared: every process answers what it is asked."""

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[Turn]:  # noqa: ARG002 - all are alike
        """See :class:`broker.ports.cache.Turns`."""
        yield OwnTurn()


class SharedTurns:
    """A :class:`broker.ports.cache.Turns` by keys of a shared tier. ``token`` gives texts of which no two are equal."""

    def __init__(
        self,
        link: Link,
        tier: SharedTier,
        clock: Clock,
        token: Callable[[], str],
        random: Callable[[], float],
    ) -> None:
        self._link, self._tier, self._clock, self._token, self._random = link, tier, clock, token, random
        self._held: dict[str, str] = {}
        self._waits: dict[str, set[asyncio.Event]] = {}
        self.channel = link.key("turns")

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[Turn]:
        """See :class:`broker.ports.cache.Turns`."""
        token = self._token()
        names = [self._link.key("t", key), self._link.key("w", key)]
        try:
            had = await self._link.call(lambda c: script(c, _TAKE, names, token, int(1e3 * SECONDS)))
        except FaultError:
            yield OwnTurn()
            return
        except asyncio.CancelledError:
            self._end(key, token)  # it may have been had
            raise
        if not had:
            yield _OthersTurn(self, key)
            return
        self._held[token] = key
        try:
            yield OwnTurn()
        finally:
            del self._held[token]
            self._end(key, token)

    def _end(self, key: str, token: str) -> None:
        names = [self._link.key("t", key), self._link.key("w", key), self.channel]
        self._tier.after(lambda: self._link.call(lambda c: script(c, _END, names, token, key)))

    async def wait(self, key: str, seconds: float) -> None:
        """Waits until nobody has the turn of a key, or the tier cannot tell, at most so long."""
        until = self._clock.monotonic() + seconds
        ended = asyncio.Event()
        waiting = self._waits.setdefault(key, set())
        waiting.add(ended)
        try:
            while (left := until - self._clock.monotonic()) > 0:
                try:
                    async with asyncio.timeout(min(left, 0.005 + LOOK * self._random())):
                        await ended.wait()
                        return
                except TimeoutError:
                    if not await self._taken(key):
                        return
        finally:
            waiting.discard(ended)
            if not waiting:
                self._waits.pop(key, None)

    async def _taken(self, key: str) -> bool:
        try:
            return await self._link.call(lambda cache: cache.exists(f"t:{key}"))
        except FaultError:
            return False

    def ended(self, key: bytes) -> None:
        """Takes the message that a turn is over."""
        for waiting in self._waits.get(key.decode(errors="replace"), ()):
            waiting.set()

    async def renew(self) -> None:
        """Puts off the ends of the turns that this process has, until it is cancelled."""
        while True:
            await asyncio.sleep(SECONDS / 3)
            held = dict(self._held)
            if not held:
                continue
            names = [self._link.key("t", key) for key in held.values()]
            try:
                await self._link.call(lambda c: script(c, _RENEW, names, int(1e3 * SECONDS), *held))  # noqa: B023 - called at once
            except FaultError as fault:
                _LOG.debug("%d turns are not renewed: %s", len(held), fault)


class _OthersTurn:
    """The turn of another process."""

    def __init__(self, turns: SharedTurns, key: str) -> None:
        self._turns, self._key = turns, key

    @property
    def mine(self) -> bool:
        """See :class:`broker.ports.cache.Turn`."""
        return False

    async def over(self, seconds: float) -> None:
        """See :class:`broker.ports.cache.Turn`."""
        await self._turns.wait(self._key, seconds)
