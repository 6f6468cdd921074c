"""A worker: claims jobs for its free slots, runs them, and keeps up what all workers keep up together.

Everything that concerns one attempt is in :mod:`broker.jobs.attempt`, the lease in :mod:`broker.jobs.lease`. The
database may go away at any time: every loop goes on trying, attempts go on as long as the lease does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from broker.domain.attempts import AttemptOutcome, Fault, ending
from broker.domain.errors import ErrorReason
from broker.domain.job import Job, JobFailure
from broker.jobs.attempt import Attempt, Stop, Tools
from broker.jobs.kind import JobKind
from broker.jobs.lease import LeaseKeeper
from broker.jobs.loops import Shared, end, repeat
from broker.jobs.upkeep import Chores
from broker.ports.jobs import JobSignal, JobSignals

BATCH = 100
"""Jobs that are claimed by one statement, at most."""
UNWRITTEN = 2
"""Attempts in all, those included whose end is being written, for every slot."""

logger = logging.getLogger(__name__)

Scope = Callable[[Job], AbstractContextManager[Callable[[AttemptOutcome], None]]]
"""Surrounds every attempt, for a span and a measurement; what it gives is told the outcome."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a worker does what, in seconds; every pause is varied by a quarter.

    ``poll`` looks for due jobs, ``look`` for jobs of its own that are to stop, ``flush`` writes progress, ``reap`` and
    ``sweep`` are for :class:`broker.jobs.upkeep.Upkeep`. Hints make the first two happen at once.
    """

    poll: float = 1.0
    look: float = 1.0
    flush: float = 0.5
    reap: float = 1.0
    sweep: float = 300.0


_UNSEEN: Final = nullcontext[Callable[[AttemptOutcome], None]](lambda _: None)


class Worker:
    """Runs jobs of the given kinds, at most ``slots`` at a time; claims ``batch`` of them at once. Holds the lease."""

    def __init__(
        self,
        kinds: Mapping[str, JobKind],
        tools: Tools,
        *,
        slots: int,
        batch: int = BATCH,
        lease: LeaseKeeper,
        signals: JobSignals,
        upkeep: Chores,
        pace: Pace,
        scope: Scope | None = None,
    ) -> None:
        self._kinds = kinds
        self._slots = slots
        self._batch = batch
        self._tools = tools
        self._lease = lease
        self._signals = signals
        self._upkeep = upkeep
        self._pace = pace
        self._scope = scope or (lambda _: _UNSEEN)
        self._worker_id: str | None = None
        self._attempts: dict[tuple[str, int], Attempt] = {}
        self._working = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = 0
        self._claiming = Shared()
        self._wake = asyncio.Event()
        self._more = asyncio.Event()
        self._look = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._leased = asyncio.Event()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def worker_id(self) -> str | None:
        """The identity that the process is leased under, None while it is not."""
        return self._worker_id

    async def leased(self) -> None:
        """Returns once it may claim jobs."""
        await self._leased.wait()

    async def idle(self) -> None:
        """Returns once it runs nothing."""
        await self._idle.wait()

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the jobs that it runs."""
        return tuple(job_id for job_id, _ in self._attempts)

    def stop(self) -> None:
        """Begins the end: no more claims, attempts are given back, then ``run`` returns."""
        self._stopping.set()

    async def run(self) -> None:
        """Works until ``stop``; raises only for bugs."""
        self._loop = asyncio.get_running_loop()
        unsubscribe = self._signals.subscribe(self._hear)
        self._lease.start(self)
        pace, upkeep, rng = self._pace, self._upkeep, self._tools.rng
        claiming = [
            asyncio.create_task(repeat("claiming", pace.poll, rng, self._claim, self._wake)),
            asyncio.create_task(repeat("claiming more", pace.poll, rng, self._claim_more, self._more)),
        ]
        loops = [
            asyncio.create_task(repeat("looking", pace.look, rng, self._look_after, self._look)),
            asyncio.create_task(repeat("reporting", pace.flush, rng, self._flush)),
            asyncio.create_task(repeat("reaping", pace.reap, rng, upkeep.reap)),
            asyncio.create_task(repeat("sweeping", pace.sweep, rng, upkeep.sweep)),
        ]
        stopping = asyncio.create_task(self._stop_asked())
        try:
            done, _ = await asyncio.wait({*claiming, *loops, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            async with self._claiming.alone():  # not in the middle of a claim, of which nobody would know
                await end([*claiming, stopping])
            for attempt in self._attempts.values():
                attempt.stop(Stop.SHUTDOWN)
            await self._idle.wait()
            await end(loops)
            await asyncio.to_thread(self._lease.stop)
            unsubscribe()

    async def _stop_asked(self) -> None:
        await self._stopping.wait()

    # Calls from the lease's thread.

    def gained(self, worker_id: str) -> None:
        """A lease has begun."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._begin_lease, worker_id)

    def lost(self, released: Callable[[], None]) -> None:
        """The lease has ended: every attempt stops, then ``released`` is called."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._end_lease, released)

    def kill(self) -> None:
        """Kills the children, at once."""
        self._tools.children.kill_all()

    def _begin_lease(self, worker_id: str) -> None:
        logger.info("worker %s is ready", worker_id)
        self._worker_id = worker_id
        self._leased.set()
        self._wake.set()

    def _end_lease(self, released: Callable[[], None]) -> None:
        self._worker_id = None
        self._leased.clear()
        if self._attempts:
            logger.error("the lease is over: %d attempts stop, others begin them anew", len(self._attempts))
        for attempt in self._attempts.values():
            attempt.stop(Stop.LEASE_LOST)
        self._keep(self._when_idle(released))

    async def _when_idle(self, then: Callable[[], None]) -> None:
        await self._idle.wait()
        then()

    # Loops.

    def _hear(self, signal: JobSignal) -> None:
        if signal.queued is not None or signal.resync:
            self._wake.set()
        stopping = signal.stopping
        if signal.resync or (stopping and any(job_id in stopping for job_id, _ in self._attempts)):
            self._look.set()

    async def _claim(self) -> bool:
        """Claims for the free slots; whether they are all taken now and there may be more to claim.

        While slots are free the next claim is sent before the jobs of the last one begin, so that the database works
        at the same time.
        """
        while True:
            full = await self._claim_some(min(self._free(), self._batch))
            if not full or self._free() <= 0:
                return full

    async def _claim_more(self) -> bool:
        """A claim beside one that is under way, while many jobs wait for many free slots."""
        return self._free() >= self._batch and await self._claim_some(self._batch)

    async def _claim_some(self, limit: int) -> bool:
        worker_id = self._worker_id
        if limit <= 0 or worker_id is None:
            return False
        async with self._claiming.shared():
            self._asked += limit
            try:
                jobs = await self._tools.queue.claim(worker_id, list(self._kinds), limit)
            finally:
                self._asked -= limit
            if self._worker_id == worker_id:  # else the jobs wait for the reaper, like all of that identity
                for job in jobs:
                    self._begin(job)
        if len(jobs) == limit == self._batch:
            self._more.set()
        return len(jobs) == limit

    async def adopt(self, store: Callable[[str], Awaitable[Job | None]], kind: JobKind) -> Job | None:
        """Runs work that is under way already; ``store`` makes a job of it under the lease. None without a lease."""
        async with self._claiming.shared():  # so that it is not looked for before it is known here
            worker_id = self._worker_id
            if worker_id is None or self._stopping.is_set():  # nobody would look after it
                return None
            job = await store(worker_id)
            if job is not None:
                attempt = self._begin(job, kind)
                if self._worker_id != worker_id:  # the lease ended in between: workers begin the job anew
                    attempt.stop(Stop.LEASE_LOST)
            return job

    def _free(self) -> int:
        """Slots without work or a claim; attempts whose end is being written have left theirs, if they are few."""
        return min(self._slots - self._working, UNWRITTEN * self._slots - len(self._attempts)) - self._asked

    def _worked(self) -> None:
        self._working -= 1
        self._wake.set()

    def _begin(self, job: Job, kind: JobKind | None = None) -> Attempt:
        attempt = Attempt(job, kind or self._kinds[job.kind], self._tools, self._worked)
        self._attempts[job.id, job.fence] = attempt
        self._working += 1
        attempt.task = asyncio.create_task(self._run(attempt))
        self._idle.clear()
        return attempt

    async def _run(self, attempt: Attempt) -> None:
        job = attempt.job
        try:
            with self._scope(job) as tell:
                tell(await attempt.run())
        except Exception:  # a bug; the row still says that we run it, so the next look finds it and ends it
            logger.exception("the end of %s could not be written", job.name)
        finally:
            del self._attempts[job.id, job.fence]
            if not self._attempts:
                self._idle.set()
            if self._free() > 0:
                self._wake.set()

    async def _look_after(self) -> None:
        """Compares what it runs with what the database says that it runs."""
        async with self._claiming.alone():  # a claim under way is in the database already, and not yet here
            if self._worker_id is None:
                return
            running = {key: a for key, a in self._attempts.items() if not a.ending}
            held = {(job.id, job.fence): job for job in await self._tools.queue.held(self._worker_id)}
            for key, attempt in running.items():
                if key not in held:
                    attempt.stop(Stop.STALE)
                elif held[key].cancel_requested:
                    attempt.stop(Stop.CANCELLED)
            for key, job in held.items():
                if key not in self._attempts:  # a claim whose reply was lost
                    text = "The worker did not learn that it had the job."
                    fault = Fault(JobFailure(ErrorReason.WORKER_LOST.value, text), retryable=True)
                    await self._tools.queue.fail(job, ending(job, fault, self._tools.rng.random()))

    async def _flush(self) -> None:
        now = self._tools.clock.monotonic()
        for attempt in self._attempts.values():
            attempt.check(now)
        stale = await self._tools.board.flush()
        if any(job_id in stale and not a.ending for (job_id, _), a in self._attempts.items()):
            self._look.set()

    def _keep(self, work: Coroutine[None, None, None]) -> None:
        """Runs a coroutine as a task that is not forgotten: the event loop itself keeps only weak references."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
