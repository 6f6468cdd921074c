"""Writes one range of an export, whoever does it: its rows out of a snapshot, through a child, to files of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from broker.domain.job import ExportFormat, JobResult, ResultPart
from broker.domain.plan import Plan
from broker.jobs.children import Child, Children
from broker.jobs.order import WRITER, End, Order, PartDone
from broker.jobs.sources import Source
from broker.jobs.transfer import Parts, Told, both, collect, send
from broker.ports.results import ResultStore
from broker.ports.store import Snapshot, SqlPlan
from broker.telemetry.instruments import Telemetry

CONTENT_TYPES = {
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.ARROW: "application/vnd.apache.arrow.file",
}


@dataclass(frozen=True, slots=True)
class RangeFiles:
    """What is needed to write ranges. A file is ended at about ``part_bytes`` and another one begun."""

    children: Children
    results: ResultStore
    part_bytes: int
    telemetry: Telemetry = field(default_factory=Telemetry.off)

    async def write(
        self, plan: Plan, encoding: ExportFormat, prefix: str, snapshot: Snapshot, wrote: Told
    ) -> JobResult:
        """Writes the rows of a plan below a prefix of the result store, at least one file."""
        async with self.results.stage(prefix) as staging:
            order = Order(encoding, plan.columns, plan.finish, staging.directory, self.part_bytes)
            parts = Parts(staging, inline_bytes=-1)
            async with self.children.child(WRITER, order) as child:
                await both(_read(plan, snapshot, child), collect(child, parts, wrote, self.telemetry))
        files = named(parts.kept, plan, encoding)
        return JobResult(
            parts=files,
            row_count=sum(part.row_count for part in files),
            byte_count=sum(part.byte_count for part in files),
        )


async def _read(plan: Plan, snapshot: Snapshot, child: Child) -> None:
    assert await send(plan, snapshot, child) is None, "a plan that can be cut is finished row by row"
    await child.send(End())


def stem_of(source: Source) -> str:
    """What files are named after: the dataset."""
    return "sql" if isinstance(source, SqlPlan) else source.main.dataset.name


def named(
    parts: list[tuple[str, PartDone]], source: Source, encoding: ExportFormat
) -> tuple[ResultPart, ...]:
    """The manifest's parts; a single file is named after its dataset, several are numbered."""
    stem = stem_of(source)
    return tuple(
        ResultPart(
            index=i,
            key=key,
            file_name=file_name(stem, i, len(parts), Path(part.name).suffix),
            content_type=CONTENT_TYPES[encoding],
            row_count=part.row_count,
            byte_count=part.byte_count,
            sha256=part.sha256,
        )
        for i, (key, part) in enumerate(parts)
    )


def file_name(stem: str, index: int, count: int, suffix: str) -> str:
    """The name under which a file of a result is offered."""
    return f"{stem}{f'-{index:05}' if count > 1 else ''}{suffix}"
