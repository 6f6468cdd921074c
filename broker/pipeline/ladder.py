"""The rungs below the live one: what may answer when the live path is full, slow or down."""

from __future__ import annotations

from typing import Protocol

from broker.domain.answer import Answer, LadderStep, Rung
from broker.domain.deadline import Deadline
from broker.domain.terms import AnswerPolicy
from broker.pipeline.stage import Group, Question


class LowerRung(Protocol):
    """One source of degraded answers. It takes no seat of a pool that may be full, unless it says so."""

    @property
    def rung(self) -> Rung:
        """Its place in the ladder."""
        ...

    def allowed(self, policy: AnswerPolicy) -> bool:
        """Whether the caller accepts answers of this kind at all."""
        ...

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        """The answer, or why there is none: NOT_APPLICABLE, FAILED, TIMED_OUT, REFUSED with the codes that say it.

        The answer's status is complete but for what led here: the ladder, ``degraded``, its level and the reasons.
        Raises nothing but cancellation.
        """
        ...
