"""Faults of the store, the cache, the network, the worker processes and the refresher, drawn from a seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncpg
import psutil
import redis

from broker.demo.embedded import EmbeddedPostgres
from tests.bench.parts.fault_refresher import Refresher
from tests.support.pg import GONE
from tests.support.proxy import Proxy, Way
from tests.support.server import RunningBroker
from tests.support.valkey import Valkey

DECK = {
    "worker killed": 5,
    "session ended": 5,
    "statement cancelled": 3,
    "tables locked": 2,
    "store stopped": 1,
    "store cut": 4,
    "store refused": 2,
    "store silent": 2,
    "store late": 3,
    "cache cut": 3,
    "cache silent": 2,
    "cache late": 3,
    "cache halted": 2,
    "cache killed": 1,
    "cache flushed": 3,
    "cache poisoned": 5,
    "refresher killed": 1,
    "refresher halted": 2,
}
"""How many of each are dealt, in a new order again and again, so that the shares hold in short runs too."""
LASTING = (0.05, 0.6)
"""Seconds of a fault that lasts."""
_SESSIONS = """
SELECT pid FROM pg_stat_activity
WHERE application_name LIKE 'querybroker%' AND backend_type = 'client backend' ORDER BY 1
"""
_LOCK = "LOCK fault_marked, fault_aged IN ACCESS EXCLUSIVE MODE"
_BROKEN = (b"", b"\x00", b"poison", b"\xff" * 4096)


@dataclass
class Faults:
    """Causes faults at random moments; ``count`` says how many of each there were."""

    postgres: EmbeddedPostgres
    store: Proxy
    valkey: Valkey
    cache: Proxy
    broker: RunningBroker
    refresher: Refresher
    rng: random.Random
    count: Counter[str] = field(default_factory=Counter)
    _busy: set[str] = field(default_factory=set)

    async def cause(self, number: int, pace: float) -> None:
        """So many faults, a mean of ``pace`` seconds apart; those that last are over when it returns."""
        deck: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            while self.count.total() < number:
                await asyncio.sleep(self.rng.expovariate(1 / pace))
                if not deck:
                    deck = [name for name, times in DECK.items() for _ in range(times)]
                    self.rng.shuffle(deck)
                tasks.create_task(self._one(deck.pop()))

    async def _one(self, name: str) -> None:
        """A fault; one that cannot be caused now, since the server is away or is being broken, is not counted."""
        method = getattr(self, "_" + name.replace(" ", "_"))
        with suppress(*GONE, redis.RedisError):
            self.count[name] += bool(await method())

    @asynccontextmanager
    async def _alone(self, what: str) -> AsyncIterator[None]:
        """Raises TimeoutError when something else is being done to it."""
        if what in self._busy:
            raise TimeoutError
        self._busy.add(what)
        try:
            yield
        finally:
            self._busy.discard(what)

    async def _lasts(self) -> bool:
        await asyncio.sleep(self.rng.uniform(*LASTING))
        return True

    async def _worker_killed(self) -> bool:
        workers = self.broker.workers()
        with suppress(psutil.NoSuchProcess):
            if workers:
                self.rng.choice(workers).kill()
                return True
        return False

    async def _session_ended(self) -> bool:
        return await self._to_session("pg_terminate_backend")

    async def _statement_cancelled(self) -> bool:
        return await self._to_session("pg_cancel_backend")

    async def _to_session(self, what: str) -> bool:
        async with self._beside() as connection:
            pids = await connection.fetch(_SESSIONS)
            if not pids:
                return False
            return bool(await connection.fetchval(f"SELECT {what}($1)", self.rng.choice(pids)[0]))

    async def _tables_locked(self) -> bool:
        async with self._beside() as connection, connection.transaction():
            await connection.execute(_LOCK)
            return await self._lasts()

    @asynccontextmanager
    async def _beside(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.postgres.dsn(), timeout=2.0, command_timeout=5.0)
        try:
            yield connection
        finally:
            connection.terminate()

    async def _store_stopped(self) -> bool:
        async with self._alone("store"):
            how = self.rng.choice(
                (self.postgres.kill9, lambda: self.postgres.stop("immediate"), self.postgres.stop)
            )
            await asyncio.to_thread(how)
            await self._lasts()
            await asyncio.to_thread(self.postgres.start)
            return True

    async def _store_cut(self) -> bool:
        self.store.cut()
        return True

    async def _cache_cut(self) -> bool:
        self.cache.cut()
        return True

    async def _store_refused(self) -> bool:
        async with self._alone("way to the store"):
            self.store.way = Way.RESET
            self.store.cut()
            await self._lasts()
            self.store.way = Way.THROUGH
            return True

    async def _store_silent(self) -> bool:
        return await self._silent(self.store, "way to the store")

    async def _cache_silent(self) -> bool:
        return await self._silent(self.cache, "way to the cache")

    async def _silent(self, proxy: Proxy, name: str) -> bool:
        """Nothing gets through; then what was sent does, or nobody knows of the connections any more."""
        async with self._alone(name):
            proxy.halt()
            await self._lasts()
            if self.rng.random() < 0.5:
                proxy.cut()
            proxy.go_on()
            return True

    async def _store_late(self) -> bool:
        return await self._late(self.store)

    async def _cache_late(self) -> bool:
        return await self._late(self.cache)

    async def _late(self, proxy: Proxy) -> bool:
        async with self._alone(f"delay {id(proxy)}"):
            proxy.delay = self.rng.uniform(0.005, 0.15)
            await self._lasts()
            proxy.delay = 0.0
            return True

    async def _cache_halted(self) -> bool:
        async with self._alone("cache"):
            self.valkey.halt()
            await self._lasts()
            self.valkey.go_on()
            return True

    async def _cache_killed(self) -> bool:
        async with self._alone("cache"):
            await asyncio.to_thread(self.valkey.kill)
            await self._lasts()
            await asyncio.to_thread(self.valkey.start)
            return True

    async def _cache_flushed(self) -> bool:
        async with self._alone("cache"):
            return await asyncio.to_thread(self._told, lambda client: client.flushall())

    async def _cache_poisoned(self) -> bool:
        async with self._alone("cache"):
            return await asyncio.to_thread(self._told, self._poison)

    def _told(self, what: Callable[[redis.Redis], object]) -> bool:
        with self.valkey.client() as client:
            return what(client) is not False

    def _poison(self, client: redis.Redis) -> object:
        """A few values are cut short, replaced, changed by a bit, exchanged, or become something else."""
        names = sorted(client.scan_iter(count=1000))
        values = {n: bytes(client.get(n) or b"") for n in names if client.type(n) == b"string"}  # type: ignore[arg-type] # bytes, as the client does not decode
        for name, value in self.rng.sample(sorted(values.items()), min(5, len(values))):
            changed = bytearray(value or b"\x00")
            place = self.rng.randrange(len(changed))
            changed[place] ^= 1 << self.rng.randrange(8)
            other = values[self.rng.choice(sorted(values))]
            new = self.rng.choice((value[:place], bytes(changed), other, *_BROKEN, None))
            if new is None:
                client.delete(name)
                client.rpush(name, b"poison")
            else:
                client.set(name, new, keepttl=True)
        return bool(values)

    async def _refresher_killed(self) -> bool:
        async with self._alone("refresher"):
            await self.refresher.kill()
            await self._lasts()
            await self.refresher.start()
            return True

    async def _refresher_halted(self) -> bool:
        async with self._alone("refresher"):
            with self.refresher.halted():
                return await self._lasts()
