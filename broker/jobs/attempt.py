"""One attempt: runs its kind, stops it when it must, and writes how it ended, under its fence."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from broker.domain.attempts import AttemptOutcome, Fault, ending, fault_of, overdue
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobFailure, JobResult, JobState
from broker.domain.room import no_room
from broker.jobs.children import ChildLostError, Children
from broker.jobs.finish import Finisher
from broker.jobs.kind import JobContext, JobKind
from broker.jobs.progress import ProgressBoard
from broker.ports.clock import Clock
from broker.ports.jobs import JobQueue, Success
from broker.ports.results import ResultStore

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
    """What attempts share."""

    queue: JobQueue
    results: ResultStore
    children: Children
    board: ProgressBoard
    clock: Clock
    rng: Random
    retention: float
    """Of results, in seconds."""
    finisher: Finisher = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "finisher", Finisher(self.queue, self.retention))


class Attempt:
    """An attempt under way. ``run`` is called once, by a task of its own; ``stop`` at any time.

    ``on_ending`` is called when the work itself is over, and only its end remains to be written.
    """

    __slots__ = (
        "_context",
        "_interrupted",
        "_kind",
        "_late",
        "_on_ending",
        "_stop",
        "_tools",
        "_working",
        "ending",
        "job",
        "task",
    )

    def __init__(
        self, job: Job, kind: JobKind, tools: Tools, on_ending: Callable[[], None] = lambda: None
    ) -> None:
        self.job = job
        self.task: asyncio.Task[None] | None = None
        """The task that calls ``run``, kept here because the event loop itself keeps only weak references."""
        self.ending = False
        self._kind = kind
        self._tools = tools
        self._on_ending = on_ending
        self._stop: Stop | None = None
        self._late = False
        self._interrupted = False
        self._working: asyncio.Task[object] | None = None
        self._context: JobContext | None = None

    def stop(self, why: Stop) -> None:
        """Stops the attempt; the first reason holds, except that the loss of the job beats the others."""
        if self._stop is None or why in (Stop.STALE, Stop.LEASE_LOST):
            self._stop = why
        self._interrupt()

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
        result: JobResult | BaseException
        task = asyncio.current_task()
        assert task is not None
        self._context, self._working = context, task
        if self._stop is not None:
            # Work that was under way before it became a job is ended by its kind, which has to be told.
            asyncio.get_running_loop().call_soon(self._interrupt)
        try:
            result = await self._kind.run(context)
        except asyncio.CancelledError as error:
            if not self._interrupted and task.cancelling():
                raise  # the whole program ends
            result = error
        except Exception as error:  # noqa: BLE001 - whatever the kind raises decides what becomes of the job
            result = error
        finally:
            self._working = None
            if self._interrupted:
                task.uncancel()
            self.ending = True
            self._on_ending()
        progress = tools.board.take(job)
        if isinstance(result, BaseException) or self._taken():
            return await self._end(context, result if isinstance(result, BaseException) else None)
        done = Success(job, result, progress)
        try:
            published: bool | None = await tools.finisher.succeed(done)
        except BrokerError as error:
            if error.reason is not ErrorReason.STORE_UNAVAILABLE:
                raise
            published = await self._settle(lambda: tools.finisher.succeed(done))
        if published is False:
            await tools.results.delete(context.prefix)
        # Without an answer the result may be published: its files are left to the sweep, which asks the database.
        return AttemptOutcome.SUCCEEDED if published else AttemptOutcome.LOST

    def check(self, now: float) -> None:
        """Stops the work once its time is over. ``now`` is the time of the monotonic clock."""
        if self._context is not None and self._context.deadline.remaining(now) <= 0 and not self._late:
            self._late = self._stop is None
            self._interrupt()

    def _interrupt(self) -> None:
        """Cancels the work, once."""
        if self._working is not None and self._context is not None and not self._interrupted:
            self._interrupted = True
            self._context.cancelled.set()
            self._working.cancel()

    async def _end(self, context: JobContext, error: BaseException | None) -> AttemptOutcome:
        """Writes an end without success."""
        queue, job = self._tools.queue, self.job
        leaves = context.leaves.is_set() and self._stop is not Stop.CANCELLED
        if not leaves:
            await self._tools.results.delete(context.prefix)
        if self._taken():
            return AttemptOutcome.LOST
        if self._stop is Stop.CANCELLED:
            confirmed = await self._settle(lambda: queue.cancelled(job))
            return AttemptOutcome.CANCELLED if confirmed else AttemptOutcome.LOST
        if self._stop is Stop.SHUTDOWN:
            released = await self._settle(lambda: queue.release(job))
            return AttemptOutcome.RELEASED if released else AttemptOutcome.LOST
        fault = overdue(job) if self._late else self._fault(error)
        end = ending(job, fault, self._tools.rng.random())
        if end.state is JobState.FAILED:
            if leaves:
                await self._tools.results.delete(context.prefix)
            logger.warning("%s failed: %s %s", job.name, end.failure.reason, end.failure.message)
        written = await self._settle(lambda: queue.fail(job, end))
        return AttemptOutcome.FAILED if written else AttemptOutcome.LOST

    def _taken(self) -> bool:
        return self._stop in (Stop.STALE, Stop.LEASE_LOST)

    def _fault(self, error: BaseException | None) -> Fault:
        if isinstance(error, BrokerError):
            fault = fault_of(error)
            crashed = isinstance(error, ChildLostError) and fault.retryable
            return Fault(fault.failure, fault.retryable, fault.retry_after, crashed)
        if error is not None and (full := no_room(error)):
            logger.error("%s: the result store has no room: %s", self.job.name, error)
            return fault_of(full)
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
