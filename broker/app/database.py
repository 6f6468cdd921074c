"""Opens the analytical database for the pools of a process, and checks that the server can take them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from broker.adapters.pg_pool import PgPools
from broker.adapters.pg_snapshot import ReadLimits
from broker.adapters.pg_store import PgStore
from broker.adapters.sql.gate_rules import GateLimits
from broker.app.loop import StartError
from broker.app.options import connection_settings
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.errors import BrokerError
from broker.domain.pool import PoolName

REFUSED = ("28", "3D000")
"""SQLSTATEs that waiting does not cure: who the broker is, and which database it asks for."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Database:
    """The store with its connections."""

    pools: PgPools
    store: PgStore


@asynccontextmanager
async def database(
    settings: Settings, names: Iterable[PoolName], process: Process
) -> AsyncIterator[Database]:
    """The store over the pools; PostgreSQL may still be down.

    Raises:
        StartError: The pools can never all be open at the server.
    """
    limits = {name: settings.pools[name] for name in names}
    own = connection_settings(settings.database)
    replicas = settings.database.replicas
    dsn, telemetry = settings.database.dsn, process.telemetry
    pools = await PgPools.open(dsn, limits, own, telemetry, replicas, process.random)
    try:
        await _check(pools)
        server = settings.server
        # A block is CSV; the batch that it becomes has mostly twice its size, at worst eight times.
        reads = ReadLimits(
            read_bytes=server.dashboard.max_scan_bytes,
            block_bytes=max(1, server.batch_bytes // 4),
            sql_rows=server.explore.max_rows,
        )
        gate = GateLimits(functions=server.sql_functions) if server.sql_enabled else None
        yield Database(pools, PgStore(pools, process.clock, reads, gate, process.telemetry))
    finally:
        await pools.aclose()


async def _check(pools: PgPools) -> None:
    try:
        capacities = await pools.check()
    except BrokerError as error:
        if error.metadata.get("sqlstate", "").startswith(REFUSED):
            condition = error.metadata.get("condition", "")
            raise StartError(f"{error.message} ({condition})" if condition else error.message) from error
        _LOG.warning("starting without the database: %s", error.message)
        return
    for capacity in capacities:
        if capacity.wanted > capacity.max_connections - capacity.reserved:
            raise StartError(capacity.message)
        if not capacity.fits:
            _LOG.warning("%s", capacity.message)
