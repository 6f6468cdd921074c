"""What the command line needs to operate rollups in a process of its own, without a broker."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from broker.aggregation.executor import WorkerPools
from broker.app.database import database
from broker.app.process import process
from broker.app.rollup_options import mirror_options
from broker.app.rollups import open_rollups
from broker.app.workers import cluster
from broker.config.settings import Settings
from broker.domain.model import Model
from broker.domain.pool import PoolName
from broker.pipeline.rolled import Rolled
from broker.rollups.build import BuildTools
from broker.rollups.examine import Examiner
from broker.rollups.mirror import Mirror
from broker.rollups.refresh import Refresher
from broker.rollups.service import RollupService
from broker.runtime.clock import SystemClock

ROLE = "rollup"
CONNECTIONS = 2
"""Connections that read, beside those of the store; one partition is worked on at a time."""


@dataclass(frozen=True, slots=True)
class Direct:
    """What builds, and what tells and compares."""

    refresher: Refresher
    service: RollupService
    clock: SystemClock


@asynccontextmanager
async def direct(settings: Settings, model: Model) -> AsyncIterator[Direct]:
    """Everything, with one worker process.

    Raises:
        StartError: The database does not accept the role.
    """
    pool = PoolName.JOB
    limits = replace(settings.pools[pool], workers=1, connections=CONNECTIONS)
    quiet = replace(settings.telemetry, prometheus_port=0)
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(process(ROLE, quiet))
        narrow = replace(settings, pools={**settings.pools, pool: limits})
        data = await stack.enter_async_context(database(narrow, (pool,), own))
        store = await stack.enter_async_context(open_rollups(settings, model, own.clock))
        workers = WorkerPools({pool: limits}, own.clock, own.telemetry, cluster=cluster(settings))
        stack.push_async_callback(workers.close)
        await workers.start()
        mirror = Mirror(mirror_options(settings), store, own.clock, own.telemetry)
        stack.push_async_callback(mirror.close)
        await mirror.open()

        def holder() -> str:
            return f"{own.identity.instance_id}/{uuid.uuid4()}"

        tools = BuildTools(store, data.store, workers, own.clock, holder, own.telemetry)
        examiner = Examiner(data.store, Rolled(mirror), workers, pool=pool)
        yield Direct(Refresher(tools), RollupService(model.datasets, store, examiner.examine), own.clock)
