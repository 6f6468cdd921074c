"""Connections to the analytical database: one asyncpg pool per executor pool, so that no class of work starves another.

A connection carries no state from one use to the next: every setting of a transaction is set with SET LOCAL, and how
statements are planned is said before each use; so nothing has to be reset. What could not be ended in good
order is closed, never reused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from random import Random, SystemRandom
from typing import Self, TypeVar

from broker.adapters.pg_capacity import CAPACITY, Capacity
from broker.adapters.pg_connection import Lease, Settings
from broker.adapters.pg_errors import answered, away, conflict, lost, translated
from broker.adapters.pg_guard import Guard, Listener, Strained
from broker.adapters.pg_sources import Source, open_sources
from broker.domain.errors import BrokerError
from broker.domain.pool import PoolLimits, PoolName
from broker.policy.breaker import Rejected, Ticket
from broker.telemetry import names as n
from broker.telemetry.catalog import DB_CONNECTION_LIMIT, DB_CONNECTIONS
from broker.telemetry.instruments import Telemetry
from broker.telemetry.meters import Reading

SPENT = Ticket(-1)
"""A ticket that was given back: what is said of it later is not heard."""
T = TypeVar("T")


class PgPools:
    """All connections of the broker to the analytical database. Make one with :meth:`open`, end it with ``aclose``.

    A pool has one source, or two: its replica, and the primary in its place while the replica's breaker is open.
    """

    def __init__(
        self,
        sources: Mapping[PoolName, tuple[Source, ...]],
        guards: Mapping[str, Guard],
        settings: Settings,
        telemetry: Telemetry,
    ) -> None:
        self._sources, self._guards = dict(sources), dict(guards)
        self._settings, self._telemetry = settings, telemetry
        self._now = asyncio.get_running_loop().time
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
        replicas: Mapping[str, str] | None = None,
        random: Random | None = None,
    ) -> Self:
        """Pools that connect when first used: the broker can start before the database does.

        ``replicas`` has the names of replicas with their addresses.
        """
        settings, telemetry = settings or Settings(), telemetry or Telemetry.off()
        names = {address: name for name, address in (replicas or {}).items()}
        chance = (random or SystemRandom()).random
        sources, guards = await open_sources(dsn, limits, settings, telemetry, names, chance)
        return cls(sources, guards, settings, telemetry)

    @property
    def connect_timeout(self) -> float:
        """Seconds after which an attempt to connect is given up."""
        return self._settings.connect_timeout

    def guard(self, name: PoolName) -> Guard:
        """What stands before the server that the pool reads from."""
        return self._sources[name][0].guard

    def down(self, name: PoolName) -> BrokerError | None:
        """Why none of the servers that a pool may read from can be asked now; None while one can.

        None too where the pool has no connections in this process: what keeps a question from there is not the server.
        """
        error: BrokerError | None = None
        for source in self._sources.get(name, ()):
            found = source.guard.down()
            if found is None:
                return None
            error = error or found
        return error

    def listen(self, listener: Listener, strained: Strained | None = None) -> None:
        """Calls the listeners from now on: with every change of a breaker, and when a server lacks something."""
        for guard in self._guards.values():
            guard.listen(listener, strained)

    async def lease(self, name: PoolName, seconds: float) -> Lease:
        """A connection of the pool. Raises what asyncpg raises, TimeoutError when none becomes free in time."""
        async with asyncio.timeout(seconds):
            return await self._lease(self._sources[name][0])

    async def begin(
        self,
        name: PoolName,
        seconds: float,
        first: Callable[[Lease], Awaitable[T]],
        *,
        elsewhere: bool = True,
    ) -> T:
        """What ``first`` makes of a connection, within ``seconds``; it is for the caller to ``end`` it.

        Everything that is asked of the database is a read, and of this one nothing has been passed on. So when the
        server is away, when a connection turns out to be dead, or the read lost to another transaction, the same is
        tried again, within the budget of retries and the time. ``elsewhere`` allows the primary in a replica's place.

        Raises:
            BrokerError: STORE_UNAVAILABLE while the breaker is open.
            TimeoutError: The time is over, whatever was waited for.
        """
        end, attempts = self._now() + seconds, 0
        async with asyncio.timeout_at(end):
            while True:
                source, ticket = self._enter(name, elsewhere=elsewhere, again=attempts > 0)
                lease: Lease | None = None
                try:
                    lease = await self._lease(source)
                    # A read may take long; that the server answers at all must be known soon.
                    if ticket.trial:
                        await lease.connection.execute("SELECT 1")
                        source.guard.succeeded(ticket)
                        ticket = SPENT
                    lease.ticket = ticket
                    made = await first(lease)
                except BaseException as error:
                    attempts += 1
                    pause = await self._after(error, source, ticket, lease, attempts, end)
                    if pause is None:
                        raise
                else:
                    source.guard.succeeded(ticket)
                    return made
                await asyncio.sleep(pause)

    def _enter(self, name: PoolName, *, elsewhere: bool, again: bool) -> tuple[Source, Ticket]:
        sources = self._sources[name]
        own = sources[0]
        entry = own.guard.admit(again=again)
        if not isinstance(entry, Rejected):
            return own, entry
        if len(sources) == 1 or not elsewhere:
            raise own.guard.refusal(entry)
        own.guard.diverted()
        return sources[1], sources[1].guard.enter(again=again)

    async def _after(
        self,
        error: BaseException,
        source: Source,
        ticket: Ticket,
        lease: Lease | None,
        attempts: int,
        end: float,
    ) -> float | None:
        """Puts the connection away and tells the breaker; the pause before the next attempt, None for no other."""
        guard = source.guard
        if lease is None:
            guard.released(ticket)  # what came of connecting was told where it was done
            return guard.again(attempts, end) if away(error) else None
        if lost(error):
            # One that died while nobody used it tells of the past, and is replaced at once; the new one will tell.
            stale = attempts == 1
            if stale:
                guard.released(ticket)
            else:
                guard.failed(ticket, error)
            await lease.expire()
            return 0.0 if stale and self._now() < end else guard.again(attempts, end)
        if answered(error):
            guard.succeeded(ticket)
        else:
            guard.released(ticket)
        await self.end(lease)
        return guard.again(attempts, end) if conflict(error) else None

    async def _lease(self, source: Source) -> Lease:
        """A connection, whenever there is one: a limit of asyncpg's own would count when it is given back as well."""
        started = self._now()
        proxy = await source.kept.take()
        self._telemetry.connection_wait(source.name.value, self._now() - started)
        standby = getattr(proxy.get_settings(), "in_hot_standby", "off") == "on"
        if source.dsn:
            source.guard.follows(standby=standby)
        return Lease(source.kept, proxy, source.name, replica=standby or bool(source.dsn), guard=source.guard)

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
        servers: dict[str, list[Source]] = {}
        for source in self._every():
            servers.setdefault(source.dsn, []).append(source)
        found = []
        for sources in servers.values():
            with translated(lambda: False):
                async with sources[0].pool.acquire(timeout=self._settings.connect_timeout) as connection:
                    own = sum(source.pool.get_size() for source in sources)
                    row = await connection.fetchrow(CAPACITY)
            assert row is not None, "scalars have a row"
            wanted = sum(source.pool.get_max_size() for source in sources)
            most, reserved, used, limit = row
            names = tuple(source.name for source in sources)
            found.append(Capacity(names, wanted, most, reserved, max(0, used - own), limit))
        return tuple(found)

    def usage(self, name: PoolName) -> tuple[int, int]:
        """Connections of the pool that are open, and how many may be; none when the process has no such pool."""
        pools = [source.pool for source in self._sources.get(name, ())]
        return sum(pool.get_size() for pool in pools), sum(pool.get_max_size() for pool in pools)

    async def aclose(self) -> None:
        """Waits for connections that are being given back, then closes all; those still in use are cut."""
        for forget in self._forget:
            forget()
        for guard in self._guards.values():
            guard.close()
        while self._ending:
            await asyncio.wait(self._ending)
        await asyncio.gather(*(self._close(source) for source in self._every()))

    async def _close(self, source: Source) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.patience):
                await source.kept.aclose()
                await source.pool.close()
        source.pool.terminate()

    def _every(self) -> Iterable[Source]:
        return (source for sources in self._sources.values() for source in sources)

    def _counts(self) -> Iterable[Reading]:
        for name in self._sources:
            own = self._sources[name]
            idle = sum(source.pool.get_idle_size() + source.kept.free for source in own)
            size = sum(source.pool.get_size() for source in own)
            yield idle, {n.DB_POOL: name.value, n.DB_CONNECTION_STATE: "idle"}
            yield size - idle, {n.DB_POOL: name.value, n.DB_CONNECTION_STATE: "used"}

    def _maxima(self) -> Iterable[Reading]:
        for name in self._sources:
            yield self.usage(name)[1], {n.DB_POOL: name.value}
