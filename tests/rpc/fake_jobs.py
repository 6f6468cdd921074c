"""Jobs in memory, without workers: tests move them on by hand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobEvent, JobResult, JobState, ResultPart
from broker.domain.request import CallContext
from broker.domain.work import JobAsk, JobListing, ResultPiece
from tests.rpc.fakes import NOON, status


@dataclass
class FakeJobs:
    """A JobApp."""

    jobs: dict[str, Job] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)
    asks: list[JobAsk] = field(default_factory=list)
    listings: list[JobListing] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    watches: list[int] = field(default_factory=list)
    submits_to_fail: int = 0
    break_after: int = 0
    break_watch: bool = False
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def submit(self, context: CallContext, ask: JobAsk) -> Job:
        self.asks.append(ask)
        if self.submits_to_fail:
            self.submits_to_fail -= 1
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "The job store is away.", retry_after=0.0)
        number = len(self.jobs) + 1
        job = Job(
            id="" if ask.validate_only else f"job{number:03}",
            tenant=context.principal.tenant,
            owner=context.principal.name,
            kind=ask.kind,
            spec=ask.spec,
            state=JobState.QUEUED,
            request_id=ask.request_id,
            priority=ask.priority,
            revision=1,
            attempt=0,
            max_attempts=3,
            create_time=NOON + timedelta(seconds=number),
            update_time=NOON,
            labels=ask.labels,
        )
        if job.id:
            self.jobs[job.id] = job
        return job

    async def get(self, context: CallContext, tenant: str, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None or job.tenant != tenant or tenant != context.principal.tenant:
            name = f"tenants/{tenant}/jobs/{job_id}"
            raise BrokerError(ErrorReason.JOB_NOT_FOUND, f"There is no job {name}.", resource=name)
        return job

    async def list_jobs(self, context: CallContext, listing: JobListing, limit: int) -> Sequence[Job]:
        self.listings.append(listing)
        newest = sorted(self.jobs.values(), key=lambda job: (job.create_time, job.id), reverse=True)
        rest = [j for j in newest if listing.before is None or (j.create_time, j.id) < listing.before]
        return rest[:limit]

    async def cancel(self, context: CallContext, tenant: str, job_id: str) -> Job:
        job = await self.get(context, tenant, job_id)
        if job.state.final:
            text = f"The job is {job.state} and cannot be cancelled."
            raise BrokerError(ErrorReason.JOB_STATE, text, metadata={"state": job.state}, resource=job.name)
        return await self.change(job_id, state=JobState.CANCELLED)

    async def watch(
        self, context: CallContext, tenant: str, job_id: str, after_revision: int
    ) -> AsyncGenerator[JobEvent, None]:
        job = await self.get(context, tenant, job_id)
        seen = after_revision
        self.watches.append(seen)
        while True:
            if job.revision > seen:
                seen = job.revision
                yield JobEvent(job)
            if self.break_watch:
                self.break_watch = False
                raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "The job store is away.", retry_after=0.0)
            if job.state.final:
                return
            async with self.changed:
                while self.jobs[job_id].revision <= seen:
                    await self.changed.wait()
            job = self.jobs[job_id]

    async def read_result(
        self, context: CallContext, tenant: str, job_id: str, part_index: int, offset: int
    ) -> AsyncGenerator[ResultPiece, None]:
        job = await self.get(context, tenant, job_id)
        assert job.result is not None
        self.reads.append(offset)
        data = self.data[job_id]
        for start in range(offset, max(len(data), offset + 1), 1000):
            if self.break_after and start >= self.break_after:
                self.break_after = 0
                raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "The result store is away.", retry_after=0.0)
            part = job.result.parts[part_index] if start == offset else None
            yield ResultPiece(start, data[start : start + 1000], part)

    async def requeue(self, context: CallContext, tenant: str, job_id: str, extra_attempts: int) -> Job:
        await self.get(context, tenant, job_id)
        return await self.change(job_id, state=JobState.QUEUED, max_attempts=3 + extra_attempts)

    async def delete(self, context: CallContext, tenant: str, job_id: str) -> None:
        await self.get(context, tenant, job_id)
        del self.jobs[job_id]

    async def change(self, job_id: str, **changes: object) -> Job:
        job = self.jobs[job_id]
        changed = replace(job, revision=job.revision + 1, **changes)  # type: ignore[arg-type] # a test names fields
        self.jobs[job_id] = changed
        async with self.changed:
            self.changed.notify_all()
        return changed

    async def succeed(self, job_id: str, data: bytes) -> Job:
        self.data[job_id] = data
        digest = hashlib.sha256(data).digest()
        part = ResultPart(0, "secret/place", "flights.csv", "text/csv", 3, len(data), digest)
        result = JobResult((part,), row_count=3, byte_count=len(data), status=status())
        return await self.change(job_id, state=JobState.SUCCEEDED, result=result)
