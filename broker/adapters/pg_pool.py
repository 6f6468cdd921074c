"""Connections to the analytical database: one asyncpg pool per executor pool, so that no class of work starves another.

A connection carries no state from one use to the next: every setting of a transaction is set with SET LOCAL, so nothing
has to be reset. What could not be ended in good order is closed, never reused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self, TypeVar

import asyncpg

from broker.adapters.pg_connection import BrokerConnection, Lease, Settings, configure_with, nothing_to_reset
from broker.adapters.pg_errors import lost, translated
from broker.domain.pool import PoolLimits, PoolName
from broker.telemetry import names as n
from broker.telemetry.catalog import DB_CONNECTION_LIMIT, DB_CONNECTIONS
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading

T = TypeVar("T")
_CAPACITY = """
SELECT
  current_setting('max_connections')::int,
  current_setting('superuser_reserved_connections')::int
    + coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0),
  (SELECT sum(numbackends) FROM pg_stat_database)::int,
  (SELECT min(n) FROM (
     SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user
     UNION ALL SELECT datconnlimit FROM pg_database WHERE datname = current_database()
   ) AS limits (n) WHERE n >= 0)
"""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many connections a server offers, and how many the broker may open there.

    ``reserved`` are kept for superusers, ``others`` in use by other programs at the time of the check; ``own_limit`` is
    the limit of the broker's role or database, None without one.
    """

    pools: tuple[PoolName, ...]
    wanted: int
    max_connections: int
    reserved: int
    others: int
    own_limit: int | None = None

    @property
    def available(self) -> int:
        """Connections that are left for the broker."""
        left = max(0, self.max_connections - self.reserved - self.others)
        return left if self.own_limit is None else min(left, self.own_limit)

    @property
    def fits(self) -> bool:
        """Whether all pools can be full at once."""
        return self.wanted <= self.available

    @property
    def message(self) -> str:
        """What is wrong and what to do; empty when everything fits."""
        if self.fits:
            return ""
        own = (
            f", and {self.own_limit} for the broker's role or database" if self.own_limit is not None else ""
        )
        return (
            f"The pools {', '.join(self.pools)} may open {self.wanted} connections, but PostgreSQL has "
            f"{self.available} left: max_connections is {self.max_connections}, of which {self.reserved} are reserved "
            f"and {self.others} in use by others{own}. Lower `connections` of the pools, or raise max_connections."
        )


class PgPools:
    """All connections of the broker to the analytical database. Make one with :meth:`open`, end it with ``aclose``."""

    def __init__(
        self,
        pools: Mapping[PoolName, asyncpg.Pool[asyncpg.Record]],
        limits: Mapping[PoolName, PoolLimits],
        settings: Settings,
        telemetry: Telemetry,
    ) -> None:
        self._pools, self._limits = dict(pools), dict(limits)
        self._settings, self._telemetry = settings, telemetry
        self._ending: set[asyncio.Task[None]] = set()
        self._forget = [
            telemetry.observe(DB_CONNECTIONS, self._counts),
            telemetry.observe(DB_CONNECTION_LIMIT, self._maxima),
        ]

    @classmethod
    async def open(
        cls,
        dsn: str,
        limits: Mapping[PoolName, PoolLimits],
        settings: Settings | None = None,
        telemetry: Telemetry | None = None,
    ) -> Self:
        """Pools that connect when first used: the broker can start before the database does."""
        settings = settings or Settings()
        pools = {}
        for name, limit in limits.items():
            pools[name] = await asyncpg.create_pool(
                limit.replica_dsn or dsn,
                min_size=0,
                max_size=limit.connections,
                max_queries=1 << 62,
                max_inactive_connection_lifetime=settings.idle,
                init=configure_with(settings),
                reset=nothing_to_reset,
                connection_class=BrokerConnection,
                timeout=settings.connect_timeout,
                statement_cache_size=settings.statements,
                server_settings={"application_name": settings.application_name},
            )
        return cls(pools, limits, settings, telemetry or Telemetry.off())

    @property
    def connect_timeout(self) -> float:
        """Seconds after which an attempt to connect is given up."""
        return self._settings.connect_timeout

    async def lease(self, name: PoolName, seconds: float) -> Lease:
        """A connection of the pool. Raises what asyncpg raises, TimeoutError when none becomes free in time."""
        pool = self._pools[name]
        started = asyncio.get_running_loop().time()
        proxy = await pool.acquire(timeout=seconds)
        self._telemetry.connection_wait(name.value, asyncio.get_running_loop().time() - started)
        standby = getattr(proxy.get_settings(), "in_hot_standby", "off") == "on"
        return Lease(pool, proxy, name, replica=standby or bool(self._limits[name].replica_dsn))

    async def begin(self, name: PoolName, seconds: float, first: Callable[[Lease], Awaitable[T]]) -> T:
        """What ``first`` makes of a connection; it is for the caller to ``end`` it.

        A connection may turn out to be dead only now, after a restart of the server. As nothing has been executed on it
        that counts, the same is tried once more on a new one.
        """
        for fresh in (False, True):
            lease = await self.lease(name, seconds)
            try:
                return await first(lease)
            except BaseException as error:
                if fresh or not lost(error):
                    await self.end(lease)
                    raise
                await lease.expire()
        raise AssertionError("the second attempt returns or raises")

    async def end(self, lease: Lease) -> None:
        """Gives the connection back in a task of its own, which goes on when the caller is cancelled."""
        task = asyncio.create_task(lease.end(self._settings.patience))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        await asyncio.shield(task)

    async def check(self) -> tuple[Capacity, ...]:
        """What every server offers, beside what the pools there may take.

        Raises:
            BrokerError: STORE_UNAVAILABLE when a server cannot be reached.
        """
        servers: dict[str, list[PoolName]] = {}
        for name, limit in self._limits.items():
            servers.setdefault(limit.replica_dsn, []).append(name)
        found = []
        for names in servers.values():
            with translated(lambda: False):
                async with self._pools[names[0]].acquire(
                    timeout=self._settings.connect_timeout
                ) as connection:
                    own = sum(self._pools[name].get_size() for name in names)
                    row = await connection.fetchrow(_CAPACITY)
            assert row is not None, "scalars have a row"
            wanted = sum(self._limits[name].connections for name in names)
            most, reserved, used, limit = row
            found.append(Capacity(tuple(names), wanted, most, reserved, max(0, used - own), limit))
        return tuple(found)

    def usage(self, name: PoolName) -> tuple[int, int]:
        """Connections of the pool that are open, and how many may be; none when the process has no such pool."""
        pool = self._pools.get(name)
        return (0, 0) if pool is None else (pool.get_size(), pool.get_max_size())

    async def aclose(self) -> None:
        """Waits for connections that are being given back, then closes all; those still in use are cut."""
        for forget in self._forget:
            forget()
        while self._ending:
            await asyncio.wait(self._ending)
        await asyncio.gather(*map(self._close, self._pools.values()))

    async def _close(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.patience):
                await pool.close()
        pool.terminate()

    def _counts(self) -> Iterable[Reading]:
        for name, pool in self._pools.items():
            idle = pool.get_idle_size()
            yield idle, {n.DB_POOL: name.value, n.DB_CONNECTION_STATE: "idle"}
            yield pool.get_size() - idle, {n.DB_POOL: name.value, n.DB_CONNECTION_STATE: "used"}

    def _maxima(self) -> Iterable[Reading]:
        for name, pool in self._pools.items():
            yield pool.get_max_size(), {n.DB_POOL: name.value}
