"""Who waits for a worker process and leaves."""

from __future__ import annotations

import asyncio
import itertools
from typing import cast

import pytest

from broker.aggregation.connection import Connection
from broker.aggregation.crew import Worker
from broker.aggregation.forkserver import ForkServer
from broker.aggregation.pool import WorkerPool
from broker.domain.pool import PoolLimits, PoolName


async def test_who_is_cancelled_while_a_worker_becomes_free_leaves_it_to_the_next() -> None:
    server = cast("ForkServer", None)  # nothing is started
    limits = PoolLimits(1, 1, connections=1, workers=1)
    pool = WorkerPool(PoolName.DASHBOARD, limits, server, itertools.count().__next__, lambda *_: None)
    waiting = asyncio.create_task(pool._acquire())
    await asyncio.sleep(0)
    assert pool.waiting == 1
    worker = Worker(0, cast("Connection", None), asyncio.get_running_loop().create_future())
    waiting.cancel()
    pool._offer(worker)  # before the one who waits has noticed
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pool.waiting == 0
    assert await pool._acquire() is worker
