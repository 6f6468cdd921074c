"""The rung of stale rollups: what local files of segments hold, by the last look at what they cover.

Neither the database nor a seat is needed, so it answers while PostgreSQL is away or overloaded, and after a start
without it. What has changed since a segment was built is not known any more, or cannot be read: the answer is that of
an earlier instant, and says which. It holds the whole range, or, for callers who accept that, names what it lacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from broker.domain.answer import (
    Answer,
    AnswerKind,
    AnswerStatus,
    Cost,
    DegradationReason,
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
from broker.domain.rollup import Cover, Coverage, Rejection, Rollup, Rule, Segment, Span, Storage, instant
from broker.domain.terms import AnswerPolicy, CacheMode, EdgeMode, PartialMode, RollupMode
from broker.pipeline.execute import pool_of
from broker.pipeline.fetched import overlapping
from broker.pipeline.ladder import declined
from broker.pipeline.looks import Look
from broker.pipeline.rolled import Rolled
from broker.pipeline.routes import Route, Router
from broker.pipeline.stage import Group, Question
from broker.pipeline.status import Sources, parts_of, status_of
from broker.policy.rollups.intervals import joined_spans
from broker.policy.rollups.reasons import nearest
from broker.policy.rollups.seals import seals_of
from broker.policy.rollups.stored import Memory
from broker.ports.aggregator import Aggregator
from broker.ports.clock import Clock


class Shelf(Protocol):
    """Where segments are; a mirror is one."""

    def holds(self, segment: Segment) -> bool:
        """Whether all files of a segment are here."""
        ...


@dataclass(frozen=True, slots=True)
class Stale:
    """What a question is answered from: covers, whose live pieces are the intervals that the answer lacks.

    ``ages`` has, by rollup, the instant as of which all that is read of it is true.
    """

    question: Question
    route: Route
    covers: tuple[Cover, ...]
    coverage: Mapping[str, Coverage]
    ages: Mapping[str, datetime]
    dirty: bool

    @property
    def as_of(self) -> datetime:
        """The oldest instant."""
        return min(self.ages.values())

    @property
    def missing(self) -> tuple[Span, ...]:
        """What no rollup holds."""
        return tuple(joined_spans(span for cover in self.covers for span in cover.live))


class StaleRollup:
    """See :class:`broker.pipeline.ladder.LowerRung`. It runs in the worker processes of the question's pool."""

    def __init__(
        self, router: Router, shelf: Shelf, rolled: Rolled, aggregator: Aggregator, clock: Clock
    ) -> None:
        self._router, self._shelf, self._rolled = router, shelf, rolled
        self._aggregator, self._clock = aggregator, clock
        self._memory = Memory()

    @property
    def rung(self) -> Rung:
        """ROLLUP_STALE."""
        return Rung.ROLLUP_STALE

    def allowed(self, policy: AnswerPolicy) -> bool:
        """Whether the caller accepts answers of this kind, and rollups."""
        forbidden = policy.rollup is RollupMode.FORBID or policy.cache is CacheMode.ONLY
        return AnswerKind.ROLLUP_STALE in policy.accepted_kinds and not forbidden

    async def answer(self, question: Question, group: Group, deadline: Deadline) -> Answer | LadderStep:
        """The answer, or why there is none: the rules by which the nearest rollup was passed over."""
        began = self._clock.monotonic()
        found = self._found(question, group)
        if not isinstance(found, Stale):
            return declined(self.rung, Verdict.NOT_APPLICABLE, *(rule.value for rule in found))
        age = (self._clock.now() - found.as_of).total_seconds()
        allowed = found.route.lateness
        if allowed is not None and age > allowed:
            return declined(self.rung, Verdict.REFUSED, Rule.STALE.value)
        finish = replace(found.question.plan.finish, pushed_down=False)
        try:
            results = self._rolled.local(found.route, found.covers, found.coverage, finish)
            async with asyncio.timeout(deadline.remaining(began)):
                table = await self._aggregator.table(
                    pool_of(group), results, finish, question.format, deadline
                )
        except TimeoutError:
            return declined(self.rung, Verdict.TIMED_OUT, ErrorReason.DEADLINE_EXCEEDED.value)
        except BrokerError as error:
            self._rolled.forgot(error)
            late = error.reason is ErrorReason.DEADLINE_EXCEEDED
            return declined(self.rung, Verdict.TIMED_OUT if late else Verdict.FAILED, error.reason.value)
        seconds = self._clock.monotonic() - began
        cost = Cost(seconds, seconds, table.row_count, len(table.encoded))
        return Answer(table, _status(found, self._clock.now(), cost))

    def _found(self, question: Question, group: Group) -> Stale | tuple[Rule, ...]:
        """What answers the question, or the rules that kept the nearest rollup from it."""
        dataset, policy = question.plan.main.dataset, question.policy
        look = self._router.looks.get(dataset.name)
        if look is None:
            return (Rule.COVER,) if dataset.rollups else ()
        plan, route = question.plan, question.route
        if policy.edge is EdgeMode.SNAP:
            here = {name for name, each in dataset.rollups.items() if self._local(each, look).segments}
            plan = self._router.snapped(plan, policy, group.consistency, here)
        if route is None or plan is not question.plan:
            route = self._router.route(plan, policy, group.consistency, 0.0)
        if not all(scan.rollups for scan in route.scans):
            return _rules([scan.rejected for scan in route.scans if not scan.rollups])
        coverage = {rollup.name: self._local(rollup, look) for rollup in route.rollups}
        route = replace(route, require=False, memory=self._memory)
        seals = seals_of(dataset, look.coverage.values())
        covers = route.cover(coverage, seals, live=False)
        if not all(cover.pieces for cover in covers) and policy.partial is PartialMode.ALLOW:
            covers = replace(route, require=True).cover(coverage, seals)
        if not all(cover.rollups for cover in covers):
            return _rules([cover.rejected for cover in covers if not cover.rollups])
        return _stale(replace(question, plan=plan, route=route), route, covers, coverage, look)

    def _local(self, rollup: Rollup, look: Look) -> Coverage:
        """What of a rollup is here; changes that were seen are told apart later, and do not matter to what is read."""
        known = look.coverage.get(rollup.name)
        if known is None or known.unusable is not None:
            return known or Coverage(rollup.name)
        if rollup.storage is not Storage.SEGMENTS:
            return Coverage(rollup.name)
        holds, before = self._shelf.holds, look.before.get(rollup.name, {})
        segments = known.segments
        if not all(map(holds, segments)):
            versions = ((segment, *before.get(segment.span, ())) for segment in segments)
            chosen = (next(filter(holds, each), None) for each in versions)
            segments = tuple(segment for segment in chosen if segment is not None)
        return replace(known, segments=segments, dirty=())


def _stale(
    question: Question, route: Route, covers: tuple[Cover, ...], coverage: Mapping[str, Coverage], look: Look
) -> Stale:
    ages: dict[str, datetime] = {}
    dirty = False
    for name, segment, spans in _read(covers, coverage):
        known = look.coverage[name]
        read = [Span(max(span.lo, segment.span.lo), min(span.hi, segment.span.hi)) for span in spans]
        current = any(segment == each for each in overlapping(known.segments, [segment.span]))
        changed = not current or any(
            mark.lo < span.hi and span.lo < mark.hi for mark in known.dirty for span in read
        )
        # Where nothing had changed until the look, it is what the tables held then.
        age = segment.as_of if changed else max(look.as_of, segment.as_of)
        ages[name] = min(age, ages.get(name, age))
        dirty = dirty or changed
    return Stale(question, route, covers, coverage, ages, dirty)


def _read(
    covers: Sequence[Cover], coverage: Mapping[str, Coverage]
) -> Iterator[tuple[str, Segment, tuple[Span, ...]]]:
    """The segments that are read, each with its rollup and the spans that are read of that."""
    for cover in covers:
        for piece in cover.rollups:
            for segment in overlapping(coverage[piece.rollup].segments, piece.spans):
                yield piece.rollup, segment, piece.spans


def _status(found: Stale, now: datetime, cost: Cost) -> AnswerStatus:
    question, as_of = found.question, found.as_of
    sources = Sources(as_of, None, found.covers, found.coverage)
    missing = tuple(Interval(instant(span.lo), instant(span.hi)) for span in found.missing)
    status = status_of(question, sources, now, cost)
    promised = sources.lateness in (None, 0.0)
    versions = sorted({segment.id for _, segment, _ in _read(found.covers, found.coverage)})
    parts = [part for part in parts_of(question, sources) if part.source is PartSource.ROLLUP]
    reasons = {
        DegradationReason.ROLLUP_DIRTY: found.dirty,
        DegradationReason.ROLLUP_NOT_BUILT: bool(missing),
    }
    return replace(
        status,
        kind=AnswerKind.ROLLUP_STALE,
        exactness=Exactness.PARTIAL if missing else status.exactness,
        guarantee=Guarantee.BOUNDED_STALENESS if promised else Guarantee.NONE,
        guarantee_bound=status.staleness if promised else None,
        reasons=tuple(reason for reason, holds in reasons.items() if holds),
        parts=tuple(replace(part, as_of=found.ages[part.source_name]) for part in parts),
        missing_intervals=missing,
        ladder=(),
        answer_version=fingerprint(question.plan.fingerprint, as_of, versions, missing),
    )


def _rules(rejected: Sequence[Sequence[Rejection]]) -> tuple[Rule, ...]:
    """Why the nearest rollup was passed over."""
    found = nearest(rejected, 1)
    return found[0].rules if found else ()
