"""Durable jobs, seen from who submits and watches them, runs them, and keeps them.

Every method raises BrokerError STORE_UNAVAILABLE when the job database cannot be reached.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from broker.domain.attempts import Ending
from broker.domain.job import Job, JobChange, JobEvent, JobProgress, JobResult, JobState, JobVersion
from broker.domain.principal import Principal
from broker.domain.state import Backlog, JobQueueState


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to be stored.

    ``spec_hash`` is the hash of the canonical request; ``trace`` holds the submitter's W3C headers; ``attempt_timeout``
    is in seconds. The job belongs to the principal's tenant.
    """

    id: str
    principal: Principal
    kind: str
    spec: bytes
    spec_hash: str
    request_id: str
    priority: int = 5
    max_attempts: int = 3
    attempt_timeout: float = 3600.0
    labels: Mapping[str, str] = field(default_factory=dict)
    start_by_time: datetime | None = None
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunningLimits:
    """Most jobs that run at once: of one tenant, None for any number, and of the kinds that are named."""

    tenant: int | None = None
    kinds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; ``before`` is the (create_time, id) of the last job of the page before."""

    tenant: str
    owner: str | None = None
    states: tuple[JobState, ...] = ()
    kind: str = ""
    dead_lettered: bool = False
    before: tuple[datetime, str] | None = None


class JobStore(Protocol):
    """The jobs, seen from the service."""

    async def submit(self, submission: Submission) -> Job:
        """Stores the job, or returns the one with the same tenant, request id, owner and hash.

        Raises:
            BrokerError: REQUEST_ID_REUSED when the hash or the owner differs.
        """
        ...

    async def backlog(self, tenant: str, priority: int, most_of_tenant: int, most: int) -> Backlog:
        """What a job of the tenant would find; counts stop at ``most_of_tenant`` and ``most``."""
        ...

    async def find_request(self, tenant: str, request_id: str) -> tuple[Job, str] | None:
        """The job that was submitted with the request id, and the hash of its request."""
        ...

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """The job, or None."""
        ...

    async def get_many(self, ids: Sequence[str]) -> Sequence[Job]:
        """Those of the jobs that exist."""
        ...

    async def changes(self, ids: Sequence[str]) -> Sequence[JobChange]:
        """What may have changed of those of the jobs that exist; cheaper than the jobs."""
        ...

    async def versions(self, ids: Sequence[str]) -> Sequence[JobVersion]:
        """The revisions of those of the jobs that exist."""
        ...

    async def list_jobs(self, where: JobFilter, limit: int) -> Sequence[Job]:
        """Jobs, newest first, without the bytes of their results."""
        ...

    async def datasets(self, tenant: str, owner: str, names: Sequence[str]) -> Sequence[Job]:
        """The job that succeeded last for each of the names of datasets, expired or not; no names ask for all."""
        ...

    async def cancel(self, tenant: str, job_id: str, by: str) -> Job | None:
        """Cancels a queued job, flags a running one; a final one is returned as it is."""
        ...

    async def requeue(self, tenant: str, job_id: str, extra_attempts: int) -> Job | None:
        """Puts a dead-lettered job back into the queue; any other is returned as it is."""
        ...

    async def delete(self, tenant: str, job_id: str) -> Job | None:
        """Deletes a final job and returns what it was; any other is returned as it is."""
        ...

    async def queue_state(self) -> JobQueueState:
        """Counts, ages and the workers with a live lease."""
        ...


@dataclass(frozen=True, slots=True)
class Success:
    """An attempt that has done its work, and its last progress."""

    job: Job
    result: JobResult
    progress: JobProgress


class JobQueue(Protocol):
    """The jobs, seen from a worker.

    A write about an attempt happens only while the job runs under the claim's worker and fence; otherwise it changes
    nothing and says so, and the attempt is *stale*: somebody else has the job.
    """

    async def claim(self, worker_id: str, kinds: Sequence[str], limit: int) -> Sequence[Job]:
        """Claims up to ``limit`` due jobs for a worker with a live lease; their fences and attempts grow."""
        ...

    async def report(self, updates: Sequence[tuple[Job, JobProgress]]) -> Collection[str]:
        """Writes the progress of attempts of one worker, in one statement; returns the ids of stale ones."""
        ...

    async def succeed(self, job: Job, result: JobResult, progress: JobProgress, retention: float) -> bool:
        """Publishes the result and the state SUCCEEDED in one transaction; ``retention`` in seconds.

        True as well when this very claim has been published already, so that a call with an unknown outcome can be
        repeated.
        """
        ...

    async def succeed_all(self, done: Sequence[Success], retention: float) -> Collection[tuple[str, int]]:
        """The same for several attempts of one worker, at least one: id and fence of those that were not stale."""
        ...

    async def fail(self, job: Job, ending: Ending) -> bool:
        """Ends the attempt."""
        ...

    async def release(self, job: Job) -> bool:
        """Gives an attempt back on shutdown: queued at once, not counted; the fence is kept."""
        ...

    async def cancelled(self, job: Job) -> bool:
        """Confirms that an attempt that was asked to stop has stopped."""
        ...

    async def held(self, worker_id: str) -> Sequence[Job]:
        """The jobs that run under a worker, for it to compare with what it runs."""
        ...


class JobKeeper(Protocol):
    """The jobs, seen from the upkeep that every worker does. All methods handle a bounded number and say how many."""

    async def reap(self, jitter: Callable[[], float]) -> int:
        """Ends the attempts of workers whose lease has ended, and those that overran their time limit."""
        ...

    async def fail_unstarted(self) -> int:
        """Fails queued jobs whose start-by time has passed."""
        ...

    async def expire(self) -> Sequence[Job]:
        """Marks succeeded jobs EXPIRED whose retention is over; their files are to be deleted."""
        ...

    async def purge(self, tombstone_age: float) -> int:
        """Deletes final jobs that ended ``tombstone_age`` seconds ago, with their history."""
        ...

    async def deployment(self) -> str:
        """What tells this database of jobs from others."""
        ...

    async def unwanted(self, prefixes: Sequence[str]) -> Sequence[str]:
        """Those of the prefixes in the result store that no running attempt and no published result owns."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """A worker process; ``id`` is new whenever a lease begins."""

    id: str
    host: str
    process_id: int
    build: str
    slot_count: int


class WorkerLease(Protocol):
    """The lease rows, on a connection of its own that is made anew after an error."""

    async def register(self, worker: WorkerIdentity, seconds: float) -> None:
        """Begins a lease."""
        ...

    async def renew(self, worker_id: str, seconds: float) -> bool:
        """Renews it; False when it was declared lost, which is final."""
        ...

    async def end(self, worker_id: str) -> None:
        """Ends it; what the worker still held is reaped at once."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...


@dataclass(frozen=True, slots=True)
class JobSignal:
    """A hint that something happened; hints may be lost, so whoever uses them polls as well.

    ``queued`` is the lowest queue rank of jobs that became due, ``changed`` holds ids of changed jobs, ``stopping`` of
    running ones that were asked to stop. ``resync`` means that hints may have been missed.
    """

    queued: datetime | None = None
    changed: frozenset[str] = frozenset()
    stopping: frozenset[str] = frozenset()
    resync: bool = False


class JobSignals(Protocol):
    """Hints about jobs from every process."""

    @property
    def listening(self) -> bool:
        """Whether hints arrive at present."""
        ...

    def subscribe(self, listener: Callable[[JobSignal], None]) -> Callable[[], None]:
        """Calls the listener on the event loop with every hint; the returned function ends that."""
        ...


class JobEvents(Protocol):
    """Changes of jobs as they happen: a hint by notification, the truth by polling."""

    def watch(
        self, tenant: str, job_id: str, after_revision: int, keep_alive: float
    ) -> AbstractAsyncContextManager[AsyncGenerator[JobEvent, None]]:
        """The job's states after a revision, newest wins, ending after the final one.

        A keep-alive event comes after every ``keep_alive`` seconds without a change. Raises BrokerError JOB_NOT_FOUND
        when the job does not exist or is deleted.
        """
        ...
