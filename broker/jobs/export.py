"""The kind of job ``export``: the answer of a query, written to files in the result store.

Blocks flow from the database through this process into the attempt's child and are slowed down by it; the child
finishes the rows, encodes, writes and hashes them. What the database cannot finish row by row is read whole, within the
store's limit, and computed by the child.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.domain.answer import Cost
from broker.domain.errors import BrokerError
from broker.domain.job import ExportFormat, JobProgress, JobResult, ResultPart
from broker.domain.plan import Block, Plan
from broker.domain.pool import PoolName
from broker.domain.request import CallContext
from broker.domain.work import ExportWork, JobAsk
from broker.jobs.children import Child, ChildLostError
from broker.jobs.kind import JobContext
from broker.jobs.order import WRITER, Chunk, Done, End, Failed, Order, PartDone, Whole, Wrote
from broker.jobs.progress import Rate
from broker.jobs.seats import Seat, no_seat
from broker.jobs.sources import Reading, Source, Sources, for_job, status_of
from broker.ports.clock import Clock
from broker.ports.jobs import Staging
from broker.ports.store import QueryStore, SqlPlan
from broker.telemetry import names as n
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

CONTENT_TYPES = {
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.ARROW: "application/vnd.apache.arrow.file",
}
ALMOST = 0.99
"""How far an attempt can be by an estimate; only the end itself is the whole."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExportKind:
    """Exports. ``decode`` reads the stored request; a file is ended at about ``part_bytes`` and another one begun."""

    sources: Sources
    store: QueryStore
    decode: Callable[[bytes], JobAsk]
    clock: Clock
    part_bytes: int = 256 << 20
    name: str = "export"
    telemetry: Telemetry = field(default_factory=Telemetry.off)
    seat: Seat = no_seat

    async def run(self, context: JobContext) -> JobResult:
        """Writes the answer of the job's query."""
        job = context.job
        ask = self.decode(job.spec)
        assert isinstance(ask.work, ExportWork)
        context.report(JobProgress("planning"))
        # The moment of the submission, so that "the last 7 days" are the same ones in every attempt.
        call = CallContext(
            job.request_id, job.principal, context.deadline, job.create_time, "job", job.attempt, job.trace
        )
        source = await self.sources.make(call, ask)
        total = await self._estimate(source, context)
        began = self.clock.monotonic()
        progress = _Progress(context, total, Rate(self.clock.monotonic))
        progress.tell("waiting")
        async with self.seat(job) as give_back, context.results.stage(context.prefix) as staging:
            progress.tell("reading")
            finish = source.finish if isinstance(source, Plan) else None
            order = Order(ask.work.format, source.columns, finish, staging.directory, self.part_bytes)
            with self.telemetry.span(SpanName.JOB_EXPORT) as span:
                async with context.children.child(WRITER, order) as child:
                    read = self._read(source, context, child, give_back)
                    reading, parts = await self._transfer(read, child, staging, progress)
                span.set_attribute(n.ROWS, progress.row_count)
                span.set_attribute(n.BYTES, progress.byte_count)
        seconds = self.clock.monotonic() - began
        cost = Cost(seconds, seconds, progress.row_count, progress.byte_count)
        status = status_of(source, ask.policy, reading, self.clock.now(), total, cost)
        progress.end()
        return JobResult(
            parts=_named(parts, source, ask.work.format),
            columns=source.columns,
            row_count=progress.row_count,
            byte_count=progress.byte_count,
            format=ask.work.format,
            status=for_job(status, job.name, job.request_id),
        )

    async def _estimate(self, source: Source, context: JobContext) -> int:
        """The rows to expect; 0 when nobody knows."""
        if isinstance(source, SqlPlan) or not source.finish.pushed_down:
            return 0
        try:
            rows = (await self.store.estimate(source, context.deadline)).rows
        except BrokerError as error:
            logger.info("%s goes on without an estimate: %s", context.job.name, error)
            return 0
        return min(rows, source.query.limit) if source.query.limit else rows

    async def _transfer(
        self, read: Coroutine[Any, Any, Reading], child: Child, staging: Staging, progress: _Progress
    ) -> tuple[Reading, list[tuple[str, PartDone]]]:
        """Feeds the child and publishes what it finishes; the first error of either side ends both."""
        reading = asyncio.create_task(read)
        writing = asyncio.create_task(self._collect(child, staging, progress))
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_EXCEPTION)
            if reading.done() and isinstance(reading.exception(), ChildLostError):
                await asyncio.wait({writing})  # it knows better why the child is gone
            if writing.done() and (error := writing.exception()) is not None:
                raise error
            return await reading, await writing
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _read(
        self, source: Source, context: JobContext, child: Child, give_back: Callable[[], None]
    ) -> Reading:
        """Sends what the database gives; the snapshot ends as soon as all is read, and the seat is given back."""
        whole: Whole | None = None
        async with self.store.snapshot(PoolName.JOB, context.deadline) as snapshot:
            when = Reading(snapshot.as_of, snapshot.replica_lag)
            if isinstance(source, SqlPlan):
                await _feed(snapshot.stream_sql(source), child)
            elif source.finish.pushed_down:
                await _feed(snapshot.stream(source), child)
            else:
                whole = Whole(await snapshot.read(source))
        give_back()
        if whole is not None:
            await child.send(whole)
        await child.send(End())
        return when

    async def _collect(
        self, child: Child, staging: Staging, progress: _Progress
    ) -> list[tuple[str, PartDone]]:
        """Publishes the child's files until it is done; they come back with their keys."""
        parts: list[tuple[str, PartDone]] = []
        while not isinstance(message := await child.receive(), Done):
            match message:
                case Wrote(rows, size):
                    progress.wrote(rows, size)
                case PartDone():
                    parts.append((await staging.publish(message.name), message))
                case Failed(error, detail):
                    if detail:
                        logger.error("the child of an export failed:\n%s", detail)
                    raise error
                case _:
                    raise TypeError(f"not a message of the child: {message!r}")
        progress.wrote(sum(p.row_count for _, p in parts), sum(p.byte_count for _, p in parts))
        attributes = {n.PROCESS_ID: message.process_id}
        self.telemetry.worker_span(SpanName.WORKER, message.start_ns, message.end_ns, attributes=attributes)
        return parts


async def _feed(blocks: AsyncGenerator[Block, None], child: Child) -> None:
    async with aclosing(blocks):
        async for block in blocks:
            await child.send(Chunk(block))


def _named(
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


class _Progress:
    """Tells how far an export is. Rows count as done when the child has written them."""

    def __init__(self, context: JobContext, total: int, rate: Rate) -> None:
        self._context = context
        self._total = total
        self._rate = rate
        self.row_count = 0
        self.byte_count = 0

    def wrote(self, rows: int, size: int) -> None:
        """So many rows and bytes have been written."""
        self.row_count, self.byte_count = rows, size
        self.tell("writing")

    def tell(self, phase: str) -> None:
        """Reports a phase with what is known."""
        fraction = min(ALMOST, self.row_count / self._total) if self._total else None
        self._report(phase, fraction, max(self._total, self.row_count) if self._total else 0)

    def end(self) -> None:
        """Reports the whole."""
        self._report("done", 1.0, self.row_count)

    def _report(self, phase: str, fraction: float | None, total: int) -> None:
        rate = self._rate.at(self.row_count)
        self._context.report(JobProgress(phase, fraction, self.row_count, total, self.byte_count, rate))
