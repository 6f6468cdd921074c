"""JobKeeper on PostgreSQL: what every worker does for all of them, and the leases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import unquote

import asyncpg

from broker.adapters import pg_jobs_sql as sql
from broker.adapters import pg_jobs_sql_work as work
from broker.adapters.pg_job_events import PgJobHints
from broker.adapters.pg_jobs_errors import job_database
from broker.adapters.pg_jobs_pool import SETTINGS, JobDatabase
from broker.adapters.pg_jobs_queue import end_arrays
from broker.adapters.pg_jobs_rows import job_of
from broker.adapters.pg_jobs_values import dump
from broker.domain.attempts import ending, lost_worker, overdue, start_by_passed
from broker.domain.job import Job, JobState
from broker.ports.jobs import WorkerIdentity

OVERDUE_GRACE = 15.0
"""Seconds after an attempt's deadline in which its own worker may still stop it."""


class PgJobKeeper:
    """Reaping and retention. Rows that somebody else is working on are skipped, so that all workers may do it."""

    def __init__(self, database: JobDatabase, hints: PgJobHints) -> None:
        self._database = database
        self._hints = hints

    async def reap(self, jitter: Callable[[], float]) -> int:
        """Ends the attempts of workers whose lease has ended, and those that overran their time limit."""
        await self._database.fetch(sql.DECLARE_LOST)
        async with self._database.transaction() as connection:
            found = await connection.fetch(sql.FIND_ORPHANS, OVERDUE_GRACE)
            if not found:
                return 0
            ends = []
            for row in found:
                job = job_of(row)
                fault = lost_worker(job) if row["orphaned"] else overdue(job)
                ends.append((job, ending(job, fault, jitter()), not row["orphaned"]))
            done = await connection.fetch(work.END, None, *end_arrays(ends))
        self._hints.changed(row["id"] for row in done)
        for row in done:
            if row["state"] == JobState.QUEUED:
                self._hints.queued(row["queue_rank"])
        return len(done)

    async def fail_unstarted(self) -> int:
        """Fails queued jobs whose start-by time has passed."""
        async with self._database.transaction() as connection:
            jobs = [job_of(row) for row in await connection.fetch(sql.FIND_UNSTARTED)]
            if jobs:
                await connection.execute(
                    sql.FAIL_UNSTARTED, [job.id for job in jobs], [dump(start_by_passed(job)) for job in jobs]
                )
        self._hints.changed(job.id for job in jobs)
        return len(jobs)

    async def expire(self) -> Sequence[Job]:
        """Marks succeeded jobs EXPIRED whose retention is over; their files are to be deleted."""
        jobs = [job_of(row) for row in await self._database.fetch(sql.EXPIRE)]
        self._hints.changed(job.id for job in jobs)
        return jobs

    async def purge(self, tombstone_age: float) -> int:
        """Deletes final jobs that ended ``tombstone_age`` seconds ago, with their history."""
        await self._database.fetch(sql.PURGE_WORKERS)
        row = await self._database.fetch_one(sql.PURGE, tombstone_age)
        return int(row[0]) if row is not None else 0

    async def deployment(self) -> str:
        """What tells this database of jobs from others; a copy of it has the same."""
        (row,) = await self._database.fetch(sql.DEPLOYMENT)
        return str(row["id"])

    async def unwanted(self, prefixes: Sequence[str]) -> Sequence[str]:
        """Those of the prefixes in the result store that no running attempt and no published result owns."""
        owned = [(prefix, prefix.split("/")) for prefix in prefixes]
        known = [(prefix, unquote(p[1]), int(p[2])) for prefix, p in owned if len(p) == 3 and p[2].isdigit()]
        if not known:
            return []
        rows = await self._database.fetch(
            sql.UNWANTED, *(list(column) for column in zip(*known, strict=True))
        )
        return [row["prefix"] for row in rows]


class PgWorkerLease:
    """The lease rows, on a connection of its own that is made anew after an error. For one event loop."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def register(self, worker: WorkerIdentity, seconds: float) -> None:
        """Begins a lease."""
        w = worker
        await self._run(sql.REGISTER, w.id, w.host, w.process_id, w.build, w.slot_count, seconds)

    async def renew(self, worker_id: str, seconds: float) -> bool:
        """Renews it; False when it was declared lost, which is final."""
        return bool(await self._run(sql.RENEW, worker_id, seconds))

    async def end(self, worker_id: str) -> None:
        """Ends it; what the worker still held is reaped at once."""
        await self._run(sql.END_LEASE, worker_id)

    async def close(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _run(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        try:
            with job_database():
                if self._connection is None:
                    self._connection = await asyncpg.connect(
                        self._dsn, server_settings={**SETTINGS, "application_name": "querybroker lease"}
                    )
                return await self._connection.fetch(statement, *arguments)
        except BaseException:  # a cancelled statement leaves the connection in doubt as well
            await self.close()
            raise
