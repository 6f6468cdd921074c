"""One reading under way: what it reads, who may wait for it, and whose its errors are."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.principal import Principal
from broker.domain.request import CallContext
from broker.domain.terms import CacheMode, Consistency
from broker.pipeline.stage import Group, Outcome, Question

LEADERS_OWN = frozenset(
    {
        ErrorReason.DEADLINE_TOO_SHORT,
        ErrorReason.DEADLINE_EXCEEDED,
        ErrorReason.QUEUE_TIMEOUT,
        ErrorReason.OVERLOADED,
        ErrorReason.TENANT_QUOTA,
        ErrorReason.CANCELLED,
    }
)
"""Errors that may be due to who asks; they are shared with those who have no better claim than the leader."""
Name = Hashable
"""What a flight reads for one question: the answer's key, and the terms that decide how it may be read."""


class Flight:
    """A reading under way, and those who wait for it."""

    __slots__ = ("at", "begun", "carrier", "names", "principal", "task", "waiting")

    def __init__(
        self,
        names: Sequence[Name],
        context: CallContext,
        task: asyncio.Task[Sequence[Outcome]],
        carrier: Mapping[str, str],
        begun: float,
    ) -> None:
        self.names, self.task, self.carrier, self.begun = tuple(names), task, carrier, begun
        self.principal, self.at = context.principal, context.deadline.at
        self.waiting = 0

    def reads(self, names: Sequence[Name]) -> bool:
        """Whether everything that is asked is among what it reads."""
        return set(names) <= set(self.names)

    def picked(self, names: Sequence[Name]) -> list[Outcome]:
        """The outcomes for these names; raises what the flight ended with."""
        found = dict(zip(self.names, self.task.result(), strict=True))
        return [found[name] for name in names]

    def shares(self, error: BrokerError, context: CallContext) -> bool:
        """Whether an error of the flight is one to a follower too."""
        if error.reason not in LEADERS_OWN:
            return True
        return context.deadline.at <= self.at and _no_better(context.principal, self.principal)


def _no_better(follower: Principal, leader: Principal) -> bool:
    return follower.tenant == leader.tenant and follower.criticality <= leader.criticality


def name_of(question: Question, group: Group) -> Name:
    """What tells a question's flight from others."""
    return question.key, question.policy, group.consistency


def oldest(question: Question) -> float:
    """Seconds for which a reading may have gone on when the caller comes, in which nothing newer may be in it."""
    most = question.policy.max_staleness
    if most is None:
        most = question.plan.main.dataset.max_staleness
    return float("inf") if most is None else most


def joined(question: Question, group: Group) -> bool:
    """Whether the caller takes what somebody else has begun to read."""
    policy = question.policy
    return led_for_others(question, group) and policy.cache is CacheMode.DEFAULT


def led_for_others(question: Question, group: Group) -> bool:
    """Whether others may take what is read for the caller."""
    policy = question.policy
    return (
        bool(question.key)
        and group.consistency is not Consistency.SNAPSHOT
        and oldest(question) > 0.0
        and policy.cache in (CacheMode.DEFAULT, CacheMode.REVALIDATE)
    )
