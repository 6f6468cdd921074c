"""A rollup compared with its source as a whole, bucket by bucket in one snapshot, because an operator asks for it.

What is compared are the states themselves, at the base grain. Where a stretch differs it is halved until the buckets
that differ are known; what a rollup does not claim to hold, since it is not built or has changed, is left out, and so
is what is sealed, since its rows may be gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from broker.domain.answer import Cost, CostClass
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset
from broker.domain.plan import Plan, Scan
from broker.domain.pool import PoolName
from broker.domain.query import Query
from broker.domain.request import Basis, Classification
from broker.domain.rollup import Coverage, Rollup, Rule, Span, micros
from broker.domain.terms import AnswerPolicy, RollupMode
from broker.domain.values import ResultFormat
from broker.pipeline.rolled import Rolled
from broker.pipeline.routes import Route, ScanRoute
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Question
from broker.policy.admission.values import Quantiles
from broker.policy.classify import Classified
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.scan import partition_scan, whole_buckets
from broker.ports.aggregator import Aggregator
from broker.ports.rollups import Examined
from broker.ports.store import QueryStore, Snapshot
from broker.rollups.refresh import Seat, no_seat

MAX_COMPARISONS = 500
"""Of one examination; when they are used up, a stretch that differs is told as a whole."""
_UNCLASSIFIED = Classified(
    Classification(CostClass.EXPLORATION, PoolName.EXPLORATION, Basis.REQUEST, 0.0, 0),
    Cost(duration_p50=0.0),
    Quantiles(),
)


@dataclass(slots=True)
class _Count:
    buckets: int = 0
    mismatched: int = 0
    mismatches: list[Span] = field(default_factory=list)
    example: str = ""
    comparisons: int = 0


class _Given(Seen):
    """The coverage that is examined, also where the rollup may not answer at present."""

    def __init__(self, snapshot: Snapshot, coverage: Coverage) -> None:
        super().__init__(snapshot)
        self._given = {coverage.rollup: replace(coverage, unusable=None, dirty=())}

    async def coverage(self, route: Route) -> Mapping[str, Coverage]:  # noqa: ARG002 - of the only rollup
        """What was given."""
        return self._given


@dataclass(frozen=True, slots=True)
class Examiner:
    """Compares rollups with their source, each examination in one seat and one snapshot."""

    store: QueryStore
    rolled: Rolled
    aggregator: Aggregator
    seat: Seat = no_seat
    pool: PoolName = PoolName.EXPLORATION

    async def examine(self, dataset: Dataset, rollup: Rollup, span: Span, deadline: Deadline) -> Examined:
        """Compares what the rollup claims to hold of the span.

        Raises:
            BrokerError: ROLLUP_STATE when nothing is installed, or for another definition; what the store and the
                workers raise.
        """
        async with (
            self.seat(f"{dataset.name}.{rollup.name}"),
            self.store.snapshot(self.pool, deadline) as snapshot,
        ):
            (coverage,), _ = await snapshot.coverage(dataset, (rollup,), span)
            if coverage.unusable not in (None, Rule.QUARANTINE):
                text = (
                    f"The rollup {rollup.name!r} cannot be compared: {coverage.message or coverage.unusable}"
                )
                raise BrokerError(ErrorReason.ROLLUP_STATE, text, metadata={"rollup": rollup.name})
            work = _Examination(self, dataset, rollup, coverage, snapshot, deadline)
            for claimed in claims(dataset, rollup, coverage, span):
                await work.compare(claimed)
        count = work.count
        return Examined(
            count.buckets,
            count.mismatched,
            tuple(_joined(count.mismatches)),
            count.example,
            exact=coverage.lateness is None,
        )


@dataclass(frozen=True, slots=True)
class _Examination:
    own: Examiner
    dataset: Dataset
    rollup: Rollup
    coverage: Coverage
    snapshot: Snapshot
    deadline: Deadline
    count: _Count = field(default_factory=_Count)

    async def compare(self, span: Span, *, counted: bool = False) -> None:
        """Compares one stretch of whole buckets, and its halves where it differs."""
        scan, _ = partition_scan(self.dataset, self.rollup, span)
        assert scan.grid is not None
        starts = [micros(start) for start in scan.grid.starts]
        count = self.count
        if not counted:
            count.buckets += len(starts)
        count.comparisons += 1
        too_large = False
        try:
            differing, example = await self._differing(scan, span)
        except BrokerError as error:
            if error.reason is not ErrorReason.RESULT_TOO_LARGE or len(starts) == 1:
                raise
            differing, example, too_large = True, "", True
        if not differing:
            return
        if len(starts) > 1 and (too_large or count.comparisons < MAX_COMPARISONS):
            middle = starts[len(starts) // 2]
            await self.compare(Span(span.lo, middle), counted=True)
            await self.compare(Span(middle, span.hi), counted=True)
            return
        count.mismatched += len(starts)
        count.mismatches.append(span)
        count.example = count.example or example

    async def _differing(self, scan: Scan, span: Span) -> tuple[bool, str]:
        own, rollup = self.own, self.rollup
        _, finish = partition_scan(self.dataset, rollup, span)
        plan = Plan(Query(self.dataset.name), scan, None, finish, "")
        route = Route(
            (ScanRoute(scan, (rollup,), (), {rollup.name: None}),), Costs.predicted(0.0), require=True
        )
        policy = AnswerPolicy(rollup=RollupMode.REQUIRE)
        question = Question("", plan, policy, ResultFormat.COLUMNS, _UNCLASSIFIED, route=route)
        seen = _Given(self.snapshot, self.coverage)
        reading = await own.rolled.read(self.snapshot, question, seen, self.deadline)
        live = await self.snapshot.read_scan(scan, finish)
        found = await own.aggregator.compare(own.pool, reading.results, (live,), finish, self.deadline)
        return found.differing > 0, found.example


def claims(dataset: Dataset, rollup: Rollup, coverage: Coverage, span: Span) -> Iterator[Span]:
    """What a rollup claims to hold of a span and can be held to, in whole buckets of its base, ascending."""
    for segment in coverage.segments:
        lo, end = segment.span
        if segment.sealed or lo >= span.hi or end <= span.lo:
            continue
        outside = [Span(lo, span.lo), Span(span.hi, end)]
        scan, _ = partition_scan(dataset, rollup, segment.span)
        assert scan.grid is not None
        gaps = [gap for gap in (*outside, *coverage.dirty) if gap.lo < gap.hi]
        for gap in whole_buckets(gaps, scan.grid, len(scan.grid.starts)):
            if gap.lo > lo:
                yield Span(lo, gap.lo)
            lo = max(lo, gap.hi)
        if lo < end:
            yield Span(lo, end)


def _joined(spans: list[Span]) -> Iterator[Span]:
    """Spans that touch as one."""
    current: Span | None = None
    for span in sorted(spans):
        if current is not None and span.lo == current.hi:
            current = Span(current.lo, span.hi)
            continue
        if current is not None:
            yield current
        current = span
    if current is not None:
        yield current
