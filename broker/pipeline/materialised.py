"""Answers from datasets that jobs made: their rows come from the result store, worker processes compute.

Such a dataset never changes, so that nothing of it is cached, refreshed or degraded: its answers are as old as the
snapshot that it was made in, and say so. The database is not asked, whether it is there or not, and no seat is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    CostClass,
    Exactness,
    Interval,
    PartSource,
)
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fingerprint import fingerprint
from broker.domain.materialised import Materialised
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.request import (
    Basis,
    CallContext,
    Classification,
    ExplainAsk,
    Explanation,
    ExploreAsk,
    ExploreEvent,
    ExploreHeader,
    RequestKind,
)
from broker.domain.terms import AnswerPolicy, PartialMode, RollupMode
from broker.pipeline.bounds import error_bounds, exactness
from broker.pipeline.cached import Asked
from broker.pipeline.catalog import Beside
from broker.pipeline.planner import Planner
from broker.pipeline.routed import refusal, unaccepted
from broker.pipeline.stage import Outcome
from broker.pipeline.streamed import Limits, check_size
from broker.policy.materialised import way
from broker.policy.ranges import GridBuilder
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock

Find = Callable[[CallContext, Sequence[str]], Awaitable[Beside]]
"""The caller's datasets with these names, as far as there are any."""
Rows = Callable[[Materialised], Awaitable[Sequence[bytes]]]
"""The rows of a dataset as encoded Arrow tables; raises BrokerError."""

CLASSES = {
    PoolName.DASHBOARD: CostClass.DASHBOARD,
    PoolName.EXPLORATION: CostClass.EXPLORATION,
    PoolName.JOB: CostClass.JOB,
}
POOLS = {RequestKind.DASHBOARD: PoolName.DASHBOARD}
"""Whose workers compute; explorations are the others."""


@dataclass(frozen=True, slots=True)
class Materialisations:
    """Datasets that jobs made, as the request path uses them."""

    find: Find
    rows: Rows
    aggregator: Aggregator
    clock: Clock
    grids: GridBuilder

    async def planner(self, planner: Planner, context: CallContext, names: Sequence[str]) -> Planner:
        """The planner, with those of the names that the model does not know and the caller has.

        While nobody can tell what they are, plans over them fail, and over the model's datasets do not.
        """
        known = planner.catalog.model.datasets
        unknown = [name for name in dict.fromkeys(names) if name not in known]
        if not unknown:
            return planner
        try:
            return planner.with_beside(await self.find(context, unknown))
        except BrokerError as error:
            return planner.with_beside(dict.fromkeys(unknown, error))

    async def look(
        self, asked: Sequence[Asked], context: CallContext, pool: PoolName
    ) -> list[Outcome | None]:
        """What comes of the questions to datasets that jobs made, None for the others; in workers of the pool."""
        places = [i for i, each in enumerate(asked) if each.plan.main.dataset.materialised is not None]
        made = await asyncio.gather(*(self._outcome(asked[i], context, pool) for i in places))
        found: list[Outcome | None] = [None] * len(asked)
        for i, outcome in zip(places, made, strict=True):
            found[i] = outcome
        return found

    async def _outcome(self, asked: Asked, context: CallContext, pool: PoolName) -> Outcome:
        plan, started = asked.plan, self.clock.monotonic()
        try:
            made = allowed(plan, asked.policy, self.clock.now())
            found = way(plan, await self.rows(made), self.grids)
            table = await self.aggregator.table(
                pool, found.results, found.finish, asked.format, context.deadline
            )
        except BrokerError as error:
            return error
        seconds = self.clock.monotonic() - started
        cost = Cost(seconds, seconds, table.row_count, len(table.encoded))
        return Answer(table, status_of(plan, made, pool, cost, self.clock.now()))

    async def stream(
        self, plan: Plan, ask: ExploreAsk, context: CallContext, limits: Limits
    ) -> AsyncGenerator[ExploreEvent, None]:
        """The header, batches, the status."""
        pool, started = PoolName.EXPLORATION, self.clock.monotonic()
        made = allowed(plan, ask.policy, self.clock.now())
        found = way(plan, await self.rows(made), self.grids)
        batches = await self.aggregator.batches(
            pool, found.results, found.finish, ask.format, context.deadline
        )
        yield ExploreHeader(
            plan.columns, made.status.as_of, CLASSES[pool], classification=_classification(pool)
        )
        rows = size = 0
        limits = limits.narrowed(ask.max_row_count, ask.max_byte_count)
        for batch in batches:
            first, rows, size = rows, rows + batch.row_count, size + len(batch.encoded)
            check_size(rows, size, limits)
            yield replace(batch, first_row=first)
        seconds = self.clock.monotonic() - started
        yield status_of(plan, made, pool, Cost(seconds, seconds, rows, size), self.clock.now())

    def explain(self, plan: Plan, ask: ExplainAsk) -> Explanation:
        """How a question would be answered."""
        made = allowed(plan, ask.policy, self.clock.now())
        pool = POOLS.get(ask.kind, PoolName.EXPLORATION)
        status = status_of(plan, made, pool, Cost(), self.clock.now())
        bounds = plan.main.bounds
        return Explanation(
            columns=plan.columns,
            classification=_classification(pool),
            predicted=Cost(row_count=made.row_count, byte_count=made.byte_count, seats=0.0),
            expected_kind=status.kind,
            expected_exactness=status.exactness,
            fingerprint=plan.fingerprint,
            plan=status.parts,
            expected_staleness=status.staleness,
            bounds=status.bounds,
            resolved_range=Interval(bounds.start, bounds.end) if bounds is not None else None,
        )


def allowed(plan: Plan, policy: AnswerPolicy, now: datetime) -> Materialised:
    """Where the rows are; raises POLICY_UNSATISFIABLE where the caller's terms leave them out."""
    made = plan.main.dataset.materialised
    assert made is not None, "only such plans are asked for"
    if (refused := unaccepted(policy, AnswerKind.MATERIALIZED)) is not None:
        raise refused
    bound = AnswerPolicy(max_relative_error=policy.max_relative_error)
    if (refused := refusal(plan, bound)) is not None:
        raise refused
    problem, age = "", _age(made, now)
    if policy.rollup is RollupMode.REQUIRE:
        problem = "rollup_mode REQUIRE, but a dataset that a job made has no rollups"
    elif policy.max_staleness is not None and age > policy.max_staleness:
        problem = (
            f"max_staleness {policy.max_staleness:g} s, but what the dataset holds was read {age:.0f} s ago"
        )
    elif policy.partial is PartialMode.FORBID and made.status.exactness is Exactness.PARTIAL:
        problem = "partial FORBID, but the dataset was made while rows of the tables were gone"
    if problem:
        text = f"The policy cannot be satisfied: {problem}."
        raise BrokerError(ErrorReason.POLICY_UNSATISFIABLE, text, metadata={"problems": problem})
    return made


def _age(made: Materialised, now: datetime) -> float:
    return max(0.0, (now - made.status.as_of).total_seconds())


def status_of(plan: Plan, made: Materialised, pool: PoolName, cost: Cost, now: datetime) -> AnswerStatus:
    """What an answer is worth: what the rows were when they were read, and no newer."""
    status, bounds = made.status, plan.main.bounds
    interval = Interval(bounds.start, bounds.end) if bounds is not None else None
    partial = status.exactness is Exactness.PARTIAL
    part = AnswerPart(
        PartSource.MATERIALIZED, made.job, status.as_of, interval, made.version, cost.row_count, 1.0
    )
    return AnswerStatus(
        kind=AnswerKind.MATERIALIZED,
        exactness=Exactness.PARTIAL if partial else exactness(plan),
        as_of=status.as_of,
        staleness=_age(made, now),
        guarantee=status.guarantee,
        guarantee_bound=status.guarantee_bound,
        parts=(part,),
        missing_intervals=status.missing_intervals,
        sealed_intervals=status.sealed_intervals,
        bounds=error_bounds(plan),
        pool=pool.value,
        actual=cost,
        cost_class=CLASSES[pool],
        answer_version=fingerprint(plan.fingerprint, status.as_of),
    )


def _classification(pool: PoolName) -> Classification:
    return Classification(CLASSES[pool], pool, Basis.REQUEST, confidence=1.0)
