"""JobStore on PostgreSQL: what the service asks for. ``pg_jobs_sql`` has the statements, docs/jobs.md the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.adapters import pg_jobs_sql as sql
from broker.adapters.pg_job_events import PgJobHints
from broker.adapters.pg_jobs_pool import JobDatabase
from broker.adapters.pg_jobs_rows import change_of, job_of, stored
from broker.adapters.pg_jobs_values import dump
from broker.domain.attempts import cancelled
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobChange, JobVersion
from broker.domain.state import Backlog, JobQueueState, JobWorkerState
from broker.ports.jobs import JobFilter, Submission


class PgJobStore:
    """The jobs, seen from the service."""

    def __init__(self, database: JobDatabase, hints: PgJobHints) -> None:
        self._database = database
        self._hints = hints

    async def submit(self, submission: Submission, *, again: bool = True) -> Job:
        """Stores the job, or returns the one with the same tenant, request id, owner and hash."""
        s = submission
        row = await self._database.fetch_one(
            sql.SUBMIT,
            *stored(s),
            dump(s.labels),
            dump(s.trace),
            s.start_by_time,
            repeatable=True,
        )
        if row is not None:
            self._hints.queued(row["queue_rank"])
            return job_of(row)
        found = await self.find_request(s.principal.tenant, s.request_id)
        if found is None and again:  # deleted between the two statements: the id is free again
            return await self.submit(submission, again=False)
        if found is None:
            text = "The request_id belongs to a job that is being deleted. Send a new one, or the same a little later."
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=1.0)
        job, spec_hash = found
        if spec_hash == s.spec_hash and job.owner == s.principal.name:
            return job
        text = "This request_id was used for another request. Send a new one, or repeat the first request unchanged."
        raise BrokerError(ErrorReason.REQUEST_ID_REUSED, text, metadata={"request_id": s.request_id})

    async def backlog(self, tenant: str, priority: int, most_of_tenant: int, most: int) -> Backlog:
        """What a job of the tenant would find; counts stop at ``most_of_tenant`` and ``most``."""
        row = await self._database.fetch_one(
            sql.BACKLOG, tenant, priority, most_of_tenant, most, repeatable=True
        )
        assert row is not None
        return Backlog(
            tenant=row["tenant"],
            age=max(0.0, row["age"] or 0.0),
            queued=row["queued"],
            before=row["before"],
            running=row["running"],
            slots=row["slots"],
            seconds=row["seconds"] or 0.0,
        )

    async def find_request(self, tenant: str, request_id: str) -> tuple[Job, str] | None:
        """The job that was submitted with the request id, and the hash of its request."""
        row = await self._database.fetch_one(sql.FIND_REQUEST, tenant, request_id, repeatable=True)
        return (job_of(row), row["spec_hash"]) if row is not None else None

    async def get(self, tenant: str, job_id: str) -> Job | None:
        """The job, or None."""
        jobs = await self.get_many([job_id])
        return next((job for job in jobs if job.tenant == tenant), None)

    async def get_many(self, ids: Sequence[str]) -> Sequence[Job]:
        """Those of the jobs that exist."""
        return [job_of(row) for row in await self._database.fetch(sql.GET_MANY, ids, repeatable=True)]

    async def changes(self, ids: Sequence[str]) -> Sequence[JobChange]:
        """What may have changed of those of the jobs that exist; cheaper than the jobs."""
        return [change_of(row) for row in await self._database.fetch(sql.CHANGES, ids, repeatable=True)]

    async def versions(self, ids: Sequence[str]) -> Sequence[JobVersion]:
        """The revisions of those of the jobs that exist."""
        rows = await self._database.fetch(sql.VERSIONS, ids, repeatable=True)
        return [JobVersion(row["id"], row["revision"]) for row in rows]

    async def list_jobs(self, where: JobFilter, limit: int) -> Sequence[Job]:
        """Jobs, newest first."""
        before = where.before or (None, None)
        rows = await self._database.fetch(
            sql.LIST,
            where.tenant,
            where.owner,
            [state.value for state in where.states] or None,
            where.kind or None,
            where.dead_lettered,
            *before,
            limit,
            repeatable=True,
        )
        return [job_of(row) for row in rows]

    async def datasets(self, tenant: str, owner: str, names: Sequence[str]) -> Sequence[Job]:
        """The job that succeeded last for each of the names of datasets; for every name, where none is given."""
        if names:
            rows = await self._database.fetch(sql.DATASETS, tenant, owner, list(names), repeatable=True)
        else:
            rows = await self._database.fetch(sql.ALL_DATASETS, tenant, owner, repeatable=True)
        return [job_of(row) for row in rows]

    async def cancel(self, tenant: str, job_id: str, by: str) -> Job | None:
        """Cancels a queued job, flags a running one; a final one is returned as it is."""
        return await self._change(sql.CANCEL, tenant, job_id, dump(cancelled(by)))

    async def requeue(self, tenant: str, job_id: str, extra_attempts: int) -> Job | None:
        """Puts a dead-lettered job back into the queue; any other is returned as it is."""
        return await self._change(sql.REQUEUE, tenant, job_id, extra_attempts)

    async def delete(self, tenant: str, job_id: str) -> Job | None:
        """Deletes a final job and returns what it was; any other is returned as it is."""
        return await self._change(sql.DELETE, tenant, job_id)

    async def _change(self, statement: str, tenant: str, job_id: str, *arguments: object) -> Job | None:
        """Runs a statement that changes the job where its state allows; the job as it then is."""
        row = await self._database.fetch_one(statement, tenant, job_id, *arguments)
        if row is None:
            return await self.get(tenant, job_id)
        self._hints.changed([job_id])
        if row["state"] == "queued":
            self._hints.queued(row["queue_rank"])
        elif row["state"] == "running":
            self._hints.stopping(job_id)
        return job_of(row)

    async def queue_state(self) -> JobQueueState:
        """Counts, ages and the workers with a live lease."""
        counts = await self._database.fetch_one(sql.QUEUE_STATE, repeatable=True)
        assert counts is not None
        workers = await self._database.fetch(sql.WORKERS, repeatable=True)
        states = tuple(
            JobWorkerState(w["id"], w["host"], w["slot_count"], w["running"], w["lease_expire_time"])
            for w in workers
        )
        return replace(
            JobQueueState(counts["queued"], counts["running"], counts["dead_lettered"]),
            oldest_queued_age=max(0.0, counts["oldest"] or 0.0),
            workers=states,
        )
