"""Claiming: every job to one worker, in order, and only to a worker that is alive."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random
from time import monotonic

from broker.adapters.pg_jobs_open import open_jobs
from broker.domain.job import JobStage, JobState
from tests.support.jobs import Jobs, submission


async def test_a_claim_counts_the_attempt_and_grows_the_fence(jobs: Jobs) -> None:
    job = await jobs.running(attempt_timeout=60.0)
    assert (job.state, job.stage, job.fence, job.attempt) == (JobState.RUNNING, JobStage.RUNNING, 1, 1)
    assert job == await jobs.get(job.id)
    deadline = await jobs.admin.fetchval("SELECT attempt_deadline FROM broker.job")
    assert job.start_time is not None
    assert deadline - job.start_time == timedelta(seconds=60)


async def test_workers_that_claim_at_once_share_the_jobs(jobs: Jobs) -> None:
    made = [await jobs.ports.store.submit(submission()) for _ in range(40)]
    workers = [await jobs.worker() for _ in range(8)]
    claimed = await asyncio.gather(*(jobs.claim(worker, 7) for worker in workers))
    ids = [job.id for batch in claimed for job in batch]
    assert sorted(ids) == sorted(job.id for job in made)
    assert all(
        job.worker_id == worker for worker, batch in zip(workers, claimed, strict=True) for job in batch
    )


async def test_a_lost_an_expired_and_an_unknown_worker_get_nothing(jobs: Jobs) -> None:
    await jobs.ports.store.submit(submission())
    expired = await jobs.worker()
    await jobs.lose(expired)
    assert await jobs.claim(expired) == []
    lost = await jobs.worker()
    await jobs.lose(lost)
    await jobs.ports.keeper.reap(lambda: 0.0)
    await jobs.admin.execute("UPDATE broker.worker SET lease_expire_time = now() + interval '1 hour'")
    assert await jobs.claim(lost) == []
    assert await jobs.claim("unknown") == []
    assert len(await jobs.claim(await jobs.worker())) == 1


async def test_only_kinds_that_the_worker_knows_are_claimed(jobs: Jobs) -> None:
    await jobs.ports.store.submit(submission(kind="unheard-of"))
    assert await jobs.claim(await jobs.worker(), 5) == []


async def test_priority_comes_first_and_waiting_makes_up_for_it(jobs: Jobs) -> None:
    low = await jobs.ports.store.submit(submission(priority=9))
    normal = await jobs.ports.store.submit(submission())
    first = await jobs.ports.store.submit(submission(priority=0))
    waited = await jobs.ports.store.submit(submission(priority=9))
    await jobs.admin.execute(
        "UPDATE broker.job SET queue_rank = queue_rank - interval '8 minutes' WHERE id = $1", waited.id
    )
    claimed = await jobs.claim(await jobs.worker(), 4)
    assert [job.id for job in claimed] == [first.id, waited.id, normal.id, low.id]


async def test_a_job_that_waits_for_its_time_is_left_alone(jobs: Jobs) -> None:
    job = await jobs.ports.store.submit(submission())
    await jobs.admin.execute("UPDATE broker.job SET run_at = now() + interval '1 hour'")
    assert await jobs.claim(await jobs.worker()) == []
    assert (await jobs.get(job.id)).stage is JobStage.SCHEDULED
    await jobs.make_due(job.id)
    assert len(await jobs.claim(await jobs.worker())) == 1


async def test_a_job_whose_time_to_begin_has_passed_is_not_claimed_before_the_reaper_comes(
    jobs: Jobs,
) -> None:
    await jobs.ports.store.submit(submission())
    await jobs.admin.execute("UPDATE broker.job SET start_by_time = now() - interval '1 second'")
    assert await jobs.claim(await jobs.worker()) == []


async def test_the_lower_bound_of_the_scan_hides_no_job(jobs: Jobs) -> None:
    """A claim that filled its limit sets the bound; a job below it is found by a hint, or by the empty scan."""
    worker = await jobs.worker()
    await jobs.ports.store.submit(submission(priority=9))
    assert len(await jobs.claim(worker)) == 1
    async with open_jobs(jobs.dsn, connections=1, clock=monotonic, rng=Random(8)) as elsewhere:
        before = await elsewhere.store.submit(submission(priority=0))
    assert [job.id for job in await jobs.claim(worker)] == [before.id]
