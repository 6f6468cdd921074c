"""Explorations that become jobs, in a broker: a worker that claims nothing, and what its attempts need."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from broker.app.jobs import Jobs
from broker.app.lease import lease_keeper
from broker.app.process import Process
from broker.app.results import result_store
from broker.config.settings import Settings
from broker.domain.job import Job
from broker.domain.model import Model
from broker.domain.pool import PoolName
from broker.domain.request import CallContext
from broker.domain.work import JobAsk
from broker.jobs.adopter import Adopter
from broker.jobs.attempt import Tools
from broker.jobs.children import Children
from broker.jobs.progress import ProgressBoard
from broker.jobs.tracing import traced
from broker.jobs.worker import Pace, Worker
from broker.pipeline.adopted import adopting
from broker.pipeline.service import QueryService
from broker.ports.clock import Clock
from broker.ports.jobs import Submission


class NoUpkeep:
    """The workers do it; a broker only looks after its own attempts."""

    async def reap(self) -> None:
        """Nothing."""

    async def sweep(self) -> None:
        """Nothing."""


def adopted(query: QueryService, adopter: Adopter, clock: Clock) -> QueryService:
    """The same request path, whose explorations may go on as jobs."""
    explore = adopting(adopter, clock)(query.recipes.explore)
    return replace(query, recipes=replace(query.recipes, explore=explore))


@asynccontextmanager
async def adoption(
    settings: Settings, model: Model, jobs: Jobs, own: Process, query: QueryService
) -> AsyncIterator[Adopter]:
    """Adopts while the context is open; no process is started and no lease taken before one is needed.

    Work that has not begun is submitted like any other job, and may be refused like one.
    """
    service = jobs.service(query.plan, query.sql.gate, model.datasets)
    terms, ports = settings.jobs, jobs.ports
    children = Children(settings.pools[PoolName.JOB].worker_memory)
    loop = asyncio.get_running_loop()
    tools = Tools(
        queue=ports.queue,
        results=result_store(terms),
        children=children,
        board=ProgressBoard(ports.queue),
        clock=own.clock,
        rng=own.random,
        retention=terms.retention,
    )

    def worker() -> Worker:
        def lost(_: int) -> None:
            # The attempts are over; the broker goes on, and the next exploration begins another lease.
            loop.call_soon_threadsafe(made.stop)

        made = Worker(
            {},
            tools,
            slots=0,
            lease=lease_keeper(terms, own, ports, 0, lost),
            signals=ports.signals,
            upkeep=NoUpkeep(),
            pace=Pace(),
            scope=traced(own.telemetry, own.clock),
        )
        return made

    def submission(context: CallContext, ask: JobAsk) -> Submission:
        return Submission(
            id=str(uuid.uuid4()),
            principal=context.principal,
            kind=ask.kind,
            spec=ask.spec,
            spec_hash=ask.spec_hash,
            request_id=str(uuid.uuid4()),
            priority=ask.priority,
            max_attempts=terms.max_attempts,
            attempt_timeout=terms.attempt_timeout,
            trace=dict(context.trace),
        )

    async def enter(context: CallContext, ask: JobAsk) -> Job:
        return await service.submit(context, replace(ask, request_id=str(uuid.uuid4())))

    adopter = Adopter(
        worker,
        ports.adoption.adopt,
        ports.store.cancel,
        submission,
        enter,
        own.clock,
        terms.attempt_timeout,
        own.telemetry,
    )
    try:
        async with adopter.running():
            yield adopter
    finally:
        children.kill_all()
        await asyncio.to_thread(children.close)
