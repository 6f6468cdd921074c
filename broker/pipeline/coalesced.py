"""One flight per question and terms: callers who ask the same thing at once wait for the same reading.

A flight runs in a task of its own, so that it belongs to everybody who waits and to nobody in particular. Its first
caller decides its deadline, and pays for its seat. Followers keep their own deadlines; when nobody waits any more the
flight is cancelled, and its seat is free at once. What ends a flight because of who led it (their deadline, their
quota, their rank) is not the answer to the followers': one of them leads the next.

The panels of a dashboard are one flight, because they are read from one snapshot: it is joined by whoever asks nothing
beyond it. Between processes the turn decides: the one that has it reads, and its answers are in the cache before the
turn ends; the others wait for that, look, and ask again where there is nothing to be seen, as when it has died.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from broker.domain.answer import Answer, LadderStep, Rung, Verdict
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fingerprint import fingerprint
from broker.domain.held import Held
from broker.domain.principal import Principal
from broker.domain.request import CallContext
from broker.domain.terms import CacheMode, Consistency
from broker.pipeline.stage import Group, Handler, Outcome, Question, Stage
from broker.ports.cache import AnswerCache, Turns
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

LEADERS_OWN = frozenset(
    {
        ErrorReason.DEADLINE_TOO_SHORT,
        ErrorReason.DEADLINE_EXCEEDED,
        ErrorReason.QUEUE_TIMEOUT,
        ErrorReason.OVERLOADED,
        ErrorReason.TENANT_QUOTA,
        ErrorReason.CANCELLED,
    }
)
"""Errors that may be due to who asks; they are shared with those who have no better claim than the leader."""
CERTAIN = frozenset({ErrorReason.STORE_REJECTED})
"""Errors that the same question meets again; for :data:`DAMPED` seconds they are its answer."""
DAMPED = 1.0
MOST_DAMPED = 1024
"""Errors that are remembered at once."""
SHORTEST_WAIT = 0.05
"""Seconds for which the turn of another process is waited for at the least, before it is asked for again."""
LONGEST_WAIT = 0.05
"""Seconds that a look into the shared cache may take."""

Name = Hashable
"""What a flight reads for one question: the answer's key, and the terms that decide how it may be read."""


class Flight:
    """A reading under way, and those who wait for it."""

    __slots__ = ("at", "carrier", "names", "principal", "task", "waiting")

    def __init__(
        self,
        names: Sequence[Name],
        context: CallContext,
        task: asyncio.Task[Sequence[Outcome]],
        carrier: Mapping[str, str],
    ) -> None:
        self.names, self.task, self.carrier = tuple(names), task, carrier
        self.principal, self.at = context.principal, context.deadline.at
        self.waiting = 0

    def reads(self, names: Sequence[Name]) -> bool:
        """Whether everything that is asked is among what it reads."""
        return set(names) <= set(self.names)

    def picked(self, names: Sequence[Name]) -> list[Outcome]:
        """The outcomes for these names; raises what the flight ended with."""
        found = dict(zip(self.names, self.task.result(), strict=True))
        return [found[name] for name in names]

    def shares(self, error: BrokerError, context: CallContext) -> bool:
        """Whether an error of the flight is one to a follower too."""
        if error.reason not in LEADERS_OWN:
            return True
        return context.deadline.at <= self.at and _no_better(context.principal, self.principal)


def _no_better(follower: Principal, leader: Principal) -> bool:
    return follower.tenant == leader.tenant and follower.criticality <= leader.criticality


class Flights:
    """The flights of a process. ``turns`` are those between processes, which look into ``answers``."""

    def __init__(
        self,
        clock: Clock,
        telemetry: Telemetry,
        answers: AnswerCache | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._clock, self._telemetry = clock, telemetry
        self._answers, self._turns = answers, turns
        self._flights: dict[Name, Flight] = {}
        self._tasks: set[asyncio.Task[Sequence[Outcome]]] = set()
        self._damped: dict[Name, tuple[float, BrokerError]] = {}

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Flights, None]:
        """Waits at the end for what is under way, after cancelling it."""
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            while self._tasks:
                await asyncio.wait(self._tasks)

    @property
    def count(self) -> int:
        """Flights under way, those that are being cancelled included."""
        return len(self._tasks)

    async def answer(self, group: Group, inner: Handler) -> Sequence[Outcome]:
        """The outcomes of a group, read by a flight that it leads or follows."""
        names = [name_of(question, group) for question in group.questions]
        joins = all(joined(question, group) for question in group.questions)
        if joins and (damped := self._certain(names)) is not None:
            return damped
        while True:
            flight = self._under_way(names) if joins else None
            if flight is None:
                flight = self._start(group, names, inner)
                await self._wait(flight)
                return flight.picked(names)
            found = await self._follow(flight, names, group.context)
            if found is not None:
                return found

    def _under_way(self, names: Sequence[Name]) -> Flight | None:
        flight = self._flights.get(names[0])
        return flight if flight is not None and flight.reads(names) else None

    def _start(self, group: Group, names: Sequence[Name], inner: Handler) -> Flight:
        led = any(led_for_others(question, group) for question in group.questions)
        shared = self._turns is not None and led
        reading = self._in_turn(group, names, inner) if shared else _read(group, inner)
        task = asyncio.create_task(reading)
        flight = Flight(names, group.context, task, self._telemetry.inject())
        if led:
            for name in names:
                self._flights.setdefault(name, flight)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._ended(flight))
        return flight

    async def _follow(
        self, flight: Flight, names: Sequence[Name], context: CallContext
    ) -> list[Outcome] | None:
        """The outcomes; None where the flight ended with an error that is not the follower's."""
        self._telemetry.flight_followers(context.method)
        with self._telemetry.span(SpanName.FOLLOW, links=self._telemetry.links(flight.carrier)):
            await self._wait(flight)
        try:
            found = flight.picked(names)
        except BrokerError as error:
            if flight.shares(error, context):
                raise
            return None
        shared = all(flight.shares(each, context) for each in found if isinstance(each, BrokerError))
        return found if shared else None

    async def _wait(self, flight: Flight) -> None:
        flight.waiting += 1
        try:
            await asyncio.wait([flight.task])
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._forget(flight)
                flight.task.cancel()

    def _ended(self, flight: Flight) -> None:
        self._tasks.discard(flight.task)
        self._forget(flight)
        if flight.task.cancelled() or flight.task.exception() is not None:
            return
        until = self._clock.monotonic() + DAMPED
        for name, outcome in zip(flight.names, flight.task.result(), strict=True):
            if isinstance(outcome, BrokerError) and outcome.reason in CERTAIN:
                if len(self._damped) >= MOST_DAMPED:
                    self._damped.clear()
                self._damped[name] = until, outcome

    def _forget(self, flight: Flight) -> None:
        for name in flight.names:
            if self._flights.get(name) is flight:
                del self._flights[name]

    def _certain(self, names: Sequence[Name]) -> list[Outcome] | None:
        """The errors that all of these questions have just met."""
        if not self._damped:
            return None
        now, found = self._clock.monotonic(), list[Outcome]()
        for name in names:
            until, error = self._damped.get(name, (now, None))
            if error is None or now >= until:
                self._damped.pop(name, None)
                return None
            found.append(error)
        return found

    async def _in_turn(self, group: Group, names: Sequence[Name], inner: Handler) -> Sequence[Outcome]:
        """Reads when no other process does; else waits for its answers."""
        assert self._turns is not None
        turn_of = fingerprint(*names)
        before = [self._newest(question) for question in group.questions]
        while True:
            async with self._turns.turn(turn_of) as turn:
                if turn.mine:
                    return await inner(group)
                left = group.context.deadline.remaining(self._clock.monotonic())
                await turn.over(max(SHORTEST_WAIT, left))
            found = await self._read_elsewhere(group, before)
            if found is not None:
                return found
            if group.context.deadline.expired(self._clock.monotonic()):
                return await inner(group)  # which says that the time is over

    def _newest(self, question: Question) -> Held | None:
        return self._answers.near(question.key) if self._answers is not None else None

    async def _read_elsewhere(self, group: Group, before: Sequence[Held | None]) -> Sequence[Outcome] | None:
        """The answers that another process has just read, all from one snapshot where they have to be."""
        assert self._answers is not None
        answers = self._answers
        found = await asyncio.gather(*(answers.find(q.key, LONGEST_WAIT) for q in group.questions))
        newer = [
            held
            for held, old in zip(found, before, strict=True)
            if held is not None and (old is None or held.as_of > old.as_of)
        ]
        if len(newer) < len(found):
            return None
        if group.consistency is not Consistency.ANY and len({held.as_of for held in newer}) > 1:
            return None
        return [self._handed(q, held) for q, held in zip(group.questions, newer, strict=True)]

    def _handed(self, question: Question, held: Held) -> Answer:
        staleness = max(0.0, (self._clock.now() - held.as_of).total_seconds())
        step = LadderStep(Rung.LIVE, Verdict.ANSWERED, "flight", duration=held.seconds)
        ladder = (*question.ladder, step)
        return Answer(held.table, replace(held.status, staleness=staleness, ladder=ladder))


async def _read(group: Group, inner: Handler) -> Sequence[Outcome]:
    return await inner(group)


def name_of(question: Question, group: Group) -> Name:
    """What tells a question's flight from others."""
    return question.key, question.policy, group.consistency


def joined(question: Question, group: Group) -> bool:
    """Whether the caller takes what somebody else has begun to read."""
    policy = question.policy
    return led_for_others(question, group) and policy.cache is CacheMode.DEFAULT


def led_for_others(question: Question, group: Group) -> bool:
    """Whether others may take what is read for the caller."""
    policy = question.policy
    return (
        bool(question.key)
        and group.consistency is not Consistency.SNAPSHOT
        and policy.max_staleness != 0.0
        and policy.cache in (CacheMode.DEFAULT, CacheMode.REVALIDATE)
    )


def coalesced(flights: Flights) -> Stage:
    """Reads the same question once for all who ask it at the same time."""

    def stage(inner: Handler) -> Handler:
        async def handle(group: Group) -> Sequence[Outcome]:
            return await flights.answer(group, inner)

        return handle

    return stage
