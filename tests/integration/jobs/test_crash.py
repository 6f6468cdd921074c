"""Faults of whole processes: workers killed, paused and busy, PostgreSQL killed and away."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from broker.adapters.result_dir import DirectoryResults
from broker.demo.embedded import EmbeddedPostgres
from broker.domain.job import ExportFormat, JobState
from broker.jobs.lease import EXIT_CODE
from broker.jobs.upkeep import Upkeep
from tests.conftest import FreshDatabase
from tests.support.exports import GATE, ROWS, ROWS_SQL, closed_gate, contents, export, someone_waits
from tests.support.job_process import worker_process
from tests.support.job_worker_main import LEDGER
from tests.support.jobs import Jobs, job_database, submission
from tests.support.processes import ended
from tests.support.workers import Waiting, worker


@pytest.fixture
async def jobs(fresh_database: FreshDatabase) -> AsyncIterator[Jobs]:
    """Jobs beside the flights, in one database."""
    async with job_database(await fresh_database(flights=True)) as opened:
        await opened.admin.execute(GATE)
        await opened.admin.execute(LEDGER)
        yield opened


async def ledger(jobs: Jobs) -> list[int]:
    """Fences of the attempts that did something, in order."""
    return [row["fence"] for row in await jobs.admin.fetch("SELECT fence FROM ledger ORDER BY fence")]


async def test_an_export_whose_worker_is_killed_is_done_by_another_one(jobs: Jobs, tmp_path: Path) -> None:
    results = DirectoryResults(tmp_path)
    async with worker_process(jobs, tmp_path) as first:
        async with closed_gate(jobs):
            submitted = await jobs.ports.store.submit(export(ROWS, ExportFormat.CSV))
            await someone_waits(jobs)
            first.handle.kill()
            await ended(first.handle.pid)
        assert await results.prefixes() == [f"acme/{submitted.id}/1"]
        await jobs.lose(first.worker_id)
        async with worker_process(jobs, tmp_path) as second:
            await jobs.until(submitted.id, lambda job: job.crash_count == 1)
            await jobs.make_due(submitted.id)
            job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
    assert (job.fence, job.attempt, job.worker_id) == (2, 2, second.worker_id)
    assert await jobs.history(job.id) == [(1, 1, "lost"), (2, 2, "succeeded")]
    (data,) = await contents(job, tmp_path)
    assert data.count(b"\r\n") - 1 == len(await jobs.admin.fetch(ROWS_SQL))
    await Upkeep(jobs.ports.keeper, results, Random(1), 3600.0).sweep()
    assert await results.prefixes() == [f"acme/{job.id}/2"]
    await contents(job, tmp_path)


async def test_a_paused_worker_that_lost_its_job_ends_and_changes_nothing(
    jobs: Jobs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await jobs.admin.execute("SELECT pg_advisory_lock(7)")
    async with worker_process(jobs, tmp_path, seconds=2.0) as paused:
        submitted = await jobs.ports.store.submit(submission(kind="hold"))
        await jobs.reaches(submitted.id, JobState.RUNNING)
        await someone_waits(jobs)
        paused.handle.send_signal(signal.SIGSTOP)
        await jobs.lose(paused.worker_id)
        async with worker_process(jobs, tmp_path) as other:
            await jobs.until(submitted.id, lambda job: job.crash_count == 1)
            await jobs.make_due(submitted.id)
            second = await jobs.until(submitted.id, lambda job: job.fence == 2)
            # Both attempts' statements are let go, but the first process stands still: it wakes up late.
            await jobs.admin.execute("SELECT pg_advisory_unlock(7)")
            done = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
            resumed = time.perf_counter()
            paused.handle.send_signal(signal.SIGCONT)
            async with asyncio.timeout(60):
                assert await paused.handle.wait() == EXIT_CODE
            seconds = time.perf_counter() - resumed
    with capsys.disabled():
        print(f"\nended {1000 * seconds:.0f} ms after its pause")  # noqa: T201 - the figure
    assert second.worker_id == done.worker_id == other.worker_id
    assert await jobs.get(submitted.id) == done
    assert done.result is not None
    assert done.result.row_count == 2
    assert await jobs.history(submitted.id) == [(1, 1, "lost"), (2, 2, "succeeded")]
    assert await ledger(jobs) == [1, 2]


async def test_a_handler_that_blocks_the_loop_longer_than_the_lease_runs_once(
    jobs: Jobs, tmp_path: Path
) -> None:
    async with worker_process(jobs, tmp_path, seconds=2.0):
        submitted = await jobs.ports.store.submit(submission(kind="burn"))
        reaped = 0

        async def reap() -> None:
            nonlocal reaped
            while True:
                reaped += await jobs.ports.keeper.reap(lambda: 0.0)

        reaping = asyncio.create_task(reap())
        await jobs.reaches(submitted.id, JobState.SUCCEEDED)
        reaping.cancel()
    assert reaped == 0
    assert await ledger(jobs) == [1]


async def test_when_every_worker_is_killed_a_new_one_goes_on(jobs: Jobs, tmp_path: Path) -> None:
    await jobs.admin.execute("SELECT pg_advisory_lock(7)")
    ids = [(await jobs.ports.store.submit(submission(kind="hold"))).id for _ in range(3)]
    async with worker_process(jobs, tmp_path) as one, worker_process(jobs, tmp_path) as two:
        for job_id in ids:
            await jobs.reaches(job_id, JobState.RUNNING)
        for process in (one, two):
            process.handle.kill()
            await ended(process.handle.pid)
            await jobs.lose(process.worker_id)
    await jobs.admin.execute("SELECT pg_advisory_unlock(7)")
    async with worker_process(jobs, tmp_path):
        for job_id in ids:
            await jobs.until(job_id, lambda job: job.crash_count == 1)
            await jobs.make_due(job_id)
            job = await jobs.reaches(job_id, JobState.SUCCEEDED)
            assert job.fence == 2


async def test_a_worker_outlives_a_crash_of_postgresql_and_keeps_its_attempt(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    waiting = Waiting()
    async with (
        job_database(own_postgres.dsn()) as jobs,
        worker(jobs.ports, waiting, tmp_path, seconds=600.0) as running,
    ):
        submitted = await jobs.ports.store.submit(submission())
        await waiting.begun.get()
        identity = running.worker_id
        await asyncio.to_thread(own_postgres.kill9)
        waiting.go.set()  # the attempt ends while nobody can be told
        await asyncio.to_thread(own_postgres.start)
        await jobs.reachable()
        job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
        assert running.worker_id == identity
        again = await jobs.ports.store.submit(submission())
        await jobs.reaches(again.id, JobState.SUCCEEDED)
    assert (job.attempt, job.fence) == (1, 1)


async def test_when_postgresql_is_away_for_longer_than_the_lease_attempts_stop_and_run_again(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    waiting = Waiting()
    async with (
        job_database(own_postgres.dsn()) as jobs,
        worker(jobs.ports, waiting, tmp_path, seconds=2.0) as running,
    ):
        submitted = await jobs.ports.store.submit(submission())
        await waiting.begun.get()
        identity = running.worker_id
        await asyncio.to_thread(own_postgres.stop)
        assert await waiting.stopped.get() == submitted.id
        await asyncio.to_thread(own_postgres.start)
        await jobs.reachable()
        await jobs.until(submitted.id, lambda job: job.crash_count == 1)
        await jobs.make_due(submitted.id)
        waiting.go.set()
        job = await jobs.reaches(submitted.id, JobState.SUCCEEDED)
        assert running.worker_id not in (None, identity)
    assert (job.attempt, job.fence) == (2, 2)
