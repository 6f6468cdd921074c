"""The rung of the cache below the live one: answers that are too old to stand for it."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.answer import Answer, AnswerKind, LadderStep, Rung, Verdict
from broker.domain.deadline import Deadline
from broker.domain.terms import AnswerPolicy, CacheMode
from broker.pipeline.cached import CACHED, Asked, Cached, suits
from broker.pipeline.stage import Group, Question
from broker.policy.freshness import Standing


@dataclass(frozen=True, slots=True)
class StaleCache:
    """The answer that is held, up to its hard age and the caller's own limit."""

    cached: Cached

    @property
    def rung(self) -> Rung:
        """Older cache entries."""
        return Rung.CACHE_STALE

    def allowed(self, policy: AnswerPolicy) -> bool:
        """Whether the caller reads from the cache."""
        return policy.cache is CacheMode.DEFAULT and AnswerKind.CACHE_STALE in policy.accepted_kinds

    def at_hand(self, question: Question, group: Group) -> float | None:
        """Age of what this process holds itself."""
        asked = _asked(question, group)
        held = self.cached.answers.near(question.key) if asked.reads and question.key else None
        if held is None or not suits(held, asked):
            return None
        fresh = self.cached.judge(held, asked)
        usable = fresh.standing is not Standing.EXPIRED and fresh.kind in question.policy.accepted_kinds
        return fresh.staleness if usable else None

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        """The newest answer of any tier."""
        cached = self.cached
        asked = _asked(question, group)
        if not asked.reads or not question.key:
            return LadderStep(self.rung, Verdict.NOT_APPLICABLE, codes=("NOT_CACHED",))
        held = cached.answers.near(question.key)
        if held is None:
            held = await cached.answers.find(question.key, deadline.remaining(cached.clock.monotonic()))
        if held is None:
            return LadderStep(self.rung, Verdict.NOT_APPLICABLE, codes=("NOT_HELD",))
        if not suits(held, asked):
            return LadderStep(self.rung, Verdict.FORBIDDEN, codes=("TERMS",))
        fresh = cached.judge(held, asked)
        if fresh.standing is Standing.EXPIRED:
            return LadderStep(self.rung, Verdict.REFUSED, codes=("TOO_OLD",))
        if fresh.kind not in question.policy.accepted_kinds & CACHED:
            return LadderStep(self.rung, Verdict.FORBIDDEN, codes=("KIND",))
        return cached.handed(held, fresh, asked, group.context)


def _asked(question: Question, group: Group) -> Asked:
    return Asked(question.plan, question.policy, question.format, group.consistency, question.key)
