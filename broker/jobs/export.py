"""The kind of job ``export``: the answer of a query, written to files in the result store.

Blocks flow from the database through this process into the attempt's child and are slowed down by it; the child
finishes the rows, encodes, writes and hashes them. What the database cannot finish row by row is read whole, within the
store's limit, and computed by the child. What is large and can be cut is written in ranges (:mod:`broker.jobs.split`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.domain.answer import Cost
from broker.domain.job import JobProgress, JobResult, ResultPart
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.ranges import KeyRange, Legacy
from broker.domain.terms import AnswerPolicy
from broker.domain.work import ExportWork, JobAsk
from broker.jobs.children import Child
from broker.jobs.kind import JobContext
from broker.jobs.order import WRITER, End, Order
from broker.jobs.progress import Rate
from broker.jobs.range_files import RangeFiles, named
from broker.jobs.ranges import MOST, LeadingKey, bucket_cuts, leading_key, ranges_of, usable_cuts
from broker.jobs.seats import Seat, no_seat
from broker.jobs.sources import (
    Reading,
    Source,
    Sources,
    call_of,
    for_job,
    reading_of,
    status_of,
    with_inherited,
)
from broker.jobs.split import Split
from broker.jobs.transfer import INLINE_BYTES, Parts, Progress, both, collect, expected, send
from broker.ports.clock import Clock
from broker.ports.ranges import JobRanges
from broker.ports.store import QueryStore
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

Written = tuple[Reading, tuple[ResultPart, ...], bytes]
"""When the rows were read, the files, and the bytes of the only one if they are few."""
Cut = tuple[Plan, LeadingKey, tuple[KeyRange, ...], JobRanges, Legacy]
"""A plan, its ranges along its leading key, where they are shared, and what an attempt that died has left of them."""


@dataclass(frozen=True, slots=True)
class ExportKind:
    """Exports. ``decode`` reads the stored request; a file is ended at about ``part_bytes`` and another one begun.

    An answer for which at least two ranges of ``range_bytes`` are expected is cut, into ``most_ranges`` at most, where
    ``ranges`` can share them; one of which an attempt that died has finished some is cut as that one did.
    """

    sources: Sources
    store: QueryStore
    decode: Callable[[bytes], JobAsk]
    clock: Clock
    part_bytes: int = 256 << 20
    name: str = "export"
    inline_bytes: int = INLINE_BYTES
    telemetry: Telemetry = field(default_factory=Telemetry.off)
    seat: Seat = no_seat
    ranges: JobRanges | None = None
    range_bytes: int = 256 << 20
    most_ranges: int = MOST

    async def run(self, context: JobContext) -> JobResult:
        """Writes the answer of the job's query."""
        job = context.job
        ask = self.decode(job.spec)
        assert isinstance(ask.work, ExportWork)
        context.report(JobProgress("planning"))
        source = await self.sources.make(call_of(context), ask)
        total, size = await expected(self.store, source, context)
        cut = await self._cut(source, size, context)
        began = self.clock.monotonic()
        progress = Progress(context, total, Rate(self.clock.monotonic))
        progress.tell("waiting")
        async with self.seat(job) as give_back:
            progress.tell("reading")
            inherited: Mapping[datetime, int] = {}
            with self.telemetry.span(SpanName.JOB_EXPORT) as span:
                if cut is None:
                    reading, parts, inline = await self._whole(source, ask, context, progress, give_back)
                else:
                    split = Split(
                        *cut,
                        ask.work.format,
                        ask.policy,
                        self.store,
                        self._files(context),
                        context,
                        progress,
                    )
                    (reading, parts, inherited), inline = await split.run(), b""
                rows, size = sum(p.row_count for p in parts), sum(p.byte_count for p in parts)
                progress.wrote(rows, size)
                span.set_attribute(n.ROWS, rows)
                span.set_attribute(n.BYTES, size)
        seconds = self.clock.monotonic() - began
        cost = Cost(seconds, seconds, rows, size)
        status = status_of(source, ask.policy, reading, self.clock.now(), total, cost)
        status = with_inherited(status, inherited)
        progress.end()
        return JobResult(
            parts=parts,
            columns=source.columns,
            row_count=rows,
            byte_count=size,
            format=ask.work.format,
            inline=inline,
            status=for_job(status, job.name, job.request_id),
        )

    async def _cut(self, source: Source, size: int, context: JobContext) -> Cut | None:
        """The ranges of an answer of so many bytes; None when it is written by one statement."""
        key = leading_key(source)
        if key is None or self.ranges is None:
            return None
        assert isinstance(source, Plan), "only plans have a leading key"
        legacy = await self.ranges.left(context.job, source.fingerprint)
        if legacy.useful:
            return source, key, tuple(each.within for each in legacy.ranges), self.ranges, legacy
        count = min(size // self.range_bytes, self.most_ranges)
        if count < 2:
            return None
        scan = source.main
        if key.bucketed:
            cuts = bucket_cuts(scan)
        else:
            known = await self.store.quantiles(scan.dataset, key.dimension, context.deadline)
            cuts = usable_cuts(key, scan, known)
        ranges = ranges_of(key, cuts, count)
        return (source, key, ranges, self.ranges, legacy) if ranges else None

    def _files(self, context: JobContext) -> RangeFiles:
        return RangeFiles(context.children, context.results, self.part_bytes, self.telemetry)

    async def _whole(
        self,
        source: Source,
        ask: JobAsk,
        context: JobContext,
        progress: Progress,
        give_back: Callable[[], None],
    ) -> Written:
        """Writes all by one child."""
        assert isinstance(ask.work, ExportWork)
        finish = source.finish if isinstance(source, Plan) else None
        async with context.results.stage(context.prefix) as staging:
            order = Order(ask.work.format, source.columns, finish, staging.directory, self.part_bytes)
            parts = Parts(staging, self.inline_bytes)
            async with context.children.child(WRITER, order) as child:
                reading = await both(
                    self._read(source, ask.policy, context, child, give_back),
                    collect(child, parts, progress.wrote, self.telemetry),
                )
        return reading, named(parts.kept, source, ask.work.format), parts.inline

    async def _read(
        self,
        source: Source,
        policy: AnswerPolicy,
        context: JobContext,
        child: Child,
        give_back: Callable[[], None],
    ) -> Reading:
        """Sends what the database gives; the snapshot ends as soon as all is read, and the seat is given back."""
        async with self.store.snapshot(PoolName.JOB, context.deadline) as snapshot:
            when = await reading_of(snapshot, [source], policy)
            whole = await send(source, snapshot, child)
        give_back()
        if whole is not None:
            await child.send(whole)
        await child.send(End())
        return when
