"""Exports of datasets that jobs made: the rows are in the result store, so that the database is not asked.

Reports, and jobs that make datasets, read the tables only, in one snapshot; a dataset that a job made is of another
moment, and a submission that asks for one is told so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from broker.domain.answer import Cost
from broker.domain.errors import Violation, invalid
from broker.domain.job import JobProgress, JobResult
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.query import SqlQuery
from broker.domain.request import CallContext
from broker.domain.work import ExportWork, JobAsk, MaterializeWork, ReportWork
from broker.jobs.children import Child
from broker.jobs.export import ExportKind
from broker.jobs.kind import JobContext
from broker.jobs.materialised import MaterialisedDatasets
from broker.jobs.order import WRITER, End, Order, Whole
from broker.jobs.progress import Rate
from broker.jobs.range_files import named
from broker.jobs.sources import Sources, call_of, for_job
from broker.jobs.transfer import Parts, Progress, both, collect
from broker.pipeline.materialised import Rows, allowed, status_of
from broker.policy.materialised import Way, way


async def made_plan(datasets: MaterialisedDatasets, context: CallContext, ask: JobAsk) -> Plan | None:
    """The plan of an export of a dataset that a job made; None for all others. Raises why it cannot be had."""
    work = ask.work
    assert isinstance(work, ExportWork)
    if isinstance(work.source, SqlQuery) or work.source.dataset in datasets.planner.catalog.model.datasets:
        return None
    dataset = await datasets.one(context, work.source.dataset)
    if dataset is None:
        return None
    return datasets.planner.over(dataset, work.source, context, f"{ask.path}.query")


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """What a submission of an export is checked by."""

    sources: Sources
    datasets: MaterialisedDatasets

    async def check(self, context: CallContext, ask: JobAsk) -> None:
        """Raises BrokerError when it could not be exported."""
        plan = await made_plan(self.datasets, context, ask)
        if plan is None:
            await self.sources.check(context, ask)
            return
        allowed(plan, ask.policy, self.datasets.clock.now())


@dataclass(frozen=True, slots=True)
class TablesOnly:
    """A check of submissions that read the tables, by ``inner``, which knows no datasets that jobs made."""

    inner: Callable[[CallContext, JobAsk], Awaitable[None]]
    datasets: MaterialisedDatasets

    async def check(self, context: CallContext, ask: JobAsk) -> None:
        """Raises INVALID_REQUEST where a dataset of the caller's jobs is asked for, else what ``inner`` raises."""
        asked = _asked(ask)
        known = self.datasets.planner.catalog.model.datasets
        names = [name for _, name in asked if name not in known]
        found = await self.datasets.find(context, names) if names else {}
        made = [(path, name) for path, name in asked if name in found]
        if not made:
            await self.inner(context, ask)
            return
        raise invalid([_of_another_moment(path, name) for path, name in made])


def _asked(ask: JobAsk) -> list[tuple[str, str]]:
    """Paths and names of the datasets that are asked for."""
    match ask.work:
        case ReportWork(sections=sections):
            return [
                (f"{ask.path}.sections[{i}].query", each.query.dataset) for i, each in enumerate(sections)
            ]
        case MaterializeWork(query=query):
            return [(f"{ask.path}.query", query.dataset)]
        case _:
            return []


def _of_another_moment(path: str, name: str) -> Violation:
    text = (
        f"{name!r} was made by a job, at another moment than the snapshot of the tables that this reads. "
        "Export it by itself, or ask for it with Dashboard or Explore"
    )
    return Violation(f"{path}.dataset", text, "MADE_BY_JOB")


@dataclass(frozen=True, slots=True)
class Exports:
    """The kind ``export``: of the model's datasets and SQL by ``tables``, of what jobs made from its ``rows``."""

    tables: ExportKind
    datasets: MaterialisedDatasets
    rows: Rows
    name: str = "export"

    async def run(self, context: JobContext) -> JobResult:
        """Writes the answer of the job's query."""
        ask = self.tables.decode(context.job.spec)
        plan = await made_plan(self.datasets, call_of(context), ask)
        if plan is None:
            return await self.tables.run(context)
        return await self._run(context, ask, plan)

    async def _run(self, context: JobContext, ask: JobAsk, plan: Plan) -> JobResult:
        assert isinstance(ask.work, ExportWork)
        tables, job, encoding = self.tables, context.job, ask.work.format
        context.report(JobProgress("planning"))
        made = allowed(plan, ask.policy, tables.clock.now())
        found = way(plan, await self.rows(made), self.datasets.planner.grids)
        began = tables.clock.monotonic()
        progress = Progress(context, 0, Rate(tables.clock.monotonic))
        async with context.results.stage(context.prefix) as staging:
            order = Order(encoding, plan.columns, found.finish, staging.directory, tables.part_bytes)
            parts = Parts(staging, tables.inline_bytes)
            async with context.children.child(WRITER, order) as child:
                await both(_send(found, child), collect(child, parts, progress.wrote, tables.telemetry))
        files = named(parts.kept, plan, encoding)
        progress.end()
        seconds = tables.clock.monotonic() - began
        rows, size = _sums([(part.row_count, part.byte_count) for part in files])
        status = status_of(plan, made, PoolName.JOB, Cost(seconds, seconds, rows, size), tables.clock.now())
        return JobResult(
            parts=files,
            columns=plan.columns,
            row_count=rows,
            byte_count=size,
            format=encoding,
            inline=parts.inline,
            status=for_job(status, job.name, job.request_id),
        )


async def _send(found: Way, child: Child) -> None:
    await child.send(Whole(found.results))
    await child.send(End())


def _sums(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(rows for rows, _ in sizes), sum(size for _, size in sizes)
