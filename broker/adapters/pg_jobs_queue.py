"""JobQueue on PostgreSQL: what a worker writes, every statement guarded by worker and fence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import asyncpg

from broker.adapters import pg_jobs_sql_work as sql
from broker.adapters.pg_job_events import PgJobHints
from broker.adapters.pg_jobs_pool import JobDatabase
from broker.adapters.pg_jobs_rows import NO_PROGRESS, claimed_job, job_of, manifest
from broker.adapters.pg_jobs_values import dump
from broker.domain.attempts import Ending
from broker.domain.job import Job, JobProgress, JobResult, JobState
from broker.ports.jobs import JobSignal, RunningLimits, Success

FULL_SCAN_SECONDS = 5.0


class PgJobQueue:
    """The jobs, seen from a worker.

    Claimed rows leave dead versions at the low end of the index, which cannot be removed while somebody holds a
    snapshot. Claims therefore begin at the rank of the last one; hints about lower ranks move that bound down, and it
    is dropped every few seconds and whenever it found too little. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        database: JobDatabase,
        hints: PgJobHints,
        clock: Callable[[], float],
        limits: RunningLimits | None = None,
    ) -> None:
        self._limits = limits
        self._database = database
        self._hints = hints
        self._clock = clock
        self._bound: datetime | None = None
        self._full_scan = float("-inf")
        # Two statements that write several rows of one worker might wait for each other's locks for ever.
        self._writing = asyncio.Lock()

    def hear(self, signal: JobSignal) -> None:
        """Takes a hint: a listener for JobSignals."""
        if signal.resync:
            self._bound = None
        if signal.queued is not None and self._bound is not None:
            self._bound = min(self._bound, signal.queued)

    async def claim(self, worker_id: str, kinds: Sequence[str], limit: int) -> Sequence[Job]:
        """Claims up to ``limit`` due jobs for a worker with a live lease; their fences and attempts grow."""
        now = self._clock()
        if now - self._full_scan >= FULL_SCAN_SECONDS:
            self._bound = None
        bound = self._bound
        if bound is None:
            self._full_scan = now
        rows = await self._claimed(worker_id, list(kinds), limit, bound)
        self._bound = max(row["queue_rank"] for row in rows) if len(rows) == limit else None
        self._hints.changed(row["id"] for row in rows)
        if bound is not None and not rows:
            return await self.claim(worker_id, kinds, limit)
        rows.sort(key=lambda row: (row["queue_rank"], row["id"]))
        return [claimed_job(row, worker_id) for row in rows]

    async def _claimed(
        self, worker_id: str, kinds: Sequence[str], limit: int, bound: datetime | None
    ) -> list[asyncpg.Record]:
        limits = self._limits
        if limits is None or (limits.tenant is None and not limits.kinds):
            return await self._database.fetch(sql.CLAIM, worker_id, kinds, limit, bound)
        rows: list[asyncpg.Record] = []
        async with self._database.transaction() as connection:
            await connection.execute(sql.LIMIT_LOCK)
            names, most = list(limits.kinds), list(limits.kinds.values())
            while len(rows) < limit:
                left = limit - len(rows)
                more = await connection.fetch(
                    sql.CLAIM_WITHIN, worker_id, kinds, left, bound, limits.tenant, names, most
                )
                rows += more
                if not more:
                    break
        return rows

    async def report(self, updates: Sequence[tuple[Job, JobProgress]]) -> Collection[str]:
        """Writes the progress of attempts of one worker, in one statement; returns the ids of stale ones."""
        if not updates:
            return frozenset()
        ids = [job.id for job, _ in updates]
        async with self._writing:
            rows = await self._database.fetch(
                sql.REPORT,
                updates[0][0].worker_id,
                ids,
                [job.fence for job, _ in updates],
                [dump(progress) for _, progress in updates],
            )
        written = {row["id"] for row in rows}
        self._hints.changed(written)
        return set(ids) - written

    async def succeed(self, job: Job, result: JobResult, progress: JobProgress, retention: float) -> bool:
        """Publishes the result of one attempt."""
        return bool(await self.succeed_all([Success(job, result, progress)], retention))

    async def succeed_all(self, done: Sequence[Success], retention: float) -> Collection[tuple[str, int]]:
        """Publishes results of attempts of one worker, in one transaction; returns the claims that were not stale."""
        parts = [(success.job.id, part) for success in done for part in success.result.parts]
        ids, fences = [s.job.id for s in done], [s.job.fence for s in done]
        inline = [s.result.inline or None for s in done]
        async with self._writing:
            rows = await self._database.fetch(
                sql.SUCCEED,
                done[0].job.worker_id,
                retention,
                ids,
                fences,
                [manifest(s.result) for s in done],
                inline if any(inline) else [],  # what is missing is null
                [_text(s.progress) for s in done],
                [job_id for job_id, _ in parts],
                [p.index for _, p in parts],
                [p.key for _, p in parts],
                [p.file_name for _, p in parts],
                [p.content_type for _, p in parts],
                [p.row_count for _, p in parts],
                [p.byte_count for _, p in parts],
                [p.sha256 for _, p in parts],
            )
        published = {(row["id"], row["fence"]) for row in rows}
        self._hints.changed(row["id"] for row in rows)
        if len(published) < len(done):
            # Perhaps an earlier try of this very call succeeded and its reply was lost.
            earlier = await self._database.fetch(sql.PUBLISHED, ids, fences, repeatable=True)
            published.update((row["id"], row["fence"]) for row in earlier)
        return published

    async def fail(self, job: Job, ending: Ending) -> bool:
        """Ends the attempt."""
        rows = await self._database.fetch(sql.END, job.worker_id, *end_arrays([(job, ending, False)]))
        for row in rows:
            self._ended(row["id"], row["state"], row["queue_rank"], due=ending.delay == 0)
        return bool(rows)

    async def release(self, job: Job) -> bool:
        """Gives an attempt back on shutdown: queued at once, not counted; the fence is kept."""
        row = await self._database.fetch_one(sql.RELEASE, *_guard(job))
        if row is not None:
            self._ended(row["id"], row["state"], row["queue_rank"], due=True)
        return row is not None

    async def cancelled(self, job: Job) -> bool:
        """Confirms that an attempt that was asked to stop has stopped."""
        rows = await self._database.fetch(sql.CANCELLED, *_guard(job))
        self._hints.changed(row["id"] for row in rows)
        return bool(rows)

    async def held(self, worker_id: str) -> Sequence[Job]:
        """The running jobs of a worker."""
        return [job_of(row) for row in await self._database.fetch(sql.HELD, worker_id, repeatable=True)]

    def _ended(self, job_id: str, state: str, rank: datetime, *, due: bool) -> None:
        self._hints.changed([job_id])
        if state == JobState.QUEUED and due:
            self._hints.queued(rank)


def _text(progress: JobProgress) -> str:
    return "{}" if progress is NO_PROGRESS else dump(progress)


def _guard(job: Job) -> tuple[str, int, str]:
    return job.id, job.fence, job.worker_id


def end_arrays(ends: Sequence[tuple[Job, Ending, bool]]) -> tuple[list[object], ...]:
    """Arguments of the statement END: jobs, what becomes of them, and whether their time is over."""
    return (
        [job.id for job, _, _ in ends],
        [job.fence for job, _, _ in ends],
        [e.state.value for _, e, _ in ends],
        [dump(e.failure) for _, e, _ in ends],
        [e.outcome.value for _, e, _ in ends],
        [e.delay for _, e, _ in ends],
        [e.dead_lettered for _, e, _ in ends],
        [e.crashed for _, e, _ in ends],
        [over for _, _, over in ends],
    )
