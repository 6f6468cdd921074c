"""Durable jobs and their results, seen from the service, the worker and the watchers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from broker.domain.job import Job, JobFailure, JobProgress, JobResult, JobState, ResultPart


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to be stored. ``spec_hash`` is the hash of the canonical request; ``trace`` the submitter's W3C headers."""

    id: str
    tenant: str
    owner: str
    kind: str
    spec: bytes
    spec_hash: str
    request_id: str
    priority: int = 5
    max_attempts: int = 3
    labels: Mapping[str, str] = field(default_factory=dict)
    start_by_time: datetime | None = None
    trace: Mapping[str, str] = field(default_factory=dict)


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
    """The job table. Every write of a worker is conditional on the claim's fence and returns False when it is stale."""

    async def submit(self, submission: Submission) -> Job:
        """Stores the job, or returns the one with the same tenant, request id and hash.

        Raises:
            BrokerError: REQUEST_ID_REUSED when the hash differs.
        """
        ...

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """The job, or None."""
        ...

    async def list_jobs(self, where: JobFilter, limit: int) -> Sequence[Job]:
        """Jobs, newest first."""
        ...

    async def cancel(self, tenant: str, job_id: str) -> Job | None:
        """Cancels a queued job, flags a running one; a final one is returned as it is."""
        ...

    async def claim(self, worker_id: str, limit: int) -> Sequence[Job]:
        """Claims up to ``limit`` queued jobs for a worker with a live lease; fence and attempt grow."""
        ...

    async def report(self, job: Job, progress: JobProgress) -> bool:
        """Writes progress under the fence; the revision grows."""
        ...

    async def succeed(self, job: Job, result: JobResult) -> bool:
        """Publishes the result and the state SUCCEEDED in one transaction under the fence."""
        ...

    async def fail(self, job: Job, failure: JobFailure, *, retry_after: float | None) -> bool:
        """Ends the attempt: queued again after ``retry_after`` seconds, or FAILED when it is None."""
        ...

    async def release(self, job: Job) -> bool:
        """Gives an attempt back on shutdown: queued at once, not counted; the fence keeps growing."""
        ...

    async def cancelled(self, job: Job) -> bool:
        """Confirms that a cancelled attempt has stopped."""
        ...

    async def cancel_requests(self, worker_id: str) -> Sequence[str]:
        """Ids of this worker's running jobs that were asked to stop."""
        ...

    async def reap(self) -> int:
        """Requeues, dead-letters or cancels the running jobs of workers whose lease has ended; returns how many."""
        ...


class JobEvents(Protocol):
    """Changes of jobs as they happen: a hint by notification, the truth by polling."""

    def watch(
        self, tenant: str, job_id: str, after_revision: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Job]]:
        """The job's states after a revision, newest wins, ending after the final one."""
        ...


class ResultStore(Protocol):
    """Files of results, by key. A part is visible only once it is complete."""

    def writer(self, key: str) -> AbstractAsyncContextManager[PartWriter]:
        """Writes a part; leaving the context without ``commit`` leaves nothing behind."""
        ...

    def read(self, key: str, offset: int, chunk: int) -> AsyncIterator[bytes]:
        """The bytes of a part from ``offset`` in pieces of at most ``chunk`` bytes; raises FileNotFoundError."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Deletes parts; missing ones are ignored."""
        ...


class PartWriter(Protocol):
    """An open part."""

    async def write(self, data: bytes) -> None:
        """Appends bytes."""
        ...

    async def commit(self, index: int, file_name: str, content_type: str, row_count: int) -> ResultPart:
        """Makes the part durable and visible, with its size and SHA-256."""
        ...
