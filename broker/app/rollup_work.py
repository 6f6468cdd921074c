"""Building rollups in a job worker: the kinds of job, and the loop that keeps all rollups up."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from broker.aggregation.executor import WorkerPools
from broker.app.database import Database
from broker.app.process import Process
from broker.app.rollups import open_rollups
from broker.app.workers import cluster
from broker.config.settings import Settings
from broker.domain.model import Model
from broker.domain.pool import PoolName
from broker.domain.terms import AnswerPolicy
from broker.rollups.build import BuildTools
from broker.rollups.kinds import BUILD, REFRESH, RollupKind, stored
from broker.rollups.refresh import Refresher
from broker.rollups.seats import rollup_seats
from broker.rollups.upkeep import RollupUpkeep, UpkeepTerms
from broker.runtime.admission import Admission
from broker.runtime.lifecycle import Stop
from broker.transport.decode_job import decode_job_spec


@dataclass(frozen=True, slots=True)
class RollupWork:
    """What a worker does for rollups; nothing where the model declares none that the broker stores."""

    kinds: Mapping[str, RollupKind] = field(default_factory=dict)
    upkeep: RollupUpkeep | None = None

    async def run(self, stop: Stop) -> None:
        """Keeps rollups up until told to stop; a build under way is given up, which costs nothing but its time."""
        if self.upkeep is None:
            return
        working = asyncio.create_task(self.upkeep.run())
        asked = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, asked):
                task.cancel()
            await asyncio.gather(working, asked, return_exceptions=True)


@asynccontextmanager
async def rollup_work(
    settings: Settings, model: Model, own: Process, data: Database, admission: Admission
) -> AsyncIterator[RollupWork]:
    """The parts, open. One process merges for all builds, so that they never take more than one core."""
    datasets = stored(model.datasets)
    if not datasets:
        yield RollupWork()
        return
    limits = replace(settings.pools[PoolName.JOB], workers=1)
    workers = WorkerPools({PoolName.JOB: limits}, own.clock, own.telemetry, cluster=cluster(settings))
    try:
        await workers.start()
        async with open_rollups(settings, model, own.clock) as store:
            tools = BuildTools(
                store,
                data.store,
                workers,
                own.clock,
                partial(_holder, own.identity.instance_id),
                own.telemetry,
            )
            refresher = Refresher(tools, rollup_seats(admission))
            decode = partial(decode_job_spec, defaults=AnswerPolicy())
            kinds = {name: RollupKind(name, model.datasets, refresher, decode) for name in (BUILD, REFRESH)}
            upkeep = None
            if settings.rollups.refresh:
                terms = UpkeepTerms(keep=settings.rollups.keep)
                upkeep = RollupUpkeep(datasets, refresher, store, own.clock, own.random, own.telemetry, terms)
            yield RollupWork(kinds, upkeep)
    finally:
        await workers.close()


def _holder(process: str) -> str:
    """A name that no other build has."""
    return f"{process}/{uuid.uuid4()}"
