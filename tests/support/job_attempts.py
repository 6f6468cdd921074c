"""Steps of attempts and claims that leave a job as it should be, whatever a stale one or a full tenant tries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from random import Random

import asyncpg

from broker.adapters import pg_jobs_sql_work as work
from broker.adapters.pg_jobs_open import open_jobs
from broker.adapters.pg_jobs_queue import PgJobQueue, end_arrays
from broker.domain.attempts import Ending, ending, lost_worker
from broker.domain.job import Job, JobFailure, JobProgress, JobResult, JobState, ResultPart
from broker.domain.principal import Principal
from broker.ports.jobs import RunningLimits
from tests.support.eventually import eventually
from tests.support.jobs import Jobs, submission

Scenario = Callable[[Jobs], Coroutine[None, None, None]]
Write = Callable[[PgJobQueue, Job], Awaitable[bool]]
RESULT = JobResult((ResultPart(0, "k", "f.csv", "text/csv", 3, 4, bytes(32)),), row_count=3, byte_count=4)
FAILED = Ending(JobState.FAILED, JobFailure("INVALID_REQUEST", "no"))
AGAIN = Ending(JobState.QUEUED, JobFailure("STORE_UNAVAILABLE", "away"), delay=5.0)
WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


async def report(queue: PgJobQueue, job: Job) -> bool:
    return not await queue.report([(job, JobProgress("reading", row_count=7))])


async def succeed(queue: PgJobQueue, job: Job) -> bool:
    return await queue.succeed(job, RESULT, JobProgress(), 60.0)


async def fail(queue: PgJobQueue, job: Job) -> bool:
    return await queue.fail(job, FAILED)


async def release(queue: PgJobQueue, job: Job) -> bool:
    return await queue.release(job)


async def confirm_cancel(queue: PgJobQueue, job: Job) -> bool:
    return await queue.cancelled(job)


async def refused(jobs: Jobs, write: Write, job: Job) -> None:
    await jobs.ports.store.cancel("acme", job.id, "ada")
    before = await jobs.get(job.id)
    assert not await write(jobs.ports.queue, job)
    assert await jobs.get(job.id) == before


async def stale_attempt(write: Write, jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.queue.release(job)
    await jobs.claim(job.worker_id)
    await refused(jobs, write, job)


async def other_worker(write: Write, jobs: Jobs) -> None:
    await refused(jobs, write, replace(await jobs.running(), worker_id="other"))


async def ended_attempt(write: Write, jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.queue.fail(job, AGAIN)
    await refused(jobs, write, job)


async def not_asked_to_stop(jobs: Jobs) -> None:
    assert not await jobs.ports.queue.cancelled(await jobs.running())


async def published_by_another(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.queue.release(job)
    (again,) = await jobs.claim(await jobs.worker())
    assert await succeed(jobs.ports.queue, again)
    assert not await succeed(jobs.ports.queue, job)


async def stopped_while_it_failed(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.store.cancel("acme", job.id, "ada")
    await jobs.ports.queue.fail(job, AGAIN)
    assert (await jobs.get(job.id)).state is JobState.CANCELLED


async def stopped_while_it_was_released(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.store.cancel("acme", job.id, "ada")
    await jobs.ports.queue.release(job)
    assert (await jobs.get(job.id)).state is JobState.CANCELLED


async def hasty_reaper(jobs: Jobs) -> None:
    """It has found an orphan which has got a living worker since."""
    job = await jobs.running()
    found = [(job, ending(job, lost_worker(job), 0.5), False)]
    await jobs.ports.store._database.fetch(work.END, None, *end_arrays(found))
    assert (await jobs.get(job.id)).state is JobState.RUNNING


async def claims(jobs: Jobs, count: int, worker: str | None = None) -> None:
    assert len(await jobs.claim(worker or await jobs.worker(), 5)) == count


async def claimed_twice(jobs: Jobs) -> None:
    await jobs.running()
    await claims(jobs, 0)


async def not_due(jobs: Jobs) -> None:
    await jobs.ports.queue.fail(await jobs.running(), AGAIN)
    await claims(jobs, 0)


async def kind_unknown(jobs: Jobs) -> None:
    await jobs.ports.store.submit(submission(kind="unheard-of"))
    await claims(jobs, 0)


async def too_late_to_begin(jobs: Jobs) -> None:
    await jobs.ports.store.submit(submission())
    await jobs.admin.execute("UPDATE broker.job SET start_by_time = now() - interval '1 second'")
    await claims(jobs, 0)


async def unknown_worker(jobs: Jobs) -> None:
    await jobs.ports.store.submit(submission())
    await jobs.worker()
    await claims(jobs, 0, "unknown")


async def late_worker(jobs: Jobs) -> None:
    await jobs.ports.store.submit(submission())
    worker = await jobs.worker()
    await jobs.lose(worker)
    await claims(jobs, 0, worker)


async def lost_worker_with_time(jobs: Jobs) -> None:
    await jobs.ports.store.submit(submission())
    worker = await jobs.worker()
    await jobs.admin.execute("UPDATE broker.worker SET lost = true")
    await claims(jobs, 0, worker)


async def claim_during(
    jobs: Jobs, statement: str, *arguments: object, limits: RunningLimits | None
) -> list[Job]:
    """What another claims while the transaction of a claim is open, and after it has ended if it waits for that."""
    holder = await asyncpg.connect(jobs.dsn)
    opened = open_jobs(jobs.dsn, connections=2, clock=lambda: 0.0, rng=Random(1), limits=limits)
    try:
        async with opened as other:
            await holder.execute("BEGIN")
            if limits is not None:
                await holder.execute("SELECT pg_advisory_xact_lock(x'6a6f6273'::integer)")
            assert await holder.fetch(statement, await jobs.worker(), ["test"], 1, None, *arguments)
            claiming = asyncio.create_task(other.queue.claim(await jobs.worker(), ["test"], 1))

            async def waits_or_done() -> bool:
                return claiming.done() or bool(await jobs.admin.fetchval(WAITING))

            await eventually(waits_or_done, "the second claim is done, or waits for the first")
            await holder.execute("COMMIT")
            return list(await claiming)
    finally:
        await holder.close()


async def two_claims_of_one_job(jobs: Jobs) -> None:
    """The second does not wait for the first, but takes the next job."""
    first, second = [await jobs.ports.store.submit(submission()) for _ in range(2)]
    claimed = await claim_during(jobs, work.CLAIM, limits=None)
    assert [job.id for job in claimed] == [second.id]
    assert (await jobs.get(first.id)).fence == 1


async def two_claims_within_a_limit(jobs: Jobs) -> None:
    for _ in range(2):
        await jobs.ports.store.submit(submission())
    limits = RunningLimits(tenant=1)
    assert await claim_during(jobs, work.CLAIM_WITHIN, 1, [], [], limits=limits) == []


async def within(jobs: Jobs, limits: RunningLimits, *expected: int) -> None:
    """Claims of 4, one after the other, give so many jobs."""
    async with open_jobs(jobs.dsn, connections=2, clock=lambda: 0.0, rng=Random(1), limits=limits) as ports:
        for count in expected:
            assert len(await ports.queue.claim(await jobs.worker(), ["test"], 4)) == count


async def tenant_at_its_limit(jobs: Jobs) -> None:
    for i in range(7):
        owner = submission().principal if i < 6 else Principal("eve", "globex")
        await jobs.ports.store.submit(submission(principal=owner))
    await within(jobs, RunningLimits(tenant=2), 3, 0)


async def kind_at_its_limit(jobs: Jobs) -> None:
    for _ in range(6):
        await jobs.ports.store.submit(submission())
    await within(jobs, RunningLimits(kinds={"test": 3}), 3, 0)


async def tenant_in_front(jobs: Jobs) -> None:
    for _ in range(9):
        await jobs.ports.store.submit(submission(priority=0))
    await within(jobs, RunningLimits(tenant=4), 4)
    await jobs.ports.store.submit(submission(principal=Principal("eve", "globex")))
    await within(jobs, RunningLimits(tenant=4), 1)


async def fence_grows(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.queue.release(job)
    (again,) = await jobs.claim(job.worker_id)
    assert again.fence > job.fence


async def attempt_counts(jobs: Jobs) -> None:
    assert (await jobs.running()).attempt == 1


async def deadline_is_set(jobs: Jobs) -> None:
    await jobs.running(attempt_timeout=60.0)
    assert await jobs.admin.fetchval("SELECT attempt_deadline - start_time = interval '60 s' FROM broker.job")
