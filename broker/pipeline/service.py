"""The application's side of QueryService: asks become questions, questions go down a recipe, outcomes come back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime

from broker.domain.answer import Answer, AnswerStatus
from broker.domain.errors import BrokerError, ErrorReason, Violation, invalid
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import Query, SqlQuery
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
from broker.domain.terms import CacheMode, Consistency
from broker.domain.values import ResultFormat
from broker.pipeline.cached import READ, Asked, Cached, asked_of
from broker.pipeline.classified import Classifying
from broker.pipeline.contained import Contained
from broker.pipeline.early import Early, nobody
from broker.pipeline.explain import Explainer
from broker.pipeline.foreseen import foreseen
from broker.pipeline.materialised import Materialisations
from broker.pipeline.parted import by_pool
from broker.pipeline.planner import Planner
from broker.pipeline.recipes import Recipes
from broker.pipeline.routed import refusal
from broker.pipeline.sized import Fits, anything
from broker.pipeline.sql import SqlStream
from broker.pipeline.stage import Group, Outcome, Question
from broker.pipeline.streamed import Limits, check_size
from broker.pipeline.whole import MOST_WHOLE, events_of
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

Metered = Callable[[PoolName, Principal], BrokerError | None]
"""Counts a call that takes no seat, or says why the caller may not have it."""


def uncounted(_pool: PoolName, _principal: Principal) -> None:
    """Everybody may have as many as he likes."""


@dataclass(frozen=True, slots=True)
class QueryService:
    """Answers dashboards, explorations and explanations."""

    plan: Planner
    recipes: Recipes
    classifying: Classifying
    explainer: Explainer
    sql: SqlStream
    telemetry: Telemetry
    limits: Limits
    cached: Cached | None = None
    fits: Fits = anything
    contained: Contained | None = None
    meter: Metered = uncounted
    early: Early = nobody
    materialised: Materialisations | None = None

    async def dashboard(self, context: CallContext, ask: DashboardAsk) -> DashboardOutcome:
        """One outcome for each panel. Raises the panels' error when none of them can be answered at all.

        Panels that the cache answers leave the group; the rest goes down as one.
        """
        planner = await self._planner(context, [panel.query.dataset for panel in ask.panels])
        outcomes: list[object] = [_planned(planner, panel, context) for panel in ask.panels]
        asked: list[Asked] = []
        places: list[int] = []
        for i, (panel, plan) in enumerate(zip(ask.panels, outcomes, strict=True)):
            if isinstance(plan, Plan):
                asked.append(asked_of(plan, panel.policy, ask.format, ask.consistency))
                places.append(i)
        if not asked:
            raise _joint(outcomes)
        found, old = await self._held(asked, context, PoolName.DASHBOARD)
        missing = [i for i, outcome in enumerate(found) if outcome is None]
        if missing:
            wanted = [(ask.panels[places[i]].panel_id, asked[i]) for i in missing]
            questions = await self._questions(context, RequestKind.DASHBOARD, wanted, ask.consistency)
            load_group = f"{ask.dashboard_id}:{context.request_id}"
            group = Group(context, RequestKind.DASHBOARD, questions, ask.consistency, load_group=load_group)
            read = await by_pool(self.recipes.dashboard, group)
            for i, answered in zip(missing, read, strict=True):
                found[i] = answered
        tokens: dict[int, Asked] = {}
        snapshots: list[datetime] = []
        for i, place in enumerate(places):
            outcomes[place] = outcome = found[i]
            if not isinstance(outcome, Answer):
                continue
            if i not in missing and i not in old:
                tokens[place] = asked[i]
            if outcome.status.kind in READ:
                snapshots.append(outcome.status.as_of)
            self._count(context, outcome.status)
        told = [
            _panel_outcome(panel, outcome, tokens.get(i))
            for i, (panel, outcome) in enumerate(zip(ask.panels, outcomes, strict=True))
        ]
        if not [each for each in told if isinstance(each.result, Answer)]:
            raise _joint(outcomes)
        return DashboardOutcome((*told,), min(snapshots) if snapshots else None)

    async def _planner(self, context: CallContext, names: Sequence[str]) -> Planner:
        """Makes plans over the model, and over those of the names that jobs made datasets of for the caller."""
        if self.materialised is None or self.plan.knows(names):
            return self.plan
        return await self.materialised.planner(self.plan, context, names)

    async def _held(
        self, asked: Sequence[Asked], context: CallContext, pool: PoolName, *, early: bool = True
    ) -> tuple[list[Outcome | None], Sequence[int]]:
        """What is answered without the database, and the places of what is old because the pool has no room."""
        if self.materialised is None or not [each for each in asked if each.plan.main.dataset.materialised]:
            if self.cached is None:
                return [None] * len(asked), ()
            return await self._kept(asked, context, pool, early=early)
        found = await self.materialised.look(asked, context, pool)
        rest = [i for i, outcome in enumerate(found) if outcome is None]
        if not rest and (refused := self.meter(pool, context.principal)) is not None:
            raise refused
        kept, old = (
            await self._kept([asked[i] for i in rest], context, pool, early=early) if rest else ((), ())
        )
        for i, outcome in zip(rest, kept, strict=True):
            found[i] = outcome
        return [each and self.fits(each) for each in found], [rest[i] for i in old]

    async def _kept(
        self, asked: Sequence[Asked], context: CallContext, pool: PoolName, *, early: bool
    ) -> tuple[list[Outcome | None], Sequence[int]]:
        """What the cache answers, and the places of what is old, where that may be.

        A caller who accepts nothing else has an error for what the cache does not hold. Answers that are made out of
        others are made by workers of the pool.
        """
        if self.cached is None:
            return [None] * len(asked), ()
        found = await self.cached.look(asked, context)
        later = [i for i, answer in enumerate(found) if answer is None] if early else []
        for i, below in zip(later, self.early([asked[i] for i in later], context, pool), strict=True):
            found[i] = below
        old = [i for i in later if found[i] is not None]
        if self.contained is not None:
            found = await self.contained.look(asked, found, context, pool)
        if all(found) and (refused := self.meter(pool, context.principal)) is not None:
            raise refused
        both = zip(found, asked, strict=True)
        return [_not_held(each) if answer is None else self.fits(answer) for answer, each in both], old

    async def _questions(
        self,
        context: CallContext,
        kind: RequestKind,
        asked: Sequence[tuple[str, Asked]],
        consistency: Consistency,
    ) -> tuple[Question, ...]:
        wanted = [(each.plan, each.policy) for _, each in asked]
        with self.telemetry.span(SpanName.CLASSIFY):
            found = await self.classifying.prospects(context, kind, wanted, consistency)
        questions: list[Question] = []
        for (name, each), p in zip(asked, found, strict=True):
            decided = p.classified.classification
            self.telemetry.classified(str(decided.cost_class), str(decided.basis))
            own = (p.route, p.live, each.key if self.cached is not None else "")
            questions.append(Question(name, p.plan, each.policy, each.format, p.classified, (), *own))
        return (*questions,)

    async def read_again(self, asked: Asked, context: CallContext) -> Sequence[Outcome]:
        """Reads a question whatever is held, and holds its answer."""
        again = replace(asked, policy=replace(asked.policy, cache=CacheMode.REVALIDATE))
        questions = await self._questions(context, RequestKind.DASHBOARD, [("", again)], asked.consistency)
        group = Group(context, RequestKind.DASHBOARD, questions, asked.consistency)
        return await self.recipes.dashboard(group)

    async def explore(self, context: CallContext, ask: ExploreAsk) -> AsyncGenerator[ExploreEvent, None]:
        """The header, batches, the status."""
        if isinstance(ask.source, SqlQuery):
            events = self.sql.explore(context, ask, ask.source)
        else:
            events = self._asked(ask.source, context, ask)
        async with aclosing(events):
            async for event in events:
                if isinstance(event, AnswerStatus):
                    self._count(context, event)
                    yield replace(event, request_id=context.request_id)
                else:
                    yield event

    async def _asked(
        self, query: Query, context: CallContext, ask: ExploreAsk
    ) -> AsyncGenerator[ExploreEvent, None]:
        plan = (await self._planner(context, [query.dataset]))(query, context)
        if self.materialised is not None and plan.main.dataset.materialised is not None:
            if (refused := self.meter(PoolName.EXPLORATION, context.principal)) is not None:
                raise refused
            events = self.materialised.stream(plan, ask, context, self.limits)
        else:
            asked = asked_of(plan, ask.policy, ask.format, ask.policy.consistency)
            events = self._streamed(asked, context, ask)
        async with aclosing(events):
            async for event in events:
                yield event

    async def _streamed(
        self, asked: Asked, context: CallContext, ask: ExploreAsk
    ) -> AsyncGenerator[ExploreEvent, None]:
        early = ask.job is None  # what may go on as a job is not refused for the caller's deadline
        (found,), _ = await self._held([asked], context, PoolName.EXPLORATION, early=early)
        if isinstance(found, BrokerError) and found.reason is not ErrorReason.RESULT_TOO_LARGE:
            raise found
        if isinstance(found, Answer) and len(found.table.encoded) <= MOST_WHOLE:
            limits = self.limits.narrowed(ask.max_row_count, ask.max_byte_count)
            check_size(found.table.row_count, len(found.table.encoded), limits)
            for event in events_of(found):
                yield event
            return
        questions = await self._questions(context, RequestKind.EXPLORE, [("", asked)], ask.policy.consistency)
        group = Group(
            context,
            RequestKind.EXPLORE,
            questions,
            ask.policy.consistency,
            max_row_count=ask.max_row_count,
            max_byte_count=ask.max_byte_count,
            job=ask.job,
        )
        async with aclosing(self.recipes.explore(group)) as events:
            async for event in events:
                yield event

    async def explain(self, context: CallContext, ask: ExplainAsk) -> Explanation:
        """How the query would be answered."""
        if isinstance(ask.source, SqlQuery):
            return await self.sql.explain(context, ask, ask.source)
        plan = (await self._planner(context, [ask.source.dataset]))(ask.source, context)
        if self.materialised is not None and plan.main.dataset.materialised is not None:
            return self.materialised.explain(plan, ask)
        explanation = await self.explainer.explain(plan, ask, context)
        if self.cached is None:
            return explanation
        asked = asked_of(plan, ask.policy, ResultFormat.COLUMNS, ask.policy.consistency)
        return foreseen(explanation, self.cached, asked)

    def _count(self, context: CallContext, status: AnswerStatus) -> None:
        reason = status.reasons[0].value if status.degraded and status.reasons else ""
        self.telemetry.answer(context.method, str(status.kind), reason, status.staleness)


def _planned(plan: Planner, panel: PanelAsk, context: CallContext) -> Plan | BrokerError:
    try:
        return plan(panel.query, context, f"{panel.path}.query" if panel.path else "query", panel.shape)
    except BrokerError as error:
        return error


def _not_held(asked: Asked) -> BrokerError | None:
    only = asked.policy.cache is CacheMode.ONLY
    return refusal(asked.plan, asked.policy) if only else None


def _panel_outcome(panel: PanelAsk, outcome: object, token: Asked | None) -> PanelOutcome:
    assert isinstance(outcome, Answer | BrokerError), "every panel has come to something"
    return PanelOutcome(panel.panel_id, outcome, token)


def _joint(outcomes: Sequence[object]) -> BrokerError:
    """One error for panels that all failed: the first that is not the request's own fault, or all its violations."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, BrokerError)]
    for error in errors:
        if error.reason is not ErrorReason.INVALID_REQUEST:
            return error
    violations: list[Violation] = [v for error in errors for v in error.violations]
    return invalid(violations)
