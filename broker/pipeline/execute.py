"""The terminal stage: read the states, let worker processes finish them, say what the answer is worth.

A dashboard takes one connection and one snapshot. Its panels are read one after the other, and the workers finish one
panel while the next is being read. An error that concerns one panel alone is that panel's outcome; when the snapshot
itself is lost, the panels that were not read yet share its error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from broker.domain.answer import Answer, Cost, Table
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName
from broker.pipeline.rolled import Reading, Rolled
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Group, Outcome, Question
from broker.pipeline.status import Sources, status_of
from broker.pipeline.timed import Timer
from broker.policy.classify import Load, Run
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.store import QueryStore, Snapshot

ENDS_SNAPSHOT = frozenset({ErrorReason.STORE_UNAVAILABLE, ErrorReason.DEADLINE_EXCEEDED})
"""Errors after which the snapshot answers nothing more."""

_BY_WEIGHT = (PoolName.ADMIN, PoolName.DASHBOARD, PoolName.EXPLORATION, PoolName.JOB)

Observer = Callable[[Question, Run], None]
"""Told of every question that was read, and how it went."""

Noted = Callable[[Question, Sources], None]
"""Told of every question that was answered, and from what."""

Loads = Callable[[PoolName], Load]
"""How busy the database of a pool is, beside the one who asks."""


@dataclass(frozen=True, slots=True)
class SnapshotAnswers:
    """Answers from the tables, and from rollups where a question has a route to them."""

    store: QueryStore
    rolled: Rolled
    aggregator: Aggregator
    clock: Clock
    observe: Observer
    noted: Noted
    load: Loads

    def __call__(self, group: Group) -> Awaitable[Sequence[Outcome]]:
        """Answers every question of the group from one snapshot."""
        return self._alone(group) if len(group.questions) == 1 else self._together(group)

    async def _alone(self, group: Group) -> Sequence[Outcome]:
        """The answer of a single question: by a single statement, if it takes no more."""
        (question,), pool, deadline = group.questions, pool_of(group), group.context.deadline
        with self._timed(question, pool) as timer:
            found = await self.rolled.read_alone(self.store, pool, question, deadline)
        if found is None:
            return await self._together(group)
        as_of, reading = found
        table = await self._finish(reading, question, pool, group)
        return [self._answer(table, question, reading.sources(as_of), timer.run)]

    async def _together(self, group: Group) -> Sequence[Outcome]:
        context, questions = group.context, group.questions
        pool = pool_of(group)
        tasks: list[_Panel | BrokerError] = []
        try:
            async with self.store.snapshot(pool, context.deadline) as snapshot:
                seen = Seen(snapshot)
                for question in questions:
                    tasks.append(await self._read(snapshot, seen, question, pool, group))
                    failed = tasks[-1]
                    if isinstance(failed, BrokerError) and failed.reason in ENDS_SNAPSHOT:
                        break
                for i, panel in enumerate(tasks):
                    if isinstance(panel, _Panel) and await self._unreadable(panel):
                        again = questions[i].without_rollups()
                        if again is not None:
                            tasks[i] = await self._read(snapshot, seen, again, pool, group)
            lost = next((t for t in reversed(tasks) if isinstance(t, BrokerError)), None)
            outcomes: list[Outcome] = []
            for i, question in enumerate(questions):
                if i >= len(tasks):
                    assert lost is not None
                    outcomes.append(lost)
                else:
                    outcomes.append(await self._outcome(tasks[i], question))
            return outcomes
        finally:
            await reap([panel.table for panel in tasks if isinstance(panel, _Panel)])

    async def _read(
        self, snapshot: Snapshot, seen: Seen, question: Question, pool: PoolName, group: Group
    ) -> _Panel | BrokerError:
        """Reads the states and starts the finish, which does not need the snapshot any more."""
        timer = self._timed(question, pool)
        try:
            with timer:
                reading = await self.rolled.read(snapshot, question, seen, group.context.deadline)
        except BrokerError as error:
            return error
        sources = reading.sources(snapshot.as_of, snapshot.replica_lag)
        table = asyncio.create_task(self._finish(reading, question, pool, group))
        return _Panel(table, sources, timer.run)

    async def _unreadable(self, panel: _Panel) -> bool:
        """Whether a local file of a segment turned out to be bad; asked while the snapshot can still be read."""
        if not panel.sources.used:
            return False
        await asyncio.wait([panel.table])
        return self.rolled.forgot(panel.table.exception())

    def _finish(
        self, reading: Reading, question: Question, pool: PoolName, group: Group
    ) -> Coroutine[Any, Any, Table]:
        return self.aggregator.table(
            pool, reading.results, reading.finish, question.format, group.context.deadline
        )

    async def _outcome(self, panel: _Panel | BrokerError, question: Question) -> Outcome:
        if isinstance(panel, BrokerError):
            return panel
        try:
            table = await panel.table
        except BrokerError as error:
            return error
        return self._answer(table, question, panel.sources, panel.run)

    def _answer(self, table: Table, question: Question, sources: Sources, run: Run) -> Answer:
        rows, size, seconds = table.row_count, len(table.encoded), run.seconds
        self.observe(question.as_read(sources.kind), Run(seconds, rows, size, run.cut_short, run.load))
        self.noted(question, sources)
        cost = Cost(seconds, seconds, rows, size)
        return Answer(table, status_of(question, sources, self.clock.now(), cost))

    def _timed(self, question: Question, pool: PoolName) -> Timer:
        return Timer(self.clock, partial(self.load, pool), partial(self.observe, question))


@dataclass(frozen=True, slots=True)
class _Panel:
    """A panel that was read and is being finished."""

    table: asyncio.Task[Table]
    sources: Sources
    run: Run


async def reap(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Cancels what still runs and waits until it has ended."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)


def pool_of(group: Group) -> PoolName:
    """The pool of the group's heaviest question; they are admitted together."""
    heaviest = group.questions[0].classified.classification.pool
    for question in group.questions[1:]:
        pool = question.classified.classification.pool
        if _BY_WEIGHT.index(pool) > _BY_WEIGHT.index(heaviest):
            heaviest = pool
    return heaviest
