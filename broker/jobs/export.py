"""The kind of job ``export``: the answer of a query, written to files in the result store.

Blocks flow from the database through this process into the attempt's child and are slowed down by it; the child
finishes the rows, encodes, writes and hashes them. What the database cannot finish row by row is read whole, within the
store's limit, and computed by the child.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from broker.domain.answer import Cost
from broker.domain.job import ExportFormat, JobProgress, JobResult, ResultPart
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.terms import AnswerPolicy
from broker.domain.work import ExportWork, JobAsk
from broker.jobs.children import Child
from broker.jobs.kind import JobContext
from broker.jobs.order import WRITER, End, Order, PartDone
from broker.jobs.progress import Rate
from broker.jobs.seats import Seat, no_seat
from broker.jobs.sources import Reading, Source, Sources, call_of, for_job, reading_of, status_of
from broker.jobs.transfer import INLINE_BYTES, Parts, Progress, both, collect, expected_rows, send
from broker.ports.clock import Clock
from broker.ports.store import QueryStore, SqlPlan
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

CONTENT_TYPES = {
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.ARROW: "application/vnd.apache.arrow.file",
}


@dataclass(frozen=True, slots=True)
class ExportKind:
    """Exports. ``decode`` reads the stored request; a file is ended at about ``part_bytes`` and another one begun."""

    sources: Sources
    store: QueryStore
    decode: Callable[[bytes], JobAsk]
    clock: Clock
    part_bytes: int = 256 << 20
    name: str = "export"
    inline_bytes: int = INLINE_BYTES
    telemetry: Telemetry = field(default_factory=Telemetry.off)
    seat: Seat = no_seat

    async def run(self, context: JobContext) -> JobResult:
        """Writes the answer of the job's query."""
        job = context.job
        ask = self.decode(job.spec)
        assert isinstance(ask.work, ExportWork)
        context.report(JobProgress("planning"))
        call = call_of(context)
        source = await self.sources.make(call, ask)
        total = await expected_rows(self.store, [source], context)
        began = self.clock.monotonic()
        progress = Progress(context, total, Rate(self.clock.monotonic))
        progress.tell("waiting")
        async with self.seat(job) as give_back, context.results.stage(context.prefix) as staging:
            progress.tell("reading")
            finish = source.finish if isinstance(source, Plan) else None
            order = Order(ask.work.format, source.columns, finish, staging.directory, self.part_bytes)
            with self.telemetry.span(SpanName.JOB_EXPORT) as span:
                async with context.children.child(WRITER, order) as child:
                    parts = Parts(staging, self.inline_bytes)
                    reading = await both(
                        self._read(source, ask.policy, context, child, give_back),
                        collect(child, parts, progress, self.telemetry),
                    )
                span.set_attribute(n.ROWS, progress.row_count)
                span.set_attribute(n.BYTES, progress.byte_count)
        seconds = self.clock.monotonic() - began
        cost = Cost(seconds, seconds, progress.row_count, progress.byte_count)
        status = status_of(source, ask.policy, reading, self.clock.now(), total, cost)
        progress.end()
        return JobResult(
            parts=named(parts.kept, source, ask.work.format),
            columns=source.columns,
            row_count=progress.row_count,
            byte_count=progress.byte_count,
            format=ask.work.format,
            inline=parts.inline,
            status=for_job(status, job.name, job.request_id),
        )

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


def named(
    parts: list[tuple[str, PartDone]], source: Source, encoding: ExportFormat
) -> tuple[ResultPart, ...]:
    """The manifest's parts; a single file is named after its dataset, several are numbered."""
    stem = "sql" if isinstance(source, SqlPlan) else source.main.dataset.name
    return tuple(
        ResultPart(
            index=i,
            key=key,
            file_name=f"{stem}{f'-{i:05}' if len(parts) > 1 else ''}{Path(part.name).suffix}",
            content_type=CONTENT_TYPES[encoding],
            row_count=part.row_count,
            byte_count=part.byte_count,
            sha256=part.sha256,
        )
        for i, (key, part) in enumerate(parts)
    )
