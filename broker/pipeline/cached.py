"""Gives out answers that are held, before anything is classified, and keeps those that are read.

A hit costs no classification, no route and no seat. What may be given out is decided by the caller's terms and by how
fresh the answer is (:mod:`broker.policy.freshness`); what may be kept, by what the answer is: complete, and read from
the tables or from rollups. Who may see it is in its key, because the plan's fingerprint has the row policies in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

from broker.domain.answer import (
    Answer,
    AnswerKind,
    DegradationReason,
    Exactness,
    PartSource,
)
from broker.domain.fingerprint import fingerprint
from broker.domain.held import Content, Held
from broker.domain.model import Dataset
from broker.domain.plan import Plan
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency, RollupMode
from broker.domain.values import ResultFormat
from broker.pipeline.routed import refusal
from broker.pipeline.stage import Group, Question
from broker.policy.freshness import Ages, Freshness, Looked, Standing, freshness, given, kept
from broker.policy.reach import reach_of
from broker.ports.cache import AnswerCache
from broker.ports.changes import ChangeLog
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry

CACHED = frozenset({AnswerKind.CACHE_FRESH, AnswerKind.CACHE_STALE})
"""Kinds of answers that come from the cache."""
READ = frozenset({AnswerKind.LIVE, AnswerKind.ROLLUP, AnswerKind.HYBRID})
"""Kinds of answers that are kept."""
INCOMPLETE = frozenset({Exactness.PARTIAL, Exactness.ESTIMATED})
MOST_WAIT, WAIT_SHARE = 0.05, 0.05
"""Seconds, and share of the time that is left, for which a lookup may wait for other tiers than the process' own."""


def key_of(plan: Plan, policy: AnswerPolicy, format: ResultFormat) -> str:
    """Names the answer: whatever is visible in it is in here, and nothing of who asks beside what they may see."""
    return fingerprint(plan.fingerprint, policy.edge, format)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question before it is classified."""

    plan: Plan
    policy: AnswerPolicy
    format: ResultFormat
    consistency: Consistency
    key: str

    @classmethod
    def by(cls, question: Question, group: Group) -> Self:
        """What a question that was classified since had asked."""
        return cls(question.plan, question.policy, question.format, group.consistency, question.key)

    @property
    def reads(self) -> bool:
        """Whether the caller takes answers from the cache."""
        return (
            self.policy.cache in (CacheMode.DEFAULT, CacheMode.ONLY)
            and self.consistency is not Consistency.SNAPSHOT
            and not CACHED.isdisjoint(self.policy.accepted_kinds)
        )


def asked_of(plan: Plan, policy: AnswerPolicy, format: ResultFormat, consistency: Consistency) -> Asked:
    """The question with its key."""
    return Asked(plan, policy, format, consistency, key_of(plan, policy, format))


Refresh = Callable[[Asked, Held, CallContext], bool]
"""Is told of an answer that is to be read again; says whether a newer one is on its way."""


def no_refresh(_asked: Asked, _held: Held, _context: CallContext) -> bool:
    """Nobody reads anything again."""
    return False


def nothing_more(_plan: Plan) -> Content | None:
    """Held answers answer nothing but their own questions."""
    return None


@dataclass(frozen=True, slots=True)
class Cached:
    """The cache as the request path uses it.

    ``ages`` gives the limits of a dataset, ``draw`` random numbers from 0 to 1; answers of more than ``max_entry``
    bytes are not kept. ``refresh`` is told of answers that should be read again; ``content`` says what else an answer
    of a plan may answer.
    """

    answers: AnswerCache
    changes: ChangeLog
    clock: Clock
    ages: Callable[[Dataset], Ages]
    draw: Callable[[], float]
    telemetry: Telemetry
    max_entry: int
    refresh: Refresh = no_refresh
    content: Callable[[Plan], Content | None] = nothing_more

    def near(self, asked: Asked, context: CallContext) -> Answer | None:
        """The answer that this process holds, if it may stand for a live one."""
        if not asked.reads:
            return None
        held = self.answers.near(asked.key)
        return None if held is None else self.give(held, asked, context)

    async def find(self, asked: Asked, context: CallContext) -> Answer | None:
        """The same from every tier, for a question that :meth:`near` had no answer to."""
        if not asked.reads:
            return None
        left = context.deadline.remaining(self.clock.monotonic())
        held = await self.answers.find(asked.key, min(MOST_WAIT, WAIT_SHARE * left))
        return None if held is None else self.give(held, asked, context)

    async def look(self, asked: Sequence[Asked], context: CallContext) -> list[Answer | None]:
        """Every question that a held answer may stand for; whoever accepts nothing but the cache has stale ones too."""
        found = [self.near(each, context) for each in asked]
        missing = [i for i, answer in enumerate(found) if answer is None and asked[i].reads]
        if missing:
            others = await asyncio.gather(*(self.find(asked[i], context) for i in missing))
            for i, other in zip(missing, others, strict=True):
                found[i] = other
        for each, answer in zip(asked, found, strict=True):
            if each.reads:
                self.telemetry.cache_lookup("answer", result_of(answer))
        return found

    def again(self, asked: Sequence[Asked]) -> list[tuple[Held, Freshness]] | None:
        """The answers to questions that were given them before, if this process still holds all, and all are fresh."""
        found = []
        for each in asked:
            held = self.answers.near(each.key)
            if held is None or not suits(held, each):
                return None
            fresh = self.judge(held, each)
            if (
                fresh.standing is not Standing.FRESH
                or fresh.refresh
                or fresh.kind not in each.policy.accepted_kinds
            ):
                return None
            found.append((held, fresh))
        return found

    def judge(self, held: Held, asked: Asked) -> Freshness:
        """How fresh a held answer is to the caller."""
        now, moment = self.clock.now(), held.moment  # first, so that a pause makes it older and not newer
        unchanged = self.changes.unchanged(held.reach, moment) if moment else None
        looked = Looked(bool(moment), unchanged)
        ages = self.ages(asked.plan.main.dataset)
        return freshness(held, looked, ages, asked.policy, now, self.draw())

    def give(self, held: Held, asked: Asked, context: CallContext) -> Answer | None:
        """The held answer with its status, if it may stand for a live one."""
        if not suits(held, asked):
            return None
        fresh = self.judge(held, asked)
        only = asked.policy.cache is CacheMode.ONLY and fresh.standing is Standing.STALE
        if not fresh.usable and not only:
            return None
        if fresh.kind not in asked.policy.accepted_kinds:
            return None
        return wanted(self.handed(held, fresh, asked, context), asked)

    def handed(self, held: Held, fresh: Freshness, asked: Asked, context: CallContext) -> Answer:
        """The held answer with what is said of it; a newer one is asked for where that is due."""
        status = given(held, fresh)
        if fresh.refresh and self.refresh(asked, held, context):
            expected = self.clock.now() + timedelta(seconds=held.seconds)
            status = replace(status, refresh_expected=expected)
        return Answer(held.table, status)

    def moment(self, question: Question) -> str:
        """What is known of changes, to be asked for before the question is read; "" where it will not be kept."""
        return self.changes.moment(question.plan) if keeps(question) else ""

    def keep(self, question: Question, answer: Answer, moment: str) -> None:
        """Holds an answer that was just read, if it may be given out again."""
        status = answer.status
        if (
            not keeps(question)
            or status.kind not in READ
            or status.exactness in INCOMPLETE
            or status.missing_intervals
            or len(answer.table.encoded) > self.max_entry
        ):
            return
        ages = self.ages(question.plan.main.dataset)
        lifetime = ages.hard - max(0.0, (self.clock.now() - status.as_of).total_seconds())
        if lifetime <= 0.0:
            return
        rollups = dict.fromkeys(p.source_name for p in status.parts if p.source is PartSource.ROLLUP)
        lagging = any(part.replica_lag is not None for part in status.parts)
        held = Held(
            question.key,
            answer.table,
            kept(status),
            reach_of(question.plan, rollups),
            "" if lagging else moment,
            status.actual.duration_p50 if status.actual is not None else 0.0,
            self.content(question.plan),
        )
        self.answers.keep(held, lifetime)


def wanted(answer: Answer, asked: Asked) -> Answer:
    """The answer, which is degraded, if it is, because the caller wanted only what is held: its status says so."""
    if asked.policy.cache is not CacheMode.ONLY or not answer.status.degraded:
        return answer
    reasons = (DegradationReason.POLICY_CACHE_ONLY, *answer.status.reasons)
    return replace(answer, status=replace(answer.status, reasons=reasons))


def suits(held: Held, asked: Asked) -> bool:
    """Whether the caller takes an answer that was read as this one was, whatever its age."""
    kind, policy = held.status.kind, asked.policy
    if policy.rollup is RollupMode.FORBID and kind is not AnswerKind.LIVE:
        return False
    if policy.rollup is RollupMode.REQUIRE and kind is not AnswerKind.ROLLUP:
        return False
    if kind not in policy.accepted_kinds and not policy.accepted_kinds <= CACHED:
        return False
    bound = policy.max_relative_error
    return bound is None or refusal(asked.plan, AnswerPolicy(max_relative_error=bound)) is None


def keeps(question: Question) -> bool:
    """Whether an answer to the question may be held."""
    return bool(question.key) and question.policy.cache is not CacheMode.BYPASS


def result_of(answer: Answer | None) -> str:
    """What a lookup came to, in metrics: ``miss``, ``fresh`` or ``stale``."""
    if answer is None:
        return "miss"
    return "fresh" if answer.status.kind is AnswerKind.CACHE_FRESH else "stale"
