"""What JobService does: checks before it stores, and shows nobody what is not theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from broker.adapters.result_dir import DirectoryResults
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid
from broker.domain.job import Job, JobProgress, JobResult, JobState, ResultPart, part_prefix
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy
from broker.domain.work import CustomWork, ExportWork, JobAsk, JobListing, ResultPiece
from broker.jobs.service import Check, JobService, JobTerms
from broker.jobs.upkeep import Upkeep
from broker.policy.backlog import BacklogLimits
from broker.runtime.clock import SystemClock
from tests.support.jobs import Jobs

ADA = Principal("ada", "acme")
BOB = Principal("bob", "acme")
AUDITOR = Principal("ann", "acme", frozenset({"jobs.read_all"}))
EVE = Principal("eve", "globex", frozenset({"jobs.read_all"}))
ROOT = Principal("root", "ops", frozenset({"admin"}))


def call(principal: Principal, **changes: object) -> CallContext:
    base = CallContext("call-1", principal, Deadline(1e12), datetime.now(UTC), trace={"traceparent": "00-aa"})
    return replace(base, **changes)  # type: ignore[arg-type]  # the caller names fields


def ask(request_id: str = "r-1", **changes: object) -> JobAsk:
    spec = str(changes.get("spec_hash", "h")).encode()
    base = JobAsk(
        ExportWork(Query("flights")), AnswerPolicy(), request_id, spec, hashlib.sha256(spec).hexdigest()
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # the caller names fields


async def accept(context: CallContext, asked: JobAsk) -> None:
    """Finds nothing wrong."""


async def reject(context: CallContext, asked: JobAsk) -> None:
    raise invalid([Violation("spec.export.query.measures[0]", "unknown", "UNKNOWN_MEMBER")])


def service(
    jobs: Jobs,
    tmp_path: Path,
    checks: Mapping[str, Check] | None = None,
    backlog: BacklogLimits | None = None,
) -> JobService:
    ids = iter(f"job-{i}" for i in range(1000))
    return JobService(
        jobs.ports.store,
        jobs.hub,
        DirectoryResults(tmp_path),
        checks or {"export": accept},
        SystemClock(),
        lambda: next(ids),
        JobTerms(4, 10.0, {"export": 77.0}, backlog=backlog or BacklogLimits()),
    )


async def published(jobs: Jobs, tmp_path: Path, job_id: str, data: bytes) -> Job:
    """Runs the job as a worker would, and leaves a file of the data."""
    await jobs.admin.execute("UPDATE broker.job SET kind = 'test' WHERE id = $1", job_id)
    (job,) = await jobs.claim(await jobs.worker())
    assert job.id == job_id
    prefix = part_prefix(job.tenant, job.id, job.fence)
    async with DirectoryResults(tmp_path).stage(prefix) as staging:
        (Path(staging.directory) / "part").write_bytes(data)
        key = await staging.publish("part")
    part = ResultPart(0, key, "f.csv", "text/csv", 1, len(data), hashlib.sha256(data).digest())
    assert await jobs.ports.queue.succeed(job, JobResult((part,), byte_count=len(data)), JobProgress(), 60.0)
    return await jobs.get(job_id)


async def read(pieces: object) -> list[ResultPiece]:
    return [piece async for piece in pieces]  # type: ignore[attr-defined]  # an async generator


async def reason(call_: object) -> ErrorReason:
    with pytest.raises(BrokerError) as caught:
        await call_  # type: ignore[misc]  # a coroutine
    return caught.value.reason


async def test_a_submission_is_stored_with_who_asked_and_the_terms_of_its_kind(
    jobs: Jobs, tmp_path: Path
) -> None:
    job = await service(jobs, tmp_path).submit(call(ADA), ask(labels={"a": "b"}, priority=2))
    assert job == await jobs.get("job-0")
    assert (job.principal, job.trace, job.labels) == (ADA, {"traceparent": "00-aa"}, {"a": "b"})
    assert (job.kind, job.priority, job.max_attempts, job.attempt_timeout) == ("export", 2, 4, 77.0)


async def test_a_dry_run_checks_and_stores_nothing(jobs: Jobs, tmp_path: Path) -> None:
    job = await service(jobs, tmp_path).submit(call(ADA), ask(validate_only=True))
    assert (job.name, job.state, job.owner) == ("", JobState.QUEUED, "ada")
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job") == 0


async def test_everything_wrong_is_named_at_once(jobs: Jobs, tmp_path: Path) -> None:
    late = ask(start_by_time=datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(BrokerError) as caught:
        await service(jobs, tmp_path, {"export": reject}).submit(call(ADA), late)
    assert [v.field for v in caught.value.violations] == ["spec.export.query.measures[0]", "start_by_time"]
    with pytest.raises(BrokerError) as caught:
        await service(jobs, tmp_path).submit(call(ADA), late)
    assert [v.field for v in caught.value.violations] == ["start_by_time"]
    assert await jobs.admin.fetchval("SELECT count(*) FROM broker.job") == 0


async def test_a_kind_that_is_not_offered_is_refused_with_those_that_are(jobs: Jobs, tmp_path: Path) -> None:
    with pytest.raises(BrokerError) as caught:
        await service(jobs, tmp_path).submit(call(ADA), ask(work=CustomWork("mine")))
    assert caught.value.reason is ErrorReason.NOT_OFFERED
    assert caught.value.metadata == {"kind": "custom:mine", "offered": "export"}


async def test_a_repeated_submission_gets_its_job_though_the_request_has_become_wrong(
    jobs: Jobs, tmp_path: Path
) -> None:
    first = await service(jobs, tmp_path).submit(call(ADA), ask())
    strict = service(jobs, tmp_path, {"export": reject})
    assert await strict.submit(call(ADA), ask()) == first
    assert await reason(strict.submit(call(BOB), ask())) is ErrorReason.INVALID_REQUEST
    assert await reason(strict.submit(call(ADA), ask(spec_hash="x"))) is ErrorReason.INVALID_REQUEST
    assert await reason(strict.submit(call(ADA), ask("r-2"))) is ErrorReason.INVALID_REQUEST


async def test_only_the_owner_an_auditor_and_an_operator_see_a_job(jobs: Jobs, tmp_path: Path) -> None:
    app = service(jobs, tmp_path)
    job = await app.submit(call(ADA), ask())
    for principal in (ADA, AUDITOR, ROOT):
        assert await app.get(call(principal), "acme", job.id) == job
    for principal in (BOB, EVE):
        assert await reason(app.get(call(principal), "acme", job.id)) is ErrorReason.JOB_NOT_FOUND
        assert await reason(app.cancel(call(principal), "acme", job.id)) is ErrorReason.JOB_NOT_FOUND
        assert await reason(app.delete(call(principal), "acme", job.id)) is ErrorReason.JOB_NOT_FOUND
        watching = app.watch(call(principal), "acme", job.id, 0)
        assert await reason(anext(watching)) is ErrorReason.JOB_NOT_FOUND
        reading = app.read_result(call(principal), "acme", job.id, 0, 0)
        assert await reason(anext(reading)) is ErrorReason.JOB_NOT_FOUND
    assert await reason(app.get(call(ADA), "globex", job.id)) is ErrorReason.JOB_NOT_FOUND


async def test_seeing_is_not_changing(jobs: Jobs, tmp_path: Path) -> None:
    app = service(jobs, tmp_path)
    job = await app.submit(call(ADA), ask())
    for change in (app.cancel, app.delete):
        assert await reason(change(call(AUDITOR), "acme", job.id)) is ErrorReason.PERMISSION_DENIED
    assert await reason(app.requeue(call(AUDITOR), "acme", job.id, 1)) is ErrorReason.PERMISSION_DENIED
    assert (await app.cancel(call(ROOT), "acme", job.id)).state is JobState.CANCELLED


async def test_lists_are_ones_own_unless_the_grant_says_otherwise(jobs: Jobs, tmp_path: Path) -> None:
    app = service(jobs, tmp_path)
    mine = await app.submit(call(ADA), ask("r-1"))
    other = await app.submit(call(BOB), ask("r-2"))
    await app.submit(call(EVE), ask("r-3"))
    assert await app.list_jobs(call(ADA), JobListing(), 10) == [mine]
    everybody = JobListing(all_owners=True)
    assert await app.list_jobs(call(AUDITOR), everybody, 10) == [other, mine]
    assert await reason(app.list_jobs(call(ADA), everybody, 10)) is ErrorReason.PERMISSION_DENIED
    newest = await app.list_jobs(call(AUDITOR), everybody, 1)
    page = JobListing(all_owners=True, before=(newest[0].create_time, newest[0].id))
    assert await app.list_jobs(call(AUDITOR), page, 10) == [mine]


async def test_an_ended_job_cannot_be_cancelled_but_a_cancelled_one_may_be_again(
    jobs: Jobs, tmp_path: Path
) -> None:
    app = service(jobs, tmp_path)
    done = await app.submit(call(ADA), ask("r-1"))
    await published(jobs, tmp_path, done.id, b"x")
    assert await reason(app.cancel(call(ADA), "acme", done.id)) is ErrorReason.JOB_STATE
    job = await app.submit(call(ADA), ask("r-2"))
    first = await app.cancel(call(ADA), "acme", job.id)
    assert first.state is JobState.CANCELLED
    assert await app.cancel(call(ADA), "acme", job.id) == first


async def test_a_watch_ends_with_the_result(jobs: Jobs, tmp_path: Path) -> None:
    app = service(jobs, tmp_path)
    job = await app.submit(call(ADA), ask())
    events = app.watch(call(ADA), "acme", job.id, 0)
    assert (await anext(events)).job == job
    done = await published(jobs, tmp_path, job.id, b"x")
    assert [event.job async for event in events][-1] == done


async def test_a_deleted_job_takes_its_files_along(jobs: Jobs, tmp_path: Path) -> None:
    app = service(jobs, tmp_path)
    job = await app.submit(call(ADA), ask())
    assert await reason(app.delete(call(ADA), "acme", job.id)) is ErrorReason.JOB_STATE
    await published(jobs, tmp_path, job.id, b"0123")
    await app.delete(call(ROOT), "acme", job.id)
    assert await reason(app.get(call(ADA), "acme", job.id)) is ErrorReason.JOB_NOT_FOUND
    assert await DirectoryResults(tmp_path).prefixes() == []


class Unwilling(DirectoryResults):
    """A result store that deletes nothing."""

    async def delete(self, prefix: str) -> None:
        raise OSError("the disk is read-only")


async def test_files_that_could_not_be_deleted_with_their_job_are_swept(jobs: Jobs, tmp_path: Path) -> None:
    app, kept = service(jobs, tmp_path), DirectoryResults(tmp_path)
    job = await app.submit(call(ADA), ask())
    await published(jobs, tmp_path, job.id, b"0123")
    with pytest.raises(OSError, match="read-only"):
        await replace(app, results=Unwilling(tmp_path)).delete(call(ADA), "acme", job.id)
    assert await reason(app.get(call(ADA), "acme", job.id)) is ErrorReason.JOB_NOT_FOUND
    assert len(await kept.prefixes()) == 1
    await Upkeep(jobs.ports.keeper, kept, Random(1), 3600.0).sweep()
    assert await kept.prefixes() == []


async def test_only_dead_letters_are_requeued(jobs: Jobs, tmp_path: Path) -> None:
    app = service(jobs, tmp_path)
    job = await app.submit(call(ADA), ask())
    assert await reason(app.requeue(call(ROOT), "acme", job.id, 1)) is ErrorReason.JOB_STATE
    await jobs.admin.execute("UPDATE broker.job SET state = 'failed', dead_lettered = true, attempt = 4")
    again = await app.requeue(call(ROOT), "acme", job.id, 0)
    assert (again.state, again.max_attempts) == (JobState.QUEUED, 5)


async def refused(serving: JobService, principal: Principal, **changes: object) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        await serving.submit(call(principal), ask("refused", **changes))
    assert caught.value.retry_after is not None
    return caught.value


async def test_a_full_queue_refuses_what_is_new_and_knows_what_it_has(jobs: Jobs, tmp_path: Path) -> None:
    serving = service(jobs, tmp_path, backlog=BacklogLimits(tenant=3, queue=5))
    mine = [await serving.submit(call(ADA), ask(f"mine-{i}")) for i in range(3)]
    for changes in ({}, {"validate_only": True}):
        error = await refused(serving, BOB, **changes)  # of the same tenant
        assert (error.reason, error.metadata["queued"]) == (ErrorReason.TENANT_QUOTA, "3")
    assert (await serving.submit(call(ADA), ask("mine-1"))).id == mine[1].id
    for i in range(2):
        await serving.submit(call(EVE), ask(f"theirs-{i}"))
    assert (await refused(serving, EVE)).reason is ErrorReason.OVERLOADED
    await serving.cancel(call(ADA), "acme", mine[0].id)
    await serving.submit(call(BOB), ask("room"))


async def test_a_tenant_whose_jobs_wait_too_long_may_not_add_to_them(jobs: Jobs, tmp_path: Path) -> None:
    serving = service(jobs, tmp_path, backlog=BacklogLimits(age=600.0))
    old = await serving.submit(call(ADA), ask("old"))
    await jobs.admin.execute("UPDATE broker.job SET run_at = now() - interval '11 minutes'")
    error = await refused(serving, ADA)
    assert error.reason is ErrorReason.TENANT_QUOTA
    assert 660 <= int(error.metadata["oldest_seconds"]) < 900
    await serving.submit(call(EVE), ask())
    await serving.cancel(call(ADA), "acme", old.id)
    await serving.submit(call(ADA), ask("new"))


async def test_a_submission_is_told_when_it_may_begin(jobs: Jobs, tmp_path: Path) -> None:
    serving = service(jobs, tmp_path)
    assert (await serving.submit(call(ADA), ask("nobody"))).estimated_time is None, "no worker is alive"
    await jobs.worker()  # four slots
    checked = await serving.submit(call(ADA), ask("checked", validate_only=True))
    assert checked.estimated_time == checked.create_time
    for i in range(3):
        await serving.submit(call(ADA), ask(f"before-{i}"))
    later = await serving.submit(call(ADA), ask("later"))
    first = await serving.submit(call(ADA), ask("first", priority=0))
    assert later.estimated_time is not None
    assert first.estimated_time is not None
    assert later.estimated_time - later.create_time >= timedelta(seconds=30 / 4)
    assert first.estimated_time - first.create_time < timedelta(seconds=30 / 4)
