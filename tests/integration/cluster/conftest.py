"""A Dask cluster of two worker processes, started once by the command that operators use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil
import pytest
import pytest_asyncio

from broker.aggregation.dask_cluster import DaskCluster
from broker.aggregation.executor import WorkerPools
from broker.domain.pool import PoolLimits, PoolName
from tests.integration.workers.conftest import POOL, Crew, Noting, SystemClock
from tests.support.eventually import eventually
from tests.support.processes import left_of

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Started:
    """A cluster: where its scheduler listens, and the process that holds all of it."""

    address: str
    process: subprocess.Popen[bytes]

    def kernels(self) -> list[psutil.Process]:
        """What forks and runs the kernels beside the Dask workers."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "broker.aggregation.zygote" in " ".join(_command(child))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@pytest.fixture(scope="session")
def cluster() -> Iterator[Started]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    readable, writable = os.pipe()
    command = [sys.executable, "-m", "broker", "cluster", "--workers", str(WORKERS), "--threads", "1"]
    command += ["--port", str(port), "--ready-fd", str(writable)]
    process = subprocess.Popen(command, pass_fds=[writable])
    os.close(writable)
    with os.fdopen(readable) as pipe:
        assert "address" in pipe.readline(), "it said where it is"
    yield Started(f"tcp://127.0.0.1:{port}", process)
    everything = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert not left_of(everything, 30), "Ctrl-C ends all of it"


@dataclass(frozen=True, slots=True)
class Far(Crew):
    """A broker's worker pools that send everything to the cluster that they can."""

    cluster: DaskCluster
    started: Started

    async def complete(self) -> None:
        """Waits until all workers of the cluster are known."""

        async def counted() -> bool:
            return self.cluster.threads == WORKERS

        await eventually(counted, "both workers are there")


@asynccontextmanager
async def reached(started: Started) -> AsyncIterator[Far]:
    """A broker's worker pools that know both workers."""
    telemetry = Noting()
    limits = PoolLimits(8, 8, 2, 1, worker_memory=1 << 30)
    link = DaskCluster(
        started.address, {POOL: limits.worker_memory, PoolName.JOB: limits.worker_memory}, 0, functions=""
    )
    pools = WorkerPools({POOL: limits}, SystemClock(), telemetry, cluster=link)
    await pools.start()
    try:
        far = Far(pools, telemetry, link, started)
        await far.complete()
        yield far
    finally:
        await pools.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def far(cluster: Started) -> AsyncIterator[Far]:
    async with reached(cluster) as far:
        yield far
