"""Rungs of the ladder that fail in a way that nobody foresaw."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from broker.aggregation.executor import WorkerTaskError
from broker.domain.answer import Answer, AnswerKind, LadderStep, Rung, Verdict
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.terms import AnswerPolicy
from broker.pipeline.ladder import Ladder
from broker.pipeline.stage import Group, Question
from broker.telemetry.catalog import FALLBACK
from broker.telemetry.instruments import Telemetry
from tests.support.answering import answer, group, question
from tests.support.metrics import read
from tests.support.virtual_time import VirtualClock, run


class Failing:
    """A rung whose worker fails."""

    rung = Rung.ROLLUP_STALE

    def allowed(self, policy: AnswerPolicy) -> bool:
        return AnswerKind.ROLLUP_STALE in policy.accepted_kinds

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        raise WorkerTaskError("a task failed")


class Answering(Failing):
    """The one below it."""

    rung = Rung.ESTIMATE

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        return answer(AnswerKind.ESTIMATE)


@pytest.mark.parametrize("below", [True, False])
def test_a_rung_that_a_worker_fails_is_passed_by(below: bool) -> None:
    async def main() -> None:
        rungs = (Failing(), Answering()) if below else (Failing(),)
        ladder = Ladder(rungs, VirtualClock(), Telemetry.off())
        asked = question(0, AnswerPolicy(accepted_kinds=frozenset(AnswerKind)))
        error = BrokerError(ErrorReason.OVERLOADED, "full")
        found = await ladder.walk(asked, group(asked), ladder.failed(asked, error, 0.0))
        if not below:
            assert found is error
            return
        assert isinstance(found, Answer)
        failed, answered = found.status.ladder[-2:]
        assert (failed.verdict, failed.codes) == (Verdict.FAILED, ("INTERNAL",))
        assert (answered.rung, answered.verdict) == (Rung.ESTIMATE, Verdict.ANSWERED)

    run(main())


class Fresh(Failing):
    """A rung that has become fresh while the live one failed."""

    rung = Rung.CACHE_STALE

    def allowed(self, policy: AnswerPolicy) -> bool:
        return True

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        return answer(AnswerKind.CACHE_FRESH)


def test_what_is_fresh_by_then_is_told_as_fresh_and_is_no_fallback() -> None:
    async def main() -> None:
        reader = InMemoryMetricReader()
        telemetry = Telemetry(NoOpTracerProvider(), MeterProvider([reader]))
        ladder = Ladder((Fresh(),), VirtualClock(), telemetry)
        asked = question(0)
        error = BrokerError(ErrorReason.OVERLOADED, "full")
        found = await ladder.walk(asked, group(asked), ladder.failed(asked, error, 0.0))
        assert isinstance(found, Answer)
        assert (found.status.degraded, found.status.reasons) == (False, ())
        assert found.status.ladder[-1].rung is Rung.CACHE_FRESH
        assert FALLBACK.name not in read(reader)

    run(main())
