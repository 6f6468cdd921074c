"""What the cache would do with a question that is only explained: it is looked at, and nothing is taken from it."""

from __future__ import annotations

from dataclasses import replace

from broker.domain.answer import LadderStep, Rung, Verdict
from broker.domain.held import Held
from broker.domain.request import Explanation
from broker.domain.terms import FallbackMode
from broker.pipeline.cached import CACHED, Asked, Cached, suits
from broker.policy.freshness import Freshness, Standing


def foreseen(explanation: Explanation, cached: Cached, asked: Asked) -> Explanation:
    """The explanation with what this process holds: as the answer that is expected, or as a rung to fall back to."""
    held = cached.answers.near(asked.key) if asked.reads else None
    if held is None or not suits(held, asked):
        code = "NOT_HELD" if held is None else "TERMS"
        verdict = Verdict.NOT_APPLICABLE if asked.reads else Verdict.FORBIDDEN
        return _with(explanation, LadderStep(Rung.CACHE_STALE, verdict, codes=(code,) if asked.reads else ()))
    fresh = cached.judge(held, asked)
    if fresh.usable and fresh.kind in asked.policy.accepted_kinds:
        return _expected(explanation, held, fresh)
    return _with(explanation, _fallback(held, fresh, asked))


def _expected(explanation: Explanation, held: Held, fresh: Freshness) -> Explanation:
    """The cache answers, so that all else is spared."""
    own = LadderStep(fresh.rung, Verdict.ANSWERED, held.key)
    others = (each for each in explanation.candidates if each.rung is not Rung.CACHE_FRESH)
    spared = [
        replace(each, verdict=Verdict.SKIPPED) if each.verdict is Verdict.ANSWERED else each
        for each in others
    ]
    return replace(
        explanation,
        expected_kind=fresh.kind,
        expected_exactness=held.status.exactness,
        expected_staleness=fresh.staleness,
        candidates=(own, *spared),
    )


def _fallback(held: Held, fresh: Freshness, asked: Asked) -> LadderStep:
    """A rung below the live one, as long as its answer is not too old."""
    if fresh.standing is Standing.EXPIRED:
        return LadderStep(Rung.CACHE_STALE, Verdict.REFUSED, held.key, ("TOO_OLD",))
    forbidden = asked.policy.fallback is FallbackMode.FAIL
    if forbidden or fresh.kind not in asked.policy.accepted_kinds & CACHED:
        return LadderStep(Rung.CACHE_STALE, Verdict.FORBIDDEN, held.key)
    return LadderStep(Rung.CACHE_STALE, Verdict.SKIPPED, held.key)


def _with(explanation: Explanation, step: LadderStep) -> Explanation:
    return replace(explanation, candidates=(*explanation.candidates, step))
