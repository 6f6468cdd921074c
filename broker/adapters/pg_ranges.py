"""JobRanges on PostgreSQL, beside the jobs. ``pg_ranges_sql`` has the statements, docs/jobs.md the rules."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from broker.adapters import pg_ranges_sql as sql
from broker.adapters.pg_job_events import PgJobHints
from broker.adapters.pg_jobs_pool import JobDatabase
from broker.adapters.pg_jobs_values import dump, load, load_mapping
from broker.domain.job import Job, JobProgress, JobResult, JobState, ResultPart
from broker.domain.principal import Principal
from broker.domain.ranges import (
    NOTHING,
    RANGE_KIND,
    KeyRange,
    Legacy,
    RangeClaim,
    RangeOffer,
    RangeState,
    RangeWork,
    range_id,
    range_of,
)


@dataclass(frozen=True, slots=True)
class _Parts:
    parts: tuple[ResultPart, ...] = ()


class PgRanges:
    """Implements JobRanges."""

    def __init__(self, database: JobDatabase, hints: PgJobHints) -> None:
        self._database = database
        self._hints = hints

    async def left(self, job: Job, fingerprint: str) -> Legacy:
        """What the last attempt left that opened ranges of the same plan and died."""
        rows = await self._database.fetch(sql.LEFT, job.id, job.fence, fingerprint, repeatable=True)
        if not rows:
            return NOTHING
        offers = [RangeOffer(_within(row), tuple(json.loads(row["proofs"])), _parts(row)) for row in rows]
        return Legacy(rows[0]["job_fence"], tuple(offers))

    async def open(
        self,
        job: Job,
        snapshot: str,
        fingerprint: str,
        ranges: Sequence[RangeOffer],
        *,
        read_time: datetime,
        legacy: int = 0,
    ) -> bool:
        """Offers the ranges of an attempt; False when it is stale."""
        row = await self._database.fetch_one(
            sql.OPEN,
            job.id,
            job.fence,
            job.worker_id,
            [each.within.low for each in ranges],
            [each.within.high for each in ranges],
            [each.within.nulls for each in ranges],
            [json.dumps(each.proofs) for each in ranges],
            [None if each.parts is None else dump(_Parts(each.parts)) for each in ranges],
            snapshot,
            fingerprint,
            read_time,
            legacy,
            repeatable=True,
        )
        if row is not None:
            self._hints.queued(row["open_time"])  # so that idle workers look
        return row is not None

    async def claim_own(self, job: Job) -> RangeClaim | None:
        """A range for the attempt itself."""
        row = await self._database.fetch_one(sql.CLAIM_OWN, job.id, job.fence, job.worker_id, repeatable=True)
        return None if row is None else RangeClaim(row["range_index"], row["fence"], _within(row))

    async def finish_own(self, job: Job, claim: RangeClaim, result: JobResult) -> bool:
        """The attempt has written a range."""
        return await self._finish((job.id, job.fence, claim.index), claim.fence, job.worker_id, result)

    async def state(self, job: Job) -> Sequence[RangeState]:
        """All ranges of the attempt, in order."""
        rows = await self._database.fetch(sql.STATE, job.id, job.fence, repeatable=True)
        return [
            RangeState(
                index=row["range_index"],
                fence=row["fence"],
                within=_within(row),
                busy=row["busy"] and row["parts"] is None,
                row_count=row["row_count"],
                byte_count=row["byte_count"],
                parts=_parts(row),
                inherited=row["inherited"],
            )
            for row in rows
        ]

    async def withdraw(self, job: Job, *, keep: bool = False) -> int:
        """Ends all claims; returns how many living workers still have one."""
        rows = await self._database.fetch(sql.WITHDRAW, job.id, job.fence, repeatable=True)
        held = [row["range_index"] for row in rows if row["held"]]
        for index in held:
            self._hints.stopping(range_id(job.id, job.fence, index))
        if rows and not held and not keep:
            await self._database.fetch(sql.FORGET, job.id, job.fence, repeatable=True)
        return len(held)

    async def claim(self, worker_id: str, kinds: Collection[str], limit: int) -> Sequence[Job]:
        """Ranges of other attempts, as jobs."""
        return [_job(row) for row in await self._database.fetch(sql.CLAIM, worker_id, list(kinds), limit)]

    async def begin(self, job: Job) -> bool:
        """The worker begins to read."""
        return await self._database.fetch_one(sql.BEGIN, *_guard(job), repeatable=True) is not None

    async def report(self, updates: Sequence[tuple[Job, JobProgress]]) -> Collection[str]:
        """Writes how far ranges are; returns the ids of stale ones."""
        if not updates:
            return frozenset()
        places = [_place(job) for job, _ in updates]
        rows = await self._database.fetch(
            sql.REPORT,
            updates[0][0].worker_id,
            *(list(column) for column in zip(*places, strict=True)),
            [job.fence for job, _ in updates],
            [progress.row_count for _, progress in updates],
            [progress.byte_count for _, progress in updates],
        )
        return {job.id for job, _ in updates} - {range_id(*row.values()) for row in rows}

    async def finish(self, job: Job, result: JobResult) -> bool:
        """The worker has written the range."""
        return await self._finish(_place(job), job.fence, job.worker_id, result)

    async def release(self, job: Job, *, failed: bool = False) -> bool:
        """Gives the range back."""
        row = await self._database.fetch_one(sql.RELEASE, *_guard(job), failed, repeatable=True)
        return row is not None

    async def held(self, worker_id: str) -> Sequence[Job]:
        """The ranges that a worker has."""
        return [_job(row) for row in await self._database.fetch(sql.HELD, worker_id, repeatable=True)]

    async def _finish(
        self, place: tuple[str, int, int], fence: int, worker_id: str, result: JobResult
    ) -> bool:
        row = await self._database.fetch_one(
            sql.FINISH,
            *place,
            fence,
            worker_id,
            dump(_Parts(result.parts)),
            result.row_count,
            result.byte_count,
            repeatable=True,
        )
        return row is not None


def _place(job: Job) -> tuple[str, int, int]:
    found = range_of(job.id)
    assert found is not None, "a range"
    return found


def _guard(job: Job) -> tuple[str, int, int, int, str]:
    return (*_place(job), job.fence, job.worker_id)


def _parts(row: asyncpg.Record) -> tuple[ResultPart, ...] | None:
    return None if row["parts"] is None else load(_Parts, row["parts"]).parts


def _within(row: asyncpg.Record) -> KeyRange:
    return KeyRange(row["low"], row["high"], row["nulls"])


def _job(row: asyncpg.Record) -> Job:
    """A range as a job of its own, of the submitter and the moment of the job that it belongs to."""
    work = RangeWork(row["spec"], row["snapshot"], row["fingerprint"], _within(row))
    return Job(
        id=range_id(row["id"], row["job_fence"], row["range_index"]),
        tenant=row["tenant"],
        owner=row["owner"],
        kind=RANGE_KIND,
        spec=work.encode(),
        state=JobState.RUNNING,
        request_id=row["request_id"],
        priority=row["priority"],
        revision=row["revision"],
        attempt=row["attempt"],
        max_attempts=row["attempt"],
        create_time=row["create_time"],
        update_time=row["start_time"],
        fence=row["range_fence"],
        worker_id=row["worker_id"],
        principal=load(Principal, row["principal"]),
        attempt_timeout=row["seconds"],
        labels=load_mapping(row["labels"]),
        cancel_requested=row["stop"],
        start_time=row["start_time"],
        trace=load_mapping(row["trace"]),
    )
