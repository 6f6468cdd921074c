"""Work that becomes a job while the lease of its process ends: it is stopped, so that nothing of it is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.domain.job import Job
from tests.support.jobs import Jobs, submission
from tests.support.workers import TestKind, Waiting, worker


@pytest.mark.parametrize("known", [True, False], ids=["while it is stored", "before it begins"])
async def test_work_adopted_under_a_lease_that_ends_is_stopped(
    jobs: Jobs, tmp_path: Path, known: bool
) -> None:
    waiting, released = Waiting(), asyncio.Event()
    async with worker(jobs.ports, {}, tmp_path, slots=0) as running:
        await running.leased()

        async def store(worker_id: str) -> Job | None:
            job = await jobs.ports.adoption.adopt(worker_id, submission())
            running.lost(released.set)
            if known:
                await released.wait()
            return job

        job = await running.adopt(store, TestKind(waiting))
        assert job is not None, "its row is there, and workers will run it"
        async with asyncio.timeout(30):
            assert await waiting.stopped.get() == job.id
            await running.idle()
