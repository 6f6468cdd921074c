"""Answers are compared in idle seats only, and the first difference takes the rollup out of service."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from random import Random

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import RequestKind
from broker.domain.rollup import Rollup, Span
from broker.domain.segment import Comparison
from broker.domain.terms import AnswerPolicy
from broker.domain.values import ResultFormat
from broker.pipeline.stage import Question
from broker.policy.admission.values import PoolLoad
from broker.policy.classify import Classifier, Subject
from broker.policy.resolve import resolve_query
from broker.ports.rollups import BothWays
from broker.rollups.verify import SelfVerification, VerifyOptions, idle
from broker.telemetry.instruments import Telemetry
from tests.support.datasets import flights
from tests.support.metrics import read
from tests.support.segments import BY_CARRIER, DAY, START, HandClock

EQUAL = BothWays(Comparison(3, 0), (BY_CARRIER,))
WRONG = BothWays(
    Comparison(3, 1, ("flights",), "{'k0': 'AA', 'flights.n': 5, 'flights.n~': 6}"),
    (BY_CARRIER,),
    (Span(0, DAY),),
)
AWAY = BrokerError(ErrorReason.STORE_UNAVAILABLE, "the database is away")


def plan() -> Plan:
    return resolve_query(Query("flights", measures=("flights",)), flights(), Principal("ada", "acme"), START)


def question(number: int = 0) -> Question:
    made = plan()
    classified = Classifier().classify(Subject(RequestKind.DASHBOARD, made.fingerprint), 0.0)
    return Question(str(number), made, AnswerPolicy(), ResultFormat.COLUMNS, classified)


class Answers:
    """Answers both ways with what the test puts there."""

    def __init__(self, *answers: BothWays | Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.told = asyncio.Semaphore(0)

    async def __call__(self, question: Question, deadline: Deadline) -> BothWays | None:
        self.asked.append(question.id)
        self.told.release()
        answer = self.answers.pop(0) if self.answers else EQUAL
        if isinstance(answer, Exception):
            raise answer
        return answer


class Verdicts:
    """Keeps verdicts; the first ``failures`` quarantines fail."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.reasons: list[tuple[str, str]] = []
        self.agreed: list[str] = []
        self.told = asyncio.Event()

    async def quarantine(self, rollup: Rollup, reason: str) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise AWAY
        self.reasons.append((rollup.name, reason))
        self.told.set()

    async def verified(self, rollup: Rollup) -> None:
        if self.failures > 0:
            raise AWAY
        self.agreed.append(rollup.name)


class Made:
    """A verification with its surroundings."""

    def __init__(self, answers: Answers, verdicts: Verdicts, clock: HandClock, **options: float) -> None:
        self.reader = InMemoryMetricReader()
        telemetry = Telemetry(NoOpTracerProvider(), MeterProvider([self.reader], shutdown_on_exit=False))
        given = replace(VerifyOptions(share=1.0, look=0.0), **options)  # type: ignore[arg-type]  # numbers all
        self.answers, self.verdicts, self.idle = answers, verdicts, True
        self.looked = asyncio.Semaphore(0)
        self.verification = SelfVerification(
            answers, verdicts, self._idle, given, clock, Random(1), telemetry
        )

    def _idle(self) -> bool:
        self.looked.release()
        return self.idle

    def counted(self) -> dict[str, float]:
        """How often each outcome was counted."""
        found = read(self.reader).get("querybroker.rollup.verifications", {})
        return {outcome: count for (_, outcome), count in found.items()}


async def test_an_answer_that_is_wrong_takes_its_rollup_out_of_service(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    made = Made(Answers(EQUAL, WRONG), Verdicts(), clock)
    running = asyncio.create_task(made.verification.run())
    made.verification.offer(question(1))
    made.verification.offer(question(2))
    await made.verdicts.told.wait()
    ((name, reason),) = made.verdicts.reasons
    assert name == "by_carrier"
    assert "1 of 3 groups" in reason
    assert "flights" in reason
    assert made.counted() == {"equal": 1, "different": 1}
    assert read(made.reader)["querybroker.rollup.quarantines"] == {("flights", "by_carrier"): 1}
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert vars(record)["fingerprint"] == plan().fingerprint
    assert vars(record)["spans"] == [["1970-01-01T00:00:00+00:00", "1970-01-02T00:00:00+00:00"]]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_quarantine_is_tried_until_it_holds(clock: HandClock) -> None:
    made = Made(Answers(WRONG), Verdicts(failures=3), clock)
    assert await made.verification.check(question()) is False
    assert len(made.verdicts.reasons) == 1


async def test_every_rollup_that_had_a_part_is_taken_out(clock: HandClock) -> None:
    both = replace(WRONG, rollups=(BY_CARRIER, replace(BY_CARRIER, name="by_day")))
    made = Made(Answers(both), Verdicts(), clock)
    await made.verification.check(question())
    assert [name for name, _ in made.verdicts.reasons] == ["by_carrier", "by_day"]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (None, "skipped"),
        (replace(WRONG, exact=False), "skipped"),
        (replace(WRONG, rollups=()), "skipped"),
        (AWAY, "failed"),
    ],
)
async def test_what_cannot_be_compared_says_nothing(
    clock: HandClock, answer: BothWays | Exception | None, outcome: str
) -> None:
    made = Made(Answers(answer), Verdicts(), clock)
    assert await made.verification.check(question()) is None
    assert made.counted() == {outcome: 1}
    assert not made.verdicts.reasons
    assert not made.verdicts.agreed


async def test_nothing_is_compared_while_seats_are_wanted(clock: HandClock) -> None:
    made = Made(Answers(), Verdicts(), clock)
    made.idle = False
    running = asyncio.create_task(made.verification.run())
    made.verification.offer(question())
    for _ in range(5):
        await made.looked.acquire()
    assert made.answers.asked == []
    made.idle = True
    await made.answers.told.acquire()
    assert made.answers.asked == ["0"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_bug_of_one_comparison_does_not_end_the_others(clock: HandClock) -> None:
    made = Made(Answers(ZeroDivisionError()), Verdicts(), clock)
    running = asyncio.create_task(made.verification.run())
    for number in range(2):
        made.verification.offer(question(number))
        await made.answers.told.acquire()
    assert made.counted()["failed"] == 1
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_too_many_that_wait_are_dropped_the_newest_first(clock: HandClock) -> None:
    made = Made(Answers(), Verdicts(), clock, waiting=2)
    for number in range(4):
        made.verification.offer(question(number))
    running = asyncio.create_task(made.verification.run())
    for _ in range(2):
        await made.answers.told.acquire()
    assert made.answers.asked == ["0", "1"]
    assert made.counted()["dropped"] == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_share_of_the_answers_is_compared(clock: HandClock) -> None:
    made = Made(Answers(), Verdicts(), clock, share=0.25, waiting=0)
    for number in range(1000):
        made.verification.offer(question(number))
    assert 200 < made.counted()["dropped"] < 300
    none = Made(Answers(), Verdicts(), clock, share=0.0, waiting=0)
    none.verification.offer(question())
    assert none.counted() == {}


async def test_that_a_rollup_agrees_is_noted_now_and_then(clock: HandClock) -> None:
    made = Made(Answers(), Verdicts(), clock, note=60.0)
    for _ in range(3):
        assert await made.verification.check(question())
    assert made.verdicts.agreed == ["by_carrier"]
    clock.seconds += 60
    assert await made.verification.check(question())
    assert made.verdicts.agreed == ["by_carrier", "by_carrier"]
    clock.seconds += 60
    made.verdicts.failures = 1
    assert await made.verification.check(question()), "a note that fails changes nothing"


@pytest.mark.parametrize(
    ("used", "waiting", "elsewhere", "expected"),
    [(0, 0, 0, True), (1, 0, 0, True), (2, 0, 0, False), (0, 1, 0, False), (0, 0, 1, False)],
)
def test_seats_are_idle_when_one_is_free_and_nobody_waits_anywhere(
    used: int, waiting: int, elsewhere: int, *, expected: bool
) -> None:
    loads = [
        PoolLoad(PoolName.DASHBOARD, 2, used, waiting),
        PoolLoad(PoolName.EXPLORATION, 0, 0, elsewhere),
    ]
    assert idle(loads, PoolName.DASHBOARD) is expected
    assert not idle(loads, PoolName.EXPLORATION)
