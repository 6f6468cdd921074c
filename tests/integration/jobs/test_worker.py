"""A worker with a real queue: it runs, retries, stops, gives back, and survives the loss of the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobProgress, JobResult, JobState
from broker.jobs.kind import JobContext
from tests.support.jobs import Jobs, submission
from tests.support.workers import PATIENT, Waiting, worker


async def test_a_job_runs_to_its_result(jobs: Jobs, tmp_path: Path) -> None:
    async def work(context: JobContext) -> JobResult:
        context.report(JobProgress("half", 0.5, row_count=5))
        return JobResult(row_count=10)

    async with worker(jobs.ports, work, tmp_path):
        submitted = await jobs.ports.store.submit(submission())
        job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    assert job.result is not None
    assert job.result.row_count == 10
    assert job.progress == JobProgress("half", 0.5, row_count=5)
    assert await jobs.history(job.id) == [(1, 1, "succeeded")]


async def test_a_hint_starts_and_stops_a_job_without_any_poll(jobs: Jobs, tmp_path: Path) -> None:
    waiting = Waiting()
    async with worker(jobs.ports, waiting, tmp_path, pace=PATIENT) as running:
        await jobs.listening()
        await running.leased()
        submitted = await jobs.ports.store.submit(submission())
        await waiting.begun.get()
        await jobs.ports.store.cancel("acme", submitted.id, "ada")
        await jobs.reaches(submitted.id, JobState.CANCELLED)
    assert waiting.stopped.get_nowait() == submitted.id


async def test_progress_is_written_while_the_job_runs(jobs: Jobs, tmp_path: Path) -> None:
    waiting = Waiting()
    async with worker(jobs.ports, waiting, tmp_path):
        submitted = await jobs.ports.store.submit(submission())
        context = await waiting.begun.get()
        for rows in range(1, 200):
            context.report(JobProgress("reading", row_count=rows))
        job = await jobs.until(submitted.id, lambda job: job.progress.row_count == 199)
        assert job.revision < 20, "what comes faster than it is written is merged"
        waiting.go.set()
        done = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    assert done.progress.row_count == 199


async def test_no_more_jobs_run_than_there_are_slots(jobs: Jobs, tmp_path: Path) -> None:
    waiting = Waiting()
    async with worker(jobs.ports, waiting, tmp_path, slots=3) as running:
        ids = [(await jobs.ports.store.submit(submission())).id for _ in range(7)]
        for _ in range(3):
            await waiting.begun.get()
        assert len(running.running) == 3
        assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job WHERE state = 'running'") == 3
        waiting.go.set()
        for job_id in ids:
            await jobs.reaches(job_id, JobState.SUCCEEDED)
    assert waiting.begun.qsize() == 4


async def tried_to_the_end(jobs: Jobs, job_id: str) -> Job:
    """The job when it is final; it does not wait for its retries."""
    seen = 0

    def failed_again(job: Job) -> bool:
        return job.state.final or (job.attempt > seen and job.state is JobState.QUEUED)

    while not (job := await jobs.until(job_id, failed_again)).state.final:
        seen = job.attempt
        await jobs.make_due(job_id)
    return job


async def test_an_error_that_may_pass_is_tried_again_and_one_that_will_not_is_not(
    jobs: Jobs, tmp_path: Path
) -> None:
    tries: dict[str, int] = {}

    async def work(context: JobContext) -> JobResult:
        spec = context.job.spec.decode()
        tries[spec] = tries.get(spec, 0) + 1
        if spec == "bug":
            raise ZeroDivisionError("secret text")
        if spec == "away" and tries[spec] < 3:
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, "The store is away.", retry_after=0.0)
        if spec == "wrong":
            raise BrokerError(ErrorReason.INVALID_REQUEST, "It is wrong.", metadata={"a": "b"})
        return JobResult()

    async with worker(jobs.ports, work, tmp_path):
        submitted = {
            spec: await jobs.ports.store.submit(submission(spec=spec.encode()))
            for spec in ("away", "wrong", "bug")
        }
        wrong = await jobs.reaches(submitted["wrong"].id, JobState.FAILED)
        for spec in ("away", "bug"):
            submitted[spec] = await tried_to_the_end(jobs, submitted[spec].id)
    assert tries == {"away": 3, "wrong": 1, "bug": 3}
    assert submitted["away"].state is JobState.SUCCEEDED
    assert (wrong.attempt, wrong.dead_lettered) == (1, False)
    assert wrong.failure is not None
    assert (wrong.failure.reason, wrong.failure.metadata) == ("INVALID_REQUEST", {"a": "b"})
    bug = submitted["bug"]
    assert (bug.state, bug.dead_lettered) == (JobState.FAILED, True)
    assert bug.failure is not None
    assert (bug.failure.reason, bug.failure.metadata["cause"]) == ("ATTEMPTS_EXHAUSTED", "INTERNAL")
    assert "secret" not in bug.failure.message


async def test_an_attempt_is_stopped_at_its_time_limit(jobs: Jobs, tmp_path: Path) -> None:
    waiting = Waiting()
    async with worker(jobs.ports, waiting, tmp_path):
        submitted = await jobs.ports.store.submit(submission(attempt_timeout=0.05, max_attempts=1))
        job = await jobs.reaches(submitted.id, JobState.FAILED)
    assert job.failure is not None
    assert job.failure.reason == "ATTEMPT_TIMEOUT"
    assert waiting.stopped.get_nowait() == job.id


async def test_a_graceful_stop_gives_attempts_back(jobs: Jobs, tmp_path: Path) -> None:
    waiting = Waiting()
    async with worker(jobs.ports, waiting, tmp_path):
        submitted = await jobs.ports.store.submit(submission())
        await waiting.begun.get()
    job = await jobs.get(submitted.id)
    assert (job.state, job.attempt, job.fence) == (JobState.QUEUED, 0, 1)
    assert waiting.stopped.get_nowait() == job.id
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.worker") == 0


async def test_an_attempt_that_lost_its_job_stops_and_writes_nothing(jobs: Jobs, tmp_path: Path) -> None:
    waiting = Waiting()
    async with worker(jobs.ports, waiting, tmp_path):
        submitted = await jobs.ports.store.submit(submission())
        await waiting.begun.get()
        await jobs.admin.execute(
            "UPDATE broker.job SET worker_id = $2, fence = fence + 1 WHERE id = $1",
            submitted.id,
            await jobs.worker(),
        )
        assert await waiting.stopped.get() == submitted.id
        before = await jobs.get(submitted.id)
    assert await jobs.get(submitted.id) == before
    assert before.state is JobState.RUNNING


async def test_a_claim_whose_reply_was_lost_is_ended_by_its_worker(jobs: Jobs, tmp_path: Path) -> None:
    waiting = Waiting()
    async with worker(jobs.ports, waiting, tmp_path, slots=1) as running:
        first = await jobs.ports.store.submit(submission())
        await waiting.begun.get()
        unknown = await jobs.ports.store.submit(submission())
        assert running.worker_id is not None
        assert (
            len(await jobs.claim(running.worker_id)) == 1
        )  # as if the worker had claimed and not heard of it
        ended = await jobs.reaches(unknown.id, JobState.QUEUED)
        assert ended.failure is not None
        assert ended.failure.reason == "WORKER_LOST"
        assert (await jobs.get(first.id)).state is JobState.RUNNING


@pytest.mark.parametrize("kind", ["unknown"])
async def test_jobs_of_kinds_without_code_wait(jobs: Jobs, tmp_path: Path, kind: str) -> None:
    waiting = Waiting()
    async with worker(jobs.ports, waiting, tmp_path):
        other = await jobs.ports.store.submit(submission(kind=kind, priority=0))
        await jobs.ports.store.submit(submission())
        await waiting.begun.get()
        assert (await jobs.get(other.id)).state is JobState.QUEUED
