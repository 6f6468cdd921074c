"""A question with everything around it, for stages that are tested alone on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    Exactness,
    PartSource,
    Table,
)
from broker.domain.deadline import Deadline
from broker.domain.principal import Criticality, Principal
from broker.domain.query import Query
from broker.domain.request import CallContext, RequestKind
from broker.domain.terms import AnswerPolicy, Consistency
from broker.domain.values import ResultFormat
from broker.pipeline.cached import key_of
from broker.pipeline.stage import Group, Outcome, Question
from broker.policy.classify import Classifier, Subject
from broker.policy.resolve import resolve_query
from tests.support.datasets import flights
from tests.support.virtual_time import START, VirtualClock

ADA = Principal("ada", "acme")
DATASET = flights()
MEASURES = ("flights", "arrived", "late_flights", "distance")


def question(measure: int = 0, policy: AnswerPolicy | None = None) -> Question:
    """A question for one measure."""
    policy = policy or AnswerPolicy()
    plan = resolve_query(Query("flights", measures=(MEASURES[measure],)), DATASET, ADA, START)
    classified = Classifier().classify(Subject(RequestKind.DASHBOARD, plan.fingerprint), 0.0)
    key = key_of(plan, policy, ResultFormat.COLUMNS)
    return Question(str(measure), plan, policy, ResultFormat.COLUMNS, classified, key=key)


def group(
    *questions: Question,
    seconds: float = 10.0,
    tenant: str = "acme",
    criticality: Criticality = Criticality.CRITICAL,
    consistency: Consistency = Consistency.BOUNDED,
    kind: RequestKind = RequestKind.DASHBOARD,
) -> Group:
    """A call with so many seconds left; one question unless said otherwise."""
    principal = replace(ADA, tenant=tenant, criticality=criticality)
    now = asyncio.get_running_loop().time()
    context = CallContext("r", principal, Deadline.after(seconds, now), START, method="Dashboard")
    return Group(context, kind, questions or (question(),), consistency)


def answer(kind: AnswerKind = AnswerKind.LIVE, staleness: float = 0.0, rows: int = 1) -> Answer:
    """An answer that was read now."""
    source = PartSource.LIVE if kind is AnswerKind.LIVE else PartSource.CACHE
    part = AnswerPart(source, "primary", VirtualClock().now())
    status = AnswerStatus(
        kind,
        Exactness.EXACT,
        VirtualClock().now(),
        staleness,
        parts=(part,),
        actual=Cost(0.5),
        answer_version="v",
    )
    return Answer(Table((), rows, ResultFormat.COLUMNS, b"\x10\x01"), status)


@dataclass
class Source:
    """Answers after so many seconds, or raises; what it was asked, and how many are under way or were cut short."""

    seconds: float = 1.0
    errors: list[Exception] = field(default_factory=list)
    asked: list[Group] = field(default_factory=list)
    running: int = 0
    cancelled: int = 0

    async def __call__(self, asked: Group) -> Sequence[Outcome]:
        """Answers a group."""
        self.asked.append(asked)
        self.running += 1
        try:
            await asyncio.sleep(self.seconds)
            if self.errors:
                raise self.errors.pop(0)
            return [answer(rows=int(q.id) + 1) for q in asked.questions]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
