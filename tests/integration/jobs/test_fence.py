"""The fence: whoever lost a job cannot write about it any more, by none of the statements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from broker.adapters.pg_jobs_queue import PgJobQueue
from broker.domain.attempts import Ending
from broker.domain.job import Job, JobFailure, JobProgress, JobResult, JobState, ResultPart
from tests.support.jobs import Jobs

RESULT = JobResult((ResultPart(0, "k", "f.csv", "text/csv", 3, 4, bytes(32)),), row_count=3, byte_count=4)
FAILED = Ending(JobState.FAILED, JobFailure("INVALID_REQUEST", "no"))
AGAIN = Ending(JobState.QUEUED, JobFailure("STORE_UNAVAILABLE", "away"), delay=5.0)

Write = Callable[[PgJobQueue, Job], Awaitable[bool]]


async def report(queue: PgJobQueue, job: Job) -> bool:
    return not await queue.report([(job, JobProgress("reading", row_count=7))])


async def succeed(queue: PgJobQueue, job: Job) -> bool:
    return await queue.succeed(job, RESULT, JobProgress(), 60.0)


async def fail(queue: PgJobQueue, job: Job) -> bool:
    return await queue.fail(job, FAILED)


async def retry(queue: PgJobQueue, job: Job) -> bool:
    return await queue.fail(job, AGAIN)


async def release(queue: PgJobQueue, job: Job) -> bool:
    return await queue.release(job)


async def confirm_cancel(queue: PgJobQueue, job: Job) -> bool:
    return await queue.cancelled(job)


WRITES: list[Write] = [report, succeed, fail, retry, release, confirm_cancel]


async def lost_and_claimed_again(jobs: Jobs, job: Job) -> None:
    await jobs.lose(job.worker_id)
    await jobs.ports.keeper.reap(lambda: 0.0)
    await jobs.make_due(job.id)
    assert len(await jobs.claim(await jobs.worker())) == 1


async def lost_and_claimed_again_by_the_same_worker(jobs: Jobs, job: Job) -> None:
    """As if a late reply of the first claim were still under way in the same process."""
    await jobs.ports.queue.release(job)
    (again,) = await jobs.claim(job.worker_id)
    assert (again.fence, again.attempt) == (job.fence + 1, job.attempt)


async def published_by_another(jobs: Jobs, job: Job) -> None:
    await jobs.ports.queue.release(job)
    (again,) = await jobs.claim(await jobs.worker())
    assert await jobs.ports.queue.succeed(again, JobResult(), JobProgress(), 60.0)


async def reaped_and_waiting(jobs: Jobs, job: Job) -> None:
    await jobs.lose(job.worker_id)
    await jobs.ports.keeper.reap(lambda: 0.999)


async def ended(jobs: Jobs, job: Job) -> None:
    assert await jobs.ports.queue.fail(job, FAILED)


@pytest.mark.parametrize(
    "takeover",
    [
        lost_and_claimed_again,
        lost_and_claimed_again_by_the_same_worker,
        published_by_another,
        reaped_and_waiting,
        ended,
    ],
)
@pytest.mark.parametrize("write", WRITES)
async def test_a_stale_attempt_cannot_write(
    jobs: Jobs, takeover: Callable[[Jobs, Job], Awaitable[None]], write: Write
) -> None:
    job = await jobs.running()
    await takeover(jobs, job)
    await jobs.ports.store.cancel("acme", job.id, "ada")
    before, history = await jobs.get(job.id), await jobs.history(job.id)
    assert not await write(jobs.ports.queue, job)
    assert await jobs.get(job.id) == before
    assert await jobs.history(job.id) == history
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job_part") == 0


@pytest.mark.parametrize("write", WRITES)
async def test_another_worker_cannot_write_under_the_right_fence(jobs: Jobs, write: Write) -> None:
    job = await jobs.running()
    await jobs.ports.store.cancel("acme", job.id, "ada")
    before = await jobs.get(job.id)
    assert not await write(jobs.ports.queue, replace(job, worker_id="other"))
    assert await jobs.get(job.id) == before


@pytest.mark.parametrize("write", WRITES)
async def test_the_owner_can_write(jobs: Jobs, write: Write) -> None:
    job = await jobs.running()
    await jobs.ports.store.cancel("acme", job.id, "ada")
    assert await write(jobs.ports.queue, job)
    assert (await jobs.get(job.id)).revision == job.revision + 2


async def test_one_stale_attempt_does_not_keep_the_others_from_reporting(jobs: Jobs) -> None:
    worker = await jobs.worker()
    ids = [(await jobs.running()).id for _ in range(2)]
    stale, alive = await jobs.get(ids[0]), await jobs.get(ids[1])
    alive = replace(alive, worker_id=stale.worker_id)
    await jobs.admin.execute("UPDATE broker.job SET worker_id = $1", stale.worker_id)
    stale = replace(stale, fence=99)
    updates = [(stale, JobProgress("a")), (alive, JobProgress("b", fraction=0.5))]
    assert await jobs.ports.queue.report(updates) == {stale.id}
    assert (await jobs.get(alive.id)).progress == JobProgress("b", fraction=0.5)
    assert (await jobs.get(stale.id)).progress == JobProgress()
    assert worker


async def test_success_publishes_manifest_and_state_together(jobs: Jobs) -> None:
    job = await jobs.running()
    assert await jobs.ports.queue.succeed(job, RESULT, JobProgress("done", 1.0), 3600.0)
    done = await jobs.get(job.id)
    assert (done.state, done.progress) == (JobState.SUCCEEDED, JobProgress("done", 1.0))
    assert done.result is not None
    assert done.end_time is not None
    assert done.result.expire_time is not None
    assert (done.result.expire_time - done.end_time).total_seconds() == 3600
    assert replace(done.result, expire_time=None) == RESULT
    assert await jobs.history(job.id) == [(1, 1, "succeeded")]


async def test_a_success_whose_reply_was_lost_can_be_repeated(jobs: Jobs) -> None:
    job = await jobs.running()
    assert await succeed(jobs.ports.queue, job)
    before = await jobs.get(job.id)
    assert await succeed(jobs.ports.queue, job)
    assert await jobs.get(job.id) == before


async def test_a_failure_waits_for_its_retry_and_keeps_the_reason(jobs: Jobs) -> None:
    job = await jobs.running()
    assert await jobs.ports.queue.fail(job, AGAIN)
    waiting = await jobs.get(job.id)
    assert (waiting.state, waiting.failure, waiting.attempt) == (JobState.QUEUED, AGAIN.failure, 1)
    assert waiting.next_attempt_time is not None
    assert (waiting.next_attempt_time - waiting.update_time).total_seconds() == 5
    assert await jobs.claim(await jobs.worker()) == []
    assert await jobs.history(job.id) == [(1, 1, "failed")]


async def test_a_released_attempt_is_due_at_once_and_not_counted(jobs: Jobs) -> None:
    job = await jobs.running()
    assert await jobs.ports.queue.release(job)
    (again,) = await jobs.claim(await jobs.worker())
    assert (again.fence, again.attempt) == (2, 1)
    assert await jobs.history(job.id) == [(1, 1, "released")]


@pytest.mark.parametrize("write", [retry, release])
async def test_a_job_that_is_to_stop_is_not_queued_again(jobs: Jobs, write: Write) -> None:
    job = await jobs.running()
    await jobs.ports.store.cancel("acme", job.id, "bob")
    assert await write(jobs.ports.queue, job)
    ended = await jobs.get(job.id)
    assert ended.state is JobState.CANCELLED
    assert ended.failure == JobFailure("CANCELLED", "Cancelled by bob.", {"principal": "bob"})
    assert ended.end_time is not None


async def test_a_queued_job_is_cancelled_at_once_and_asking_again_changes_nothing(jobs: Jobs) -> None:
    worker = await jobs.worker()
    job = await jobs.running()
    await jobs.ports.queue.release(job)
    first = await jobs.ports.store.cancel("acme", job.id, "ada")
    assert first is not None
    assert first.state is JobState.CANCELLED
    assert await jobs.ports.store.cancel("acme", job.id, "ada") == first
    assert await jobs.claim(worker) == []


async def test_an_attempt_that_nobody_asked_to_stop_is_not_cancelled(jobs: Jobs) -> None:
    job = await jobs.running()
    assert not await jobs.ports.queue.cancelled(job)
    assert await jobs.get(job.id) == job


async def test_a_running_job_is_flagged_once(jobs: Jobs) -> None:
    job = await jobs.running()
    flagged = await jobs.ports.store.cancel("acme", job.id, "ada")
    assert flagged is not None
    assert (flagged.state, flagged.cancel_requested) == (JobState.RUNNING, True)
    assert await jobs.ports.store.cancel("acme", job.id, "ada") == flagged
    (held,) = await jobs.ports.queue.held(job.worker_id)
    assert held.cancel_requested
