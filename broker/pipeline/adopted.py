"""Explorations that outlive their deadline go on as jobs, where the caller asked for that (``on_deadline = JOB``).

What lies inside runs in a task of its own and knows nothing of the caller's deadline. When that comes near, the work
becomes the first attempt of a job, with its seat, its snapshot and everything that it has read, and the caller is given
the handle. Work that has not begun by then is submitted as an ordinary job. Everybody else passes through untouched:
their work ends with their deadline, in the database too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from broker.domain.answer import AnswerKind, AnswerStatus, DegradationReason, Exactness
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import Plan
from broker.domain.request import CallContext, ExploreEvent, ExploreHeader
from broker.domain.work import JobAsk
from broker.pipeline.flow import KEPT_BYTES, Flow
from broker.pipeline.stage import Group, StreamHandler, StreamStage
from broker.policy.degradation import INCOMPLETE
from broker.ports.clock import Clock

RESERVE_SHARE, SHORTEST, LONGEST = 0.2, 0.05, 1.0
"""Part of the deadline that is kept for handing the work over, and its bounds in seconds."""


@dataclass(frozen=True, slots=True)
class Adoptable:
    """Work under way, with all that a job needs to finish it. ``stop`` ends it and returns when nothing runs."""

    plan: Plan
    flow: Flow
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """Ends the work, wherever it is."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.flow.close()


class Adoption(Protocol):
    """Makes jobs of explorations. ``seconds`` is the longest time of an attempt."""

    @property
    def seconds(self) -> float:
        """Longest time that adopted work may take, from its beginning."""
        ...

    def prepare(self) -> None:
        """An exploration may have to be adopted soon; never waits."""
        ...

    async def adopt(self, context: CallContext, ask: JobAsk, work: Adoptable) -> str | None:
        """Makes the work an attempt of a new job, whose name it returns; None when it cannot, and nothing changed."""
        ...

    async def submit(self, context: CallContext, ask: JobAsk) -> str:
        """Submits work that has not begun; returns the job's name."""
        ...


def adopting(adoption: Adoption, clock: Clock, kept_bytes: int = KEPT_BYTES) -> StreamStage:
    """The stage; of every stream about ``kept_bytes`` are kept for a job, and one that is longer begins anew as one."""

    def stage(inner: StreamHandler) -> StreamHandler:
        async def handle(group: Group) -> AsyncGenerator[ExploreEvent, None]:
            if group.job is None:
                async with aclosing(inner(group)) as events:
                    async for event in events:
                        yield event
                return
            adoption.prepare()
            run = _Run(adoption, clock, group, group.job, Flow(kept_bytes))
            async with aclosing(run.events(inner)) as events:
                async for event in events:
                    yield event

        return handle

    return stage


@dataclass(slots=True)
class _Run:
    """One exploration that may become a job."""

    adoption: Adoption
    clock: Clock
    group: Group
    ask: JobAsk
    flow: Flow
    out: asyncio.Queue[ExploreEvent | BaseException | None] = field(
        default_factory=lambda: asyncio.Queue(maxsize=1)
    )

    async def events(self, inner: StreamHandler) -> AsyncGenerator[ExploreEvent, None]:
        """What the caller is given."""
        context = self.group.context
        now = self.clock.monotonic()
        left = context.deadline.at - now
        handover = context.deadline.at - min(LONGEST, max(SHORTEST, RESERVE_SHARE * left))
        lasting = replace(context, deadline=Deadline.after(self.adoption.seconds, now))
        group = replace(self.group, context=lasting, flow=self.flow)
        task = asyncio.create_task(self._drive(inner, group))
        headed = False
        try:
            while True:
                try:
                    async with asyncio.timeout(max(0.0, handover - self.clock.monotonic())):
                        event = await self.out.get()
                except TimeoutError:
                    if task.done():
                        continue  # the end is here already, it was only not taken
                    break
                if event is None:
                    return
                if isinstance(event, BaseException):
                    raise event
                headed = True
                yield event
                if self.clock.monotonic() >= handover and not task.done():
                    break
            job = await self._hand_over(task)
            if not headed:
                (question,) = self.group.questions
                yield ExploreHeader(question.plan.columns, self._as_of())
            yield self._status(job)
        finally:
            if not self.flow.adopted:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self.flow.close()

    async def _drive(self, inner: StreamHandler, group: Group) -> None:
        """Runs the work; its events go to the caller until a job has adopted it."""
        last: BaseException | None = None
        try:
            async with aclosing(inner(group)) as events:
                async for event in events:
                    if not self.flow.adopted:
                        await self._put(event)
        except BrokerError as error:
            last = error
        except asyncio.CancelledError:
            self.flow.end(asyncio.CancelledError())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller's side or the job has to judge it
            last = error
        self.flow.end(None if self.flow.adopted and _ours(last) else last)
        if not self.flow.adopted:
            await self._put(last)

    async def _put(self, event: ExploreEvent | BaseException | None) -> None:
        """Gives the caller's side an event, unless it is given up while it waits."""
        putting = asyncio.ensure_future(self.out.put(event))
        adopted = asyncio.ensure_future(self.flow.taken.wait())
        try:
            await asyncio.wait({putting, adopted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
            adopted.cancel()

    async def _hand_over(self, task: asyncio.Task[None]) -> str:
        (question,) = self.group.questions
        context = self.group.context
        if self.flow.begun is not None and not task.done() and await self.flow.keep():
            work = Adoptable(question.plan, self.flow, task)
            name = await self.adoption.adopt(context, self.ask, work)
            if name is not None:
                return name
        return await self.adoption.submit(context, self.ask)

    def _as_of(self) -> datetime:
        return self.flow.begun or self.clock.now()

    def _status(self, job: str) -> AnswerStatus:
        """The rows so far, if any, are not the answer; the job will have it."""
        (question,) = self.group.questions
        return AnswerStatus(
            kind=AnswerKind.LIVE,
            exactness=Exactness.PARTIAL,
            as_of=self._as_of(),
            degraded=True,
            degradation_level=INCOMPLETE,
            reasons=(DegradationReason.DEADLINE_EXPIRED_UPSTREAM,),
            pool=question.classified.classification.pool.value,
            predicted=question.classified.predicted,
            cost_class=question.classified.classification.cost_class,
            job=job,
        )


def _ours(error: BaseException | None) -> bool:
    """Whether the error only says that the work was handed over."""
    return isinstance(error, BrokerError) and error.reason is ErrorReason.CANCELLED
