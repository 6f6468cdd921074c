"""When the planner is asked, what is learned from how work went, and what is offered as a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import pytest

from broker.domain.answer import CostClass
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.estimate import Estimate
from broker.domain.model import Model
from broker.domain.plan import Plan
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import Basis, CallContext, ExploreEvent, ExploreHeader, RequestKind
from broker.domain.terms import AnswerPolicy
from broker.domain.values import ResultFormat
from broker.pipeline.classified import MOST_ASKED, Classifying
from broker.pipeline.offered import offered_stream
from broker.pipeline.routes import Router
from broker.pipeline.stage import Group, Question
from broker.pipeline.timed import Timer
from broker.policy.classify import Classified, Classifier, Load, Run
from broker.policy.resolve import resolve_query
from broker.ports.store import QueryStore
from tests.support.datasets import flights

NOW = datetime(2024, 1, 1, tzinfo=UTC)
CONTEXT = CallContext("r", Principal("ada", "acme"), Deadline(30.0), NOW, payload=123)
MEASURES = ("flights", "arrived", "late_flights", "distance", "late_distance", "hours", "best")


class Clock:
    """Stands at an instant until it is moved."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime:
        return NOW


class Planner:
    """A store that only estimates."""

    def __init__(self, failure: BrokerError | None = None) -> None:
        self.failure = failure
        self.asked: list[Deadline] = []

    async def estimate(self, plan: Plan, deadline: Deadline) -> Estimate:
        self.asked.append(deadline)
        if self.failure is not None:
            raise self.failure
        return Estimate(1000.0, 10, 8)


class Seats:
    """Counts the seats that are taken; refuses when it is told to."""

    def __init__(self, refusal: BrokerError | None = None) -> None:
        self.refusal = refusal
        self.taken = self.free = 0

    @asynccontextmanager
    async def __call__(self, context: CallContext) -> AsyncIterator[None]:
        if self.refusal is not None:
            raise self.refusal
        self.taken += 1
        try:
            yield
        finally:
            self.free += 1


def plan_of(measure: str = "flights") -> Plan:
    return resolve_query(Query("flights", measures=(measure,)), flights(), CONTEXT.principal, NOW)


def classifying(planner: Planner, seats: Seats | None = None) -> Classifying:
    return Classifying(
        Classifier(), Clock(), cast("QueryStore", planner), seats or Seats(), Router(Model({}))
    )


async def ask(classifying: Classifying, *plans: Plan, context: CallContext = CONTEXT) -> list[Classified]:
    return await classifying.classify(context, RequestKind.EXPLORE, plans or [plan_of()])


async def test_of_a_new_question_the_planner_is_asked_once_with_a_seat_and_a_part_of_the_time() -> None:
    planner, seats = Planner(), Seats()
    asking = classifying(planner, seats)
    (found,) = await ask(asking)
    assert found.classification.basis is Basis.PLAN
    assert [deadline.at for deadline in planner.asked] == [pytest.approx(0.5)]
    assert (seats.taken, seats.free) == (1, 1)
    (again,) = await ask(asking)
    assert again.classification.basis is Basis.PLAN, "the estimate is kept"
    assert len(planner.asked) == 1


async def test_a_known_question_costs_no_round_trip() -> None:
    planner = Planner()
    asking = classifying(planner)
    (found,) = await ask(asking)
    asking.observe(found, Run(0.02))
    (known,) = await ask(asking)
    assert known.classification.basis is Basis.HISTORY
    assert known.subject.payload == 123
    assert len(planner.asked) == 1


async def test_of_one_request_only_some_questions_are_asked_about() -> None:
    planner, seats = Planner(), Seats()
    found = await ask(classifying(planner, seats), *map(plan_of, MEASURES))
    bases = [each.classification.basis for each in found]
    assert bases == [Basis.PLAN] * MOST_ASKED + [Basis.REQUEST] * (len(MEASURES) - MOST_ASKED)
    assert seats.taken == 1


@pytest.mark.parametrize("reason", [ErrorReason.OVERLOADED, ErrorReason.DEADLINE_TOO_SHORT])
async def test_without_a_seat_the_question_is_classified_without_the_planner(reason: ErrorReason) -> None:
    planner = Planner()
    (found,) = await ask(classifying(planner, Seats(BrokerError(reason, "no"))))
    assert found.classification.basis is Basis.REQUEST
    assert not planner.asked


async def test_a_planner_that_fails_is_no_reason_to_fail() -> None:
    seats = Seats()
    failing = Planner(BrokerError(ErrorReason.STORE_UNAVAILABLE, "away"))
    (found,) = await ask(classifying(failing, seats))
    assert found.classification.basis is Basis.REQUEST
    assert (seats.taken, seats.free) == (1, 1)


async def test_nobody_in_a_hurry_waits_for_the_planner() -> None:
    planner = Planner()
    await ask(classifying(planner), context=replace(CONTEXT, deadline=Deadline(0.1)))
    assert not planner.asked


async def test_two_questions_that_differ_in_literals_share_what_is_learned() -> None:
    planner = Planner()
    asking = classifying(planner)
    (found,) = await ask(asking)
    asking.observe(found, Run(0.02))
    narrower = replace(plan_of(), fingerprint="another")
    (known,) = await ask(asking, narrower)
    assert known.classification.samples == 1


def group(classified: Classified) -> Group:
    question = Question("", plan_of(), AnswerPolicy(), ResultFormat.COLUMNS, classified)
    return Group(CONTEXT, RequestKind.EXPLORE, (question,))


async def test_what_is_too_heavy_is_offered_as_a_job_and_takes_no_seat() -> None:
    asked: list[Group] = []

    async def inner(group: Group) -> AsyncGenerator[ExploreEvent, None]:
        asked.append(group)
        yield ExploreHeader((), NOW)

    asking = classifying(Planner())
    (light,) = await ask(asking)
    assert [event async for event in offered_stream(inner)(group(light))] == [ExploreHeader((), NOW)]
    asking.observe(light, Run(100.0))
    (heavy,) = await ask(asking)
    assert heavy.classification.cost_class is CostClass.JOB
    with pytest.raises(BrokerError) as raised:
        await anext(offered_stream(inner)(group(heavy)))
    assert raised.value.reason is ErrorReason.USE_SUBMIT_JOB
    assert "SubmitJob" in raised.value.message
    assert raised.value.metadata["basis"] == "history"
    assert float(raised.value.metadata["predicted_p50_seconds"]) > 30
    assert len(asked) == 1


class Told(list[Run]):
    """Runs that were cut short, and a timer that tells of them."""

    def timer(self, clock: Clock, *loads: Load) -> Timer:
        readings = iter(loads or (Load(), Load()))
        return Timer(clock, lambda: next(readings), self.append)


def test_a_timer_tells_how_long_work_took_and_the_busier_end_of_it() -> None:
    clock, told = Clock(), Told()
    timer = told.timer(clock, Load(0.1, 0.5), Load(0.7, 1.0))
    with timer:
        clock.at = 2.0
        with timer.paused():
            clock.at = 5.0
        clock.at = 6.0
    assert timer.run == Run(3.0, load=Load(0.7, 0.5))
    assert timer.slowed
    assert not told


@pytest.mark.parametrize(
    ("error", "cut_short"),
    [
        (asyncio.CancelledError(), True),
        (GeneratorExit(), True),
        (BrokerError(ErrorReason.DEADLINE_EXCEEDED, "late"), True),
        (BrokerError(ErrorReason.RESULT_TOO_LARGE, "large"), True),
        (BrokerError(ErrorReason.STORE_REJECTED, "division by zero"), False),
        (ValueError("a bug"), False),
    ],
)
def test_work_that_was_stopped_is_told_as_such_and_failures_are_not(
    error: BaseException, cut_short: bool
) -> None:
    clock, told = Clock(), Told()

    def work() -> None:
        with told.timer(clock):
            clock.at = 4.0
            raise error

    with pytest.raises(type(error)):
        work()
    assert list(told) == ([Run(4.0, cut_short=True)] if cut_short else [])


def test_a_reader_who_leaves_is_not_taken_for_slow_work() -> None:
    clock, told = Clock(), Told()

    def work() -> None:
        with told.timer(clock) as timer:
            clock.at = 1.0
            with timer.paused():
                clock.at = 50.0
                raise GeneratorExit

    with pytest.raises(GeneratorExit):
        work()
    assert [run.seconds for run in told] == [1.0]
