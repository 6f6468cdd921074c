"""The servers behind the executor pools: a pool of connections for each pair, and one guard for each server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from broker.adapters.pg_connection import BrokerConnection, Settings, configure_with, nothing_to_reset
from broker.adapters.pg_guard import Guard
from broker.adapters.pg_kept import Kept
from broker.domain.pool import PRIMARY, PoolLimits, PoolName
from broker.telemetry.instruments import Telemetry


@dataclass(frozen=True, slots=True)
class Source:
    """Connections of one executor pool to one server, whose address is ``dsn``; that of the primary is empty."""

    name: PoolName
    dsn: str
    kept: Kept
    guard: Guard

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        """All connections, those that are kept among them."""
        return self.kept.pool


async def open_sources(
    dsn: str,
    limits: Mapping[PoolName, PoolLimits],
    settings: Settings,
    telemetry: Telemetry,
    names: Mapping[str, str],
    random: Callable[[], float],
) -> tuple[dict[PoolName, tuple[Source, ...]], dict[str, Guard]]:
    """The sources of every pool, its own first, and the guards by address; ``names`` are those of the replicas."""
    clock = asyncio.get_running_loop().time
    guards: dict[str, Guard] = {}
    sources: dict[PoolName, tuple[Source, ...]] = {}
    for name, limit in limits.items():
        found = []
        for address in (
            (limit.replica_dsn, "") if limit.fallback and limit.replica_dsn else (limit.replica_dsn,)
        ):
            if address not in guards:
                backend = names.get(address, "replica") if address else PRIMARY
                guards[address] = Guard(backend, clock, random, telemetry)
            guard = guards[address]
            pool = await _pool(address or dsn, limit.connections, settings, guard)
            found.append(Source(name, address, Kept(pool), guard))
        sources[name] = tuple(found)
    return sources, guards


async def _pool(dsn: str, connections: int, settings: Settings, guard: Guard) -> asyncpg.Pool[asyncpg.Record]:
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections,
        max_queries=1 << 62,
        max_inactive_connection_lifetime=settings.idle,
        connect=guard.connecting(configure_with(settings)),
        reset=nothing_to_reset,
        connection_class=BrokerConnection,
        timeout=settings.connect_timeout,
        statement_cache_size=settings.statements,
        server_settings={"application_name": settings.application_name},
    )
