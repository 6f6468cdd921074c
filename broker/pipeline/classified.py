"""Classifies questions, asks the planner first where that may decide, and learns from how they went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.estimate import Estimate
from broker.domain.plan import Plan
from broker.domain.request import Basis, CallContext, RequestKind
from broker.domain.terms import AnswerPolicy, Consistency
from broker.pipeline.admitted import Seats
from broker.pipeline.foretold import Foretold, Prospect
from broker.pipeline.routes import Route, Router
from broker.policy.classify import Classified, Classifier, Run, Subject
from broker.policy.cost_key import cost_fingerprint, routed_fingerprint, sql_cost_fingerprint
from broker.policy.shape import Shape, shape_of
from broker.ports.clock import Clock
from broker.ports.store import QueryStore, SqlPlan

MOST_ASKED = 4
"""Questions of one request that the planner is asked about; the others go by what is known of their class."""
TIME_SHARE, MOST_TIME, LEAST_TIME = 0.05, 0.5, 0.01
"""The planner gets this share of the time that is left, at most so many seconds, and is not asked for less."""

UNKNOWN_SECONDS = 1.0
"""Taken for the time of tables of which nothing is known yet."""


def live_seconds(live: Classified) -> float:
    """What rollups are weighed against: the expected time of the tables, the more careful the less is known of it.

    A rollup that is taken for nothing costs a millisecond; tables that turn out to be slow cost far more.
    """
    match live.classification.basis:
        case Basis.REQUEST:
            return UNKNOWN_SECONDS
        case Basis.CLASS_MEDIAN:
            return max(UNKNOWN_SECONDS, live.quantiles.p90)
        case _:
            return live.quantiles.p50


@dataclass(frozen=True, slots=True)
class Classifying:
    """The classifier with its clock.

    A known question costs nothing here. For one that is new the planner may be asked, with one of ``seats`` of the pool
    of administration and within a small part of the deadline; when there is no seat or no time, or the store fails, the
    question is classified without. What the planner said is kept for the next time.
    """

    classifier: Classifier
    clock: Clock
    store: QueryStore
    seats: Seats
    router: Router
    foretold: Foretold | None = None

    async def prospects(
        self,
        context: CallContext,
        kind: RequestKind,
        asked: Sequence[tuple[Plan, AnswerPolicy]],
        consistency: Consistency,
    ) -> list[Prospect]:
        """The same with the way to the rollups that may answer, for questions that have a plan."""
        foretold = self.foretold if kind is RequestKind.DASHBOARD and len(asked) == 1 else None
        if foretold is not None and (told := foretold.again(context, *asked[0], consistency)) is not None:
            return [told]
        plans: list[Plan] = []
        routes: list[Route | None] = []
        subjects: list[Subject] = []
        lives: list[Classified | None] = []
        now = self.clock.monotonic()
        for given, policy in asked:
            rolled = self.router.concerns(given, policy)
            plan = self.router.snapped(given, policy, consistency) if rolled else given
            subject = self.subject(context, kind, plan)
            live: Classified | None = None
            route = None
            if rolled:
                live = self.classifier.classify(subject, now)
                route = self.router.route(plan, policy, consistency, live_seconds(live))
                if route.expected_sources:
                    named = routed_fingerprint(subject.fingerprint, route.expected_sources)
                    subject = replace(subject, fingerprint=named, expected=route.expected_seconds)
            plans.append(plan)
            routes.append(route)
            subjects.append(subject)
            lives.append(live)
        wanted = [i for i, subject in enumerate(subjects) if self.classifier.wants_estimate(subject)]
        await self._ask(context, plans, subjects, wanted[:MOST_ASKED])
        now = self.clock.monotonic()
        found = [
            Prospect(plan, self.classifier.classify(subject, now), route, live)
            for plan, subject, route, live in zip(plans, subjects, routes, lives, strict=True)
        ]
        if foretold is not None:
            foretold.keep(context, found[0], asked[0][1], consistency)
        return found

    async def classify(
        self, context: CallContext, kind: RequestKind, plans: Sequence[Plan | SqlPlan]
    ) -> list[Classified]:
        """Class, pool and predicted cost of the questions of one request, in order."""
        subjects = [self.subject(context, kind, plan) for plan in plans]
        wanted = [i for i, subject in enumerate(subjects) if self.classifier.wants_estimate(subject)]
        await self._ask(context, plans, subjects, wanted[:MOST_ASKED])
        now = self.clock.monotonic()
        return [self.classifier.classify(subject, now) for subject in subjects]

    def estimated(
        self, context: CallContext, kind: RequestKind, plan: Plan | SqlPlan, estimate: Estimate
    ) -> Classified:
        """The same for one question of which the planner has been asked."""
        now = self.clock.monotonic()
        subject = replace(self.subject(context, kind, plan), estimate=estimate)
        self.classifier.keep(subject, now)
        return self.classifier.classify(subject, now)

    def subject(self, context: CallContext, kind: RequestKind, plan: Plan | SqlPlan) -> Subject:
        """What is known of a question before anything is asked."""
        if isinstance(plan, SqlPlan):
            named, shape = sql_cost_fingerprint(plan.text, context.principal.tenant), Shape()
        else:
            named, shape = cost_fingerprint(plan), shape_of(plan)
        return Subject(
            kind,
            named,
            shape=shape,
            time_left=context.deadline.remaining(self.clock.monotonic()),
            criticality=context.principal.criticality,
            payload=context.payload,
        )

    def observe(self, classified: Classified, run: Run) -> None:
        """Learns from a run; of many that are alike from one after the other, with a moment in between."""
        now, subject = self.clock.monotonic(), classified.subject
        if run.cut_short or self.foretold is None or self.foretold.teaches(subject, now):
            self.classifier.observe(subject, run, now)

    async def _ask(
        self,
        context: CallContext,
        plans: Sequence[Plan | SqlPlan],
        subjects: list[Subject],
        wanted: Sequence[int],
    ) -> None:
        now = self.clock.monotonic()
        time = min(MOST_TIME, TIME_SHARE * context.deadline.remaining(now))
        if not wanted or time < LEAST_TIME:
            return
        deadline = Deadline.after(time, now)
        try:
            async with self.seats(replace(context, deadline=deadline)):
                for i in wanted:
                    estimate = await self.store.estimate(plans[i], deadline)
                    subjects[i] = replace(subjects[i], estimate=estimate)
                    self.classifier.keep(subjects[i], self.clock.monotonic())
        except BrokerError:
            return  # an estimate is help, not a condition; what is wrong with the store the question itself will tell
