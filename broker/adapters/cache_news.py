"""What processes that share a tier tell each other: removals, so that all of them drop what one was told to remove.

The tier has a set of removals and an epoch, a text that changes with the set. Every process looks at the epoch about
once a second, and at once when a message comes; when it is another than the one that it saw last it reads the set.
Messages may be lost, then: they only make it sooner. A process that was cut off reads the set before it uses the tier
again. Where the tier has lost everything, the processes put back what they know.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from aiocache.backends.redis import RedisCache
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from broker.adapters.cache_link import FAULTS, FaultError, Link, cancellations, script
from broker.domain.held import Selection
from broker.domain.rollup import EPOCH, Span, micros
from broker.policy.breaker import Rejected
from broker.policy.removals import EVERYTHING, MOST, Removals
from broker.ports.clock import Clock

EVERY = 1.0
"""Seconds between two looks at the epoch, on average."""
AGAIN = 0.5
"""Longest pause before the next attempt to hear messages."""
_LOG = logging.getLogger(__name__)
Told = tuple[Selection, datetime]

_SYNC = """
local epoch = redis.call('GET', KEYS[1])
if #ARGV > 4 or not epoch then
  for i = 5, #ARGV, 2 do redis.call('ZADD', KEYS[2], 'GT', ARGV[i], ARGV[i + 1]) end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[3])
  if redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[4]) then
    local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
    redis.call('DEL', KEYS[2])
    redis.call('ZADD', KEYS[2], last[2], '[]')
  end
  epoch = ARGV[2]
  redis.call('SET', KEYS[1], epoch)
  redis.call('PUBLISH', KEYS[3], epoch)
end
if epoch == ARGV[1] then return {epoch} end
local found = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
table.insert(found, 1, epoch)
return found
"""


class News:
    """Removals as all processes know them.

    ``learn`` acts on those that are new; ``token`` gives texts of which no two are equal.
    """

    def __init__(
        self,
        link: Link,
        removals: Removals,
        memory: float,
        clock: Clock,
        learn: Callable[[list[Told]], Awaitable[object]],
        token: Callable[[], str],
        random: Callable[[], float],
    ) -> None:
        self._link, self._removals, self._memory, self._clock = link, removals, memory, clock
        self._learn, self._token, self._random = learn, token, random
        self._epoch = b""
        self._untold: dict[Selection, datetime] = {}
        self._wake = asyncio.Event()
        self.channel = link.key("removed")

    def wake(self, _message: bytes = b"") -> None:
        """Has a look at once."""
        self._wake.set()

    async def tell(self, selection: Selection, at: datetime) -> None:
        """Tells the others of a removal, now or as soon as the tier can be reached again. Raises `FaultError`."""
        self._untold[selection] = at
        try:
            await self._link.call(self._sync)
        except FaultError:
            self._wake.set()
            raise

    async def watch(self) -> None:
        """Looks again and again, and finds out by it whether the tier works; until it is cancelled."""
        while True:
            try:
                async with asyncio.timeout(await self._look()):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def _look(self) -> float:
        """One look; seconds until the next one."""
        try:
            done = await self._link.trial(self._sync)
        except FaultError as fault:
            _LOG.debug("the shared tier did not tell of removals: %s", fault)
            return 0.05 + AGAIN * self._random()
        if isinstance(done, Rejected):
            self._wake.clear()  # whoever wakes it now would not get further
            return max(0.01, done.retry_after)
        return EVERY * (0.5 + self._random())

    async def _sync(self, cache: RedisCache) -> None:
        telling = dict(self._untold)
        found = await self._exchange(cache, telling)
        if found[0] != self._epoch:
            lost = self._lost(removals_of(found))
            if lost:  # the tier has lost them, and maybe not this process but another has noticed it first
                found = await self._exchange(cache, lost)
            await self._learn(list(removals_of(found).items()))
            self._epoch = found[0]
        for selection, at in telling.items():
            if self._untold.get(selection) == at:
                del self._untold[selection]

    def _lost(self, there: Mapping[Selection, datetime]) -> Mapping[Selection, datetime]:
        """What this process knows and the tier does not."""
        least = there.get(EVERYTHING, EPOCH)
        return {s: at for s, at in self._removals.known.items() if max(least, there.get(s, EPOCH)) < at}

    async def _exchange(self, cache: RedisCache, telling: Mapping[Selection, datetime]) -> list[Any]:
        oldest = self._clock.now() - timedelta(seconds=self._memory)
        arguments: list[bytes | str | int] = [
            self._epoch, self._token(), micros(oldest), MOST
        ]  # fmt: skip
        for selection, at in telling.items():
            arguments += [micros(at), text_of(selection)]
        names = [self._link.key("epoch"), self._link.key("removals"), self.channel]
        found: list[Any] = await script(cache, _SYNC, names, *arguments)
        return found


def text_of(selection: Selection) -> str:
    """A selection as JSON; ``[]`` takes everything."""
    parts = [selection.dataset, selection.rollup, selection.span]
    while parts and not parts[-1]:
        parts.pop()
    return json.dumps(parts)


def removals_of(found: list[Any]) -> dict[Selection, datetime]:
    """What the tier has told: an epoch, and the removals of its set with their instants."""
    return dict(told(m, s) for m, s in zip(found[1::2], found[2::2], strict=True))


def told(member: bytes, score: bytes) -> Told:
    """A removal; one that cannot be read takes everything, since nobody knows what it was."""
    at = EPOCH + timedelta(microseconds=float(score))
    try:
        dataset, rollup, span = (*json.loads(member), "", "", None)[:3] if member != b"[]" else ("", "", None)
        return Selection(
            str(dataset), str(rollup), None if not span else Span(int(span[0]), int(span[1]))
        ), at
    except (ValueError, TypeError, IndexError, KeyError):
        return EVERYTHING, at


async def listen(
    url: str,
    hear: Mapping[str, Callable[[bytes], None]],
    again: Callable[[], None],
    random: Callable[[], float],
) -> None:
    """Hears the messages of some channels until it is cancelled; ``again`` is called when some may have been missed."""
    more = {} if url.startswith("unix:") else {"socket_keepalive": True}  # a host that is gone sends no end
    while True:
        client = Redis.from_url(url, **more, socket_timeout=None, retry=Retry(NoBackoff(), 0), protocol=2)
        try:
            async with client, client.pubsub(ignore_subscribe_messages=True) as channels:
                await channels.subscribe(*hear)
                again()
                while not cancellations():
                    message = await channels.get_message(ignore_subscribe_messages=True, timeout=None)
                    if message is not None and message["type"] == "message":
                        hear[message["channel"].decode()](message["data"])
        except FAULTS as error:
            _LOG.debug("messages of the shared tier are not heard: %s", error)
        if cancellations():
            raise asyncio.CancelledError
        await asyncio.sleep(0.05 + AGAIN * random())
