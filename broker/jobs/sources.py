"""From an export's request to something that can be read: checked at submission, and made again when it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from broker.domain.answer import (
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    CostClass,
    Exactness,
    PartSource,
)
from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid
from broker.domain.fingerprint import fingerprint
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.query import Query, SqlQuery
from broker.domain.request import Basis, CallContext, Classification
from broker.domain.terms import AnswerPolicy
from broker.domain.values import ResultFormat
from broker.domain.work import ExportWork, JobAsk, ReportWork
from broker.jobs.kind import JobContext
from broker.pipeline import status
from broker.pipeline.routed import considered, refusal
from broker.pipeline.sealed import gone, missing
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Question
from broker.policy.admission.values import Quantiles
from broker.policy.classify import Classified
from broker.policy.rollups.seals import Seals
from broker.ports.store import Snapshot, SqlPlan


def call_of(context: JobContext) -> CallContext:
    """The call that a job stands for, at the moment of its submission.

    So "the last 7 days" are the same ones in every attempt, and in every section.
    """
    job = context.job
    return CallContext(
        job.request_id, job.principal, context.deadline, job.create_time, "job", job.attempt, job.trace
    )


Planner = Callable[[Query, CallContext, str], Plan]
"""Resolves a query for the caller; the text is the query's path in the request, for its violations."""

SqlGate = Callable[[CallContext, SqlQuery, str], Awaitable[SqlPlan]]
"""Lets SQL pass, or raises; the text is its path in the request."""

Source = Plan | SqlPlan


@dataclass(frozen=True, slots=True)
class Sources:
    """Makes sources as the submitter may see them; raises BrokerError when they may not, or the question is wrong."""

    plan: Planner
    gate: SqlGate

    async def check(self, context: CallContext, ask: JobAsk) -> None:
        """What a submission of an export is checked by."""
        await self.make(context, ask)

    async def check_sections(self, context: CallContext, ask: JobAsk) -> None:
        """What a submission of a report is checked by."""
        self.sections(context, ask)

    async def make(self, context: CallContext, ask: JobAsk) -> Source:
        """The source of an export."""
        assert isinstance(ask.work, ExportWork)
        source = ask.work.source
        if isinstance(source, SqlQuery):
            if (refused := refusal(None, ask.policy)) is not None:
                raise refused
            return await self.gate(context, source, f"{ask.path}.sql")
        return self._plan(context, ask, source, f"{ask.path}.query")

    def sections(self, context: CallContext, ask: JobAsk) -> list[Plan]:
        """The plans of a report's sections, in order; raises one error for what is wrong with any of them."""
        assert isinstance(ask.work, ReportWork)
        plans: list[Plan] = []
        wrong: list[Violation] = []
        for i, section in enumerate(ask.work.sections):
            try:
                plans.append(self._plan(context, ask, section.query, f"{ask.path}.sections[{i}].query"))
            except BrokerError as error:
                if error.reason is not ErrorReason.INVALID_REQUEST:
                    raise
                wrong += error.violations
        if wrong:
            raise invalid(wrong)
        return plans

    def _plan(self, context: CallContext, ask: JobAsk, query: Query, path: str) -> Plan:
        plan = self.plan(query, context, path)
        if (refused := refusal(plan, ask.policy)) is not None:
            raise refused
        return plan


@dataclass(frozen=True, slots=True)
class Reading:
    """When and where sources were read; ``lag`` of a replica in seconds.

    ``seals`` has, by dataset, the spans whose rows the tables may no longer have.
    """

    as_of: datetime
    lag: float | None
    seals: Mapping[str, Seals] = field(default_factory=dict)


async def reading_of(snapshot: Snapshot, sources: Sequence[Source], policy: AnswerPolicy) -> Reading:
    """The snapshot as the place where these are read.

    Raises:
        BrokerError: POLICY_UNSATISFIABLE when the tables may lack rows of one of them that were sealed, unless the
            caller accepts incomplete answers; those of a snapshot.
    """
    seen, seals = Seen(snapshot), dict[str, Seals]()
    for source in sources:
        if isinstance(source, Plan):
            dataset = source.main.dataset
            if dataset.name not in seals:
                seals[dataset.name] = await seen.seals(dataset)
            gone(source, policy, seals[dataset.name])
    return Reading(snapshot.as_of, snapshot.replica_lag, seals)


def status_of(
    source: Source, policy: AnswerPolicy, reading: Reading, now: datetime, predicted_rows: int, actual: Cost
) -> AnswerStatus:
    """What the answer in an export is worth."""
    if isinstance(source, SqlPlan):
        part = AnswerPart(
            PartSource.LIVE,
            "primary" if reading.lag is None else "replica",
            reading.as_of,
            row_count=actual.row_count,
            share=1.0,
            replica_lag=reading.lag,
        )
        return AnswerStatus(
            kind=AnswerKind.LIVE,
            exactness=Exactness.EXACT,
            as_of=reading.as_of,
            staleness=max(0.0, (now - reading.as_of).total_seconds()) + (reading.lag or 0.0),
            parts=(part,),
            pool=PoolName.JOB.value,
            actual=actual,
            cost_class=CostClass.JOB,
            answer_version=fingerprint(source.fingerprint, reading.as_of),
        )
    classified = Classified(
        Classification(CostClass.JOB, PoolName.JOB, Basis.REQUEST),
        Cost(row_count=predicted_rows),
        Quantiles(),
    )
    question = Question("", source, policy, ResultFormat.ARROW, classified, considered(policy))
    sealed = missing(source, reading.seals.get(source.main.dataset.name, {}))
    return status.status_of(question, status.Sources(reading.as_of, reading.lag, sealed=sealed), now, actual)


def with_inherited(status: AnswerStatus, rows: Mapping[datetime, int]) -> AnswerStatus:
    """The status with a part for rows that an attempt that died has read; by when it read them. They are the same."""
    if not rows:
        return status
    (live,) = status.parts
    inherited, total = sum(rows.values()), max(1, live.row_count)
    own = replace(live, row_count=live.row_count - inherited, share=1.0 - inherited / total)
    earlier = [
        replace(live, as_of=at, row_count=count, share=count / total) for at, count in sorted(rows.items())
    ]
    return replace(status, parts=(*earlier, own))


def for_job(status: AnswerStatus, name: str, request_id: str) -> AnswerStatus:
    """The status with the job that it belongs to."""
    return replace(status, job=name, request_id=request_id)
