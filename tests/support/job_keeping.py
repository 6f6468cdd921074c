"""Steps of submitters, operators and reapers that leave a job as it should be."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace

from broker.adapters.pg_adoption import PgAdoption
from broker.domain.job import part_prefix
from tests.support.job_attempts import Write, fail, succeed
from tests.support.jobs import Jobs, submission


async def repeated_submission(jobs: Jobs) -> None:
    first = submission()
    await jobs.ports.store.submit(first)
    assert (await jobs.ports.store.submit(replace(first, id="other"))).id == first.id


async def stranger(change: str, jobs: Jobs) -> None:
    """Somebody of another tenant."""
    job = await jobs.running(max_attempts=1)
    if change != "cancel":
        await jobs.lose(job.worker_id)
        await jobs.ports.keeper.reap(lambda: 0.5)
    ports = jobs.ports.store
    before = await ports.get("acme", job.id)
    match change:
        case "cancel":
            assert await ports.cancel("globex", job.id, "eve") is None
        case "requeue":
            assert await ports.requeue("globex", job.id, 1) is None
        case _:
            assert await ports.delete("globex", job.id) is None
    assert await ports.get("acme", job.id) == before


async def cancel_after_the_end(jobs: Jobs) -> None:
    job = await jobs.running()
    await succeed(jobs.ports.queue, job)
    before = await jobs.get(job.id)
    await jobs.ports.store.cancel("acme", job.id, "ada")
    assert await jobs.get(job.id) == before


async def cancel_again(jobs: Jobs) -> None:
    job = await jobs.running()
    first = await jobs.ports.store.cancel("acme", job.id, "ada")
    assert await jobs.ports.store.cancel("acme", job.id, "bob") == first


async def requeue_of_the_living(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.store.requeue("acme", job.id, 1)
    assert await jobs.get(job.id) == job


async def delete_of_the_living(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.ports.store.delete("acme", job.id)
    assert await jobs.ports.store.get("acme", job.id) == job


async def renewal_of_the_lost(jobs: Jobs) -> None:
    worker = await jobs.worker()
    await jobs.admin.execute("UPDATE broker.worker SET lost = true")
    lease = jobs.ports.lease()
    renewed = await lease.renew(worker, 60.0)
    await lease.close()
    assert not renewed


async def living_worker(jobs: Jobs) -> None:
    """Nothing is reaped of a worker that is alive and in time."""
    job = await jobs.running()
    assert await jobs.ports.keeper.reap(lambda: 0.5) == 0
    assert await jobs.get(job.id) == job


async def in_time_to_begin(jobs: Jobs) -> None:
    await jobs.ports.store.submit(submission())
    await jobs.admin.execute("UPDATE broker.job SET start_by_time = now() + interval '1 hour'")
    assert await jobs.ports.keeper.fail_unstarted() == 0


async def begun_in_time(jobs: Jobs) -> None:
    job = await jobs.running()
    await jobs.admin.execute("UPDATE broker.job SET start_by_time = now() - interval '1 second'")
    assert await jobs.ports.keeper.fail_unstarted() == 0
    await jobs.ports.queue.release(job)
    assert await jobs.ports.keeper.fail_unstarted() == 0


async def cancelled_before_it_began(jobs: Jobs) -> None:
    job = await jobs.ports.store.submit(submission())
    await jobs.ports.store.cancel("acme", job.id, "ada")
    await jobs.admin.execute("UPDATE broker.job SET start_by_time = now() - interval '1 second'")
    assert await jobs.ports.keeper.fail_unstarted() == 0


async def results_kept(jobs: Jobs) -> None:
    await succeed(jobs.ports.queue, await jobs.running())
    assert await jobs.ports.keeper.expire() == []


async def expired_once(jobs: Jobs) -> None:
    await succeed(jobs.ports.queue, await jobs.running())
    await jobs.admin.execute("UPDATE broker.job SET result_expire_time = now() - interval '1 second'")
    assert len(await jobs.ports.keeper.expire()) == 1
    assert await jobs.ports.keeper.expire() == []


async def records_kept(jobs: Jobs) -> None:
    await fail(jobs.ports.queue, await jobs.running())
    assert await jobs.ports.keeper.purge(3600.0) == 0


async def only_the_ended_purged(jobs: Jobs) -> None:
    await succeed(jobs.ports.queue, await jobs.running())
    await jobs.admin.execute("UPDATE broker.job SET result_expire_time = now() - interval '1 day'")
    assert await jobs.ports.keeper.purge(3600.0) == 0


async def files_of(state: str, jobs: Jobs) -> None:
    job = await jobs.running()
    mine, older = part_prefix("acme", job.id, 1), part_prefix("acme", job.id, 0)
    if state == "failed":
        await fail(jobs.ports.queue, job)
    unwanted = await jobs.ports.keeper.unwanted([mine, older])
    assert set(unwanted) == ({mine, older} if state == "failed" else {older})


async def adopted_without_a_lease(change: str, jobs: Jobs) -> None:
    worker = await jobs.worker()
    await jobs.admin.execute(f"UPDATE broker.worker SET {change}")
    queue = jobs.ports.queue
    assert await PgAdoption(queue._database, queue._hints).adopt(worker, submission()) is None


async def checkpoint(scenario: Callable[[Write, Jobs], Coroutine[None, None, None]], jobs: Jobs) -> None:
    """A checkpoint as the write that is refused."""
    await scenario(lambda _, job: jobs.ports.checkpoints.save(job, b"late"), jobs)


async def checkpoint_of_a_later_attempt(jobs: Jobs) -> None:
    """As after a restore that has brought back the row of the job, but not that of its checkpoint."""
    job = await jobs.running()
    assert await jobs.ports.checkpoints.save(job, b"early")
    await jobs.admin.execute("UPDATE broker.job_checkpoint SET fence = fence + 1, data = 'later'")
    assert not await jobs.ports.checkpoints.save(job, b"late")
    assert await jobs.ports.checkpoints.load(job) == b"later"
