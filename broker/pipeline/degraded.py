"""Answers from the rungs below when the live one is full, slow or down, and says so in the answer.

A reserve of the deadline is kept for them; what lies inside has the rest. Whoever could be served from below leaves the
group before it queues when the brown-out dial says so, and when the database is known to be down. Everything else is
tried live first, and comes here with the error that the live rung ended with. That error is the answer where no rung
below has one, and for callers who forbid to fall back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from broker.domain.answer import Answer
from broker.domain.errors import BrokerError
from broker.domain.pool import PoolName
from broker.domain.principal import Principal
from broker.domain.request import ExploreEvent, RequestKind
from broker.pipeline.cached import READ
from broker.pipeline.execute import pool_of
from broker.pipeline.ladder import Cause, Ladder, within
from broker.pipeline.routed import refusal
from broker.pipeline.stage import Group, Handler, Outcome, Stage, StreamHandler, StreamStage
from broker.pipeline.streamed import Limits, check_size
from broker.pipeline.whole import MOST_WHOLE, events_of
from broker.policy.brownout import goes_down
from broker.policy.degradation import degradable

CUT = 2 / 3
"""Part of the reserve that is left when the live rung, which has its own deadline before that, is cut off."""

Strain = Callable[[PoolName, Principal, float], float]
"""Expected wait for a seat of a pool, over what a caller who has so many seconds left may wait."""
Down = Callable[[PoolName], BrokerError | None]
"""Why the database of a pool cannot answer, while that is known beforehand."""


def no_strain(_pool: PoolName, _principal: Principal, _left: float) -> float:
    """Nobody waits."""
    return 0.0


def is_up(_pool: PoolName) -> None:
    """The database answers."""


@dataclass(frozen=True, slots=True)
class Degrading:
    """When to go down the ladder."""

    ladder: Ladder
    strain: Strain = no_strain
    down: Down = is_up

    async def answer(self, group: Group, inner: Handler, eligible: Sequence[int]) -> Sequence[Outcome]:
        """The outcomes of a group of which some, those at these places, may be answered from below."""
        causes = self._causes(group, eligible)
        if not causes:
            return await self._live(group, inner)
        outcomes = await self._walks(group, causes)
        going = [i for i in range(len(group.questions)) if i not in outcomes]
        if going:
            live = group.asking(tuple(group.questions[i] for i in going))
            outcomes |= zip(going, await self._live(live, inner), strict=True)
        return [outcomes[i] for i in range(len(group.questions))]

    async def first(self, events: AsyncGenerator[ExploreEvent, None], group: Group) -> Answer | ExploreEvent:
        """What a stream begins with, or a whole answer in its place.

        Raises:
            BrokerError: What the stream ended with, where no rung below has an answer that is sent in one piece.
        """
        for before in (await self._walks(group, self._causes(group, (0,)))).values():
            return _in_one_piece(before, group)
        (question,) = group.questions
        clock, started = self.ladder.clock, self.ladder.clock.monotonic()
        left = group.context.deadline.remaining(started)
        try:
            return await within(left - self.ladder.reserve.seconds(left), anext(events))
        except BrokerError as error:
            if not degradable(error):
                raise
            cause = self.ladder.failed(question, error, clock.monotonic() - started)
            return _in_one_piece(await self.ladder.walk(question, group, cause) or error, group)

    def _causes(self, group: Group, eligible: Sequence[int]) -> dict[int, Cause]:
        """Why questions are answered from below without trying the live rung, by place."""
        pool, causes = pool_of(group), dict[int, Cause]()
        down = self.down(pool)
        left = group.context.deadline.remaining(self.ladder.clock.monotonic())
        dashboard = down is None and group.kind is RequestKind.DASHBOARD
        strain = self.strain(pool, group.context.principal, left) if dashboard else 0.0
        for i in eligible:
            question = group.questions[i]
            if READ.isdisjoint(question.policy.accepted_kinds):
                refused = refusal(question.plan, question.policy)
                assert refused is not None, "nothing that is read is accepted"
                causes[i] = self.ladder.unwanted(refused)
            elif down is not None:
                causes[i] = self.ladder.failed(question, down, 0.0)
            elif goes_down(question.key, strain):
                causes[i] = self.ladder.skipped()
        return causes

    async def _live(self, group: Group, inner: Handler) -> Sequence[Outcome]:
        """The outcomes of the live rung, or of those below it."""
        ladder, context = self.ladder, group.context
        started = ladder.clock.monotonic()
        left = context.deadline.remaining(started)
        reserve = ladder.reserve.seconds(left)
        early = group.until(context.deadline.minus(reserve))
        found: Sequence[Outcome]
        try:
            found = await within(left - CUT * reserve, inner(early))
        except BrokerError as error:
            found = [error] * len(group.questions)
        if not [outcome for outcome in found if isinstance(outcome, BrokerError)]:
            return found
        seconds = ladder.clock.monotonic() - started
        causes = {
            i: ladder.failed(question, outcome, seconds)
            for i, (question, outcome) in enumerate(zip(group.questions, found, strict=True))
            if isinstance(outcome, BrokerError) and degradable(outcome) and ladder.eligible(question, group)
        }
        walked = await self._walks(group, causes)
        return [walked.get(i, outcome) for i, outcome in enumerate(found)]

    async def _walks(self, group: Group, causes: Mapping[int, Cause]) -> dict[int, Outcome]:
        questions, walk = group.questions, self.ladder.walk
        if len(causes) <= 1:
            found = [await walk(questions[i], group, cause) for i, cause in causes.items()]
        else:
            async with asyncio.TaskGroup() as tasks:
                walks = [tasks.create_task(walk(questions[i], group, cause)) for i, cause in causes.items()]
            found = [each.result() for each in walks]
        return {i: outcome for i, outcome in zip(causes, found, strict=True) if outcome is not None}


def _in_one_piece(outcome: Outcome, group: Group) -> Answer:
    """The answer, if it is small enough for the caller and for one message."""
    if isinstance(outcome, BrokerError):
        raise outcome
    rows, size = outcome.table.row_count, len(outcome.table.encoded)
    check_size(rows, size, Limits(group.max_row_count or rows, group.max_byte_count or MOST_WHOLE))
    return outcome


def degraded(degrading: Degrading) -> Stage:
    """Lets questions that may be answered from below fall there."""

    def stage(inner: Handler) -> Handler:
        def handle(group: Group) -> Awaitable[Sequence[Outcome]]:
            eligible = _eligible(degrading.ladder, group)
            return degrading.answer(group, inner, eligible) if eligible else inner(group)

        return handle

    return stage


def degraded_stream(degrading: Degrading) -> StreamStage:
    """The same for a stream that has not sent its first byte; after that an error is an error."""

    def stage(inner: StreamHandler) -> StreamHandler:
        async def handle(group: Group) -> AsyncGenerator[ExploreEvent, None]:
            async with aclosing(inner(group)) as events:
                if _eligible(degrading.ladder, group):
                    first = await degrading.first(events, group)
                    if isinstance(first, Answer):
                        for event in events_of(first):
                            yield event
                        return
                    yield first
                async for event in events:
                    yield event

        return handle

    return stage


def _eligible(ladder: Ladder, group: Group) -> list[int]:
    """The places of questions that a rung below may answer."""
    return [i for i, question in enumerate(group.questions) if ladder.eligible(question, group)]
