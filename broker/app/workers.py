"""Starts the worker processes of a process's pools, and finds those of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from broker.aggregation.executor import KERNELS, Cluster, WorkerPools
from broker.aggregation.framing import Request
from broker.app.loop import StartError
from broker.app.process import Process
from broker.config.settings import Settings
from broker.domain.pool import PoolName
from broker.jobs.step import FAR, Failure, Value


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


@dataclass(frozen=True, slots=True)
class FarSteps:
    """CPU steps of jobs on a cluster."""

    cluster: Cluster

    async def compute(self, function: str, argument: object, seconds: float) -> Value | Failure | None:
        """What came of a step; None where no cluster can be reached."""
        reply = await self.cluster.run(PoolName.JOB, Request(FAR, (function, argument)), seconds)
        if reply is None:
            return None
        if reply.error is not None:
            raise reply.error
        if reply.fault:
            return Failure(None, reply.fault)
        made: Value | Failure = reply.value
        return made


@asynccontextmanager
async def far_steps(settings: Settings) -> AsyncIterator[FarSteps | None]:
    """Where CPU steps may go, however little is sent; None without a cluster that takes jobs."""
    far = cluster(settings, smallest=0, functions=FAR) if PoolName.JOB in settings.cluster.pools else None
    if far is None:
        yield None
        return
    try:
        await far.start()
        yield FarSteps(far)
    finally:
        await far.close()


def cluster(settings: Settings, smallest: int | None = None, functions: str = KERNELS) -> Cluster | None:
    """The cluster that is configured, not yet looked for; it takes functions whose names begin so.

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
    return DaskCluster(given.address, memory, given.smallest if smallest is None else smallest, functions)
