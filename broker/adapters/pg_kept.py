"""Connections that wait a moment for their next statement before the pool has them back.

To give a connection back takes asyncpg's pool a task, two futures and a timer, and to acquire it again nearly as much:
more than the broker needs for the rows of a small statement. So a connection that ended in good order is kept, and the
one used last is taken first. The pool counts it as used. Therefore it has it back as soon as somebody waits for one,
and when nobody took it for :data:`HOLD` seconds; how long connections stay open without use is the pool's affair again.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Proxy: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
HOLD = 1.0
"""Seconds without use after which the pool has a connection back."""


class Kept:
    """The connections of one pool. Close it before the pool, which waits for all that are used."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], hold: float = HOLD) -> None:
        self.pool = pool
        self.epoch = 0
        """How often the server was lost; what was taken before is not kept."""
        self._hold = hold
        self._loop = asyncio.get_running_loop()
        self._free: list[tuple[float, Proxy]] = []
        """Since when each is free; the last one was used last."""
        self._waiting = 0
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._releasing: set[asyncio.Task[None]] = set()

    @property
    def free(self) -> int:
        """Connections that the pool counts as used, and nobody uses."""
        return len(self._free)

    async def take(self) -> Proxy:
        """A connection, whenever there is one. Raises what asyncpg raises."""
        while self._free:
            _, proxy = self._free.pop()
            if _open(proxy):
                return proxy
            await self.pool.release(proxy)
        self._waiting += 1
        try:
            return await self.pool.acquire()
        finally:
            self._waiting -= 1

    async def give_back(self, proxy: Proxy, epoch: int) -> None:
        """Has a connection of an epoch wait for its next use, for which nothing may be left to end or to reset."""
        if self._waiting or self._closed or epoch != self.epoch or not _open(proxy):
            await self.pool.release(proxy)
            return
        self._free.append((self._loop.time(), proxy))
        if self._timer is None:
            self._timer = self._loop.call_later(self._hold, self._due)

    def drop(self) -> None:
        """Closes the connections that nobody uses: their server has been lost."""
        self.epoch += 1
        free, self._free = self._free, []
        for _, proxy in free:
            if _open(proxy):
                proxy.terminate()
            self._release(proxy)

    async def aclose(self) -> None:
        """The pool has everything back, now and from now on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        free, self._free = self._free, []
        for _, proxy in free:
            self._release(proxy)
        while self._releasing:
            await asyncio.wait(self._releasing)

    def _due(self) -> None:
        """Gives back what nobody took; the ones that are used least are first."""
        self._timer = None
        now, idle = self._loop.time(), 0
        while idle < len(self._free) and self._free[idle][0] + self._hold <= now:
            self._release(self._free[idle][1])
            idle += 1
        del self._free[:idle]
        if self._free:
            self._timer = self._loop.call_at(self._free[0][0] + self._hold, self._due)

    def _release(self, proxy: Proxy) -> None:
        task = self._loop.create_task(self.pool.release(proxy))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)


def _open(proxy: Proxy) -> bool:
    """Whether the connection can be used; of one that was lost the pool has taken its proxy away."""
    try:
        return not proxy.is_closed()
    except asyncpg.InterfaceError:
        return False
