"""Reaping, the dead-letter queue and retention. Time is moved in the database, nobody waits."""

from __future__ import annotations

import asyncio

import pytest

from broker.adapters import pg_jobs_sql_work as sql
from broker.adapters.pg_jobs_queue import end_arrays
from broker.domain.attempts import ending, lost_worker
from broker.domain.job import Job, JobProgress, JobResult, JobState, ResultPart, part_prefix
from tests.support.jobs import Jobs, submission

RESULT = JobResult((ResultPart(0, "k", "f.csv", "text/csv", 3, 4, bytes(32)),))


async def crash(jobs: Jobs, job: Job) -> int:
    await jobs.lose(job.worker_id)
    return await jobs.ports.keeper.reap(lambda: 0.5)


async def test_a_job_whose_worker_was_lost_waits_for_another(jobs: Jobs) -> None:
    job = await jobs.running()
    assert await jobs.ports.keeper.reap(lambda: 0.5) == 0
    assert await crash(jobs, job) == 1
    waiting = await jobs.get(job.id)
    assert (waiting.state, waiting.attempt, waiting.crash_count) == (JobState.QUEUED, 1, 1)
    assert waiting.failure is not None
    assert waiting.failure.reason == "WORKER_LOST"
    assert await jobs.history(job.id) == [(1, 1, "lost")]
    assert waiting.next_attempt_time is not None
    assert (waiting.next_attempt_time - waiting.update_time).total_seconds() == 0.25  # half of the pause


async def test_a_renewal_that_came_too_late_is_refused(jobs: Jobs) -> None:
    job = await jobs.running()
    lease = jobs.ports.lease()
    await jobs.lose(job.worker_id)
    assert await lease.renew(job.worker_id, 60.0)
    assert await jobs.ports.keeper.reap(lambda: 0.5) == 0, "renewed in time"
    await crash(jobs, job)
    assert not await lease.renew(job.worker_id, 60.0)
    await lease.close()


async def test_a_reaper_that_looked_too_early_leaves_a_living_workers_job_alone(jobs: Jobs) -> None:
    """Between finding an orphan and ending it, the job may have got a worker that the reaper has not seen."""
    job = await jobs.running()
    found_by_mistake = [(job, ending(job, lost_worker(job), 0.5), False)]
    assert await jobs.ports.store._database.fetch(sql.END, None, *end_arrays(found_by_mistake)) == []
    assert await jobs.get(job.id) == job


async def test_an_ended_lease_gives_its_jobs_up_at_once(jobs: Jobs) -> None:
    job = await jobs.running()
    lease = jobs.ports.lease()
    await lease.end(job.worker_id)
    await lease.close()
    assert await jobs.ports.keeper.reap(lambda: 0.5) == 1


async def test_many_reapers_end_every_attempt_once(jobs: Jobs) -> None:
    workers = [await jobs.worker() for _ in range(5)]
    for _ in range(30):
        await jobs.ports.store.submit(submission())
    for worker in workers:
        assert len(await jobs.claim(worker, 6)) == 6
        await jobs.lose(worker)
    counts = await asyncio.gather(*(jobs.ports.keeper.reap(lambda: 0.5) for _ in range(6)))
    assert sum(counts) == 30
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job_attempt") == 30


async def test_three_crashes_are_a_poison_pill_whatever_the_attempts_allowed(jobs: Jobs) -> None:
    job = await jobs.running(max_attempts=50)
    for expected in (JobState.QUEUED, JobState.QUEUED, JobState.FAILED):
        await crash(jobs, job)
        assert (await jobs.get(job.id)).state is expected
        if expected is JobState.QUEUED:
            await jobs.make_due(job.id)
            (job,) = await jobs.claim(await jobs.worker())
    dead = await jobs.get(job.id)
    assert dead.dead_lettered
    assert dead.failure is not None
    assert dead.failure.reason == "WORKER_CRASH_LOOP"
    assert dead.failure.metadata == {"cause": "WORKER_LOST", "crash_count": "3"}
    assert [outcome for _, _, outcome in await jobs.history(job.id)] == ["lost"] * 3


async def test_a_lost_attempt_that_was_the_last_one_is_dead_lettered(jobs: Jobs) -> None:
    job = await jobs.running(max_attempts=1)
    await crash(jobs, job)
    dead = await jobs.get(job.id)
    assert (dead.state, dead.dead_lettered) == (JobState.FAILED, True)
    assert dead.failure is not None
    assert dead.failure.reason == "ATTEMPTS_EXHAUSTED"


async def test_a_lost_attempt_that_was_to_stop_is_cancelled(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.store.cancel("acme", job.id, "ada")
    await crash(jobs, job)
    assert (await jobs.get(job.id)).state is JobState.CANCELLED


async def test_an_attempt_over_its_time_is_ended_though_its_worker_lives(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.admin.execute("UPDATE broker.job SET attempt_deadline = now() - interval '1 hour'")
    assert await jobs.ports.keeper.reap(lambda: 0.0) == 1
    waiting = await jobs.get(job.id)
    assert (waiting.state, waiting.crash_count) == (JobState.QUEUED, 0)
    assert waiting.failure is not None
    assert waiting.failure.reason == "ATTEMPT_TIMEOUT"


async def test_an_operator_requeues_a_dead_letter_and_the_fence_goes_on(jobs: Jobs) -> None:
    job = await jobs.running(max_attempts=1)
    await crash(jobs, job)
    queued = await jobs.ports.store.requeue("acme", job.id, 2)
    assert queued is not None
    assert (queued.state, queued.max_attempts, queued.dead_lettered) == (JobState.QUEUED, 3, False)
    (again,) = await jobs.claim(await jobs.worker())
    assert (again.fence, again.attempt, again.crash_count) == (2, 2, 0)
    assert await jobs.ports.store.requeue("acme", job.id, 2) == again, "only dead letters are requeued"


async def test_a_job_that_nobody_began_in_time_fails(jobs: Jobs) -> None:
    late = await jobs.ports.store.submit(submission())
    begun = await jobs.running(priority=0)
    await jobs.ports.queue.release(begun)
    await jobs.admin.execute("UPDATE broker.job SET start_by_time = now() - interval '1 second'")
    assert await jobs.ports.keeper.fail_unstarted() == 1
    assert await jobs.ports.keeper.fail_unstarted() == 0
    assert [j.id for j in await jobs.claim(await jobs.worker(), 5)] == [begun.id]
    failed = await jobs.get(late.id)
    assert failed.state is JobState.FAILED
    assert failed.failure is not None
    assert failed.failure.reason == "START_BY_PASSED"


async def test_a_result_expires_and_its_tombstone_is_purged_later(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.queue.succeed(job, RESULT, JobProgress(), 3600.0)
    assert await jobs.ports.keeper.expire() == []
    await jobs.admin.execute("UPDATE broker.job SET result_expire_time = now() - interval '1 hour'")
    assert [expired.id for expired in await jobs.ports.keeper.expire()] == [job.id]
    gone = await jobs.get(job.id)
    assert gone.state is JobState.EXPIRED
    assert gone.result is not None
    assert (gone.result.expired, gone.result.parts) == (True, ())
    assert await jobs.ports.keeper.purge(7200.0) == 0
    assert await jobs.ports.keeper.purge(1800.0) == 1
    for table in ("job", "job_attempt", "job_part"):
        assert await jobs.admin.fetchval(f"SELECT count(*) FROM broker.{table}") == 0


async def test_deleting_is_for_final_jobs(jobs: Jobs) -> None:
    job = await jobs.running()
    kept = await jobs.ports.store.delete("acme", job.id)
    assert kept == await jobs.get(job.id)
    await jobs.ports.queue.succeed(job, RESULT, JobProgress(), 3600.0)
    await jobs.ports.store.delete("acme", job.id)
    assert await jobs.ports.store.get("acme", job.id) is None
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job_part") == 0


@pytest.mark.parametrize("state", ["running", "succeeded", "queued again", "deleted"])
async def test_files_belong_to_the_running_and_to_the_published_attempt(jobs: Jobs, state: str) -> None:
    job = await jobs.running()
    if state == "succeeded":
        await jobs.ports.queue.succeed(job, RESULT, JobProgress(), 3600.0)
    elif state == "queued again":
        await jobs.ports.queue.release(job)
    elif state == "deleted":
        await jobs.ports.queue.succeed(job, RESULT, JobProgress(), 3600.0)
        await jobs.ports.store.delete("acme", job.id)
    mine, older = part_prefix("acme", job.id, 1), part_prefix("acme", job.id, 0)
    unwanted = await jobs.ports.keeper.unwanted([mine, older, "not/ours", "a/b/c"])
    assert set(unwanted) == ({older} if state in ("running", "succeeded") else {older, mine})


async def test_the_state_of_the_queue_is_counted(jobs: Jobs) -> None:
    running = await jobs.running()
    dead = await jobs.running(max_attempts=1)
    await crash(jobs, dead)
    await jobs.ports.store.submit(submission())
    await jobs.admin.execute(
        "UPDATE broker.job SET run_at = now() - interval '5 minutes' WHERE state = 'queued'"
    )
    state = await jobs.ports.store.queue_state()
    assert (state.queued_count, state.running_count, state.dead_lettered_count) == (1, 1, 1)
    assert 300 <= state.oldest_queued_age < 400
    (worker,) = state.workers
    assert (worker.worker_id, worker.slot_count, worker.running_count) == (running.worker_id, 4, 1)
