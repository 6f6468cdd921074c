"""Answers in a Redis or Valkey that processes share: read in time or not at all, written behind.

Whatever is wrong with the tier or with an entry, the answer is not held. Entries that cannot be right are deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from aiocache.backends.redis import RedisCache

from broker.adapters.cache_codec import PREFIX, CorruptEntryError, Entry, decode, encode, rank, reach_of
from broker.adapters.cache_link import FaultError, Link, script
from broker.domain.held import Held, Selection
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry

NAME = "shared"
GRACE = 60.0
"""Seconds that an entry stays past its time, so that it is there for all whose clocks are a little behind."""
MOST_BYTES = 32 * 1024 * 1024
MOST_WRITES = 256
"""Answers that wait to be written, in number and bytes; further ones are not written."""
LAST_SECONDS = 1.0
"""Time that what still waits gets when the process ends."""
_BATCH = 256
_LOG = logging.getLogger(__name__)

_KEEP = """
local old = redis.call('GETRANGE', KEYS[1], 0, 19)
if #old == 20 and string.sub(old, 1, 4) == string.sub(ARGV[1], 1, 4) and string.sub(old, 5) > ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class SharedTier:
    """Answers by key at the other end of a link. ``available`` and the counts are those of this process."""

    def __init__(self, link: Link, max_entry: int, clock: Clock, telemetry: Telemetry) -> None:
        self._link, self._max_entry, self._clock, self._telemetry = link, max_entry, clock, telemetry
        self._writes: OrderedDict[str, tuple[Callable[[], Awaitable[object]], int]] = OrderedDict()
        self._waiting = asyncio.Event()
        self._bytes = self._count_after = self.hits = self.misses = self.unwritten = self.corrupt = 0

    @property
    def available(self) -> bool:
        """Whether the tier is in use."""
        return self._link.up

    async def get(self, key: str, within: float) -> Entry | None:
        """The entry under a key, when it comes in so many seconds."""
        try:
            data = await self._link.call(lambda cache: cache.get(f"a:{key}"), within)
            entry = None if data is None else decode(key, data)
        except FaultError as fault:
            if fault.said:  # it holds something else there
                self._discard(key)
            self._count("error")
            return None
        except CorruptEntryError as error:
            _LOG.warning("an entry of the shared tier is discarded: %s", error, extra={"key": key})
            self._discard(key)
            self._count("error")
            return None
        if entry is None or entry.until <= self._clock.now():
            self._count("miss")
            return None
        self._count("hit")
        return entry

    def put(self, held: Held, lifetime: float) -> None:
        """Writes an answer before long, unless a newer one is there, or too many wait to be written."""
        size = len(held.table.encoded)
        if size > self._max_entry or lifetime <= 0 or not self._link.up:
            return
        until = self._clock.now() + timedelta(seconds=lifetime)

        async def write() -> None:
            data = encode(Entry(held, until))
            left = int(1e3 * (lifetime + GRACE))
            names = [self._link.key("a", held.key)]
            await self._link.call(lambda c: script(c, _KEEP, names, data, left, rank(held.as_of)))

        self._later(held.key, write, size)

    def after(self, work: Callable[[], Awaitable[object]]) -> None:
        """Does something once the answers that wait now are written; never left out while the tier is up."""
        self._count_after += 1
        self._enqueue(f"after {self._count_after}", work, 0)

    def discard(self, key: str) -> None:
        """Deletes an entry before long."""
        self._later(key, lambda: self._link.call(lambda cache: cache.delete(f"a:{key}")), 0)

    async def remove(self, selection: Selection, before: datetime) -> set[str]:
        """Deletes the selected answers that were read before an instant; their keys. Raises `FaultError`."""
        found: set[str] = set()
        cursor, start = 0, len(self._link.key("a")) + 1
        while True:
            at = cursor
            cursor, names = await self._link.call(
                lambda cache: cache.client.scan(at, match=self._link.key("a", "*"), count=_BATCH)  # noqa: B023 - called at once
            )
            gone = await self._link.call(lambda cache: _doomed(cache, names, selection, before))  # noqa: B023 - the same
            if gone:
                await self._link.call(lambda cache: cache.client.unlink(*gone))  # noqa: B023 - the same
            found.update(name[start:].decode() for name in gone)
            if not cursor:
                return found

    async def write(self) -> None:
        """Writes what waits, until it is cancelled; then what is left, for a moment."""
        try:
            while True:
                await self._waiting.wait()
                await self._next()
        finally:
            try:
                async with asyncio.timeout(LAST_SECONDS):
                    while self._writes:
                        await self._next()
            except TimeoutError:
                _LOG.info("%d answers are not written to the shared tier", len(self._writes))

    async def _next(self) -> None:
        if not self._writes:
            self._waiting.clear()
            return
        _, (work, size) = self._writes.popitem(last=False)
        self._bytes -= size
        try:
            await work()
        except FaultError as fault:
            self.unwritten += size > 0
            _LOG.debug("the shared tier did not take an answer: %s", fault)

    def _discard(self, key: str) -> None:
        self.corrupt += 1
        self.discard(key)

    def _later(self, key: str, work: Callable[[], Awaitable[object]], size: int) -> None:
        old = self._writes.get(key)
        change = size - (0 if old is None else old[1])
        if (old is None and len(self._writes) >= MOST_WRITES) or self._bytes + change > MOST_BYTES:
            self.unwritten += 1
            return
        self._enqueue(key, work, size)

    def _enqueue(self, name: str, work: Callable[[], Awaitable[object]], size: int) -> None:
        old = self._writes.get(name)
        self._bytes += size - (0 if old is None else old[1])
        self._writes[name] = (work, size)
        self._waiting.set()

    def _count(self, result: str) -> None:
        if result == "hit":
            self.hits += 1
        else:
            self.misses += 1
        self._telemetry.cache_lookup(NAME, result)


async def _doomed(
    cache: RedisCache, names: list[bytes], selection: Selection, before: datetime
) -> list[bytes]:
    """Those of some entries that a removal takes; one whose reach cannot be told is among them."""
    if not names:
        return []
    pipe = cache.client.pipeline(transaction=False)
    for name in names:
        pipe.getrange(name, 0, PREFIX - 1)
    firsts = await pipe.execute(raise_on_error=False)
    doomed: list[bytes] = []
    for name, first in zip(names, firsts, strict=True):
        if isinstance(first, bytes) and not first:
            continue
        reach = reach_of(first) if isinstance(first, bytes) else None
        if reach is None or (selection.reaches(reach) and first[4:20] <= rank(before)):
            doomed.append(name)
    return doomed
