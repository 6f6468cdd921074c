"""Starts the worker processes of a process's pools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from broker.aggregation.executor import WorkerPools
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.pool import PoolName


@asynccontextmanager
async def workers(
    settings: Settings, names: Iterable[PoolName], process: Process
) -> AsyncIterator[WorkerPools]:
    """The workers, warm; they end when the context is left."""
    limits = {name: settings.pools[name] for name in names}
    size = settings.server.batch_bytes
    pools = WorkerPools(limits, process.clock, process.telemetry, batch_bytes=size)
    try:
        await pools.start()
        yield pools
    finally:
        await pools.close()
