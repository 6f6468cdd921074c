"""Rungs of the ladder that fail in a way that nobody foresaw."""

from __future__ import annotations

import pytest

from broker.aggregation.executor import WorkerTaskError
from broker.domain.answer import Answer, AnswerKind, LadderStep, Rung, Verdict
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.terms import AnswerPolicy
from broker.pipeline.ladder import Ladder
from broker.pipeline.stage import Group, Question
from broker.telemetry.instruments import Telemetry
from tests.support.answering import answer, group, question
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
