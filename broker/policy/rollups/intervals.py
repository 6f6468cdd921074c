"""What of a range a rollup holds, cut into intervals that are wholly there or not, and what each costs.

Costs are whole nanoseconds in the high bits of an integer. Below them two tie-breakers: the seconds of the range that
come from sources that may be late, the later the more, and at the bottom the number of spans.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from broker.domain.query import Grain
from broker.domain.rollup import Piece, Rollup, Span
from broker.policy.rollups.boundaries import Boundaries
from broker.policy.rollups.cheapest import NEVER
from broker.policy.rollups.stored import Stored

MAX_HOLES = 32
"""Changed spans of a rollup that are told apart; of more, the nearest ones are taken as one."""
_TIE_BITS, _SPAN_BITS = 54, 20
_SHIFT = _TIE_BITS + _SPAN_BITS
Usable = Sequence[tuple[Grain, Boundaries]]
"""The coarser grains of a rollup whose buckets no bucket of the answer cuts, coarsest first."""

Run = tuple[Span, int]
"""Whole buckets, and the position of their segment."""
Runs = tuple[Run, ...]
Part = tuple[int, int, float]
"""An interval, a segment's position, and which share of its rows is read for it."""
Parts = Mapping[Grain | None, Sequence[Part]]
"""What is read by grain; None stands for the base."""


def integer(seconds: float) -> int:
    """What it costs to begin a span, with the tie-breaker for it."""
    return (round(seconds * 1e9) << _SHIFT) + 1


def live_costs(cuts: Sequence[int], extent: Span, rate: float) -> list[int]:
    """What the intervals cost from the tables, at so many seconds for each microsecond within the extent."""
    first, last = extent
    within = [first if cut < first else min(cut, last) for cut in cuts]
    return [round(rate * (hi - lo) * 1e9) << _SHIFT for lo, hi in pairwise(within)]


def seconds(cost: int) -> float:
    """The seconds of a cost."""
    return (cost >> _SHIFT) / 1e9


@dataclass(frozen=True, slots=True)
class Held:
    """What a rollup holds of a range: runs of whole, unchanged buckets, each of one segment, ascending and disjoint."""

    rollup: Rollup
    stored: Stored
    runs: Runs


def runs_of(stored: Stored, inner: Span, edges: Boundaries, blocked: Sequence[Span]) -> Runs | None:
    """The runs of whole buckets within ``inner``; None where no segment overlaps it.

    ``blocked`` are, in whole buckets and in order, what has changed since, and where another rollup is sealed: one that
    is not may have been built after the rows were deleted. Neither concerns a segment that is sealed itself.
    """
    places = stored.places
    first, last = places.within(inner)
    spans = places.whole(edges)[first:last]
    for end in (0, -1) if spans else ():  # only there a segment reaches out of what is asked for
        lo, hi = spans[end]
        spans[end] = Span(max(lo, inner.lo), min(hi, inner.hi))
    if not any(lo < hi for lo, hi in spans):
        return None
    cut = _without(spans, blocked) if blocked else {}
    segments, found = stored.segments, []
    for at, span in enumerate(spans, first):
        if at - first not in cut or (stored.sealed and segments[at].sealed):
            if span[0] < span[1]:
                found.append((span, at))
        else:
            found += [(part, at) for part in cut[at - first]]
    return tuple(found)


def holes_of(dirty: Sequence[Span], inner: Span, edges: Boundaries) -> list[Span]:
    """The changed spans within ``inner``, widened to whole buckets and joined where they meet."""
    first = bisect_left(dirty, inner.lo, key=lambda span: span.hi)
    last = bisect_left(dirty, inner.hi, key=lambda span: span.lo)
    found = joined_spans(map(edges.outer, dirty[first:last]))
    return found if len(found) <= MAX_HOLES else _fewer(found)


def joined_spans(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that meet as one."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.lo <= found[-1].hi:
            found[-1] = Span(found[-1].lo, max(span.hi, found[-1].hi))
        else:
            found.append(span)
    return found


def _fewer(holes: list[Span]) -> list[Span]:
    """The holes with the smallest distances between them filled, as many as there may be."""
    distances = sorted((b.lo - a.hi, i) for i, (a, b) in enumerate(pairwise(holes)))
    kept = {i for _, i in distances[len(holes) - MAX_HOLES :]}
    found = [holes[0]]
    for i, hole in enumerate(holes[1:]):
        if i in kept:
            found.append(hole)
        else:
            found[-1] = Span(found[-1].lo, hole.hi)
    return found


def _without(spans: Sequence[Span], holes: Sequence[Span]) -> dict[int, list[Span]]:
    """What holes leave of the spans that they touch, in order; by the position of the span."""
    found: dict[int, list[Span]] = {}
    at, size = 0, len(spans)
    for begin, end in holes:
        while at < size and spans[at][1] <= begin:
            at += 1
        touched = at
        while touched < size and spans[touched][0] < end:
            left = found.setdefault(touched, [spans[touched]])
            if left:
                lo, hi = left.pop()
                if lo < begin:
                    left.append(Span(lo, begin))
                if end < hi:
                    left.append(Span(end, hi))
            touched += 1
    return found


def parts_of(held: Held, cuts: Sequence[int], place: dict[int, int], usable: Usable) -> Parts:
    """What is read of each segment for the intervals between the cuts; runs begin and end at cuts."""
    found: dict[Grain | None, list[Part]] = {grain: [] for grain, _ in usable}
    base = found[None] = []
    coarsest, least = (found[usable[0][0]], usable[-1][1].least) if usable else (base, 0)
    places = held.stored.places
    fitting = places.whole(usable[0][1]) if usable else places.spans
    for span, position in held.runs:
        segment = places.spans[position]
        first, after = place[span[0]], place[span[1]]
        if after == first + 1 and span == segment and fitting[position] == span:
            coarsest.append((first, position, 1.0))
            continue
        width = segment[1] - segment[0]
        for i in range(first, after):
            begin, end = cuts[i], cuts[i + 1]
            if end - begin < least:
                base.append((i, position, (end - begin) / width))
                continue
            for grain, share in shares_of(begin, end, width, usable):
                found[grain].append((i, position, share))
    return found


def stored_costs(held: Held, parts: Parts, size: int, row: float) -> list[int]:
    """What each of ``size`` intervals costs from a rollup."""
    read: list[float | None] = [None] * size
    for grain, own in parts.items():
        counts = held.stored.counts(grain) if own else ()
        for i, position, share in own:
            read[i] = share * counts[position] + (read[i] or 0.0)
    row *= 1e9
    return [NEVER if rows is None else round(row * rows) << _SHIFT for rows in read]


def shares_of(begin: int, end: int, width: int, usable: Usable) -> tuple[tuple[Grain | None, float], ...]:
    """What share of the rows of a segment of a width is read for a part of it: of the coarsest grain as far as its
    buckets fit, then of the next one for what is left at both ends, at last of the base (None).
    """  # noqa: D205 - one sentence
    for position, (grain, edges) in enumerate(usable):
        if end - begin < edges.least:
            continue
        lo, hi = edges.ceil(begin), edges.floor(end)
        if lo < hi:
            found: tuple[tuple[Grain | None, float], ...] = ((grain, (hi - lo) / width),)
            finer = usable[position + 1 :]
            if begin < lo:
                found += shares_of(begin, lo, width, finer)
            if hi < end:
                found += shares_of(hi, end, width, finer)
            return found
    return ((None, (end - begin) / width),)


def late(costs: list[int], weights: Sequence[int], rank: int) -> list[int]:
    """The costs with the lateness of a source in their tie-breaker."""
    return [c if c >= NEVER else c + (rank * w << _SPAN_BITS) for c, w in zip(costs, weights, strict=True)]


def merged(
    stored: Sequence[list[int]], live: list[int], opens: Sequence[list[bool]], cuts: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Where intervals begin when neighbours are joined that no cheapest cover tells apart, and the cuts between them.

    Neighbours whose sources are the same, in the same order of cost, have no reason to be read differently: the cheaper
    of two sources is the cheaper one on both sides, and to change costs no less in two steps than in one. Unless it is
    only there that a source can change: a cut goes when whatever may begin at it may begin at its neighbours, too.
    """
    order = range(len(stored) + 1)
    starts: list[int] = []
    before: object = None
    for i, column in enumerate(zip(live, *stored, strict=True)):
        shape = sorted(order, key=column.__getitem__), column.count(NEVER)  # the last ones of the order
        if shape != before or not all(own[starts[-1]] and own[i + 1] for own in opens if own[i]):
            starts.append(i)
        before = shape
    return starts, [*(cuts[i] for i in starts), cuts[-1]]


def summed(costs: list[int], starts: list[int]) -> list[int]:
    """The costs of joined intervals."""
    ends = [*starts[1:], len(costs)]
    return [
        costs[a] if b == a + 1 else min(NEVER, sum(costs[a:b])) for a, b in zip(starts, ends, strict=True)
    ]


def pieces(names: Sequence[str], cuts: Sequence[int]) -> tuple[Piece, ...]:
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
