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
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from broker.domain.answer import Answer, AnswerKind, LadderStep, Rung, Verdict
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fingerprint import fingerprint
from broker.domain.held import Held
from broker.domain.request import CallContext
from broker.domain.terms import CacheMode, Consistency
from broker.pipeline.cached import Asked, Cached, suits
from broker.pipeline.flight import Flight, Name, joined, led_for_others, name_of, oldest
from broker.pipeline.stage import Group, Handler, Outcome, Question, Stage
from broker.policy.freshness import as_read, lag_of
from broker.ports.cache import Turns
from broker.ports.clock import Clock
from broker.telemetry.instruments import Telemetry
from broker.telemetry.names import SpanName

CERTAIN = frozenset({ErrorReason.STORE_REJECTED})
"""Errors that the same question meets again; for :data:`DAMPED` seconds they are its answer."""
DAMPED = 1.0
MOST_DAMPED = 1024
"""Errors that are remembered at once."""
SHORTEST_WAIT = 0.05
"""Seconds for which the turn of another process is waited for at the least, before it is asked for again."""
ON_ITS_WAY = 0.5
"""Seconds after the end of another process's reading in which its answer may not have come to where others look."""
LONGEST_WAIT = 0.05
"""Seconds that a look into the shared cache may take."""


class Flights:
    """The flights of a process. ``turns`` are those between processes that share what is ``cached``, if any do."""

    def __init__(
        self,
        clock: Clock,
        telemetry: Telemetry,
        cached: Cached | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._clock, self._telemetry = clock, telemetry
        self._cached, self._turns = cached, turns
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
            flight = self._under_way(names, group) if joins else None
            if flight is None and joins and (landed := self._landed(group)) is not None:
                return landed
            if flight is None:
                flight = self._start(group, names, inner)
                await self._wait(flight)
                return flight.picked(names)
            found = await self._follow(flight, names, group.context)
            if found is not None:
                return found

    def _under_way(self, names: Sequence[Name], group: Group) -> Flight | None:
        flight = self._flights.get(names[0])
        if flight is None or not flight.reads(names):
            return None
        if self._clock.monotonic() - flight.begun > min(map(oldest, group.questions)):
            self._forget(flight)  # whoever comes next joins the one that begins now
            return None
        return flight

    def _landed(self, group: Group) -> list[Outcome] | None:
        """The answers of flights that ended while their question was on its way here, after it had looked for them."""
        found: list[Outcome] = []
        for question in group.questions:
            answer = self._cached.near(Asked.by(question, group), group.context) if self._cached else None
            if answer is None:
                return None
            found.append(answer)
        return found

    def _start(self, group: Group, names: Sequence[Name], inner: Handler) -> Flight:
        led = any(led_for_others(question, group) for question in group.questions)
        shared = self._turns is not None and led
        reading = self._in_turn(group, names, inner) if shared else _read(group, inner)
        task = asyncio.create_task(reading)
        flight = Flight(names, group.context, task, self._telemetry.inject(), self._clock.monotonic())
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
        before = await self._look(group)
        turn_of = fingerprint(*names)
        while True:
            async with self._turns.turn(turn_of) as turn:
                if not turn.mine:
                    left = group.context.deadline.remaining(self._clock.monotonic())
                    await turn.over(max(SHORTEST_WAIT, left))
                # Another turn may have ended since the question was looked up, or has just now.
                found = self._read_elsewhere(group, before, await self._look(group))
                if found is not None:
                    return found
                if turn.mine or group.context.deadline.expired(self._clock.monotonic()):
                    return await inner(group)  # which says so when the time is over

    async def _look(self, group: Group) -> Sequence[Held | None]:
        """What is held in any tier."""
        if self._cached is None:
            return [None] * len(group.questions)
        answers = self._cached.answers
        return await asyncio.gather(*(answers.find(q.key, LONGEST_WAIT) for q in group.questions))

    def _read_elsewhere(
        self, group: Group, before: Sequence[Held | None], found: Sequence[Held | None]
    ) -> Sequence[Outcome] | None:
        """The answers that another process has read meanwhile, all from one snapshot where they have to be."""
        outcomes: list[Outcome] = []
        for question, old, held in zip(group.questions, before, found, strict=True):
            answer = self._taken(question, group, old, held)
            if answer is None:
                return None
            outcomes.append(answer)
        snapshots = {held.as_of for held in found if held is not None}
        return outcomes if group.consistency is Consistency.ANY or len(snapshots) == 1 else None

    def _taken(self, question: Question, group: Group, old: Held | None, held: Held | None) -> Answer | None:
        """An answer that was read while this question waited, or that is fresh to its caller.

        What was found only now may have been held for long, or be made from what was: then its freshness decides.
        """
        if held is None or self._cached is None:
            return None
        asked, status = Asked.by(question, group), as_read(held.status)
        before = (group.context.received - held.as_of).total_seconds()
        over = before > held.seconds + ON_ITS_WAY
        if status is None or over or (old is not None and held.as_of <= old.as_of):
            if question.policy.cache is not CacheMode.DEFAULT:
                return None
            return self._cached.give(held, asked, group.context)
        most = oldest(question) if question.policy.cache is CacheMode.DEFAULT else 0.0
        if before > most or not suits(held, asked):
            return None  # the turn may have begun long before, and others keep answers under the same key
        staleness = max(0.0, (self._clock.now() - held.as_of).total_seconds()) + lag_of(status)
        rung = Rung.ROLLUP if status.kind is AnswerKind.ROLLUP else Rung.LIVE
        step = LadderStep(rung, Verdict.ANSWERED, "flight", duration=held.seconds)
        return Answer(held.table, replace(status, staleness=staleness, ladder=(*question.ladder, step)))


async def _read(group: Group, inner: Handler) -> Sequence[Outcome]:
    return await inner(group)


def coalesced(flights: Flights) -> Stage:
    """Reads the same question once for all who ask it at the same time."""

    def stage(inner: Handler) -> Handler:
        async def handle(group: Group) -> Sequence[Outcome]:
            return await flights.answer(group, inner)

        return handle

    return stage
