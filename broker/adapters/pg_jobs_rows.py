"""Rows of the job tables as domain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import asyncpg

from broker.adapters.pg_jobs_values import dump, load, load_mapping
from broker.domain.job import Job, JobChange, JobFailure, JobProgress, JobResult, JobState, ResultPart
from broker.domain.principal import Principal
from broker.ports.jobs import Submission

NO_PROGRESS: Final = JobProgress()
_NOTHING: Final = JobResult()


def job_of(row: asyncpg.Record) -> Job:
    """A row of ``broker.job``, with a column ``parts`` where the result matters."""
    state = JobState(row["state"])
    waits = state is JobState.QUEUED and row["run_at"] > row["create_time"]
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        owner=row["owner"],
        kind=row["kind"],
        spec=row["spec"],
        state=state,
        request_id=row["request_id"],
        priority=row["priority"],
        revision=row["revision"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        fence=row["fence"],
        crash_count=row["crash_count"],
        worker_id=row["worker_id"] or "",
        principal=_principal(row["principal"]),
        attempt_timeout=row["attempt_timeout"],
        labels=load_mapping(row["labels"]),
        progress=NO_PROGRESS if row["progress"] == "{}" else load(JobProgress, row["progress"]),
        failure=load(JobFailure, row["failure"]) if row["failure"] is not None else None,
        result=_result(row),
        cancel_requested=row["cancellation"] is not None,
        dead_lettered=row["dead_lettered"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        next_attempt_time=row["run_at"] if waits else None,
        start_by_time=_told(row["start_by_time"]),
        trace=load_mapping(row["trace"]),
    )


def _told(instant: datetime | None) -> datetime | None:
    """An instant of the caller as it was given: asyncpg keeps the last one as infinity, and reads it without a zone."""
    return instant.replace(tzinfo=UTC) if instant is not None and instant.tzinfo is None else instant


def stored(s: Submission) -> tuple[object, ...]:
    """What every statement that makes a job stores of its submission, as its parameters from $1 to $11."""
    return (
        s.id,
        s.principal.tenant,
        s.principal.name,
        s.kind,
        s.spec,
        s.spec_hash,
        s.request_id,
        dump(s.principal),
        s.priority,
        s.max_attempts,
        s.attempt_timeout,
    )


def change_of(row: asyncpg.Record) -> JobChange:
    """A row of what changes while a job runs."""
    job_id, revision, state, fence, text, update_time, cancel_requested = row.values()
    progress = NO_PROGRESS if text == "{}" else load(JobProgress, text)
    return JobChange(job_id, revision, JobState(state), fence, progress, update_time, cancel_requested)


def claimed_job(row: asyncpg.Record, worker_id: str) -> Job:
    """A row that a claim returned: of the columns that it changed, and of those that its attempt needs, in order."""
    (job_id, tenant, owner, kind, spec, request_id, principal, labels, trace, priority, revision, fence, attempt,
     max_attempts, crash_count, attempt_timeout, _, start_by_time, create_time, start_time, failure) = row  # fmt: skip
    return Job(
        id=job_id,
        tenant=tenant,
        owner=owner,
        kind=kind,
        spec=spec,
        state=JobState.RUNNING,
        request_id=request_id,
        priority=priority,
        revision=revision,
        attempt=attempt,
        max_attempts=max_attempts,
        create_time=create_time,
        update_time=start_time,
        fence=fence,
        crash_count=crash_count,
        worker_id=worker_id,
        principal=_principal(principal),
        attempt_timeout=attempt_timeout,
        labels=load_mapping(labels),
        progress=NO_PROGRESS,
        failure=load(JobFailure, failure) if failure is not None else None,
        start_time=start_time,
        start_by_time=_told(start_by_time),
        trace=load_mapping(trace),
    )


@lru_cache(maxsize=1024)
def _principal(text: str) -> Principal:
    """Submitters are few beside their jobs."""
    return load(Principal, text)


@dataclass(frozen=True, slots=True)
class _Parts:
    parts: tuple[ResultPart, ...]


def _result(row: asyncpg.Record) -> JobResult | None:
    if row["result"] is None:
        return None
    parts = row.get("parts")
    return replace(
        load(JobResult, row["result"]),
        parts=load(_Parts, f'{{"parts":{parts}}}').parts if parts is not None else (),
        inline=row["result_inline"] or b"",
        expire_time=row["result_expire_time"],
        expired=row["state"] == JobState.EXPIRED,
    )


def manifest(result: JobResult) -> str:
    """The manifest as JSON without what has columns of its own."""
    if result == _NOTHING:
        return "{}"
    return dump(replace(result, parts=(), inline=b"", expire_time=None, expired=False))
