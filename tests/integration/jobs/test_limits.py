"""Limits of what runs at once, by tenant and by kind, with claims at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from time import monotonic

from broker.adapters.pg_jobs_open import open_jobs
from broker.domain.attempts import Ending
from broker.domain.job import Job, JobFailure, JobProgress, JobResult, JobState
from broker.domain.principal import Principal
from broker.ports.jobs import RunningLimits
from tests.support.jobs import Jobs, submission

KINDS = ["test", "heavy"]
LIMITS = RunningLimits(tenant=3, kinds={"heavy": 2})


async def test_claims_at_the_same_time_keep_to_the_limits_and_leave_nothing_undone(jobs: Jobs) -> None:
    for i in range(36):
        owner = Principal("ada", f"tenant{i % 4}")
        await jobs.ports.store.submit(
            submission(principal=owner, kind="heavy" if i % 3 == 0 else "test", priority=0)
        )
    rounds, most = 0, Counter[str]()
    async with open_jobs(jobs.dsn, connections=8, clock=monotonic, rng=Random(3), limits=LIMITS) as ports:
        workers = [await jobs.worker() for _ in range(6)]
        held: list[Job] = []
        while True:
            batches = await asyncio.gather(*(ports.queue.claim(worker, KINDS, 5) for worker in workers))
            held += [job for batch in batches for job in batch]
            running = Counter([job.tenant for job in held] + [job.kind for job in held])
            most |= running
            if not held:
                break
            rounds += 1
            for job in held[::2]:
                assert await ports.queue.succeed(job, JobResult(), JobProgress(), 60.0)
            held = held[1::2]
    assert {name: most[name] for name in ("heavy", *(f"tenant{i}" for i in range(4)))} == {
        "heavy": 2, "tenant0": 3, "tenant1": 3, "tenant2": 3, "tenant3": 3,
    }  # fmt: skip
    assert rounds >= 36 / 12
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job WHERE state <> 'succeeded'") == 0


async def test_one_tenants_queue_does_not_hide_the_jobs_of_others(jobs: Jobs) -> None:
    for _ in range(20):
        await jobs.ports.store.submit(submission(priority=0))
    other = await jobs.ports.store.submit(submission(principal=Principal("eve", "globex"), priority=9))
    async with open_jobs(jobs.dsn, connections=2, clock=monotonic, rng=Random(3), limits=LIMITS) as ports:
        claimed = await ports.queue.claim(await jobs.worker(), KINDS, 10)
        assert Counter(job.tenant for job in claimed) == {"acme": 3, "globex": 1}
        assert other.id in {job.id for job in claimed}
        failed = Ending(JobState.FAILED, JobFailure("INVALID_REQUEST", "no"))
        assert await ports.queue.fail(claimed[0], failed)
        assert len(await ports.queue.claim(await jobs.worker(), KINDS, 10)) == 1, "an end makes room"
