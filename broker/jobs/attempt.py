"""One attempt: runs its kind, stops it when it must, and writes how it ended, under its fence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from broker.domain.attempts import AttemptOutcome, Fault, ending, fault_of, overdue
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobFailure, JobProgress, JobResult, JobState
from broker.jobs.children import ChildLostError, Children
from broker.jobs.kind import JobContext, JobKind
from broker.jobs.progress import ProgressBoard
from broker.ports.clock import Clock
from broker.ports.jobs import JobQueue, ResultStore

RETRY_SECONDS = (0.1, 5.0)
"""First and longest pause between two tries to write how an attempt ended."""

logger = logging.getLogger(__name__)


class Stop(StrEnum):
    """Why an attempt is stopped from outside."""

    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    STALE = "stale"  # somebody else has the job
    LEASE_LOST = "lease_lost"  # somebody else may have it


@dataclass(frozen=True, slots=True)
class Tools:
    """What attempts share. ``retention`` of results in seconds."""

    queue: JobQueue
    results: ResultStore
    children: Children
    board: ProgressBoard
    clock: Clock
    rng: Random
    retention: float


class Attempt:
    """An attempt under way. ``run`` is called once; ``stop`` at any time."""

    def __init__(self, job: Job, kind: JobKind, tools: Tools) -> None:
        self.job = job
        self.ending = False
        self._kind = kind
        self._tools = tools
        self._stop: Stop | None = None
        self._stopped = asyncio.Event()

    def stop(self, why: Stop) -> None:
        """Stops the attempt; the first reason holds, except that the loss of the job beats the others."""
        if self._stop is None or why in (Stop.STALE, Stop.LEASE_LOST):
            self._stop = why
        self._stopped.set()

    async def run(self) -> AttemptOutcome:
        """Does the work and writes its end. LOST means that the attempt had to leave the job to others."""
        tools, job = self._tools, self.job
        context = JobContext(
            job=job,
            deadline=Deadline.after(job.attempt_timeout, tools.clock.monotonic()),
            results=tools.results,
            children=tools.children,
            report=lambda progress: tools.board.report(job, progress),
        )
        work = asyncio.create_task(self._kind.run(context), name=f"job {job.id}")
        late = False
        try:
            await self._wait(work, job.attempt_timeout)
            late = not work.done() and self._stop is None
        finally:
            context.cancelled.set()
            work.cancel()
            await asyncio.wait({work})
        self.ending = True
        return await self._end(work, context, tools.board.take(job), late=late)

    async def _wait(self, work: asyncio.Task[JobResult], seconds: float | None) -> None:
        """Until the work is done, somebody stops it, or its time is over."""
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({work, stopped}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()

    async def _end(
        self, work: asyncio.Task[JobResult], context: JobContext, progress: JobProgress, *, late: bool
    ) -> AttemptOutcome:
        queue, job = self._tools.queue, self.job
        if not work.cancelled() and work.exception() is None and not self._taken():
            result, retention = work.result(), self._tools.retention
            published = await self._settle(lambda: queue.succeed(job, result, progress, retention))
            if published is False:
                await self._tools.results.delete(context.prefix)
            # Without an answer the result may be published: its files are left to the sweep, which asks the database.
            return AttemptOutcome.SUCCEEDED if published else AttemptOutcome.LOST
        await self._tools.results.delete(context.prefix)
        if self._taken():
            return AttemptOutcome.LOST
        if self._stop is Stop.CANCELLED:
            confirmed = await self._settle(lambda: queue.cancelled(job))
            return AttemptOutcome.CANCELLED if confirmed else AttemptOutcome.LOST
        if self._stop is Stop.SHUTDOWN:
            released = await self._settle(lambda: queue.release(job))
            return AttemptOutcome.RELEASED if released else AttemptOutcome.LOST
        fault = overdue(job) if late or work.cancelled() else self._fault(work.exception())
        end = ending(job, fault, self._tools.rng.random())
        if end.state is JobState.FAILED:
            logger.warning("%s failed: %s %s", job.name, end.failure.reason, end.failure.message)
        written = await self._settle(lambda: queue.fail(job, end))
        return AttemptOutcome.FAILED if written else AttemptOutcome.LOST

    def _taken(self) -> bool:
        return self._stop in (Stop.STALE, Stop.LEASE_LOST)

    def _fault(self, error: BaseException | None) -> Fault:
        if isinstance(error, BrokerError):
            fault = fault_of(error)
            crashed = isinstance(error, ChildLostError)
            return Fault(fault.failure, fault.retryable, fault.retry_after, crashed)
        logger.error("%s failed unexpectedly in attempt %d", self.job.name, self.job.attempt, exc_info=error)
        text = "The attempt failed unexpectedly. The server's log has the details under the job's name."
        return Fault(JobFailure(ErrorReason.INTERNAL.value, text), retryable=True)

    async def _settle(self, write: Callable[[], Awaitable[bool]]) -> bool | None:
        """Writes how the attempt ended, again and again while the database is away; None when the lease ended first."""
        pause, longest = RETRY_SECONDS
        while not self._taken():
            try:
                return await write()
            except BrokerError as error:
                if error.reason is not ErrorReason.STORE_UNAVAILABLE:
                    raise
            await asyncio.sleep(self._tools.rng.uniform(0.5, 1.0) * pause)
            pause = min(longest, pause * 2)
        return None
