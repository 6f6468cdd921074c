"""Explorations that outlive their deadline become jobs: the broker runs their first attempt, under a lease of its own.

The lease begins with the first exploration that asks for it; most brokers never hold one. The row is inserted as
RUNNING under that lease. When the broker dies the lease ends, and any worker runs the next attempt from the beginning,
as for every other job.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from broker.domain.answer import Cost
from broker.domain.errors import BrokerError
from broker.domain.job import ExportFormat, Job, JobResult
from broker.domain.request import CallContext
from broker.domain.work import ExportWork, JobAsk
from broker.jobs.children import Child
from broker.jobs.kind import JobContext
from broker.jobs.loops import end
from broker.jobs.order import WRITER, Chunk, End, Order, Whole
from broker.jobs.progress import Rate
from broker.jobs.range_files import named
from broker.jobs.sources import for_job
from broker.jobs.transfer import INLINE_BYTES, Parts, Progress, both, collect
from broker.jobs.worker import Worker
from broker.pipeline.adopted import Adoptable
from broker.ports.clock import Clock
from broker.ports.jobs import Submission
from broker.telemetry.instruments import Telemetry

PART_BYTES = 256 << 20

Adopt = Callable[[str, Submission], Awaitable[Job | None]]
"""Stores a job that runs under a worker's lease from the beginning; None when that lease is over."""
Cancel = Callable[[str, str, str], Awaitable[Job | None]]
"""Has a job of a tenant stopped, by its id, for somebody; None when there is no such job."""
AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class AdoptedKind:
    """The rest of an exploration: writes what it has read and what it still reads, as an export does."""

    work: Adoptable
    format: ExportFormat
    clock: Clock
    name: str = "export"
    telemetry: Telemetry = field(default_factory=Telemetry.off)

    async def run(self, context: JobContext) -> JobResult:
        """Carries the work on; whatever ends it ends the reading too."""
        self.work.flow.taken.set()
        try:
            return await self._run(context)
        finally:
            await self.work.stop()

    async def _run(self, context: JobContext) -> JobResult:
        job, plan, flow = context.job, self.work.plan, self.work.flow
        began = self.clock.monotonic()
        progress = Progress(context, 0, Rate(self.clock.monotonic))
        progress.tell("reading")
        async with context.results.stage(context.prefix) as staging:
            parts = Parts(staging, INLINE_BYTES)
            finish = flow.whole[1] if flow.whole is not None else plan.finish
            order = Order(self.format, plan.columns, finish, staging.directory, PART_BYTES)
            async with context.children.child(WRITER, order) as child:
                await both(self._send(child), collect(child, parts, progress.wrote, self.telemetry))
        seconds = self.clock.monotonic() - began
        cost = Cost(seconds, seconds, progress.row_count, progress.byte_count)
        assert flow.told is not None
        status = flow.told(self.clock.now(), cost)
        progress.end()
        return JobResult(
            parts=named(parts.kept, plan, self.format),
            columns=plan.columns,
            row_count=progress.row_count,
            byte_count=progress.byte_count,
            format=self.format,
            inline=parts.inline,
            status=for_job(status, job.name, job.request_id),
        )

    async def _send(self, child: Child) -> None:
        flow = self.work.flow
        async for block in flow.blocks():
            await child.send(Chunk(block))
        if flow.whole is not None:
            await child.send(Whole(flow.whole[0]))
        await child.send(End())


@dataclass(slots=True)
class Adopter:
    """Implements Adoption. ``worker`` makes the worker that holds the lease and claims nothing.

    A job that was stored, perhaps, and whose name nobody was told, is cancelled: its caller has gone, or was told of an
    error.
    """

    worker: Callable[[], Worker]
    store: Adopt
    cancel: Cancel
    submission: Callable[[CallContext, JobAsk], Submission]
    enter: Callable[[CallContext, JobAsk], Awaitable[Job]]
    clock: Clock
    seconds: float
    telemetry: Telemetry = field(default_factory=Telemetry.off)
    _worker: Worker | None = None
    _running: asyncio.Task[None] | None = None
    _behind: set[asyncio.Task[None]] = field(default_factory=set)

    def prepare(self) -> None:
        """Begins to try for a lease."""
        if self._running is not None and not self._running.done():
            return
        self._worker = self.worker()
        self._running = asyncio.create_task(self._worker.run(), name="adopted explorations")

    async def adopt(self, context: CallContext, ask: JobAsk, work: Adoptable) -> str | None:
        """Makes the work an attempt of a new job, whose name it returns; None when it cannot, and nothing changed."""
        assert isinstance(ask.work, ExportWork)
        if self._worker is None:
            return None
        submission = self.submission(context, ask)
        kind = AdoptedKind(work, ask.work.format, self.clock, telemetry=self.telemetry)
        # To its end, whoever leaves meanwhile: half way nobody would know whether there is a job.
        making = asyncio.create_task(
            self._worker.adopt(lambda worker_id: self.store(worker_id, submission), kind)
        )
        try:
            job = await asyncio.shield(making)
        except BaseException:
            cancelling = asyncio.create_task(self._unwanted(making, submission))
            self._behind.add(cancelling)
            cancelling.add_done_callback(self._behind.discard)
            raise
        if job is None:
            return None
        work.flow.taken.set()
        return job.name

    async def _unwanted(self, making: asyncio.Task[Job | None], submission: Submission) -> None:
        """Cancels the job, if there is one, as soon as the database can be reached."""
        await asyncio.wait([making])
        by = submission.principal
        while True:
            try:
                await self.cancel(by.tenant, submission.id, by.name)
                return
            except BrokerError:
                await asyncio.sleep(AGAIN_SECONDS)

    async def submit(self, context: CallContext, ask: JobAsk) -> str:
        """Submits work that has not begun; returns the job's name."""
        return (await self.enter(context, ask)).name

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Adopts while the context is open; then its attempts are given back, and workers begin them anew."""
        try:
            yield
        finally:
            await end([*self._behind])
            if self._worker is not None and self._running is not None:
                self._worker.stop()
                with suppress(asyncio.CancelledError):
                    await self._running
