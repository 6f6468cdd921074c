"""Workers for tests: quick, in this process, with kinds of jobs that do what a test tells them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic

from broker.adapters.pg_jobs_open import PgJobs
from broker.adapters.result_dir import DirectoryResults
from broker.domain.job import JobResult
from broker.jobs.attempt import Tools
from broker.jobs.children import Children
from broker.jobs.kind import JobContext, JobKind
from broker.jobs.lease import LeaseKeeper
from broker.jobs.progress import ProgressBoard
from broker.jobs.ranged import RangedQueue
from broker.jobs.upkeep import Upkeep
from broker.jobs.worker import BATCH, Pace, Worker
from broker.ports.jobs import WorkerIdentity
from broker.ports.results import ResultStore
from broker.runtime.clock import SystemClock

QUICK = Pace(poll=0.05, look=0.05, flush=0.02, reap=0.1, sweep=3600.0)
PATIENT = Pace(poll=60.0, look=60.0, flush=0.02, reap=60.0, sweep=3600.0)
"""Nothing happens soon but by hints."""


@dataclass(frozen=True, slots=True)
class TestKind:
    """A kind whose work is a function of the test."""

    __test__ = False

    work: Callable[[JobContext], Awaitable[JobResult]]
    name: str = "test"

    async def run(self, context: JobContext) -> JobResult:
        return await self.work(context)


@dataclass(slots=True)
class Waiting:
    """Work that begins, says so, and waits until the test lets it go on."""

    begun: asyncio.Queue[JobContext] = field(default_factory=asyncio.Queue)
    stopped: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, context: JobContext) -> JobResult:
        self.begun.put_nowait(context)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            assert context.cancelled.is_set()
            self.stopped.put_nowait(context.job.id)
            raise
        return JobResult(row_count=1)


@dataclass(slots=True)
class Exits:
    """Stands for the end of the process."""

    codes: list[int] = field(default_factory=list)

    def __call__(self, code: int) -> None:
        self.codes.append(code)


@asynccontextmanager
async def worker(
    ports: PgJobs,
    work: Callable[[JobContext], Awaitable[JobResult]] | Mapping[str, JobKind],
    directory: Path,
    *,
    slots: int = 4,
    batch: int = BATCH,
    seconds: float = 30.0,
    pace: Pace = QUICK,
    children: Children | None = None,
    exits: Exits | None = None,
    results: ResultStore | None = None,
) -> AsyncIterator[Worker]:
    """A worker that runs while the context is open and then stops in order."""
    kinds = work if isinstance(work, Mapping) else {"test": TestKind(work)}
    rng = Random(11)
    results = results or DirectoryResults(directory)
    own = children or Children(1 << 30)
    queue = RangedQueue(ports.queue, ports.ranges)
    tools = Tools(queue, results, own, ProgressBoard(queue), SystemClock(), rng, 3600.0)
    lease = LeaseKeeper(
        ports.lease,
        lambda: WorkerIdentity(uuid.uuid4().hex, "test", 1, "test", slots),
        seconds,
        clock=monotonic,
        exit=exits or Exits(),
        rng=rng,
    )
    made = Worker(
        kinds,
        tools,
        slots=slots,
        batch=batch,
        lease=lease,
        signals=ports.signals,
        upkeep=Upkeep(ports.keeper, results, rng, 3600.0),
        pace=pace,
    )
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        made.stop()
        await task
        if children is None:
            own.close()
