"""Tells how a query would be answered: the same resolving, routing and classifying, and nothing is run."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.answer import AnswerKind, AnswerPart, Interval, LadderStep, PartSource, Rung, Verdict
from broker.domain.plan import Plan
from broker.domain.request import CallContext, ExplainAsk, Explanation
from broker.pipeline.admitted import Seats
from broker.pipeline.bounds import error_bounds, exactness
from broker.pipeline.classified import Classifying
from broker.pipeline.routed import considered, refusal
from broker.ports.store import QueryStore

GRANT = "explain.statements"


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains plans. The planner's estimate is asked for, which takes one of ``seats``."""

    store: QueryStore
    classifying: Classifying
    seats: Seats

    async def explain(self, plan: Plan, ask: ExplainAsk, context: CallContext) -> Explanation:
        """How the plan would be answered under the policy. A policy that nothing satisfies shows as a refusal."""
        async with self.seats(context):
            estimate = await self.store.estimate(plan, context.deadline)
        classified = self.classifying.estimated(context, ask.kind, plan, estimate)
        refused = refusal(plan, ask.policy)
        bounds = plan.main.bounds
        interval = Interval(bounds.start, bounds.end) if bounds is not None else None
        live = LadderStep(Rung.LIVE, Verdict.ANSWERED, "primary")
        if refused is not None:
            live = LadderStep(Rung.LIVE, Verdict.FORBIDDEN, "primary", codes=(refused.reason.value,))
        return Explanation(
            columns=plan.columns,
            classification=classified.classification,
            predicted=classified.predicted,
            expected_kind=AnswerKind.LIVE,
            expected_exactness=exactness(plan),
            fingerprint=plan.fingerprint,
            plan=(AnswerPart(PartSource.LIVE, "primary", context.received, interval),),
            candidates=(*considered(ask.policy), live),
            bounds=error_bounds(plan),
            resolved_range=interval,
            statements=self.store.statements(plan) if context.principal.has(GRANT) else (),
        )
