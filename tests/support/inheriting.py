"""Exports of visits whose attempts die after so many ranges, and rollups of which it is known what has changed."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pyarrow as pa

from broker.adapters.pg_rollup_database import open_rollup_database
from broker.adapters.pg_rollup_schema import PgRollupSchema
from broker.adapters.pg_rollups import PgRollups
from broker.adapters.result_dir import DirectoryResults
from broker.domain.deadline import Deadline
from broker.domain.job import ExportFormat, Job, JobProgress, JobResult
from broker.domain.model import Dataset, Dimension
from broker.domain.plan import Plan
from broker.domain.query import AbsoluteRange, Grain, Query, TimeSelection
from broker.domain.ranges import RangeClaim
from broker.domain.request import CallContext
from broker.domain.rollup import Span, micros
from broker.domain.values import DataType
from broker.jobs.children import Children
from broker.jobs.export import ExportKind
from broker.jobs.kind import JobContext
from broker.jobs.sources import Sources
from broker.policy.resolve import resolve_query
from broker.ports.ranges import JobRanges
from broker.ports.rollups import Built
from broker.runtime.clock import SystemClock
from tests.integration.rollups.build import visits
from tests.support.exports import ask, no_sql
from tests.support.jobs import Jobs, submission

QUARTER = AbsoluteRange(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
MONTHS = tuple(
    Span(micros(datetime(2024, month, 1, tzinfo=UTC)), micros(datetime(2024, month + 1, 1, tzinfo=UTC)))
    for month in (1, 2, 3)
)
DAYS = Query("visits", ("visits", "spent"), ("site",), time=TimeSelection(grain=Grain.MONTH, range=QUARTER))
"""By month, so that a range is a month."""


Meanwhile = Callable[[], Awaitable[object]]


class DiedError(Exception):
    """The attempt is gone, and nothing that it would do at its end has happened."""


class Mortal:
    """Ranges of an attempt that dies when it asks for one more than ``lives``; ``taken`` are those that it wrote."""

    def __init__(self, ranges: JobRanges, lives: int, before_open: Meanwhile | None = None) -> None:
        self._ranges, self._lives, self._before_open = ranges, lives, before_open
        self.taken: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._ranges, name)

    async def open(self, *arguments: Any, **named: Any) -> bool:
        """Opens them, after what happens meanwhile."""
        if self._before_open is not None:
            await self._before_open()
        return await self._ranges.open(*arguments, **named)

    async def claim_own(self, job: Job) -> RangeClaim | None:
        """One more, or the end."""
        if len(self.taken) == self._lives:
            raise DiedError
        claim = await self._ranges.claim_own(job)
        if claim is not None:
            self.taken.append(claim.index)
        return claim

    async def withdraw(self, job: Job, *, keep: bool = False) -> int:
        """The dead withdraw nothing."""
        return 0 if len(self.taken) == self._lives else await self._ranges.withdraw(job, keep=keep)


class Ending(Mortal):
    """The same, but it ends in order: by an error, or because it is stopped while it waits for one more."""

    def __init__(self, ranges: JobRanges, lives: int, *, waits: bool) -> None:
        super().__init__(ranges, lives)
        self._waits = waits
        self.waiting = asyncio.Event()

    async def claim_own(self, job: Job) -> RangeClaim | None:
        """One more, or the end."""
        if len(self.taken) == self._lives and self._waits:
            self.waiting.set()
            await asyncio.Event().wait()
        return await super().claim_own(job)

    async def withdraw(self, job: Job, *, keep: bool = False) -> int:
        """As everybody who is alive."""
        return await self._ranges.withdraw(job, keep=keep)


def dataset() -> Dataset:
    """The visits, with their numbers, which no rollup reads."""
    made = visits.dataset(visits.BY_SITE)
    number = Dimension("number", "visits.id", DataType.INT64, ("visits",))
    return replace(made, dimensions={**made.dimensions, "number": number}, version="1")


@dataclass(slots=True)
class Place:
    """A database with visits, and where exports of them are written."""

    jobs: Jobs
    plain: ExportKind
    directory: Path
    children: Children
    model: Dataset = field(default_factory=dataset)

    @property
    def results(self) -> DirectoryResults:
        """The result store."""
        return DirectoryResults(self.directory)

    async def closed(self, months: Sequence[Span] = MONTHS) -> None:
        """Installs the rollup and publishes versions of these months, made of all that is there now."""
        async with open_rollup_database(self.jobs.dsn) as database:
            rollups = PgRollups(
                database, PgRollupSchema(database), {self.model.name: self.model}, SystemClock()
            )
            await rollups.install(self.model)
            for month in months:
                lease = await rollups.lease(visits.BY_SITE, month, "test", 60.0)
                assert lease is not None
                row = await self.jobs.admin.fetchrow(
                    "SELECT pg_current_snapshot()::text AS at, now() AS as_of"
                )
                assert row is not None
                await rollups.publish(lease, visits.BY_SITE, Built(row["at"], row["as_of"], 0))
                await rollups.release(lease)
            await rollups.sweep(self.model, 0.0)

    async def submitted(self, query: Query = DAYS, max_attempts: int = 3) -> str:
        """A job that waits for its first attempt."""
        spec = ask(query, ExportFormat.ARROW).spec
        made = submission(kind="export", spec=spec, attempt_timeout=300.0, max_attempts=max_attempts)
        return (await self.jobs.ports.store.submit(made)).id

    async def claimed(self, job_id: str) -> Job:
        """The next attempt at it."""
        (job,) = await self.jobs.ports.queue.claim(await self.jobs.worker(), ["export"], 1)
        assert job.id == job_id
        return job

    def kind(self, ranges: object) -> ExportKind:
        """Exports in three ranges."""

        def plan(query: Query, context: CallContext, _: str) -> Plan:
            return resolve_query(query, self.model, context.principal, context.received)

        shared = cast("JobRanges", ranges)
        return replace(self.plain, sources=Sources(plan, no_sql), ranges=shared, range_bytes=1, most_ranges=3)

    async def attempt(self, job: Job, ranges: object) -> JobResult:
        """Does the work of an attempt."""
        deadline = Deadline.after(300.0, monotonic())
        context = JobContext(job, deadline, self.results, self.children, _unheard)
        return await self.kind(ranges).run(context)

    async def dies(self, job_id: str, lives: int) -> Job:
        """An attempt that writes so many ranges and dies; whoever takes over may begin at once."""
        job = await self.claimed(job_id)
        try:
            await self.attempt(job, Mortal(self.jobs.ports.ranges, lives))
        except DiedError:
            await self.jobs.lose(job.worker_id)
            await self.jobs.ports.keeper.reap(lambda: 0.0)
            await self.jobs.make_due(job_id)
            return job
        raise AssertionError("it has outlived its end")

    async def ends(self, job_id: str, before_open: Meanwhile | None = None) -> tuple[JobResult, list[int]]:
        """The result of an attempt that lives, published, and which ranges it has written."""
        job, watched = await self.claimed(job_id), Mortal(self.jobs.ports.ranges, 99, before_open)
        result = await self.attempt(job, watched)
        assert await self.jobs.ports.queue.succeed(job, result, JobProgress(), 3600.0)
        return result, watched.taken

    async def rows(self, result: JobResult) -> pa.Table:
        """All rows of a result, from files that are what the manifest says."""
        tables = []
        for part in result.parts:
            data = b"".join([piece async for piece in self.results.read(part.key, 0, 1 << 20)])
            assert (len(data), hashlib.sha256(data).digest()) == (part.byte_count, part.sha256)
            tables.append(pa.ipc.open_file(io.BytesIO(data)).read_all())
        return pa.concat_tables(tables)


def _unheard(progress: JobProgress) -> None:
    """Nobody listens."""
    assert progress.phase
