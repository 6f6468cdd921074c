"""A queue that gives ranges of other attempts' exports to workers for whom no job is due.

A range is a job to the worker that runs it, of the kind ``export_range`` and with a fence of its own: slots, leases,
time limits, losses and shutdown are those of every attempt. What is written about it goes to its range.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from broker.domain.attempts import Ending
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobProgress, JobResult, JobState
from broker.domain.ranges import RANGE_KIND
from broker.ports.jobs import JobQueue, Success
from broker.ports.ranges import JobRanges


@dataclass(frozen=True, slots=True)
class RangedQueue:
    """Implements JobQueue: jobs first, and ranges where there are none."""

    queue: JobQueue
    ranges: JobRanges

    async def claim(self, worker_id: str, kinds: Sequence[str], limit: int) -> Sequence[Job]:
        """Claims due jobs, or else ranges."""
        jobs = await self.queue.claim(worker_id, kinds, limit)
        if jobs or RANGE_KIND not in kinds:
            return jobs
        return await self.ranges.claim(worker_id, kinds, limit)

    async def report(self, updates: Sequence[tuple[Job, JobProgress]]) -> Collection[str]:
        """Writes the progress of both; returns the ids of stale ones."""
        own = [update for update in updates if not _is_range(update[0])]
        stale = set(await self.queue.report(own)) if own else set()
        ranges = [update for update in updates if _is_range(update[0])]
        return stale.union(await self.ranges.report(ranges)) if ranges else stale

    async def succeed(self, job: Job, result: JobResult, progress: JobProgress, retention: float) -> bool:
        """Publishes a result, or says that a range is written."""
        if _is_range(job):
            return await self.ranges.finish(job, result)
        return await self.queue.succeed(job, result, progress, retention)

    async def succeed_all(self, done: Sequence[Success], retention: float) -> Collection[tuple[str, int]]:
        """The same for several: id and fence of those that were not stale."""
        own = [success for success in done if not _is_range(success.job)]
        written = set(await self.queue.succeed_all(own, retention)) if own else set()
        for success in done:
            if _is_range(success.job) and await self.ranges.finish(success.job, success.result):
                written.add((success.job.id, success.job.fence))
        return written

    async def fail(self, job: Job, ending: Ending) -> bool:
        """Ends an attempt; a range that failed is left to the attempt that it belongs to."""
        if _is_range(job):
            return await self.ranges.release(job, failed=True)
        if ending.state is JobState.FAILED:  # no attempt follows that could take them over
            await self.ranges.withdraw(job)
        return await self.queue.fail(job, ending)

    async def release(self, job: Job) -> bool:
        """Gives an attempt or a range back."""
        return await (self.ranges.release(job) if _is_range(job) else self.queue.release(job))

    async def cancelled(self, job: Job) -> bool:
        """Confirms that an attempt has stopped; while somebody still writes a range of it, nothing is confirmed."""
        if _is_range(job):
            return await self.ranges.release(job)
        if left := await self.ranges.withdraw(job):
            text = f"{left} ranges of the export are still being stopped."
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=0.1)
        return await self.queue.cancelled(job)

    async def held(self, worker_id: str) -> Sequence[Job]:
        """What runs under a worker, for it to compare with what it runs."""
        return [*await self.queue.held(worker_id), *await self.ranges.held(worker_id)]


def _is_range(job: Job) -> bool:
    return job.kind == RANGE_KIND
