"""A Dask cluster on this machine: a scheduler and worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from signal import SIGINT, SIGTERM

import dask
from distributed import LocalCluster

from broker.app.loop import StartError

NO_SECOND_TRY = {"distributed.scheduler.allowed-failures": 0}
"""A task whose worker died is not given to the next one: the broker says so, and its caller decides."""


async def run_cluster(
    host: str, port: int, workers: int, threads: int, ready: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Runs until a signal or ``stop``; ``ready`` is told the scheduler's address once all workers are there.

    Raises:
        StartError: The port is taken.
    """
    with dask.config.set(NO_SECOND_TRY):
        try:
            cluster = await LocalCluster(
                n_workers=workers,
                threads_per_worker=threads,
                processes=True,
                host=host,
                scheduler_port=port,
                dashboard_address=None,
                asynchronous=True,
            )
        except RuntimeError as error:
            raise StartError(f"the cluster does not start: {error}") from error
        async with cluster:
            assert cluster.scheduler is not None
            cluster.scheduler.http_server.stop()  # without the dashboard Dask still opens its port, of no use here
            for number in (SIGINT, SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            ready(cluster.scheduler_address)
            await stop.wait()
