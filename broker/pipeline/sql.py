"""Explorations in SQL: through the gate, then the same seats, snapshot, workers and limits as a semantic query."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from broker.domain.answer import (
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    Exactness,
    LadderStep,
    PartSource,
    Rung,
    Verdict,
)
from broker.domain.errors import BrokerError, ErrorReason, invalid
from broker.domain.fingerprint import fingerprint
from broker.domain.query import SqlQuery
from broker.domain.request import (
    CallContext,
    ExplainAsk,
    Explanation,
    ExploreAsk,
    ExploreEvent,
    ExploreHeader,
    RequestKind,
)
from broker.pipeline.admitted import Seats
from broker.pipeline.catalog import Catalog
from broker.pipeline.classified import Classifying
from broker.pipeline.execute import Loads
from broker.pipeline.explain import GRANT as STATEMENTS
from broker.pipeline.offered import job_offer
from broker.pipeline.routed import considered, refusal, too_stale
from broker.pipeline.streamed import Encoding, Limits, Told, encoded
from broker.pipeline.timed import Timer
from broker.policy.admission.values import AdmissionRequest, Outcome
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.store import QueryStore, SqlPlan
from broker.runtime.admission import Admission

GRANT = "sql"


@dataclass(frozen=True, slots=True)
class SqlGate:
    """Lets SQL of principals that hold the grant ``sql`` pass, where the server enables it.

    The database reads every statement, which takes one of ``seats``.
    """

    store: QueryStore
    catalog: Catalog
    enabled: bool
    seats: Seats

    async def __call__(self, context: CallContext, sql: SqlQuery, path: str = "sql") -> SqlPlan:
        """The statement as it may run; ``path`` is its place in the request.

        Raises:
            BrokerError: SQL_DISABLED, PERMISSION_DENIED, what an admission refuses with, or INVALID_REQUEST with every
                violation under the path.
        """
        if not self.enabled:
            text = "SQL is not enabled on this server. Ask with a semantic query, or set server.sql.enabled."
            raise BrokerError(ErrorReason.SQL_DISABLED, text)
        if not context.principal.has(GRANT):
            text = f"The grant {GRANT!r} is needed to explore in SQL. Ask the operator for it."
            raise BrokerError(ErrorReason.PERMISSION_DENIED, text, metadata={"grant": GRANT})
        datasets = tuple(self.catalog.datasets(context.principal))
        try:
            async with self.seats(context):
                return await self.store.gate(sql, datasets, context.principal)
        except BrokerError as error:
            if error.reason is not ErrorReason.INVALID_REQUEST:
                raise
            raise invalid([v.under(path) for v in error.violations]) from None


@dataclass(frozen=True, slots=True)
class SqlStream:
    """Answers SQL that passes the gate."""

    gate: SqlGate
    store: QueryStore
    aggregator: Aggregator
    admission: Admission
    classifying: Classifying
    clock: Clock
    limits: Limits
    ids: Iterator[int]
    load: Loads

    async def explore(
        self, context: CallContext, ask: ExploreAsk, sql: SqlQuery
    ) -> AsyncGenerator[ExploreEvent, None]:
        """The header, batches, the status."""
        if (refused := refusal(None, ask.policy)) is not None:
            raise refused
        plan = await self.gate(context, sql)
        (classified,) = await self.classifying.classify(context, RequestKind.EXPLORE, [plan])
        if (offer := job_offer(classified)) is not None:
            raise offer
        pool, cost_class = classified.classification.pool, classified.classification.cost_class
        request = AdmissionRequest(
            id=f"{context.request_id}/{next(self.ids)}",
            tenant=context.principal.tenant,
            pool=pool,
            deadline_at=context.deadline.at,
            criticality=context.principal.criticality,
            predicted=classified.quantiles,
            seats=classified.seats,
            memory=classified.memory,
            attempt=context.attempt,
        )
        limits = self.limits.narrowed(ask.max_row_count, ask.max_byte_count)
        encoding = Encoding(self.aggregator, pool, None, plan.columns, ask.format, context.deadline)
        timer = Timer(self.clock, partial(self.load, pool), partial(self.classifying.observe, classified))
        async with self.admission.permit(request) as permit:
            async with self.store.snapshot(pool, context.deadline) as snapshot:
                if (stale := too_stale(ask.policy, None, snapshot.replica_lag)) is not None:
                    raise stale
                header = ExploreHeader(
                    plan.columns,
                    snapshot.as_of,
                    cost_class,
                    classified.predicted,
                    classification=classified.classification,
                )
                told = Told(header, limits, timer)
                batches = encoded(snapshot.stream_sql(plan), encoding, limits.window)
                with timer:
                    async with aclosing(told.events(batches)) as events:
                        async for event in events:
                            yield event
                as_of, lag = snapshot.as_of, snapshot.replica_lag
            permit.close(Outcome.SUCCESS)
        run, seconds, rows, size = timer.run, timer.run.seconds, told.row_count, told.byte_count
        ended = replace(run, row_count=rows, byte_count=size, cut_short=timer.slowed)
        self.classifying.observe(classified, ended)
        name = "primary" if lag is None else "replica"
        part = AnswerPart(PartSource.LIVE, name, as_of, row_count=rows, share=1.0, replica_lag=lag)
        yield AnswerStatus(
            kind=AnswerKind.LIVE,
            exactness=Exactness.EXACT,
            as_of=as_of,
            staleness=max(0.0, (self.clock.now() - as_of).total_seconds()) + (lag or 0.0),
            parts=(part,),
            ladder=(
                *considered(ask.policy),
                LadderStep(Rung.LIVE, Verdict.ANSWERED, part.source_name, duration=seconds),
            ),
            queue_duration=permit.wait,
            pool=permit.pool.value,
            predicted=classified.predicted,
            actual=Cost(seconds, seconds, rows, size),
            cost_class=cost_class,
            answer_version=fingerprint(plan.fingerprint, as_of),
        )

    async def explain(self, context: CallContext, ask: ExplainAsk, sql: SqlQuery) -> Explanation:
        """What the gate made of the statement."""
        plan = await self.gate(context, sql)
        async with self.gate.seats(context):
            estimate = await self.store.estimate(plan, context.deadline)
        classified = self.classifying.estimated(context, ask.kind, plan, estimate)
        live = LadderStep(Rung.LIVE, Verdict.ANSWERED, "primary")
        if (refused := refusal(None, ask.policy)) is not None:
            live = LadderStep(Rung.LIVE, Verdict.FORBIDDEN, "primary", codes=(refused.reason.value,))
        return Explanation(
            columns=plan.columns,
            classification=classified.classification,
            predicted=classified.predicted,
            expected_kind=AnswerKind.LIVE,
            expected_exactness=Exactness.EXACT,
            fingerprint=plan.fingerprint,
            plan=(AnswerPart(PartSource.LIVE, "primary", context.received),),
            candidates=(*considered(ask.policy), live),
            statements=(plan.text,) if context.principal.has(STATEMENTS) else (),
        )
