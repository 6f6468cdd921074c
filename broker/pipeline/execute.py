"""The terminal stages: read the states, let worker processes finish them, say what the answer is worth.

A dashboard takes one connection and one snapshot. Its panels are read one after the other, and the workers finish one
panel while the next is being read. An error that concerns one panel alone is that panel's outcome; when the snapshot
itself is lost, the panels that were not read yet share its error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    Interval,
    LadderStep,
    PartSource,
    Rung,
    Table,
    Verdict,
)
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fingerprint import fingerprint
from broker.domain.plan import ScanResult
from broker.domain.pool import PoolName
from broker.pipeline.bounds import error_bounds, exactness
from broker.pipeline.stage import Group, Outcome, Question
from broker.pipeline.timed import Timer
from broker.policy.classify import Load, Run
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.store import QueryStore, Snapshot

ENDS_SNAPSHOT = frozenset({ErrorReason.STORE_UNAVAILABLE, ErrorReason.DEADLINE_EXCEEDED})
"""Errors after which the snapshot answers nothing more."""

Observer = Callable[[Question, Run], None]
"""Told of every question that was read, and how it went."""

Loads = Callable[[PoolName], Load]
"""How busy the database of a pool is, beside the one who asks."""


@dataclass(frozen=True, slots=True)
class Live:
    """Answers from the base tables."""

    store: QueryStore
    aggregator: Aggregator
    clock: Clock
    observe: Observer
    load: Loads

    async def __call__(self, group: Group) -> Sequence[Outcome]:
        """Answers every question of the group from one snapshot."""
        if len(group.questions) == 1:
            outcome = await self._alone(group, group.questions[0])
            if outcome is not None:
                return [outcome]
        return await self._together(group)

    async def _alone(self, group: Group, question: Question) -> Outcome | None:
        """The answer of a single question by a single statement; None when it takes more."""
        pool, deadline = pool_of(group), group.context.deadline
        with self._timed(question, pool) as timer:
            reading = await self.store.read_alone(pool, question.plan, deadline)
        if reading is None:
            return None
        table = await self._finish(reading.results, question, pool, group)
        return self._answer(table, question, reading.as_of, None, timer.run)

    async def _together(self, group: Group) -> Sequence[Outcome]:
        context, questions = group.context, group.questions
        pool = pool_of(group)
        tasks: list[asyncio.Task[Table] | BrokerError] = []
        timers: list[Timer] = []
        try:
            async with self.store.snapshot(pool, context.deadline) as snapshot:
                for question in questions:
                    timers.append(self._timed(question, pool))
                    tasks.append(await self._read(snapshot, question, pool, group, timers[-1]))
                    failed = tasks[-1]
                    if isinstance(failed, BrokerError) and failed.reason in ENDS_SNAPSHOT:
                        break
                as_of, lag = snapshot.as_of, snapshot.replica_lag
            lost = next((t for t in reversed(tasks) if isinstance(t, BrokerError)), None)
            outcomes: list[Outcome] = []
            for i, question in enumerate(questions):
                if i >= len(tasks):
                    assert lost is not None
                    outcomes.append(lost)
                else:
                    outcomes.append(await self._outcome(tasks[i], question, as_of, lag, timers[i].run))
            return outcomes
        finally:
            await reap([task for task in tasks if isinstance(task, asyncio.Task)])

    async def _read(
        self, snapshot: Snapshot, question: Question, pool: PoolName, group: Group, timer: Timer
    ) -> asyncio.Task[Table] | BrokerError:
        """Reads the states and starts the finish, which does not need the snapshot any more."""
        try:
            with timer:
                results = await snapshot.read(question.plan)
        except BrokerError as error:
            return error
        return asyncio.create_task(self._finish(results, question, pool, group))

    async def _finish(
        self, results: tuple[ScanResult, ...], question: Question, pool: PoolName, group: Group
    ) -> Table:
        return await self.aggregator.table(
            pool, results, question.plan.finish, question.format, group.context.deadline
        )

    async def _outcome(
        self,
        task: asyncio.Task[Table] | BrokerError,
        question: Question,
        as_of: datetime,
        lag: float | None,
        run: Run,
    ) -> Outcome:
        if isinstance(task, BrokerError):
            return task
        try:
            table = await task
        except BrokerError as error:
            return error
        return self._answer(table, question, as_of, lag, run)

    def _answer(
        self, table: Table, question: Question, as_of: datetime, lag: float | None, run: Run
    ) -> Answer:
        rows, size, seconds = table.row_count, len(table.encoded), run.seconds
        self.observe(question, replace(run, row_count=rows, byte_count=size))
        cost = Cost(seconds, seconds, rows, size)
        return Answer(table, live_status(question, as_of, lag, self.clock.now(), cost))

    def _timed(self, question: Question, pool: PoolName) -> Timer:
        return Timer(self.clock, partial(self.load, pool), partial(self.observe, question))


async def reap(tasks: Sequence[asyncio.Task[object]]) -> None:
    """Cancels what still runs and waits until it has ended."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)


def pool_of(group: Group) -> PoolName:
    """The pool of the group's heaviest question; they are admitted together."""
    order = (PoolName.ADMIN, PoolName.DASHBOARD, PoolName.EXPLORATION, PoolName.JOB)
    return max((q.classified.classification.pool for q in group.questions), key=order.index)


def live_status(
    question: Question, as_of: datetime, lag: float | None, now: datetime, actual: Cost | None
) -> AnswerStatus:
    """The status of an answer that was read from the base tables at ``as_of``."""
    plan = question.plan
    bounds = plan.main.bounds
    part = AnswerPart(
        source=PartSource.LIVE,
        source_name="primary" if lag is None else "replica",
        as_of=as_of,
        interval=Interval(bounds.start, bounds.end) if bounds is not None else None,
        row_count=actual.row_count if actual is not None else 0,
        share=1.0,
        replica_lag=lag,
    )
    seconds = actual.duration_p50 if actual is not None else 0.0
    answered = LadderStep(Rung.LIVE, Verdict.ANSWERED, part.source_name, duration=seconds)
    return AnswerStatus(
        kind=AnswerKind.LIVE,
        exactness=exactness(plan),
        as_of=as_of,
        staleness=max(0.0, (now - as_of).total_seconds()) + (lag or 0.0),
        parts=(part,),
        bounds=error_bounds(plan),
        ladder=(*question.ladder, answered),
        pool=question.classified.classification.pool.value,
        predicted=question.classified.predicted,
        actual=actual,
        cost_class=question.classified.classification.cost_class,
        answer_version=fingerprint(plan.fingerprint, as_of),
    )
