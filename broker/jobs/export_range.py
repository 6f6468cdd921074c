"""The kind of job ``export_range``: one range of another attempt's export, out of the snapshot of that attempt.

The request is read as the attempt reads it, so that both have the same plan; where the model of this worker gives
another one, or the snapshot is gone, the range is given back, and the attempt writes it itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import JobProgress, JobResult
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.ranges import RANGE_KIND, RangeWork
from broker.domain.work import ExportWork, JobAsk
from broker.jobs.kind import JobContext
from broker.jobs.range_files import RangeFiles
from broker.jobs.ranges import leading_key, within
from broker.jobs.seats import Seat, no_seat
from broker.jobs.sources import Sources, call_of
from broker.ports.ranges import JobRanges
from broker.ports.store import QueryStore
from broker.telemetry.instruments import Telemetry


@dataclass(frozen=True, slots=True)
class ExportRangeKind:
    """Ranges of exports that other attempts hold the snapshot of."""

    sources: Sources
    store: QueryStore
    decode: Callable[[bytes], JobAsk]
    ranges: JobRanges
    part_bytes: int = 256 << 20
    name: str = RANGE_KIND
    telemetry: Telemetry = field(default_factory=Telemetry.off)
    seat: Seat = no_seat

    async def run(self, context: JobContext) -> JobResult:
        """Writes the range."""
        work = RangeWork.decode(context.job.spec)
        ask = self.decode(work.spec)
        assert isinstance(ask.work, ExportWork)
        plan = await self.sources.make(call_of(context), ask)
        key = leading_key(plan)
        if not isinstance(plan, Plan) or key is None or plan.fingerprint != work.fingerprint:
            text = "This worker reads the request otherwise than the one that runs the export. Are their models equal?"
            raise BrokerError(ErrorReason.INTERNAL, text)
        files = RangeFiles(context.children, context.results, self.part_bytes, self.telemetry)

        def wrote(rows: int, size: int) -> None:
            context.report(JobProgress("writing", row_count=rows, byte_count=size))

        async with (
            self.seat(context.job) as give_back,
            self.store.snapshot(PoolName.JOB, context.deadline, shared=work.snapshot) as snapshot,
        ):
            if not await self.ranges.begin(context.job):
                raise BrokerError(ErrorReason.WORKER_LOST, "Another worker has the range.")
            part = within(plan, key, work.within)
            result = await files.write(part, ask.work.format, context.prefix, snapshot, wrote)
            give_back()
        return replace(result, format=ask.work.format)
