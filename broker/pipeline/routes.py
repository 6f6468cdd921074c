"""Which rollups a question may be answered from: found before it is admitted, decided in the snapshot of the answer.

What is known of the rollups' coverage beforehand only predicts what the answer will cost; it never decides what is
read. A question that rollups should answer is classified by what that costs, learned apart from what the same question
costs without them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from broker.domain.answer import AnswerKind
from broker.domain.change import Change
from broker.domain.fingerprint import fingerprint
from broker.domain.model import Dataset, Dimension, Model
from broker.domain.plan import Plan, Scan
from broker.domain.query import AbsoluteRange, Filter
from broker.domain.rollup import Cover, Coverage, Piece, Rejection, Rollup, Rule, Span, covers, instant
from broker.domain.terms import AnswerPolicy, Consistency, EdgeMode, RollupMode
from broker.pipeline.looks import Look
from broker.policy.rollups.asked import Asked, policy_conditions
from broker.policy.rollups.boundaries import aligned
from broker.policy.rollups.candidates import Candidates
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.cover import cover as cheapest
from broker.policy.rollups.normal import conjuncts, joined
from broker.policy.rollups.reasons import Reasons
from broker.policy.rollups.seals import Seals, seals_of, untrusted
from broker.policy.rollups.snap import snapped
from broker.policy.rollups.stored import Memory
from broker.policy.rollups.untimed import timed

_STORED = Change(Scan, "filter", "policies")
ROLLED = frozenset({AnswerKind.ROLLUP, AnswerKind.HYBRID})
"""Kinds of answers that rollups have a part in."""


@dataclass(frozen=True, slots=True)
class ScanRoute:
    """The rollups that may answer one scan, all over one time dimension, and those that may not.

    ``filters`` has for each rollup what stored values are filtered by: the scan's filter and its row policies. Where
    conditions of the filter bound the time dimension, they are in the scan's bounds. ``asked`` is what it asks of
    rollups over that dimension, None where that has not been found out.
    """

    scan: Scan
    rollups: tuple[Rollup, ...]
    rejected: Sequence[Rejection]
    filters: Mapping[str, Filter | None] = field(default_factory=dict)
    asked: Asked | None = None

    def stored(self, rollup: Rollup, pieces: Sequence[Piece]) -> Scan:
        """The scan over stored values for one of the pieces of an answer: what is asked of them, and no more."""
        return timed(_STORED(self.scan, self.filters[rollup.name], ()), rollup, self.asked, pieces)


@dataclass(frozen=True, slots=True)
class Route:
    """How a question may be answered from rollups; ``scans`` in the order of the plan.

    ``expected`` are the covers that were predicted from what was ``known``, none where nothing was. ``lateness`` is
    what the caller allows data to be late by, in seconds; None for no limit.
    """

    scans: tuple[ScanRoute, ...]
    costs: Costs
    require: bool = False
    lateness: float | None = None
    expected: tuple[Cover, ...] = ()
    known: Mapping[str, Coverage] = field(default_factory=dict)
    memory: Memory | None = None

    @property
    def rollups(self) -> tuple[Rollup, ...]:
        """Every rollup that may have a part."""
        return tuple({r.name: r for scan in self.scans for r in scan.rollups}.values())

    @property
    def rolled(self) -> bool:
        """Whether any rollup may have a part."""
        return bool(self.scans[0].rollups or (len(self.scans) > 1 and self.rollups))

    @property
    def span(self) -> Span:
        """What all scans together read of their time dimension."""
        spans = [route.scan.span for route in self.scans]
        return Span(min(span.lo for span in spans), max(span.hi for span in spans))

    @property
    def passed_over(self) -> tuple[Cover, ...]:
        """The covers of a question that no rollup may answer: the tables for everything."""
        return tuple(Cover((Piece("", (route.scan.span,)),), 0.0, route.rejected) for route in self.scans)

    @property
    def expected_sources(self) -> tuple[str, ...]:
        """What the answer is expected to be read from, to tell such answers from others; empty for the tables alone."""
        if not any(cover.rollups for cover in self.expected):
            return ()
        return tuple(sorted({piece.rollup for cover in self.expected for piece in cover.pieces}))

    @property
    def expected_seconds(self) -> float:
        """What the expected covers cost."""
        return sum(cover.cost for cover in self.expected)

    def rollup(self, name: str) -> Rollup:
        """One of the rollups."""
        return self.scans[0].scan.dataset.rollups[name]

    def cover(
        self, coverage: Mapping[str, Coverage], seals: Seals, *, live: bool = True
    ) -> tuple[Cover, ...]:
        """The cheapest cover of every scan; one without pieces where nothing can answer it.

        ``seals`` are those of all rollups of the dataset. Without ``live`` the tables give nothing.
        """
        return tuple(self._cover(scan, coverage, seals, live=live) for scan in self.scans)

    def _cover(
        self, route: ScanRoute, coverage: Mapping[str, Coverage], seals: Seals, *, live: bool
    ) -> Cover:
        return cheapest(
            route.scan,
            route.rollups,
            coverage,
            self.costs,
            lateness_allowed=self.lateness,
            require=self.require,
            live=live,
            sealed=untrusted(route.rollups, seals),
            excluded=route.rejected,
            memory=self.memory,
            asked=route.asked,
        )


class Router:
    """Finds routes over the rollups of a model; ``known`` is the coverage that was last seen, by dataset and rollup."""

    def __init__(self, model: Model) -> None:
        self._candidates = {
            dataset.name: Candidates(dataset) for dataset in model.datasets.values() if dataset.rollups
        }
        self._known: dict[str, dict[str, Coverage]] = {}
        self._extents: dict[str, Span] = {}
        self._seals: dict[str, Seals] = {}
        self._looks: dict[str, Look] = {}
        self._memory = Memory()

    def learn(self, dataset: Dataset, coverage: Sequence[Coverage], as_of: datetime) -> None:
        """Remembers what all of the dataset's rollups cover at this instant, which is about now."""
        before = self._looks.get(dataset.name)
        self._looks[dataset.name] = (before or Look(as_of, {})).then(as_of, coverage)
        self._known[dataset.name] = {each.rollup: each for each in coverage}
        segments = [segment.span for each in coverage for segment in each.segments]
        if segments:
            self._extents[dataset.name] = Span(min(s.lo for s in segments), max(s.hi for s in segments))
        self._seals[dataset.name] = seals_of(dataset, coverage)

    def recall(self, dataset: str, look: Look) -> None:
        """Takes over the last look of an earlier process, until there is a later one.

        What is sealed, and what answers cost, may have changed since: only :meth:`look` tells of it.
        """
        self._looks.setdefault(dataset, look)

    @property
    def looks(self) -> Mapping[str, Look]:
        """The last look at each dataset."""
        return self._looks

    def concerns(self, plan: Plan, policy: AnswerPolicy) -> bool:
        """Whether the plan's dataset has rollups, and the caller accepts answers from them."""
        if policy.rollup is RollupMode.FORBID or not ROLLED & policy.accepted_kinds:
            return False
        return plan.main.dataset.name in self._candidates

    def route(self, plan: Plan, policy: AnswerPolicy, consistency: Consistency, live_seconds: float) -> Route:
        """The way to the rollups that may answer; ``live_seconds`` is what the plan is predicted to take without."""
        dataset = plan.main.dataset
        candidates = self._candidates[dataset.name]
        allowed = policy.max_staleness if policy.max_staleness is not None else dataset.max_staleness
        scans = [self._scan(scan, candidates, consistency) for scan in plan.scans]
        costs = Costs.predicted(live_seconds / len(scans), self._extents.get(dataset.name))
        require = policy.rollup is RollupMode.REQUIRE
        known = self._known.get(dataset.name) if any(scan.rollups for scan in scans) else None
        route = Route(tuple(scans), costs, require, allowed, (), known or {}, self._memory)
        if not known:
            return route
        return replace(route, expected=route.cover(known, self._seals[dataset.name]))

    def known(self, dataset: Dataset) -> Mapping[str, Coverage] | None:
        """The coverage that was last seen; another object with every look."""
        return self._known.get(dataset.name)

    def again(self, route: Route, plan: Plan, consistency: Consistency) -> Route | None:
        """The route of a plan that is like that of ``route``, which one rollup was expected to answer whole.

        None where it might not be expected to: other rollups may answer, its buckets do not fill the range, or what was
        last seen does not cover it. The choice between the rollup and the tables is taken to be the same.
        """
        (before,), (cover,), scan = route.scans, route.expected, plan.main
        (rollup,) = before.rollups
        known = self._known.get(scan.dataset.name)
        coverage = known.get(rollup.name) if known is not None else None
        edges, span = self._candidates[scan.dataset.name].edges_of(rollup), scan.span
        if known is None or coverage is None or not covers(coverage, (span,)) or edges.inner(span) != span:
            return None
        if any(self._seals[scan.dataset.name].values()):
            return None
        if scan.grid is not None and not aligned(scan.grid, span, edges):
            return None
        policy = policy_conditions(scan)
        if policy is None:
            return None
        rejected = before.rejected
        if rollup.filter is not None or len(scan.dataset.rollups) > 1:
            checked = self._candidates[scan.dataset.name].check(scan, consistency)
            if checked.accepted != (rollup,):
                return None
            rejected, filtered = checked.rejected, checked.filter(rollup)
        else:
            # Plans that are alike have conditions on texts alone, none on the time.
            filtered = joined(dict.fromkeys((*conjuncts(scan.filter), *policy)))
        own = ScanRoute(scan, before.rollups, rejected, {rollup.name: filtered})
        expected = Cover((Piece(rollup.name, (span,)),), cover.cost, rejected)
        return Route((own,), route.costs, route.require, route.lateness, (expected,), known, self._memory)

    def snapped(
        self,
        plan: Plan,
        policy: AnswerPolicy,
        consistency: Consistency,
        among: Collection[str] | None = None,
    ) -> Plan:
        """The plan with edges moved outwards to where buckets begin, as little as possible, if the caller allows that.

        The buckets are those of rollups that can answer it, of the ones named in ``among`` where it is given. Edges
        that a rolling window or a comparison depends on stay where they are.
        """
        main = plan.main
        if policy.edge is not EdgeMode.SNAP or main.bounds is None or plan.comparison or plan.finish.lead:
            return plan
        candidates = self._candidates[main.dataset.name]
        moved = [(scan, rollup) for rollup in candidates.bases if (scan := snapped(main, rollup)) is not None]
        nearest = next(
            (
                scan
                for scan, rollup in sorted(moved, key=lambda pair: _length(pair[0]))
                if candidates.accepts(scan, consistency, rollup, among)
            ),
            main,
        )
        if nearest.bounds == main.bounds:
            return plan
        finish, named = replace(plan.finish, grid=nearest.grid), fingerprint(plan.fingerprint, nearest.bounds)
        return replace(plan, main=nearest, finish=finish, fingerprint=named, snapped=True)

    def _scan(self, scan: Scan, candidates: Candidates, consistency: Consistency) -> ScanRoute:
        dataset, checked = scan.dataset, candidates.check(scan, consistency)
        if not checked.accepted or (scan.bounds is not None and scan.bounds.start >= scan.bounds.end):
            return ScanRoute(scan, (), checked.rejected)
        # A scan without a time dimension may be cut into pieces along any, but only along one.
        times = [rollup.time for rollup in checked.accepted]
        time = dataset.default_time if dataset.default_time in times else times[0]
        along = tuple(rollup for rollup in checked.accepted if rollup.time == time)
        others = [Rejection(rollup.name, (Rule.TIME,)) for rollup in checked.accepted if rollup.time != time]
        rejected = Reasons(lambda: others, checked.rejected) if others else checked.rejected
        asked = checked.asked(time)
        bounded = _bounded(scan, dataset.dimensions[time], asked.span)
        filters = {rollup.name: checked.filter(rollup) for rollup in along}
        return ScanRoute(bounded, along, rejected, filters, asked)


def _bounded(scan: Scan, time: Dimension, span: Span) -> Scan:
    """The scan along a time dimension, bounded by a span that its filter implies.

    One with an end of time has no bounds: no instant is later than every row, infinity is one. What is read of it is
    within the span all the same, and rows without a time do not meet the filter.
    """
    if span == scan.span:
        return scan if scan.time is time else replace(scan, time=time)
    start, end = instant(span.lo), instant(span.hi)
    bounds = AbsoluteRange(start, end) if start is not None and end is not None else None
    return replace(scan, time=time, bounds=bounds)


def _length(scan: Scan) -> timedelta:
    assert scan.bounds is not None, "a scan that was snapped has bounds"
    return scan.bounds.end - scan.bounds.start
