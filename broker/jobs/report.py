"""The kind of job ``report``: the answers of several queries, read in one snapshot, as files of one archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC

from broker.domain.answer import AnswerStatus, Cost, Exactness
from broker.domain.job import JobProgress, JobResult, ResultPart
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.terms import AnswerPolicy
from broker.domain.work import JobAsk, ReportWork
from broker.jobs.children import Child
from broker.jobs.kind import JobContext
from broker.jobs.order import ARCHIVER, ArchiveOrder, Close, End, Section
from broker.jobs.progress import Rate
from broker.jobs.seats import Seat, no_seat
from broker.jobs.sources import Reading, Sources, call_of, for_job, reading_of, status_of
from broker.jobs.transfer import INLINE_BYTES, Parts, Progress, both, collect, expected_rows, send
from broker.ports.clock import Clock
from broker.ports.store import QueryStore
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

ARCHIVE = "report.zip"
BEST_FIRST = (
    Exactness.EXACT,
    Exactness.BOUNDED,
    Exactness.ESTIMATED,
    Exactness.SNAPPED,
    Exactness.PARTIAL,
)
"""How much of the truth an answer tells: all, nearly all, about all, that of another range, a part."""


@dataclass(frozen=True, slots=True)
class ReportKind:
    """Reports. ``decode`` reads the stored request."""

    sources: Sources
    store: QueryStore
    decode: Callable[[bytes], JobAsk]
    clock: Clock
    name: str = "report"
    inline_bytes: int = INLINE_BYTES
    telemetry: Telemetry = field(default_factory=Telemetry.off)
    seat: Seat = no_seat

    async def run(self, context: JobContext) -> JobResult:
        """Writes the answers of the job's queries."""
        job = context.job
        ask = self.decode(job.spec)
        assert isinstance(ask.work, ReportWork)
        context.report(JobProgress("planning"))
        call = call_of(context)
        plans = self.sources.sections(call, ask)
        total = await expected_rows(self.store, plans, context)
        began = self.clock.monotonic()
        progress = Progress(context, total, Rate(self.clock.monotonic))
        progress.tell("waiting")
        async with self.seat(job) as give_back, context.results.stage(context.prefix) as staging:
            progress.tell("reading")
            created = job.create_time.astimezone(UTC)
            order = ArchiveOrder(ask.work.format, staging.directory, ARCHIVE, created)
            with self.telemetry.span(SpanName.JOB_EXPORT) as span:
                async with context.children.child(ARCHIVER, order) as child:
                    parts = Parts(staging, self.inline_bytes)
                    reading = await both(
                        self._read(ask.work, plans, ask.policy, context, child, progress, give_back),
                        collect(child, parts, progress.wrote, self.telemetry),
                    )
                span.set_attribute(n.ROWS, progress.row_count)
                span.set_attribute(n.BYTES, progress.byte_count)
        seconds = self.clock.monotonic() - began
        cost = Cost(seconds, seconds, progress.row_count, progress.byte_count)
        now = self.clock.now()
        told = _worst([status_of(plan, ask.policy, reading, now, total, cost) for plan in plans])
        progress.end()
        ((key, archive),) = parts.kept
        return JobResult(
            parts=(
                ResultPart(
                    index=0,
                    key=key,
                    file_name=ARCHIVE,
                    content_type="application/zip",
                    row_count=archive.row_count,
                    byte_count=archive.byte_count,
                    sha256=archive.sha256,
                ),
            ),
            row_count=progress.row_count,
            byte_count=progress.byte_count,
            format=ask.work.format,
            inline=parts.inline,
            status=for_job(told, job.name, job.request_id),
        )

    async def _read(
        self,
        work: ReportWork,
        plans: Sequence[Plan],
        policy: AnswerPolicy,
        context: JobContext,
        child: Child,
        progress: Progress,
        give_back: Callable[[], None],
    ) -> Reading:
        """Sends section after section out of one snapshot, which ends as soon as the last one is read."""
        async with self.store.snapshot(PoolName.JOB, context.deadline) as snapshot:
            when = await reading_of(snapshot, plans, policy)
            for section, plan in zip(work.sections, plans, strict=True):
                progress.tell("reading", section.section_id)
                await child.send(Section(section.section_id, plan.columns, plan.finish))
                if (whole := await send(plan, snapshot, child)) is not None:
                    await child.send(whole)
                await child.send(End())
        give_back()
        job = context.job
        told = {"job": job.name, "request_id": job.request_id, "snapshot_time": when.as_of.isoformat()}
        await child.send(Close(told))
        return when


def _worst(statuses: Sequence[AnswerStatus]) -> AnswerStatus:
    """The status of the archive: as exact as the least exact of its files."""
    worst = max(statuses, key=lambda status: BEST_FIRST.index(status.exactness))
    return replace(worst, answer_version="")
