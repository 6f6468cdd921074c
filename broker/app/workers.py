"""Starts the worker processes of a process's pools, and finds those of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from importlib.util import find_spec

from broker.aggregation.executor import Cluster, WorkerPools
from broker.app.loop import StartError
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.pool import PoolName


@asynccontextmanager
async def workers(
    settings: Settings, names: Iterable[PoolName], process: Process
) -> AsyncIterator[WorkerPools]:
    """The workers, warm; they end when the context is left."""
    limits = {name: settings.pools[name] for name in names}
    size, far = settings.server.batch_bytes, cluster(settings)
    pools = WorkerPools(limits, process.clock, process.telemetry, batch_bytes=size, cluster=far)
    try:
        await pools.start()
        yield pools
    finally:
        await pools.close()


def cluster(settings: Settings) -> Cluster | None:
    """The cluster that is configured, not yet looked for.

    Raises:
        StartError: The extra is not installed.
    """
    given = settings.cluster
    if not given.address:
        return None
    if find_spec("distributed") is None:
        text = "`cluster.address` is set, but Dask is not installed: pip install 'querybroker-server[dask]'"
        raise StartError(text)
    from broker.aggregation.dask_cluster import DaskCluster

    memory = {name: settings.pools[name].worker_memory for name in given.pools}
    return DaskCluster(given.address, memory, given.smallest)
