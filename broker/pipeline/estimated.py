"""The rung of estimates: totals of a sample of blocks, with limits between which the truth lies.

It reads the database, but nothing that may be full: it has a lane of its own with one place, and for its statements a
seat and a connection of the pool of administration, which serves short questions beside all classes and keeps a second
seat for them. Who finds the lane taken waits a part of what the deadline leaves, in a line of bounded length. While the
database is away, samples that were kept in files tell what they can.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerPart,
    AnswerStatus,
    Cost,
    Exactness,
    Guarantee,
    Interval,
    LadderStep,
    PartSource,
    Rung,
    Verdict,
)
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fingerprint import fingerprint
from broker.domain.plan import ScanResult
from broker.domain.pool import PoolName
from broker.domain.request import Basis
from broker.domain.sample import BlockSums, Figure, NoEstimate
from broker.domain.terms import AnswerPolicy, CacheMode, Consistency, RollupMode
from broker.pipeline.admitted import Seats
from broker.pipeline.drawing import Asked, Seeds, draw
from broker.pipeline.known_seals import Known
from broker.pipeline.ladder import declined
from broker.pipeline.sealed import missing
from broker.pipeline.stage import Group, Question
from broker.policy.estimate_design import DEFAULT_LIMIT, Told
from broker.policy.estimate_figures import chooses, figures, hindrances
from broker.policy.estimate_rows import bounds_of, finish_of, rows_of
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock
from broker.ports.samples import SampledTable, Samples

LANE = 1
"""Estimates that are read at once, in one process."""
LINE = 16
"""Estimates that may wait for one of them."""
WAIT = 0.25
"""Part of the remaining time that one may wait."""
_REFUSED = frozenset(
    {
        ErrorReason.OVERLOADED,
        ErrorReason.QUEUE_TIMEOUT,
        ErrorReason.TENANT_QUOTA,
        ErrorReason.DRAINING,
        ErrorReason.DEADLINE_TOO_SHORT,
    }
)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What a sample tells, and what that is worth."""

    told: Told
    status: AnswerStatus


class Estimated:
    """See :class:`broker.pipeline.ladder.LowerRung`."""

    def __init__(
        self,
        samples: Samples,
        aggregator: Aggregator,
        seats: Seats,
        clock: Clock,
        seeds: Seeds,
        sealed: Known,
        kept: Samples | None = None,
    ) -> None:
        self._samples, self._aggregator, self._seats, self._kept = samples, aggregator, seats, kept
        self._clock, self._seeds, self._sealed = clock, seeds, sealed
        self._lane = asyncio.Semaphore(LANE)
        self._waiting = 0

    @property
    def rung(self) -> Rung:
        """ESTIMATE."""
        return Rung.ESTIMATE

    def allowed(self, policy: AnswerPolicy) -> bool:
        """Whether the caller accepts estimates, and asks for no other source."""
        asked_otherwise = policy.rollup is RollupMode.REQUIRE or policy.cache is CacheMode.ONLY
        return AnswerKind.ESTIMATE in policy.accepted_kinds and not asked_otherwise

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        """The estimate, or why there is none."""
        began = self._clock.monotonic()
        hindered = self._hindered(question, group)
        if hindered:
            return declined(self.rung, Verdict.NOT_APPLICABLE, *(code.value for code in hindered))
        try:
            async with asyncio.timeout(deadline.remaining(began)):
                found = await self._estimate(question, group, deadline)
        except TimeoutError:
            return declined(self.rung, Verdict.TIMED_OUT, ErrorReason.DEADLINE_EXCEEDED.value)
        except OverflowError:
            return declined(self.rung, Verdict.FAILED, ErrorReason.STORE_REJECTED.value)
        except BrokerError as error:
            return declined(self.rung, _verdict(error), error.reason.value)
        if isinstance(found, NoEstimate):
            return declined(self.rung, Verdict.REFUSED, found.value)
        spent = self._clock.monotonic() - began
        cost = Cost(spent, spent, found.table.row_count, len(found.table.encoded))
        return replace(found, status=replace(found.status, actual=cost))

    def _hindered(self, question: Question, group: Group) -> tuple[NoEstimate, ...]:
        found = list(hindrances(question.plan))
        seals = self._sealed(question.plan.main.dataset)
        if seals is None or missing(question.plan, seals):
            found.append(NoEstimate.SEALED)
        if group.consistency is Consistency.SNAPSHOT and len(group.questions) > 1:
            found.append(NoEstimate.POLICY)
        return tuple(found)

    async def _estimate(self, question: Question, group: Group, deadline: Deadline) -> Answer | NoEstimate:
        plan, own = question.plan, figures(question.plan)
        try:
            drawn = await self._from_database(own, question, group, deadline)
        except BrokerError as error:
            if self._kept is None or error.reason is not ErrorReason.STORE_UNAVAILABLE:
                raise
            async with self._kept.table(PoolName.DASHBOARD, plan, deadline) as table:
                drawn = await self._draw(table, own, question, deadline, PoolName.DASHBOARD)
        if isinstance(drawn, NoEstimate):
            return drawn
        results = (ScanResult((rows_of(plan, drawn.told),)),)
        pool = PoolName.DASHBOARD
        encoded = await self._aggregator.table(pool, results, finish_of(plan), question.format, deadline)
        return Answer(encoded, drawn.status)

    async def _from_database(
        self, own: tuple[Figure, ...], question: Question, group: Group, deadline: Deadline
    ) -> _Drawn | NoEstimate:
        async with self._place(deadline) as free:
            if not free:
                return NoEstimate.BUSY
            context = replace(group.context, deadline=deadline)
            table = self._samples.table(PoolName.ADMIN, question.plan, deadline)
            async with self._seats(context), table as drawn_from:
                return await self._draw(drawn_from, own, question, deadline, PoolName.ADMIN)

    @asynccontextmanager
    async def _place(self, deadline: Deadline) -> AsyncIterator[bool]:
        """A place in the lane, or that none became free in time."""
        if self._lane.locked() and self._waiting >= LINE:
            yield False
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT * deadline.remaining(self._clock.monotonic())):
                await self._lane.acquire()
        except TimeoutError:
            yield False
            return
        finally:
            self._waiting -= 1
        try:
            yield True
        finally:
            self._lane.release()

    async def _draw(
        self,
        table: SampledTable,
        own: tuple[Figure, ...],
        question: Question,
        deadline: Deadline,
        pool: PoolName,
    ) -> _Drawn | NoEstimate:
        asked = Asked(own, limit_of(question.policy), deadline, live_seconds(question))
        drawn = await draw(table, asked, self._seeds, self._clock)
        if isinstance(drawn, NoEstimate):
            return drawn
        found, sample = drawn
        plan = question.plan
        many = 0 < plan.finish.limit < len(found.groups) + found.suppressed
        if many and (found.suppressed or chooses(plan)):
            return NoEstimate.CHOSEN
        return _Drawn(found, self._status(table, own, question, found, sample, pool))

    def _status(
        self,
        table: SampledTable,
        own: tuple[Figure, ...],
        question: Question,
        found: Told,
        sample: BlockSums,
        pool: PoolName,
    ) -> AnswerStatus:
        plan, as_of, lag = question.plan, table.as_of, table.replica_lag
        bounds = plan.main.bounds
        interval = Interval(bounds.start, bounds.end) if bounds is not None else None
        part = AnswerPart(
            PartSource.SAMPLE,
            table.source_name,
            as_of,
            interval,
            row_count=len(found.groups),
            share=sample.drawn / sample.blocks,
            replica_lag=lag,
        )
        return AnswerStatus(
            kind=AnswerKind.ESTIMATE,
            exactness=Exactness.ESTIMATED,
            as_of=as_of,
            staleness=max(0.0, (self._clock.now() - as_of).total_seconds()) + (lag or 0.0),
            guarantee=Guarantee.SNAPSHOT,
            parts=(part,),
            effective_range=interval if plan.snapped else None,
            bounds=bounds_of(own, found),
            pool=pool.value,
            predicted=question.classified.predicted,
            cost_class=question.classified.classification.cost_class,
            answer_version=fingerprint(plan.fingerprint, as_of),
        )


def limit_of(policy: AnswerPolicy) -> float:
    """The relative half-width up to which an estimate is of use to the caller."""
    return DEFAULT_LIMIT if policy.max_relative_error is None else policy.max_relative_error


def live_seconds(question: Question) -> float | None:
    """What the exact answer takes from the tables, where earlier runs tell."""
    classified = question.live or question.classified
    known = classified.classification.basis is Basis.HISTORY
    return classified.predicted.duration_p50 if known else None


def _verdict(error: BrokerError) -> Verdict:
    if error.reason is ErrorReason.DEADLINE_EXCEEDED:
        return Verdict.TIMED_OUT
    return Verdict.REFUSED if error.reason in _REFUSED else Verdict.FAILED
