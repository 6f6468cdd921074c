"""Old answers for those whom the brown-out dial sends down, before anything is classified.

The dial spares the live rung. So it had better spare what leads there too: proofs that another answer contains this
one, a class, a route, the planner's estimate, and the stages in between cost the event loop more than the answer that
is at hand. Nothing is waited for here: only the memory of this process is looked at. Who is not answered goes on, and
may go down later.

Nobody has told the class of these questions. They are taken for what such calls usually ask, and the queue of their
pool decides. The dial is for dashboards, which come again and again. Who explores wants to see what is there now: only
who would be refused, whatever the question, has an old answer in place of the refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.domain.answer import Answer, AnswerKind, DegradationReason, LadderStep, Rung, Verdict
from broker.domain.pool import PoolName
from broker.domain.request import CallContext
from broker.domain.terms import CacheMode, Consistency, FallbackMode, RollupMode
from broker.pipeline.cached import READ, Asked, Cached, suits
from broker.pipeline.degraded import Strain
from broker.pipeline.ladder import Ladder, told
from broker.pipeline.routed import considered
from broker.policy.brownout import dial, goes_down
from broker.policy.freshness import Standing

Early = Callable[[Sequence[Asked], CallContext, PoolName], Sequence[Answer | None]]
"""What is answered from below at once, of what is asked for seats of a pool."""
_SKIPPED = LadderStep(Rung.ROLLUP, Verdict.SKIPPED, codes=(DegradationReason.BROWNOUT.name,))


def nobody(asked: Sequence[Asked], _context: CallContext, _pool: PoolName) -> Sequence[Answer | None]:
    """Everybody goes on."""
    return [None] * len(asked)


@dataclass(frozen=True, slots=True)
class BrownedOut:
    """Answers those who go down."""

    ladder: Ladder
    cached: Cached
    strain: Strain

    def __call__(
        self, asked: Sequence[Asked], context: CallContext, pool: PoolName
    ) -> Sequence[Answer | None]:
        """For each question its old answer, if it is to go down and one is held that the caller takes."""
        if not asked:
            return ()
        left = context.deadline.remaining(self.ladder.clock.monotonic())
        strain = self.strain(pool, context.principal, left)
        if strain < 1.0 if pool is not PoolName.DASHBOARD else dial(strain) <= 0.0:
            return nobody(asked, context, pool)
        return [self._answer(each, context) if goes_down(each.key, strain) else None for each in asked]

    def _answer(self, asked: Asked, context: CallContext) -> Answer | None:
        held = self.cached.answers.near(asked.key) if _may(asked) else None
        if held is None or not suits(held, asked):
            return None
        fresh = self.cached.judge(held, asked)
        if fresh.standing is not Standing.STALE or fresh.kind not in asked.policy.accepted_kinds:
            return None
        answer, cause = self.cached.handed(held, fresh, asked, context), self.ladder.skipped()
        above = list(considered(asked.policy))
        if asked.plan.main.dataset.rollups and asked.policy.rollup is not RollupMode.FORBID:
            above[-1] = _SKIPPED
        name = answer.status.parts[0].source_name if answer.status.parts else ""
        found = LadderStep(Rung.CACHE_STALE, Verdict.ANSWERED, name)
        self.ladder.telemetry.fallback(Rung.LIVE.value, found.rung.value, DegradationReason.BROWNOUT.value)
        return told(answer, cause, (*above, *cause.steps, found))


def _may(asked: Asked) -> bool:
    """Whether the caller wants a live answer, and takes a stale one in its place."""
    policy = asked.policy
    return (
        policy.fallback is FallbackMode.ALLOW
        and policy.cache is CacheMode.DEFAULT
        and asked.consistency is not Consistency.SNAPSHOT
        and AnswerKind.CACHE_STALE in policy.accepted_kinds
        and not READ.isdisjoint(policy.accepted_kinds)
    )
