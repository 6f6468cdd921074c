"""The cheapest way to answer a scan from rollups and from the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isinf
from operator import le

from broker.domain.plan import Scan
from broker.domain.query import Grain
from broker.domain.rollup import ALWAYS, Cover, Coverage, Piece, Rejection, Rollup, Rule, Span
from broker.policy.rollups.asked import Asked, asked_of
from broker.policy.rollups.boundaries import Boundaries, misaligned
from broker.policy.rollups.cheapest import LIVE, NEVER, Problem, cheapest
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.intervals import Held, held, integer, joined_spans, seconds, stored_costs
from broker.policy.rollups.normal import conjuncts
from broker.policy.rollups.reasons import Reasons
from broker.policy.rollups.scan import zone_of

MAX_COMBINED = 16
"""Rollups that are combined, of those that no other one makes superfluous: the ones that alone cost least."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a cover has to keep to: see :func:`cover`."""

    lateness_allowed: float | None = None
    require: bool = False
    live: bool = True


def cover(
    scan: Scan,
    candidates: Sequence[Rollup],
    coverage: Mapping[str, Coverage],
    costs: Costs,
    *,
    lateness_allowed: float | None = None,
    require: bool = False,
    live: bool = True,
    excluded: Sequence[Rejection] = (),
) -> Cover:
    """The cheapest cover; one without pieces when there is none.

    ``candidates`` have passed the rules and are over one time dimension; ``excluded`` are those that did not pass, or
    that the caller cannot use now, with the reason. ``coverage`` may hold more rollups than the candidates: what a
    sealed segment of any of them holds is not read from the tables, for its rows may be gone. A rollup that may miss
    rows later than ``lateness_allowed`` seconds is not used; None allows any lateness. With ``require`` at least one
    rollup takes part, and the tables give only what no rollup holds, in as many spans as it takes; without ``live``
    they give nothing.

    The range is cut where a bucket, a segment or a change of any rollup begins or ends. :mod:`cheapest` says what is
    minimised over these intervals. Of equal costs the fresher cover is taken, then that of fewer spans, then by name.
    """
    return _Covering(
        scan, candidates, coverage, costs, Terms(lateness_allowed, require, live), excluded
    ).find()


class _Covering:
    """Finds one cover."""

    def __init__(
        self,
        scan: Scan,
        candidates: Sequence[Rollup],
        coverage: Mapping[str, Coverage],
        costs: Costs,
        terms: Terms,
        excluded: Sequence[Rejection],
    ) -> None:
        self._scan, self._costs, self._terms = scan, costs, terms
        self._candidates = sorted(candidates, key=lambda rollup: rollup.name)
        self._coverage, self._excluded = coverage, excluded
        self._edges: dict[tuple[Grain, str], Boundaries] = {}
        self._passed: dict[str, tuple[Rule, str]] = {}
        self._parts = conjuncts(scan.filter)
        self._asked = self._find_asked()
        self._span = self._asked.span
        own = [each for each in coverage.values() if each.segments]
        stored = Span(
            min((each.segments[0].span.lo for each in own), default=0),
            max((each.segments[-1].span.hi for each in own), default=0),
        )
        self._extent = costs.extent_of(self._span, stored)

    def find(self) -> Cover:
        """The cover."""
        sealed = self._sealed()
        own = [found for rollup in self._candidates if (found := self._held(rollup, sealed)) is not None]
        if not own and not sealed and self._terms.live and not self._terms.require:
            return self._cover((Piece("", (self._span,)),), self._live_alone())
        if self._span.lo >= self._span.hi:
            return self._cover((), 0.0)
        cuts = self._cuts(own, sealed)
        own, problem = self._problem(own, cuts, sealed)
        best = None
        if own or not self._terms.require:
            best = cheapest(problem, None if self._terms.require else self._costs.max_live_spans)
        if best is None:
            self._impossible(own, problem)
            return self._cover((), 0.0)
        total, sources = best
        names = ["" if source == LIVE else own[source].rollup.name for source in sources]
        return self._cover(_pieces(names, cuts), seconds(total))

    def _find_asked(self) -> Asked:
        scan = self._scan
        if self._candidates:
            time = scan.dataset.dimensions[self._candidates[0].time]
            return asked_of(scan, time, self._parts, ())
        if scan.time is not None:
            return asked_of(scan, scan.time, self._parts, ())
        return Asked(ALWAYS, nulls=True, rest=(), given=())

    def _boundaries(self, rollup: Rollup, grain: Grain) -> Boundaries:
        key = grain, zone_of(self._scan.dataset, rollup, grain)
        found = self._edges.get(key)
        if found is None:
            found = self._edges[key] = Boundaries(*key)
        return found

    def _held(self, rollup: Rollup, sealed: Sequence[Span]) -> Held | None:
        """What a candidate holds; None when it is passed over."""
        coverage, allowed = self._coverage.get(rollup.name), self._terms.lateness_allowed
        rule: Rule | None = None
        message = ""
        if coverage is None:
            rule = Rule.COVER
        elif coverage.unusable is not None:
            rule, message = coverage.unusable, coverage.message
        elif coverage.lateness is not None and allowed is not None and coverage.lateness > allowed:
            rule = Rule.NOTRIG if isinf(coverage.lateness) else Rule.STALE
        else:
            edges = self._boundaries(rollup, rollup.base)
            inner = edges.inner(self._span)
            if inner.lo >= inner.hi:
                rule = Rule.EDGE
            else:
                found = held(rollup, coverage, inner, edges, sealed)
                if found.runs:
                    return found
                rule = Rule.LOG if found.touched else Rule.COVER
        self._passed[rollup.name] = rule, message
        return None

    def _sealed(self) -> list[Span]:
        """The parts of the range that the tables may no longer hold, ascending and disjoint."""
        found: set[Span] = set()
        for each in self._coverage.values():
            for segment in each.segments:
                lo, hi = max(segment.span.lo, self._span.lo), min(segment.span.hi, self._span.hi)
                if segment.sealed and lo < hi:
                    found.add(Span(lo, hi))
        return joined_spans(found)

    def _cuts(self, own: Sequence[Held], sealed: Sequence[Span]) -> list[int]:
        found = {self._span.lo, self._span.hi}
        for each in own:
            for run in each.runs:
                found.update(run.span)
        for span in sealed:
            found.update(span)
        return sorted(found)

    def _problem(
        self, own: Sequence[Held], cuts: list[int], sealed: Sequence[Span]
    ) -> tuple[list[Held], Problem]:
        """The costs of all intervals, of the rollups that are worth a look."""
        costs = self._costs
        place = {cut: i for i, cut in enumerate(cuts)}
        ranks = self._ranks(own)
        entries: list[tuple[int, int, Held, list[int]]] = []
        for each in own:
            rollup = each.rollup
            late = replace(each, late=ranks[rollup.name]) if ranks[rollup.name] else each
            row = costs.row(rollup, self._scan, self._parts)
            stored = stored_costs(late, cuts, place, row, self._usable(rollup), self._tied)
            entries.append((integer(costs.fixed(rollup) + costs.piece, spans=1), sum(stored), late, stored))
        live = [self._live_cost(Span(lo, hi)) for lo, hi in pairwise(cuts)]
        for span in sealed:
            live[place[span.lo] : place[span.hi]] = [NEVER] * (place[span.hi] - place[span.lo])
        if self._terms.require:
            for _, _, _, stored in entries:
                live = [NEVER if mine < NEVER else cost for cost, mine in zip(live, stored, strict=True)]
        entries = _undominated(entries)
        first = integer(costs.live_fixed + costs.live_span, spans=1)
        return [each for _, _, each, _ in entries], Problem(
            stored=[stored for _, _, _, stored in entries],
            live=live,
            enter=[enter for enter, _, _, _ in entries],
            again=integer(costs.piece, spans=1),
            live_first=first,
            live_again=integer(costs.live_span, spans=1),
        )

    def _ranks(self, own: Sequence[Held]) -> dict[str, int]:
        """How late each rollup may be among those that there are; 0 for the exact ones."""
        late = {each.rollup.name: self._coverage[each.rollup.name].lateness for each in own}
        order = sorted({lateness for lateness in late.values() if lateness is not None})
        return {name: 0 if lateness is None else 1 + order.index(lateness) for name, lateness in late.items()}

    def _usable(self, rollup: Rollup) -> list[tuple[Grain, Boundaries]]:
        """The coarser grains whose buckets no bucket of the answer cuts, coarsest first."""
        grid, found = self._scan.grid, []
        for grain in reversed(rollup.grains[1:]):
            edges = self._boundaries(rollup, grain)
            if grid is None or misaligned(grid, self._span, edges) is None:
                found.append((grain, edges))
        return found

    def _within(self, span: Span) -> int:
        """Microseconds of a span in which rows are expected."""
        return max(0, min(span.hi, self._extent.hi) - max(span.lo, self._extent.lo))

    def _tied(self, span: Span) -> int:
        return self._within(span) // 1_000_000

    def _live_cost(self, span: Span) -> int:
        if not self._terms.live:
            return NEVER
        return integer(self._costs.live_rate(self._extent) * self._within(span))

    def _live_alone(self) -> float:
        costs = self._costs
        rate = costs.live_rate(self._extent) * self._within(self._span)
        return costs.live_fixed + costs.live_span + rate

    def _impossible(self, own: Sequence[Held], problem: Problem) -> None:
        """Notes why the rollups that hold something are not enough."""
        rule = Rule.SEAL
        if not self._terms.live:
            ends = problem.live and (problem.stored and all(s[0] >= NEVER for s in problem.stored))
            rule = Rule.NULL if self._asked.nulls and ends else Rule.COVER
        for each in own:
            self._passed[each.rollup.name] = rule, ""

    def _cover(self, pieces: tuple[Piece, ...], cost: float) -> Cover:
        used = {piece.rollup for piece in pieces}

        def reasons() -> Iterator[Rejection]:
            yield from self._excluded
            for rollup in self._candidates:
                if rollup.name not in used:
                    rule, message = self._passed.get(rollup.name, (Rule.COST, ""))
                    yield Rejection(rollup.name, (rule,), message)

        return Cover(pieces, cost, Reasons(reasons))


def _undominated(
    entries: list[tuple[int, int, Held, list[int]]],
) -> list[tuple[int, int, Held, list[int]]]:
    """Those that no other one beats or equals everywhere; in the order of names, at most ``MAX_COMBINED``."""
    entries.sort(key=lambda entry: (entry[1], entry[0], entry[2].rollup.name))
    kept: list[tuple[int, int, Held, list[int]]] = []
    for entry in entries:
        if not any(each[0] <= entry[0] and all(map(le, each[3], entry[3])) for each in kept):
            kept.append(entry)
    return sorted(kept[:MAX_COMBINED], key=lambda entry: entry[2].rollup.name)


def _pieces(names: Sequence[str], cuts: Sequence[int]) -> tuple[Piece, ...]:
    """One piece for every source, in the order in which they first occur, with neighbouring intervals as one span."""
    spans: dict[str, list[Span]] = {}
    before = None
    for i, name in enumerate(names):
        own = spans.setdefault(name, [])
        if name == before:
            own[-1] = Span(own[-1].lo, cuts[i + 1])
        else:
            own.append(Span(cuts[i], cuts[i + 1]))
        before = name
    return tuple(Piece(name, tuple(own)) for name, own in spans.items())
