"""The rungs below the live one: what may answer when the live path is full, slow or down, and the walk down them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from broker.aggregation.executor import WorkerTaskError
from broker.domain.answer import Answer, AnswerKind, DegradationReason, LadderStep, Rung, Verdict
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.terms import AnswerPolicy, Consistency, FallbackMode
from broker.pipeline.routed import considered
from broker.pipeline.stage import Group, Outcome, Question
from broker.policy.degradation import level_of, reason_of
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry

CLOSING = 0.005
"""Seconds of the deadline that are left for encoding the answer."""
LEAST_RESERVE, MOST_RESERVE = 0.03, 0.08
"""Bounds in seconds of what is kept of the deadline for the rungs below the live one."""
RESERVE_SHARE = 0.25
"""Part of a short deadline that is kept at the most."""
FADING = 0.95
"""How much of the longest time of a rung is remembered from one answer to the next."""
SAFETY = 1.5
"""The reserve, as a multiple of what the rungs have taken of late."""
_LOG = logging.getLogger(__name__)
T = TypeVar("T")


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


def declined(rung: Rung, verdict: Verdict, *codes: str) -> LadderStep:
    """The step of a rung that has no answer; how long it took, the walk knows."""
    return LadderStep(rung, verdict, codes=codes)


class Reserve:
    """How much of a deadline the lower rungs need, from what they have taken: the longest times of late, fading."""

    def __init__(self) -> None:
        self._longest: dict[Rung, float] = {}

    def took(self, rung: Rung, seconds: float) -> None:
        """A rung has been tried."""
        self._longest[rung] = max(seconds, FADING * self._longest.get(rung, 0.0))

    def seconds(self, left: float) -> float:
        """What to keep of ``left`` seconds."""
        wanted = SAFETY * sum(self._longest.values())
        return min(RESERVE_SHARE * left, max(LEAST_RESERVE, min(MOST_RESERVE, wanted)))


@dataclass(frozen=True, slots=True)
class Cause:
    """What leads down: the closed reason, the live rung's step, the error if there was one, and the rungs to try.

    There is no reason where the caller wants nothing but what lies below.
    """

    reason: DegradationReason | None
    steps: tuple[LadderStep, ...]
    error: BrokerError | None
    rungs: Sequence[LowerRung]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs below the live one, from the best down."""

    rungs: Sequence[LowerRung]
    clock: Clock
    telemetry: Telemetry
    reserve: Reserve = field(default_factory=Reserve)

    def eligible(self, question: Question, group: Group) -> bool:
        """Whether the caller accepts any rung; panels that have to agree cannot come from elsewhere one by one."""
        policy = question.policy
        return (
            policy.fallback is FallbackMode.ALLOW
            and group.consistency is not Consistency.SNAPSHOT
            and bool([rung for rung in self.rungs if rung.allowed(policy)])
        )

    def failed(self, question: Question, error: BrokerError, seconds: float) -> Cause:
        """The live rung has ended with an error after so long, or would."""
        factor = error.metadata.get("limiting_factor", "")
        codes = (error.reason.value, factor) if factor else (error.reason.value,)
        verdict = _VERDICTS.get(error.reason, Verdict.REFUSED)
        rungs = [Rung.LIVE]
        if question.route is not None and question.route.expected_sources:
            rungs.insert(0, Rung.ROLLUP)
        steps = tuple(LadderStep(rung, verdict, codes=codes, duration=seconds) for rung in rungs)
        return Cause(reason_of(error), steps, error, self.rungs)

    def skipped(self) -> Cause:
        """The brown-out dial spares the live rung; estimates would not spare it anything."""
        step = LadderStep(Rung.LIVE, Verdict.SKIPPED, codes=(DegradationReason.BROWNOUT.name,))
        cheap = [rung for rung in self.rungs if rung.rung is not Rung.ESTIMATE]
        return Cause(DegradationReason.BROWNOUT, (step,), None, cheap)

    def unwanted(self, refused: BrokerError) -> Cause:
        """The caller accepts nothing that the live rung gives."""
        return Cause(None, (LadderStep(Rung.LIVE, Verdict.FORBIDDEN),), refused, self.rungs)

    async def walk(self, question: Question, group: Group, cause: Cause) -> Outcome | None:
        """The answer of the first rung that has one, with the walk in its status; else the error that led here."""
        steps = [*question.ladder, *considered(question.policy, question.route), *cause.steps]
        reason = cause.reason.value if cause.reason is not None else ""
        for rung in cause.rungs:
            answer, step = await self._try(rung, question, group)
            steps.append(step)
            if answer is not None:
                if reason and answer.status.kind is not AnswerKind.CACHE_FRESH:
                    self.telemetry.fallback(Rung.LIVE.value, rung.rung.value, reason)
                return told(answer, cause, tuple(steps))
        if cause.error is not None and reason:
            self.telemetry.fallback(Rung.LIVE.value, Rung.REFUSAL.value, reason)
        elif cause.error is not None:
            return _without_estimate(cause.error, steps)
        return cause.error

    async def _try(
        self, rung: LowerRung, question: Question, group: Group
    ) -> tuple[Answer | None, LadderStep]:
        if not rung.allowed(question.policy):
            return None, LadderStep(rung.rung, Verdict.FORBIDDEN)
        started = self.clock.monotonic()
        deadline = group.context.deadline.minus(CLOSING)
        found: Answer | LadderStep
        try:
            found = await within(deadline.remaining(started), rung.answer(question, group, deadline))
        except BrokerError as error:
            late = error.reason is ErrorReason.DEADLINE_EXCEEDED
            verdict = Verdict.TIMED_OUT if late else Verdict.FAILED
            found = LadderStep(rung.rung, verdict, codes=(error.reason.value,))
        except WorkerTaskError:
            _LOG.exception("the rung %s could not be read", rung.rung.value)
            found = LadderStep(rung.rung, Verdict.FAILED, codes=(ErrorReason.INTERNAL.value,))
        seconds = self.clock.monotonic() - started
        self.reserve.took(rung.rung, seconds)
        if isinstance(found, LadderStep):
            return None, replace(found, duration=seconds)
        if (refused := _unacceptable(found, question)) is not None:
            return None, LadderStep(rung.rung, Verdict.REFUSED, codes=(refused,), duration=seconds)
        name = found.status.parts[0].source_name if found.status.parts else ""
        stood = Rung.CACHE_FRESH if found.status.kind is AnswerKind.CACHE_FRESH else rung.rung
        return found, LadderStep(stood, Verdict.ANSWERED, name, duration=seconds)


def _without_estimate(error: BrokerError, steps: Sequence[LadderStep]) -> BrokerError:
    """The error for a caller who wanted nothing but an estimate, with the codes that say why there is none."""
    codes = ", ".join(code for step in steps if step.rung is Rung.ESTIMATE for code in step.codes)
    if not codes:
        return error
    why = f"; and no estimate can be given ({codes})"
    problems = {name: told + why for name, told in error.metadata.items() if name == "problems"}
    return BrokerError(error.reason, error.message.removesuffix(".") + why + ".", metadata=problems)


_VERDICTS = {
    ErrorReason.DEADLINE_EXCEEDED: Verdict.TIMED_OUT,
    ErrorReason.STORE_UNAVAILABLE: Verdict.FAILED,
    ErrorReason.WORKER_LOST: Verdict.FAILED,
}


async def within(seconds: float, work: Awaitable[T]) -> T:
    """What comes of the work, if it comes in time.

    Raises:
        BrokerError: DEADLINE_EXCEEDED; and what the work raises.
    """
    limit = asyncio.timeout(max(0.0, seconds))
    try:
        async with limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        text = f"The work was not done within {seconds:.3f} s and was stopped. Allow more time, or narrow it."
        metadata = {"deadline_seconds": f"{seconds:.3f}"}
        raise BrokerError(ErrorReason.DEADLINE_EXCEEDED, text, metadata=metadata) from None


def _unacceptable(answer: Answer, question: Question) -> str | None:
    """Why an answer is none to the caller whatever rung gave it."""
    status, policy = answer.status, question.policy
    if status.kind not in policy.accepted_kinds:
        return "KIND"
    most = policy.max_staleness
    if most is None:
        most = question.plan.main.dataset.max_staleness
    return "TOO_OLD" if most is not None and status.staleness > most else None


def told(answer: Answer, cause: Cause, steps: tuple[LadderStep, ...]) -> Answer:
    """The answer with what led to it; one that is known to equal a live one, or was asked for, is not degraded."""
    status, error = answer.status, cause.error
    if status.kind is AnswerKind.CACHE_FRESH or cause.reason is None:
        return replace(answer, status=replace(status, ladder=steps))
    known = error.metadata if error is not None else {}
    told = replace(
        status,
        degraded=True,
        degradation_level=level_of(status),
        reasons=tuple(dict.fromkeys((cause.reason, *status.reasons))),
        ladder=steps,
        limiting_factor=known.get("limiting_factor", ""),
        queue_duration=float(known.get("waited_seconds", 0.0)),
        retry_after=error.retry_after if error is not None else None,
    )
    return replace(answer, status=told)
