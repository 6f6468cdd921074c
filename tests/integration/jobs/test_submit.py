"""Submitting: once for each request id, whatever happens at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import JobStage, JobState
from broker.domain.principal import Criticality, Principal
from broker.ports.jobs import JobFilter
from tests.support.jobs import Jobs, submission


async def test_a_submitted_job_is_read_back_whole(jobs: Jobs) -> None:
    start_by = datetime(2999, 1, 1, tzinfo=UTC)
    principal = Principal(
        "ada", "acme", frozenset({"sql", "dataset:flights"}), Criticality.SHEDDABLE, {"region": "EU"}
    )
    given = submission(
        principal=principal,
        kind="export",
        spec=b"\x00\xff",
        priority=2,
        max_attempts=7,
        attempt_timeout=12.5,
        labels={"team": "ops"},
        start_by_time=start_by,
        trace={"traceparent": "00-1"},
    )
    job = await jobs.ports.store.submit(given)
    assert job == await jobs.ports.store.get("acme", given.id)
    assert (job.state, job.stage, job.revision, job.fence, job.attempt) == (
        JobState.QUEUED, JobStage.QUEUED, 1, 0, 0,
    )  # fmt: skip
    assert (job.tenant, job.owner, job.kind, job.spec) == ("acme", "ada", "export", b"\x00\xff")
    assert (job.principal, job.labels, job.trace) == (principal, {"team": "ops"}, {"traceparent": "00-1"})
    assert (job.priority, job.max_attempts, job.attempt_timeout) == (2, 7, 12.5)
    assert job.start_by_time == start_by
    assert abs(job.create_time - datetime.now(UTC)) < timedelta(minutes=5)


async def test_the_last_instant_of_all_is_an_instant(jobs: Jobs) -> None:
    given = submission(start_by_time=datetime.max.replace(tzinfo=UTC))
    job = await jobs.ports.store.submit(given)
    assert job.start_by_time == given.start_by_time
    (claimed,) = await jobs.claim(await jobs.worker())
    assert claimed.start_by_time == given.start_by_time


async def test_concurrent_submissions_with_one_request_id_make_one_job(jobs: Jobs) -> None:
    first = submission()
    tries = [replace(first, id=f"{first.id}-{i}") for i in range(24)]
    made = await asyncio.gather(*(jobs.ports.store.submit(s) for s in tries))
    assert len({job.id for job in made}) == 1
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job") == 1


async def test_the_id_finds_the_job_after_it_has_ended(jobs: Jobs) -> None:
    given = submission()
    await jobs.ports.store.submit(given)
    await jobs.ports.store.cancel("acme", given.id, "ada")
    again = await jobs.ports.store.submit(replace(given, id="other"))
    assert (again.id, again.state) == (given.id, JobState.CANCELLED)


@pytest.mark.parametrize(
    "change", [{"spec_hash": "other"}, {"principal": Principal("bob", "acme")}], ids=["request", "owner"]
)
async def test_a_request_id_is_not_for_another_request_or_owner(
    jobs: Jobs, change: dict[str, object]
) -> None:
    given = submission()
    await jobs.ports.store.submit(given)
    with pytest.raises(BrokerError) as caught:
        await jobs.ports.store.submit(submission(request_id=given.request_id, **change))
    assert caught.value.reason is ErrorReason.REQUEST_ID_REUSED
    assert caught.value.metadata == {"request_id": given.request_id}
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job") == 1


async def test_tenants_do_not_share_request_ids(jobs: Jobs) -> None:
    given = submission()
    await jobs.ports.store.submit(given)
    other = await jobs.ports.store.submit(
        submission(request_id=given.request_id, principal=Principal("eve", "globex"))
    )
    assert other.id != given.id


async def test_a_lookup_does_not_cross_tenants(jobs: Jobs) -> None:
    given = await jobs.ports.store.submit(submission())
    assert await jobs.ports.store.get("globex", given.id) is None
    assert await jobs.ports.store.cancel("globex", given.id, "eve") is None
    assert (await jobs.get(given.id)).state is JobState.QUEUED


async def test_lists_are_newest_first_and_filtered(jobs: Jobs) -> None:
    bob = Principal("bob", "acme")
    made = [
        await jobs.ports.store.submit(submission(principal=bob if i % 2 else submission().principal))
        for i in range(6)
    ]
    await jobs.ports.store.cancel("acme", made[0].id, "ada")
    listed = await jobs.ports.store.list_jobs(JobFilter("acme"), 10)
    assert [job.id for job in listed] == [job.id for job in reversed(made)]
    mine = await jobs.ports.store.list_jobs(JobFilter("acme", owner="bob"), 10)
    assert [job.id for job in mine] == [made[5].id, made[3].id, made[1].id]
    ended = await jobs.ports.store.list_jobs(JobFilter("acme", states=(JobState.CANCELLED,)), 10)
    assert [job.id for job in ended] == [made[0].id]
    assert not await jobs.ports.store.list_jobs(JobFilter("acme", kind="export"), 10)
    assert not await jobs.ports.store.list_jobs(JobFilter("acme", dead_lettered=True), 10)
    rest = await jobs.ports.store.list_jobs(
        JobFilter("acme", before=(listed[2].create_time, listed[2].id)), 2
    )
    assert [job.id for job in rest] == [listed[3].id, listed[4].id]
