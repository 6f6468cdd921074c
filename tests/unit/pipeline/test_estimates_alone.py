"""Who accepts nothing but an estimate, and cannot have one."""

from __future__ import annotations

from collections.abc import Sequence

from broker.domain.answer import Answer, AnswerKind, LadderStep, Rung, Verdict
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.terms import AnswerPolicy
from broker.pipeline.degraded import Degrading, degraded
from broker.pipeline.ladder import Ladder
from broker.pipeline.stage import Group, Outcome, Question
from broker.telemetry.instruments import Telemetry
from tests.support.answering import group, question
from tests.support.virtual_time import VirtualClock, run


class Refusing:
    """A rung of estimates that has none."""

    rung = Rung.ESTIMATE

    def allowed(self, policy: AnswerPolicy) -> bool:
        return AnswerKind.ESTIMATE in policy.accepted_kinds

    async def answer(self, _question: Question, _group: Group, _deadline: Deadline) -> Answer | LadderStep:
        return LadderStep(self.rung, Verdict.REFUSED, codes=("ESTIMATE_EXACT_CHEAPER",))


async def unread(_group: Group) -> Sequence[Outcome]:
    raise AssertionError("nobody who accepts no live answer has one read")


def test_why_there_is_none_is_told() -> None:
    async def main() -> None:
        ladder = Ladder((Refusing(),), VirtualClock(), Telemetry.off())
        policy = AnswerPolicy(accepted_kinds=frozenset({AnswerKind.ESTIMATE}))
        (refused,) = await degraded(Degrading(ladder))(unread)(group(question(0, policy)))
        assert isinstance(refused, BrokerError)
        assert refused.reason is ErrorReason.POLICY_UNSATISFIABLE
        assert "ESTIMATE_EXACT_CHEAPER" in refused.message
        assert "ESTIMATE_EXACT_CHEAPER" in refused.metadata["problems"]

    run(main())
