"""The least cost of a random cover, found by trying every assignment of sources to intervals.

Everything is computed again from the definitions, bucket by bucket, without the router's own helpers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from random import Random

from broker.domain.query import Grain
from broker.domain.rollup import Cover, Rollup, Segment, Span, Storage, micros
from tests.support.rollup_cases import DAY, WIDTHS, Case, any_case, floor

UNWANTED = 10**18
"""Nanoseconds for each microsecond that is read live although some rollup that is required holds it."""
MAX_ASSIGNMENTS = 50_000


def random_case(rng: Random) -> Case:
    """A range with up to six rollups, small enough to try everything."""
    while True:
        case = any_case(rng)
        if choice(case).assignments <= MAX_ASSIGNMENTS:
            return case


@dataclass(frozen=True)
class Choice:
    """The intervals of a case: what each source costs there (nanoseconds, lateness), where it has the rows."""

    case: Case
    cuts: list[int]
    stored: dict[str, list[tuple[int, int] | None]]
    live: list[int | None]

    @property
    def assignments(self) -> int:
        """How many there are."""
        given = [sum(own[i] is not None for own in self.stored.values()) for i in range(len(self.live))]
        return prod(max(1, n + (own is not None)) for n, own in zip(given, self.live, strict=True))

    def price(self, sources: list[str]) -> tuple[int, int, int] | None:
        """Nanoseconds, lateness and spans of an assignment, empty names for live; None when it is not allowed."""
        costs = self.case.costs
        if not all(map(self.may_change, range(len(sources) + 1), [None, *sources], [*sources, None])):
            return None
        total = late = spans = live_spans = 0
        last = before = None
        for i, source in enumerate(sources):
            if source:
                found = self.stored[source][i]
                if found is None:
                    return None
                total, late = total + found[0], late + found[1]
                if source != before:
                    fixed = costs.fixed(self.rollup(source)) if source != last else 0.0
                    total, spans = total + round((fixed + costs.piece) * 1e9), spans + 1
                last = source
            else:
                own = self.live[i]
                if own is None:
                    return None
                total += own
                if source != before:
                    fixed = costs.live_span + (costs.live_fixed if live_spans == 0 else 0.0)
                    total, spans, live_spans = total + round(fixed * 1e9), spans + 1, live_spans + 1
            before = source
        if self.case.require:
            return (total, late, spans) if last is not None else None
        return (total, late, spans) if live_spans <= costs.max_live_spans else None

    def may_change(self, i: int, before: str | None, after: str | None) -> bool:
        """Whether one source may end and another begin at a cut: not inside a bucket of either."""
        named = [name for name in (before, after) if name]
        return before == after or all(
            floor(self.rollup(name), self.cuts[i]) == self.cuts[i] for name in named
        )

    def rollup(self, name: str) -> Rollup:
        return next(rollup for rollup in self.case.rollups if rollup.name == name)

    def best(self) -> tuple[int, int, int] | None:
        """The least price of all assignments, given up early where even the cheapest rest would cost too much."""
        costs, require = self.case.costs, self.case.require
        names = [name for name, own in self.stored.items() if any(each is not None for each in own)]
        enter = {name: round((costs.fixed(self.rollup(name)) + costs.piece) * 1e9) for name in names}
        again, live_again = round(costs.piece * 1e9), round(costs.live_span * 1e9)
        live_first = round((costs.live_span + costs.live_fixed) * 1e9)
        rest = [0]
        for i in reversed(range(len(self.live))):
            own = [each[0] for name in names if (each := self.stored[name][i]) is not None]
            here = self.live[i]
            rest.append(rest[-1] + min([*own, *([] if here is None else [here])], default=0))
        rest.reverse()
        found: list[tuple[int, int, int]] = []

        def extend(i: int, price: tuple[int, int, int], before: str | None, last: str, lives: int) -> None:
            total, late, spans = price
            if found and (total + rest[i], late, spans) >= found[0]:
                return  # costs and tie-breakers only grow
            if lives > costs.max_live_spans and not require:
                return
            if i == len(self.live):
                ends = self.may_change(i, before, None)
                if ends and (last or not require) and (not found or price < found[0]):
                    found[:] = [price]
                return
            for name in names:
                own = self.stored[name][i]
                if own is not None and self.may_change(i, before, name):
                    change = 0 if name == before else again if name == last else enter[name]
                    more = (total + own[0] + change, late + own[1], spans + (name != before))
                    extend(i + 1, more, name, name, lives)
            here = self.live[i]
            if here is not None and self.may_change(i, before, ""):
                change = 0 if before == "" else live_again if lives else live_first
                more = (total + here + change, late, spans + (before != ""))
                extend(i + 1, more, "", last, lives + (before != ""))

        extend(0, (0, 0, 0), None, "", 0)
        return found[0] if found else None


def choice(case: Case) -> Choice:
    """The intervals of a case, from single buckets."""
    bounds = case.scan.bounds
    assert bounds is not None
    span = Span(micros(bounds.start), micros(bounds.end))
    sealed = [s.span for each in case.coverage.values() for s in each.segments if s.sealed]
    runs = {r.name: _runs(case, r, span, sealed) for r in case.rollups if _allowed(case, r)}
    inside = [Span(max(s.lo, span.lo), min(s.hi, span.hi)) for s in sealed]
    ends = {span.lo, span.hi, *(at for s in inside if s.lo < s.hi for at in s)}
    ends |= {at for own in runs.values() for run, _ in own for at in run}
    for rollup in [r for r in case.rollups if runs.get(r.name)]:
        floors = {cut: floor(rollup, cut) for cut in ends}
        ends |= {*floors.values(), *(low + WIDTHS[rollup.base] for cut, low in floors.items() if low < cut)}
    cuts = sorted(at for at in ends if span.lo <= at <= span.hi)
    used = (case.coverage[name].lateness for name, own in runs.items() if own)
    orders = sorted({lateness for lateness in used if lateness is not None})
    stored: dict[str, list[tuple[int, int] | None]] = {}
    for name, own in runs.items():
        lateness = case.coverage[name].lateness
        rank = 0 if lateness is None else 1 + orders.index(lateness) if own else 0
        stored[name] = [_stored(case, name, own, Span(a, b), rank) for a, b in pairwise(cuts)]
    rate = (case.costs.live_seconds - case.costs.live_fixed) / (span.hi - span.lo)
    live: list[int | None] = []
    for i, (a, b) in enumerate(pairwise(cuts)):
        gone = not case.live or any(s.lo < b and a < s.hi for s in sealed)
        unwanted = case.require and any(own[i] is not None for own in stored.values())
        live.append(None if gone else round(rate * (b - a) * 1e9) + unwanted * UNWANTED * (b - a))
    return Choice(case, cuts, stored, live)


def _allowed(case: Case, rollup: Rollup) -> bool:
    lateness = case.coverage[rollup.name].lateness
    return lateness is None or case.lateness_allowed is None or lateness <= case.lateness_allowed


def _runs(case: Case, rollup: Rollup, span: Span, sealed: list[Span]) -> list[tuple[Span, Segment]]:
    """The longest runs of buckets that may be used, within one segment each."""
    width, own = WIDTHS[rollup.base], case.coverage[rollup.name]
    found: list[tuple[Span, Segment]] = []
    for segment in own.segments:
        blocked = [] if segment.sealed else [*own.dirty, *sealed]
        at = floor(rollup, segment.span.lo)
        while at < segment.span.hi:
            whole = max(span.lo, segment.span.lo) <= at and at + width <= min(span.hi, segment.span.hi)
            if whole and not any(s.lo < at + width and at < s.hi for s in blocked):
                if found and found[-1][1] is segment and found[-1][0].hi == at:
                    found[-1] = Span(found[-1][0].lo, at + width), segment
                else:
                    found.append((Span(at, at + width), segment))
            at += width
    return found


def _stored(
    case: Case, name: str, runs: list[tuple[Span, Segment]], span: Span, rank: int
) -> tuple[int, int] | None:
    segment = next((s for run, s in runs if run.lo <= span.lo and span.hi <= run.hi), None)
    if segment is None:
        return None
    rollup = next(r for r in case.rollups if r.name == name)
    counts = {file.grain: file.row_count for file in segment.files}
    width = segment.span.hi - segment.span.lo
    days = max(0, span.hi - span.hi % DAY - (span.lo + -span.lo % DAY))
    rows = (span.hi - span.lo) / width * segment.row_count
    if rollup.base is not Grain.DAY and Grain.DAY in counts and days:
        rows = days / width * counts[Grain.DAY] + (span.hi - span.lo - days) / width * segment.row_count
    row = case.costs.segment_row if rollup.storage is Storage.SEGMENTS else case.costs.table_row
    return round(row * rows * 1e9), rank * ((span.hi - span.lo) // 1_000_000)


def disagreement(case: Case, found: Cover) -> str | None:
    """What is wrong with a cover, by trying everything; None when it is right."""
    own = choice(case)
    best = own.best()
    if not found.pieces:
        return None if best is None else f"no cover was found, but one of {best} exists"
    sources: list[str] = []
    for a, b in pairwise(own.cuts):
        giving = [p.rollup for p in found.pieces for s in p.spans if s.lo <= a and b <= s.hi]
        if len(giving) != 1:
            return f"the interval {a} to {b} is given by {giving}"
        sources.append(giving[0])
    total = sum(s.hi - s.lo for p in found.pieces for s in p.spans)
    if total != own.cuts[-1] - own.cuts[0]:
        return "the pieces are not what was asked for"
    price = own.price(sources)
    if price is None or best is None:
        return f"the cover {sources} is not allowed"
    slack = 2 * len(own.cuts)  # of rounding, in nanoseconds
    if price[0] > best[0] + slack or (price[0] == best[0] and price > best):
        return f"{sources} costs {price}, the cheapest {best}"
    if abs(price[0] % UNWANTED - found.cost * 1e9) > slack:
        return f"{sources} costs {price}, and was said to cost {found.cost}"
    return None
