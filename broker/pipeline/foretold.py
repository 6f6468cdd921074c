"""What questions that are alike should cost: told for one of them, it holds for the others for a moment.

Predicting takes several times longer than answering a small question from a rollup's table. Questions that are alike,
and of about the same size, are predicted by the same history; so what was said of one is said of the next, until a
moment has passed or the rollups have been looked at again. Where it is read and what it waits for is decided anew:
the route is that of the question itself, and its snapshot decides what it may use.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from broker.domain.plan import Plan
from broker.domain.request import CallContext
from broker.domain.rollup import Coverage, Piece, Storage
from broker.domain.terms import AnswerPolicy, Consistency, EdgeMode
from broker.pipeline.routes import Route, Router
from broker.policy.classify import Classified, Subject
from broker.policy.cost_key import size_of
from broker.ports.clock import Clock

HOLDS = 0.25
"""Seconds for which a prediction holds."""
TEACHES = 0.02
"""Seconds in which one run of questions that cost the same teaches what they cost; what others add is little."""
MOST = 1_024
"""Predictions that are remembered."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a question should cost, its route to rollups if there is one, and what it would cost without them.

    ``plan`` is what was planned, with its edges snapped if the caller allows that.
    """

    plan: Plan
    classified: Classified
    route: Route | None = None
    live: Classified | None = None


class Foretold:
    """The predictions, latest used last."""

    def __init__(self, router: Router, clock: Clock) -> None:
        self._router, self._clock = router, clock
        self._told: OrderedDict[tuple[object, ...], _Told] = OrderedDict()
        self._taught: dict[str, float] = {}

    def teaches(self, subject: Subject, now: float) -> bool:
        """Whether a complete run of what rollups were expected to answer is worth learning from."""
        if subject.expected is None:
            return True
        if now < self._taught.get(subject.fingerprint, -math.inf) + TEACHES:
            return False
        if len(self._taught) >= MOST:
            self._taught.clear()
        self._taught[subject.fingerprint] = now
        return True

    def again(
        self, context: CallContext, plan: Plan, policy: AnswerPolicy, consistency: Consistency
    ) -> Prospect | None:
        """What holds for a panel of a dashboard, if it was told of one that is alike."""
        told = self._told.get(_name(plan)) if plan.shape is not None else None
        if told is None or not told.said_of(plan, policy, consistency):
            return None
        now, before = self._clock.monotonic(), told.prospect
        if now >= told.until or told.known is not self._router.known(plan.main.dataset):
            return None
        if before.classified.quantiles.p90 > context.deadline.remaining(now):
            return None  # how little time is left may decide
        route = self._router.again(told.route, plan, consistency)
        if route is None:
            return None
        return Prospect(plan, before.classified, route, before.live)

    def keep(
        self, context: CallContext, prospect: Prospect, policy: AnswerPolicy, consistency: Consistency
    ) -> None:
        """Remembers a prediction, if the table of one rollup is expected to answer all of the question."""
        plan, route, now = prospect.plan, prospect.route, self._clock.monotonic()
        if plan.shape is None or route is None or policy.edge is EdgeMode.SNAP or not _whole(plan, route):
            return
        if prospect.classified.quantiles.p90 > context.deadline.remaining(now):
            return
        name, known = _name(plan), self._router.known(plan.main.dataset)
        self._told[name] = _Told(now + HOLDS, known, prospect, route, policy, consistency)
        self._told.move_to_end(name)
        if len(self._told) > MOST:
            self._told.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Told:
    """A prediction, until when it holds, and what of the rollups was ``known`` then."""

    until: float
    known: Mapping[str, Coverage] | None
    prospect: Prospect
    route: Route
    policy: AnswerPolicy
    consistency: Consistency

    def said_of(self, plan: Plan, policy: AnswerPolicy, consistency: Consistency) -> bool:
        """Whether the same is asked, by the same principal."""
        own, asking = self.prospect.plan.main, plan.main
        return (
            (policy is self.policy or policy == self.policy)
            and consistency is self.consistency
            and own.dataset is asking.dataset
            and (own.principal is asking.principal or own.principal == asking.principal)
        )


def _name(plan: Plan) -> tuple[object, ...]:
    return plan.shape, size_of(plan.main)


def _whole(plan: Plan, route: Route) -> bool:
    """Whether one rollup's table is expected to answer the plan's only scan, as it was asked."""
    if len(route.scans) != 1 or len(route.scans[0].rollups) != 1 or len(route.expected) != 1:
        return False
    (scan,), (cover,), (rollup,) = route.scans, route.expected, route.scans[0].rollups
    return (
        rollup.storage is Storage.TABLE
        and scan.scan is plan.main
        and cover.pieces == (Piece(rollup.name, (plan.main.span,)),)
    )
