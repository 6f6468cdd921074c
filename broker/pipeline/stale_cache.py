"""The rung of the cache below the live one: answers that are too old to stand for it."""

from __future__ import annotations

from dataclasses import dataclass

from broker.domain.answer import Answer, AnswerKind, LadderStep, Rung, Verdict
from broker.domain.deadline import Deadline
from broker.domain.terms import AnswerPolicy, CacheMode
from broker.pipeline.cached import CACHED, Asked, Cached, suits
from broker.pipeline.stage import Group, Question
from broker.policy.freshness import Standing


class Older:
    """What the rungs of older answers have in common."""

    __slots__ = ()

    @property
    def rung(self) -> Rung:
        """Older cache entries."""
        return Rung.CACHE_STALE

    def allowed(self, policy: AnswerPolicy) -> bool:
        """Whether the caller reads from the cache."""
        return policy.cache is CacheMode.DEFAULT and AnswerKind.CACHE_STALE in policy.accepted_kinds

    def not_cached(self, asked: Asked) -> LadderStep | None:
        """Why nothing is looked for: the caller reads nothing that is held, or the question has no key."""
        if asked.reads and asked.key:
            return None
        return LadderStep(self.rung, Verdict.NOT_APPLICABLE, codes=("NOT_CACHED",))


@dataclass(frozen=True, slots=True)
class StaleCache(Older):
    """The answer that is held, up to its hard age and the caller's own limit."""

    cached: Cached

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        """The newest answer of any tier."""
        cached = self.cached
        asked = Asked.by(question, group)
        if (step := self.not_cached(asked)) is not None:
            return step
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
