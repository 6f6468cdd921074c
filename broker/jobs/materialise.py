"""The kind of job ``materialize``: keeps the answer of a query as a dataset that its owner may query for a while.

The rows are an export to Arrow files in the result store, so every promise of results holds for the dataset: it exists
exactly when the job succeeded, under the fence of one attempt; what a dead attempt wrote is swept; deleting the job or
the end of its retention takes it away; every broker that reads the result store answers from it, also after a restart.
There is no second catalog that could say otherwise: a name means the job of its owner that succeeded last under it
(:mod:`broker.jobs.materialised`), and an answer is computed by worker processes from the files, without the database
(:mod:`broker.pipeline.materialised`). Tables made in PostgreSQL were the other choice: they need the right to write
there, a transaction over two databases where jobs have one of their own, and a sweep of their own.

Averages and ratios are carried by what they are made from; values that cannot be computed again are shown as they were
made, and refused elsewhere (:mod:`broker.policy.materialised`). The size is limited, because brokers hold the rows in
memory while they are asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid
from broker.domain.job import ExportFormat, JobProgress, JobResult
from broker.domain.plan import Plan
from broker.domain.query import Query
from broker.domain.request import CallContext
from broker.domain.work import ExportWork, JobAsk, MaterializeWork
from broker.jobs.export import ExportKind
from broker.jobs.kind import JobContext
from broker.jobs.sources import Sources, call_of
from broker.pipeline.planner import Planner
from broker.pipeline.routed import refusal
from broker.policy.materialised import carried, unsuited

MATERIALIZE = "materialize"


def source_plan(planner: Planner, query: Query, context: CallContext, path: str) -> Plan:
    """The plan of what is written: the query with what its averages and ratios are made from.

    Raises:
        BrokerError: DATASET_NOT_FOUND, or INVALID_REQUEST with every violation under the path.
    """
    dataset = planner.catalog.dataset(query.dataset, context.principal)
    wrong = [violation.under(path) for violation in unsuited(query)]
    try:
        whole, complete = carried(query, dataset)
        plan = planner.over(complete, whole, context, path)
    except BrokerError as error:
        if error.reason is not ErrorReason.INVALID_REQUEST:
            raise
        raise invalid([*wrong, *error.violations]) from None
    if wrong:
        raise invalid(wrong)
    return plan


@dataclass(frozen=True, slots=True)
class MaterialiseCheck:
    """What a submission is checked by. Nothing is kept for longer than ``retention``, in seconds."""

    planner: Planner
    retention: float

    async def check(self, context: CallContext, ask: JobAsk) -> None:
        """Raises BrokerError when the dataset could not be made, or its name means another."""
        work = ask.work
        assert isinstance(work, MaterializeWork)
        wrong: list[Violation] = []
        if work.dataset in self.planner.catalog.model.datasets:
            text = f"{work.dataset!r} is a dataset of this server; choose another name"
            wrong.append(Violation(f"{ask.path}.dataset", text, "TAKEN"))
        if work.retention is not None and not 0 < work.retention <= self.retention:
            text = f"must be more than nothing and at most {self.retention:g} s, for which this server keeps results"
            wrong.append(Violation(f"{ask.path}.retention", text, "OUT_OF_RANGE"))
        try:
            plan = source_plan(self.planner, work.query, context, f"{ask.path}.query")
        except BrokerError as error:
            if error.reason is not ErrorReason.INVALID_REQUEST:
                raise
            raise invalid([*wrong, *error.violations]) from None
        if wrong:
            raise invalid(wrong)
        if (refused := refusal(plan, ask.policy)) is not None:
            raise refused


@dataclass(frozen=True, slots=True)
class MaterialiseKind:
    """Makes datasets by ``export``, of at most ``most_bytes``. ``decode`` reads the stored request."""

    planner: Planner
    export: ExportKind
    decode: Callable[[bytes], JobAsk]
    most_bytes: int
    name: str = MATERIALIZE

    async def run(self, context: JobContext) -> JobResult:
        """Writes the rows; they are a dataset once the result is published."""
        ask = self.decode(context.job.spec)
        work = ask.work
        assert isinstance(work, MaterializeWork)
        plan = source_plan(self.planner, work.query, call_of(context), f"{ask.path}.query")
        exported = replace(ask, work=ExportWork(plan.query, ExportFormat.ARROW))
        export = replace(
            self.export,
            sources=Sources(lambda _query, _call, _path: plan, self.export.sources.gate),
            decode=lambda _: exported,
            ranges=None,  # nothing of this size is worth cutting
        )
        result = await export.run(replace(context, report=self._bounded(context.report)))
        self._check(result.byte_count)
        return replace(result, dataset=work.dataset, retention=work.retention)

    def _bounded(self, report: Callable[[JobProgress], None]) -> Callable[[JobProgress], None]:
        """Tells of progress, and ends the attempt when too much has been written."""

        def told(progress: JobProgress) -> None:
            self._check(progress.byte_count)
            report(progress)

        return told

    def _check(self, byte_count: int) -> None:
        if byte_count > self.most_bytes:
            text = (
                f"The dataset has more than {self.most_bytes} bytes. Select fewer groups, a coarser grain or a shorter "
                "range, or submit an export, which has no such limit."
            )
            metadata = {"limit": "materialized_bytes", "value": str(self.most_bytes)}
            raise BrokerError(ErrorReason.RESULT_TOO_LARGE, text, metadata=metadata)
