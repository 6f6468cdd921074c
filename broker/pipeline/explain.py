"""Tells how a query would be answered: the same resolving, routing and classifying, and nothing is run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.domain.answer import Interval, LadderStep, Rung, Verdict
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.request import CallContext, ExplainAsk, Explanation
from broker.domain.rollup import Coverage, Storage
from broker.domain.terms import AnswerPolicy
from broker.domain.values import ResultFormat
from broker.pipeline.admitted import Seats
from broker.pipeline.bounds import error_bounds
from broker.pipeline.classified import Classifying
from broker.pipeline.foretold import Prospect
from broker.pipeline.known_seals import Known
from broker.pipeline.rolled import unanswerable
from broker.pipeline.routed import considered, refusal, unaccepted
from broker.pipeline.sealed import covers_of, missing, refusal_of
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Question
from broker.pipeline.status import Sources, exactness_of, parts_of, passed_over, steps_of
from broker.ports.store import QueryStore

GRANT = "explain.statements"


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains plans. The planner, or the rollups' coverage, is asked for, which takes one of ``seats``.

    ``known`` is what is known to be sealed.
    """

    store: QueryStore
    classifying: Classifying
    seats: Seats
    known: Known

    async def explain(self, plan: Plan, ask: ExplainAsk, context: CallContext) -> Explanation:
        """How the plan would be answered under the policy. A policy that nothing satisfies shows as a refusal."""
        consistency = ask.policy.consistency
        async with self.seats(context):
            (asked,) = await self.classifying.prospects(context, ask.kind, [(plan, ask.policy)], consistency)
            classified, plan = asked.classified, asked.plan
            sources = await self._sources(asked, ask.policy, context)
            if not sources.used:
                estimate = await self.store.estimate(plan, context.deadline)
                classified = self.classifying.estimated(context, ask.kind, plan, estimate)
        question = Question("", plan, ask.policy, ResultFormat.COLUMNS, classified, (), asked.route)
        bounds = plan.main.bounds
        return Explanation(
            columns=plan.columns,
            classification=classified.classification,
            predicted=classified.predicted,
            expected_kind=sources.kind,
            expected_exactness=exactness_of(plan, sources),
            fingerprint=plan.fingerprint,
            plan=parts_of(question, sources),
            candidates=_candidates(question, sources),
            bounds=error_bounds(plan),
            resolved_range=Interval(bounds.start, bounds.end) if bounds is not None else None,
            statements=self._statements(question, sources) if context.principal.has(GRANT) else (),
        )

    def _statements(self, question: Question, sources: Sources) -> tuple[str, ...]:
        """The statements of the whole plan, or of what rollups leave to the tables and of rollups that are tables."""
        plan, route = question.plan, question.route
        if not sources.used or route is None:
            return self.store.statements(plan)
        finish = replace(plan.finish, pushed_down=False)
        found: list[str] = []
        for each, cover in zip(route.scans, sources.covers, strict=True):
            if cover.live:
                scan = replace(each.scan, pieces=cover.live)
                found += self.store.statements(replace(plan, main=scan, comparison=None, finish=finish))
            for piece in cover.rollups:
                rollup = route.rollup(piece.rollup)
                if rollup.storage is not Storage.SEGMENTS:
                    stored = each.stored(rollup, cover.pieces)
                    found += self.store.rolled_statements(stored, finish, rollup, piece.spans)
        return tuple(found)

    async def _sources(self, asked: Prospect, policy: AnswerPolicy, context: CallContext) -> Sources:
        """Where the question would be answered now."""
        plan, route = asked.plan, asked.route
        known = self.known(plan.main.dataset)
        covers = route.passed_over if route is not None else ()
        rolled = route is not None and bool(route.rollups)
        if not rolled and known is not None:
            return Sources(context.received, covers=covers, sealed=missing(plan, known, covers))
        async with self.store.snapshot(PoolName.ADMIN, context.deadline) as snapshot:
            seen, coverage = Seen(snapshot), dict[str, Coverage]()
            if route is not None and rolled:
                coverage = dict(await seen.coverage(route))
            seals = await seen.seals(plan.main.dataset, known, coverage)
            if route is not None and rolled:
                covers = covers_of(route, policy, coverage, seals)
            sealed = missing(plan, seals, covers)
            return Sources(snapshot.as_of, snapshot.replica_lag, covers, coverage, sealed)


def _candidates(question: Question, sources: Sources) -> tuple[LadderStep, ...]:
    """Every source that was looked at, all rollups that were passed over included."""
    policy, route = question.policy, question.route
    lost = next((cover for cover in sources.covers if not cover.pieces), None)
    refused = refusal(question.plan, policy, route) or unaccepted(policy, sources.kind)
    refused = refused or (unanswerable(lost) if lost is not None else refusal_of(policy, sources.sealed))
    steps = [step for step in steps_of(sources) if step.verdict is Verdict.ANSWERED]
    if refused is not None:
        code = (refused.reason.value,)
        steps = [replace(step, verdict=Verdict.FORBIDDEN, codes=code) for step in steps]
    rejected = passed_over(sources.covers)
    rolled = [step for step in steps if step.rung is Rung.ROLLUP]
    live = [step for step in steps if step.rung is not Rung.ROLLUP]
    return (*considered(policy, route), *rolled, *rejected, *live)
