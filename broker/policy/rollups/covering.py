"""Finds one cover: what each candidate holds of the range, the intervals and what they cost, and the choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from operator import gt

from broker.domain.plan import Scan
from broker.domain.rollup import ALWAYS, Cover, Coverage, Piece, Rejection, Rollup, Rule, Span
from broker.policy.rollups.asked import Asked, Terms, asked_of
from broker.policy.rollups.boundaries import Boundaries, limited
from broker.policy.rollups.cheapest import LIVE, NEVER, Problem, cheapest
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.dominance import Entry, Weight, not_outdone, undominated
from broker.policy.rollups.intervals import (
    Held,
    integer,
    joined_spans,
    late,
    live_costs,
    merged,
    pieces,
    seconds,
    stored_costs,
    summed,
)
from broker.policy.rollups.normal import conjuncts
from broker.policy.rollups.reasons import Reasons
from broker.policy.rollups.shortlist import Passed, shortlist, usable
from broker.policy.rollups.stored import Memory
from broker.policy.rollups.ways import Ways

UNWANTED = 1 << 130
"""What a microsecond costs from the tables that a required rollup holds: more than any cover, less than never."""


class Covering:
    """Finds one cover."""

    def __init__(
        self,
        scan: Scan,
        candidates: Sequence[Rollup],
        coverage: Mapping[str, Coverage],
        costs: Costs,
        terms: Terms,
        excluded: Sequence[Rejection],
        memory: Memory,
    ) -> None:
        self._scan, self._costs, self._terms = scan, costs, terms
        self._candidates, self._coverage, self._excluded = candidates, coverage, excluded
        self._memory = memory
        self._passed: Passed = {}
        self._asked = terms.asked or self._find_asked()
        self._row = costs.rows(scan, self._asked.rest)
        self._span = self._asked.span
        self._extent = self._find_extent()
        self._sealed = self._find_sealed()
        self._ways = Ways(scan, self._sealed, memory)

    def find(self) -> Cover:
        """The cover."""
        sealed = self._sealed
        own = [found for rollup in self._best() if (found := self._held(rollup)) is not None]
        own = not_outdone(own, self._weight) if len(own) > 1 else own
        if not own and not sealed and self._terms.live and not self._terms.require:
            return self._cover((Piece("", (self._span,)),), self._live_alone())
        if self._span.lo >= self._span.hi or (self._terms.require and not own):
            return self._cover((), 0.0)
        if len(own) == 1 and (whole := self._whole(own[0])) is not None:
            return whole
        cuts = self._cuts(own, sealed)
        kept, problem, between = self._problem(own, cuts, sealed)
        best = cheapest(problem, None if self._terms.require else self._costs.max_live_spans)
        if best is None and self._terms.require:
            # Where two rollups hold something, their buckets need not meet.
            kept, problem, between = self._problem(own, cuts, sealed, live_beside=UNWANTED)
            best = cheapest(problem, None)
        if best is None:
            self._impossible(kept, problem)
            return self._cover((), 0.0)
        total, sources = best
        names = ["" if source == LIVE else kept[source].rollup.name for source in sources]
        return self._cover(pieces(names, between), seconds(total % UNWANTED))

    def _whole(self, held: Held) -> Cover | None:
        """All of the range from one rollup, where no other choice can be as cheap: when it is no dearer than the tables
        anywhere, whatever is read live only adds to the cost. None where that is not so plain.
        """  # noqa: D205 - one sentence
        span, name = self._span, held.rollup.name
        cuts = [span.lo, *(run.hi for run, _ in held.runs)]
        if any(run.lo != cut for cut, (run, _) in zip(cuts, held.runs, strict=False)):
            return None
        if cuts[-1] != span.hi or self._coverage[name].lateness is not None:
            return None
        parts = self._ways.parts(held, span, cuts, {cut: i for i, cut in enumerate(cuts)})
        stored = stored_costs(held, parts, len(cuts) - 1, self._row(held.rollup))
        total = self._enter(held.rollup) + sum(stored)
        if not self._terms.require:
            live = self._live_costs(cuts)
            if any(map(gt, stored, live)) or total >= self._live_first() + sum(live):
                return None
        return self._cover((Piece(name, (span,)),), seconds(total))

    def _enter(self, rollup: Rollup) -> int:
        return integer(self._costs.fixed(rollup) + self._costs.piece)

    def _live_first(self) -> int:
        return integer(self._costs.live_fixed + self._costs.live_span)

    def _find_asked(self) -> Asked:
        scan, parts = self._scan, conjuncts(self._scan.filter)
        if self._candidates:
            time = scan.dataset.dimensions[self._candidates[0].time]
            return asked_of(scan, time, parts, ())
        if scan.time is not None:
            return asked_of(scan, scan.time, parts, ())
        return Asked(ALWAYS, nulls=True, rest=parts, given=())

    def _find_extent(self) -> Span:
        """Between which instants of the range the rows are."""
        reach = Span(0, 0)
        if self._costs.extent is None and not limited(self._span):
            known = [each.places for each in self._memory.of_all(self._coverage).values()]
            if known:
                reach = Span(min(each.starts[0] for each in known), max(each.ends[-1] for each in known))
        return self._costs.extent_of(self._span, reach)

    def _best(self) -> list[Rollup]:
        """The candidates that may take part."""
        found = usable(self._candidates, self._coverage, self._terms.lateness_allowed, self._passed)
        rate, width = self._costs.live_rate(self._extent), self._within(self._span)
        return shortlist(
            found, self._span, self._ways, self._memory, self._costs, self._row,
            lambda covered: rate * max(0, width - covered),
        )  # fmt: skip

    def _weight(self, held: Held) -> Weight:
        """What makes a rollup dearer than another one that holds the same; see :func:`not_outdone`."""
        rollup = held.rollup
        lateness = self._coverage[rollup.name].lateness
        grains = (rollup.base, *(grain for grain, _ in self._ways.usable(rollup, self._span)))
        late = -1.0 if lateness is None else lateness
        return Weight((grains, rollup.zone), self._row(rollup), self._costs.fixed(rollup), late)

    def _held(self, rollup: Rollup) -> Held | None:
        """What a candidate holds; None when it is passed over."""
        coverage = self._coverage[rollup.name]
        edges = self._ways.boundaries(rollup, rollup.base)
        inner = edges.inner(self._span)
        if inner.lo >= inner.hi:
            self._passed[rollup.name] = Rule.EDGE, ""
            return None
        stored = self._memory.of(coverage)
        runs = self._ways.runs(stored, coverage, inner, edges)
        if not runs:
            self._passed[rollup.name] = Rule.COVER if runs is None else Rule.LOG, ""
            return None
        return Held(rollup, stored, runs)

    def _find_sealed(self) -> list[Span]:
        """The parts of the range that the tables may no longer hold, ascending and disjoint."""
        spans = [span for each in self._coverage.values() if each.sealed for span in each.sealed]
        spans += self._terms.sealed
        own = (Span(max(lo, self._span.lo), min(hi, self._span.hi)) for lo, hi in spans)
        return joined_spans(span for span in own if span.lo < span.hi)

    def _cuts(self, own: Sequence[Held], sealed: Sequence[Span]) -> list[int]:
        found = {*self._span, *chain.from_iterable(sealed)}
        for runs in {id(each.runs): each.runs for each in own}.values():
            found.update(chain.from_iterable([span for span, _ in runs]))
        bases = {(each.rollup.base, each.rollup.zone): self._edges(each) for each in own}
        if len(bases) > 1:  # where buckets that others cut begin and end, the source may have to change
            for edges in bases.values():
                cuts = list(found)
                found.update(*[
                    (edges.floor(cut), edges.ceil(cut))
                    for cut, begins in zip(cuts, edges.begin(cuts), strict=True)
                    if not begins
                ])  # fmt: skip
        lo, hi = self._span
        return sorted([at for at in found if lo <= at <= hi])

    def _edges(self, held: Held) -> Boundaries:
        return self._ways.boundaries(held.rollup, held.rollup.base)

    def _problem(
        self, own: Sequence[Held], cuts: list[int], sealed: Sequence[Span], live_beside: int = NEVER
    ) -> tuple[list[Held], Problem, list[int]]:
        """The costs of intervals to be told apart; live, a microsecond that a required rollup holds costs more."""
        costs = self._costs
        place = {cut: i for i, cut in enumerate(cuts)}
        ranks = self._ranks(own)
        entries: list[Entry] = []
        for each in own:
            rollup = each.rollup
            parts = self._ways.parts(each, self._span, cuts, place)
            stored = stored_costs(each, parts, len(cuts) - 1, self._row(rollup))
            if rank := ranks[rollup.name]:
                weights = [self._within(Span(lo, hi)) // 1_000_000 for lo, hi in pairwise(cuts)]
                stored = late(stored, weights, rank)
            begins = self._ways.opens(self._edges(each), cuts)
            entries.append(Entry(self._enter(rollup), stored, begins, each))
        live = self._live_costs(cuts)
        for span in sealed:
            live[place[span.lo] : place[span.hi]] = [NEVER] * (place[span.hi] - place[span.lo])
        if self._terms.require:
            least = [min(column) for column in zip(*(entry.stored for entry in entries), strict=True)]
            live = [
                cost if held >= NEVER else min(NEVER, cost + live_beside * (hi - lo))
                for cost, held, (lo, hi) in zip(live, least, pairwise(cuts), strict=True)
            ]
        entries = undominated(entries)
        opens = [entry.opens for entry in entries]
        starts, cuts = merged([entry.stored for entry in entries], live, opens, cuts)
        return [entry.held for entry in entries], Problem(
            stored=[summed(entry.stored, starts) for entry in entries],
            live=summed(live, starts),
            opens=[[own[i] for i in (*starts, -1)] for own in opens],
            enter=[entry.enter for entry in entries],
            again=integer(costs.piece),
            live_first=self._live_first(),
            live_again=integer(costs.live_span),
        ), cuts  # fmt: skip

    def _ranks(self, own: Sequence[Held]) -> dict[str, int]:
        """How late each rollup may be among those that there are; 0 for the exact ones."""
        late = {each.rollup.name: self._coverage[each.rollup.name].lateness for each in own}
        order = sorted({lateness for lateness in late.values() if lateness is not None})
        return {name: 0 if lateness is None else 1 + order.index(lateness) for name, lateness in late.items()}

    def _within(self, span: Span) -> int:
        """Microseconds of a span in which rows are expected."""
        return max(0, min(span.hi, self._extent.hi) - max(span.lo, self._extent.lo))

    def _live_costs(self, cuts: list[int]) -> list[int]:
        if not self._terms.live:
            return [NEVER] * (len(cuts) - 1)
        return live_costs(cuts, self._extent, self._costs.live_rate(self._extent))

    def _live_alone(self) -> float:
        costs, width = self._costs, self._within(self._span)
        return costs.live_fixed + costs.live_span + costs.live_rate(self._extent) * width

    def _impossible(self, own: Sequence[Held], problem: Problem) -> None:
        """Notes why the rollups that hold something are not enough."""
        rule = Rule.SEAL
        if not self._terms.live:
            ends = all(stored[0] >= NEVER or stored[-1] >= NEVER for stored in problem.stored)
            rule = Rule.NULL if self._asked.nulls and ends else Rule.COVER
        for each in own:
            self._passed[each.rollup.name] = rule, ""

    def _cover(self, pieces: tuple[Piece, ...], cost: float) -> Cover:
        used = {piece.rollup for piece in pieces}

        def reasons() -> Iterator[Rejection]:
            for rollup in self._candidates:
                if rollup.name not in used:
                    rule, message = self._passed.get(rollup.name, (Rule.COST, ""))
                    yield Rejection(rollup.name, (rule,), message)

        return Cover(pieces, cost, Reasons(reasons, self._excluded))
