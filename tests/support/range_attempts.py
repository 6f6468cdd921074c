"""Steps of ranges that leave an export as it should be, whatever stale claims and attempts try."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from broker.domain.job import Job, JobProgress, JobResult, JobState
from broker.domain.ranges import KeyRange, RangeClaim, RangeOffer
from tests.support.jobs import Jobs

NOW = datetime(2024, 1, 1, tzinfo=UTC)
CUT = (RangeOffer(KeyRange(None, 5)), RangeOffer(KeyRange(5, None, nulls=True)))
DONE = JobResult(row_count=7, byte_count=70)
Write = Callable[[Jobs, Job], Awaitable[bool]]


async def begin(jobs: Jobs, part: Job) -> bool:
    return await jobs.ports.ranges.begin(part)


async def finish(jobs: Jobs, part: Job) -> bool:
    return await jobs.ports.ranges.finish(part, DONE)


async def release(jobs: Jobs, part: Job) -> bool:
    return await jobs.ports.ranges.release(part)


async def report(jobs: Jobs, part: Job) -> bool:
    return not await jobs.ports.ranges.report([(part, JobProgress(row_count=3))])


async def opened(jobs: Jobs) -> Job:
    """A running job with two ranges."""
    job = await jobs.running()
    assert await jobs.ports.ranges.open(job, "0-1", "plan", CUT, read_time=NOW)
    return job


async def claimed(jobs: Jobs) -> tuple[Job, Job]:
    """A running job, and a range of it that another worker has."""
    job = await opened(jobs)
    (part,) = await jobs.ports.ranges.claim(await jobs.worker(), ["test"], 1)
    return job, part


async def lost(jobs: Jobs, worker_id: str) -> None:
    """Only declares it; nothing is reaped."""
    await jobs.admin.execute("UPDATE broker.worker SET lost = true WHERE id = $1", worker_id)


async def nothing_claimed(jobs: Jobs, worker_id: str = "", kinds: tuple[str, ...] = ("test",)) -> None:
    assert await jobs.ports.ranges.claim(worker_id or await jobs.worker(), kinds, 9) == []


async def stale_range(write: Write, jobs: Jobs) -> None:
    _, part = await claimed(jobs)
    assert not await write(jobs, replace(part, fence=part.fence - 1))
    assert await write(jobs, part)


async def other_worker(write: Write, jobs: Jobs) -> None:
    _, part = await claimed(jobs)
    assert not await write(jobs, replace(part, worker_id=await jobs.worker()))
    assert await write(jobs, part)


async def written_already(write: Write, jobs: Jobs) -> None:
    _, part = await claimed(jobs)
    assert await finish(jobs, part)
    assert not await write(jobs, part)


async def withdrawn(write: Write, jobs: Jobs) -> None:
    job, part = await claimed(jobs)
    assert await jobs.ports.ranges.withdraw(job) == 1
    assert not await write(jobs, part)


async def finished_for_an_attempt_that_is_over(jobs: Jobs, *, requeued: bool) -> None:
    job, part = await claimed(jobs)
    assert await jobs.ports.queue.release(job)
    if requeued:  # to another worker: what has the same job and runs is not the same attempt
        assert await jobs.claim(await jobs.worker())
    assert not await finish(jobs, part)


async def opened_by_a_stale_attempt(jobs: Jobs, **changes: object) -> None:
    job = await jobs.running()
    stale = replace(job, **changes)  # type: ignore[arg-type]  # the caller names fields
    assert not await jobs.ports.ranges.open(stale, "0-1", "plan", CUT, read_time=NOW)


async def opened_after_the_end(jobs: Jobs) -> None:
    job = await jobs.running()
    assert await jobs.ports.queue.release(job)
    assert not await jobs.ports.ranges.open(job, "0-1", "plan", CUT, read_time=NOW)


async def old_ranges_forgotten(jobs: Jobs) -> None:
    job = await opened(jobs)
    assert await jobs.ports.queue.release(job)
    (again,) = await jobs.claim(await jobs.worker())
    assert await jobs.ports.ranges.open(again, "0-2", "plan", CUT, read_time=NOW)
    assert await jobs.ports.ranges.state(job) == []
    assert len(await jobs.ports.ranges.state(again)) == len(CUT)


async def claimed_own(jobs: Jobs, job: Job) -> RangeClaim | None:
    return await jobs.ports.ranges.claim_own(job)


async def own_of_a_stale_attempt(jobs: Jobs) -> None:
    job = await opened(jobs)
    assert await claimed_own(jobs, replace(job, worker_id=await jobs.worker())) is None
    assert await jobs.ports.queue.release(job)
    assert await claimed_own(jobs, job) is None


async def own_spares_those_who_read(jobs: Jobs) -> None:
    job = await opened(jobs)
    parts = await jobs.ports.ranges.claim(await jobs.worker(), ["test"], 2)
    for part in parts:
        assert await begin(jobs, part)
    assert await claimed_own(jobs, job) is None
    await lost(jobs, parts[0].worker_id)
    assert await claimed_own(jobs, job) is not None


async def own_spares_what_is_written(jobs: Jobs) -> None:
    job, part = await claimed(jobs)
    assert await finish(jobs, part)
    own = await claimed_own(jobs, job)
    assert own is not None
    assert await jobs.ports.ranges.finish_own(job, own, DONE)
    assert await claimed_own(jobs, job) is None


async def own_after_the_withdrawal(jobs: Jobs) -> None:
    job, _ = await claimed(jobs)
    assert await jobs.ports.ranges.withdraw(job) == 1
    assert await claimed_own(jobs, job) is None


async def claims_of_nothing_that_is_taken(jobs: Jobs) -> None:
    _, part = await claimed(jobs)
    assert len(await jobs.ports.ranges.claim(await jobs.worker(), ["test"], 9)) == 1
    await nothing_claimed(jobs)
    await lost(jobs, part.worker_id)
    assert len(await jobs.ports.ranges.claim(await jobs.worker(), ["test"], 9)) == 1


async def claims_of_nothing_written(jobs: Jobs) -> None:
    _, part = await claimed(jobs)
    assert await finish(jobs, part)
    await lost(jobs, part.worker_id)
    assert len(await jobs.ports.ranges.claim(await jobs.worker(), ["test"], 9)) == 1


async def claims_of_nothing_withdrawn(jobs: Jobs) -> None:
    job, _ = await claimed(jobs)
    await jobs.ports.ranges.withdraw(job)
    await nothing_claimed(jobs)


async def claims_of_nothing_that_failed(jobs: Jobs) -> None:
    _, part = await claimed(jobs)
    assert await jobs.ports.ranges.release(part, failed=True)
    assert len(await jobs.ports.ranges.claim(await jobs.worker(), ["test"], 9)) == 1


async def claims_of_an_attempt(jobs: Jobs, ended: str) -> None:
    """None of an attempt that is over, that is to stop, or whose worker is lost."""
    job = await opened(jobs)
    match ended:
        case "released":
            assert await jobs.ports.queue.release(job)
        case "again":
            assert await jobs.ports.queue.release(job)
            assert await jobs.claim(await jobs.worker())
        case "cancelled":
            await jobs.ports.store.cancel("acme", job.id, "ada")
        case "lost":
            await lost(jobs, job.worker_id)
        case "late":
            await jobs.admin.execute("UPDATE broker.job SET attempt_deadline = now() - interval '1 s'")
        case _:
            raise ValueError(ended)
    await nothing_claimed(jobs)


async def claims_of_kinds_that_are_known(jobs: Jobs) -> None:
    await opened(jobs)
    await nothing_claimed(jobs, kinds=("other",))


async def claims_without_a_lease(jobs: Jobs) -> None:
    await opened(jobs)
    worker_id = await jobs.worker()
    await jobs.lose(worker_id)
    await nothing_claimed(jobs, worker_id)
    other = await jobs.worker()
    await lost(jobs, other)
    await nothing_claimed(jobs, other)


async def told_to_stop(jobs: Jobs, why: str) -> None:
    job, part = await claimed(jobs)
    (seen,) = await jobs.ports.ranges.held(part.worker_id)
    assert not seen.cancel_requested
    match why:
        case "withdrawn":
            await jobs.ports.ranges.withdraw(job)
        case "released":
            await jobs.ports.queue.release(job)
        case "again":
            await jobs.ports.queue.release(job)
            await jobs.claim(await jobs.worker())
        case "cancelled":
            await jobs.ports.store.cancel("acme", job.id, "ada")
        case "lost":
            await lost(jobs, job.worker_id)
        case _:
            raise ValueError(why)
    (seen,) = await jobs.ports.ranges.held(part.worker_id)
    assert seen.cancel_requested


async def holds_its_own(jobs: Jobs) -> None:
    """A worker is told of what it does for others, not of what the attempt that it runs does itself."""
    job, part = await claimed(jobs)
    assert await claimed_own(jobs, job) is not None
    assert await jobs.ports.ranges.held(job.worker_id) == []
    assert len(await jobs.ports.ranges.held(part.worker_id)) == 1 - (part.worker_id == job.worker_id)


async def waited_for(jobs: Jobs) -> None:
    """A withdrawal counts the living who have a range that is not written."""
    job = await opened(jobs)
    first, second = await jobs.ports.ranges.claim(await jobs.worker(), ["test"], 2)
    assert await finish(jobs, first)
    assert await jobs.ports.ranges.withdraw(job) == 1
    await lost(jobs, second.worker_id)
    assert await jobs.ports.ranges.withdraw(job) == 0


async def own_is_not_waited_for(jobs: Jobs) -> None:
    job = await opened(jobs)
    assert await claimed_own(jobs, job) is not None
    assert await jobs.ports.ranges.withdraw(job) == 0


async def cancelled_when_all_have_stopped(jobs: Jobs) -> None:
    """The worker of a cancelled export is lost: it is over when those who helped have let go."""
    job, part = await claimed(jobs)
    await jobs.ports.store.cancel("acme", job.id, "ada")
    await jobs.lose(job.worker_id)
    assert await jobs.ports.keeper.reap(lambda: 0.0) == 0
    assert await release(jobs, part)
    assert await jobs.ports.keeper.reap(lambda: 0.0) == 1
    assert (await jobs.get(job.id)).state is JobState.CANCELLED
