"""The application's side of QueryService: asks become questions, questions go down a recipe, outcomes come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from broker.domain.answer import Answer, AnswerStatus
from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.query import SqlQuery
from broker.domain.request import (
    CallContext,
    DashboardAsk,
    DashboardOutcome,
    ExplainAsk,
    Explanation,
    ExploreAsk,
    ExploreEvent,
    PanelAsk,
    PanelOutcome,
    RequestKind,
)
from broker.domain.terms import AnswerPolicy, Consistency
from broker.pipeline.classified import Classifying, Prospect
from broker.pipeline.explain import Explainer
from broker.pipeline.planner import Planner
from broker.pipeline.recipes import Recipes
from broker.pipeline.sql import SqlStream
from broker.pipeline.stage import Group, Handler, Outcome, Question
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName


@dataclass(frozen=True, slots=True)
class QueryService:
    """Answers dashboards, explorations and explanations."""

    plan: Planner
    recipes: Recipes
    classifying: Classifying
    explainer: Explainer
    sql: SqlStream
    telemetry: Telemetry

    async def dashboard(self, context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        """One outcome for each panel. Raises the panels' error when none of them can be answered at all."""
        planned = [self._plan(panel, context) for panel in ask.panels]
        asked = [
            (panel, plan) for panel, plan in zip(ask.panels, planned, strict=True) if isinstance(plan, Plan)
        ]
        if not asked:
            raise _joint(planned)
        found = await self._prospects(
            context,
            RequestKind.DASHBOARD,
            [(plan, panel.policy) for panel, plan in asked],
            ask.consistency,
        )
        questions = tuple(
            Question(
                panel.panel_id, p.plan, panel.policy, ask.format, p.classified, (), p.route, p.live, p.seals
            )
            for (panel, _), p in zip(asked, found, strict=True)
        )
        load_group = f"{ask.dashboard_id}:{context.request_id}"
        group = Group(context, RequestKind.DASHBOARD, questions, ask.consistency, load_group=load_group)
        answered = iter(await by_pool(self.recipes.dashboard, group))
        outcomes = [next(answered) if isinstance(p, Plan) else p for p in planned]
        if not any(isinstance(outcome, Answer) for outcome in outcomes):
            raise _joint(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, Answer):
                self._count(context, outcome.status)
        live = [o.status.as_of for o in outcomes if isinstance(o, Answer)]
        return DashboardOutcome(
            tuple(_panel_outcome(p, o, context) for p, o in zip(ask.panels, outcomes, strict=True)),
            snapshot_time=min(live, default=None),
        )

    def _plan(self, panel: PanelAsk, context: CallContext) -> Plan | BrokerError:
        try:
            return self.plan(panel.query, context, f"{panel.path}.query" if panel.path else "query")
        except BrokerError as error:
            return error

    async def _prospects(
        self,
        context: CallContext,
        kind: RequestKind,
        asked: Sequence[tuple[Plan, AnswerPolicy]],
        consistency: Consistency,
    ) -> list[Prospect]:
        with self.telemetry.span(SpanName.CLASSIFY):
            found = await self.classifying.prospects(context, kind, asked, consistency)
        for each in found:
            decided = each.classified.classification
            self.telemetry.classified(decided.cost_class.value, decided.basis.value)
        return found

    async def explore(self, context: CallContext, ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        """The header, batches, the status."""
        if isinstance(ask.source, SqlQuery):
            events = self.sql.explore(context, ask, ask.source)
        else:
            plan = self.plan(ask.source, context)
            asked = [(plan, ask.policy)]
            (p,) = await self._prospects(context, RequestKind.EXPLORE, asked, ask.policy.consistency)
            question = Question(
                "", p.plan, ask.policy, ask.format, p.classified, (), p.route, p.live, p.seals
            )
            group = Group(
                context,
                RequestKind.EXPLORE,
                (question,),
                max_row_count=ask.max_row_count,
                max_byte_count=ask.max_byte_count,
            )
            events = self.recipes.explore(group)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, AnswerStatus):
                    self._count(context, event)
                    yield replace(event, request_id=context.request_id)
                else:
                    yield event

    async def explain(self, context: CallContext, ask: ExplainAsk) -> Explanation:
        """How the query would be answered."""
        if isinstance(ask.source, SqlQuery):
            return await self.sql.explain(context, ask, ask.source)
        return await self.explainer.explain(self.plan(ask.source, context), ask, context)

    def _count(self, context: CallContext, status: AnswerStatus) -> None:
        reason = status.reasons[0].value if status.reasons else ""
        self.telemetry.answer(context.method, status.kind.value, reason, status.staleness)


async def by_pool(handler: Handler, group: Group) -> Sequence[Outcome]:
    """Answers a group, each panel in the seats of its own class where the panels need not agree with each other.

    Otherwise they share a snapshot, and with it the seats of the heaviest. A refusal of one part is the error of its
    panels.
    """
    pools = sorted({question.classified.classification.pool for question in group.questions})
    if group.consistency is not Consistency.ANY or len(pools) == 1:
        return await handler(group)

    async def part(pool: PoolName) -> dict[int, Outcome]:
        places = [i for i, q in enumerate(group.questions) if q.classified.classification.pool is pool]
        load_group = f"{group.load_group}/{pool.value}"  # one may be refused without the other
        own = replace(group, questions=tuple(group.questions[i] for i in places), load_group=load_group)
        try:
            return dict(zip(places, await handler(own), strict=True))
        except BrokerError as error:
            return dict.fromkeys(places, error)

    found: dict[int, Outcome] = {}
    async with asyncio.TaskGroup() as tasks:
        parts = [tasks.create_task(part(pool)) for pool in pools]
    for each in parts:
        found |= each.result()
    return [found[i] for i in range(len(group.questions))]


def _panel_outcome(panel: PanelAsk, outcome: Outcome, context: CallContext) -> PanelOutcome:
    if isinstance(outcome, Answer):
        outcome = replace(outcome, status=replace(outcome.status, request_id=context.request_id))
    return PanelOutcome(panel.panel_id, outcome)


def _joint(outcomes: Sequence[object]) -> BrokerError:
    """One error for panels that all failed: the first that is not the request's own fault, or all its violations."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, BrokerError)]
    for error in errors:
        if error.reason is not ErrorReason.INVALID_REQUEST:
            return error
    violations: list[Violation] = [v for error in errors for v in error.violations]
    return invalid(violations)
