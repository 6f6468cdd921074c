"""The inside of a Dask worker: the kernels' processes, which can be killed although Dask's tasks cannot.

A task of Dask that runs is never stopped. So nothing is computed in the Dask worker itself: a task hands its frame to a
worker process of ours, forked as on the broker's own machine, and waits. When the broker cancels the task, or has gone,
Dask tells the plugin that the task is released, and the process is killed.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final

from distributed import Worker, WorkerPlugin, get_worker

from broker.aggregation.forkserver import ForkServer
from broker.aggregation.framing import Reply, Request, dump, load
from broker.aggregation.pool import WorkerPool
from broker.domain.errors import BrokerError
from broker.domain.pool import PoolLimits, PoolName

NAME: Final = "querybroker"


def flat(value: Request | Reply) -> bytes:
    """A frame in one piece, without its size."""
    return b"".join(dump(value)[1:])


class Station(WorkerPlugin):
    """The kernels of one Dask worker: as many processes for each pool that asks as the Dask worker has threads.

    Memory that a process may take comes with the first task of its pool.
    """

    name = NAME
    idempotent = True

    def setup(self, worker: Worker) -> None:
        """Joins a Dask worker; processes start with the first task."""
        self._threads = worker.state.nthreads
        self._server = ForkServer()
        self._numbers = itertools.count(1).__next__
        self._pools: dict[tuple[PoolName, int], asyncio.Task[WorkerPool]] = {}
        self._running: dict[object, asyncio.Task[Reply]] = {}

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's interface
        """Ends all processes."""
        started = await asyncio.gather(*self._pools.values(), return_exceptions=True)
        for pool in started:
            if isinstance(pool, WorkerPool):
                await pool.close()
        await self._server.close()

    def transition(self, key: object, start: str, finish: str, **_: Any) -> None:
        """Kills what computes for a task that nobody wants any more."""
        running = self._running.get(key)
        if running is not None and start == "executing" and finish != "memory":
            running.cancel()

    async def run(self, key: object, frame: bytes, pool: PoolName, memory: int, seconds: float) -> bytes:
        """The frame of a reply to the frame of a request; nothing when the task was cancelled."""
        task = asyncio.create_task(self._reply(load(memoryview(frame)), pool, memory, seconds))
        self._running[key] = task
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            del self._running[key]
        return b"" if task.cancelled() else flat(task.result())

    async def _reply(self, request: Request, pool: PoolName, memory: int, seconds: float) -> Reply:
        try:
            kernels = await asyncio.shield(self._started(pool, memory))
            return await kernels.run(request, seconds)
        except BrokerError as refused:
            return Reply(0, error=refused, trace=request.trace)

    def _started(self, name: PoolName, memory: int) -> asyncio.Task[WorkerPool]:
        if (name, memory) not in self._pools:
            self._pools[name, memory] = asyncio.create_task(self._start(name, memory))
        return self._pools[name, memory]

    async def _start(self, name: PoolName, memory: int) -> WorkerPool:
        limits = PoolLimits(0, 0, 0, self._threads, worker_memory=memory)
        pool = WorkerPool(name, limits, self._server, self._numbers, lambda *_: None)
        await pool.start()
        return pool


async def perform(key: str, frame: bytes, pool: str, memory: int, seconds: float) -> bytes:
    """The task that Dask runs. Returns b"" where the plugin is missing, as after a restart of the scheduler."""
    station = get_worker().plugins.get(NAME)
    if not isinstance(station, Station):
        return b""
    return await station.run(key, frame, PoolName(pool), memory, seconds)
