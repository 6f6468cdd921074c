"""What of a range a rollup holds, cut into intervals that are wholly there or not, and what each costs.

Costs are whole nanoseconds in the high bits of an integer. Below them two tie-breakers: ``TIE`` for the seconds of the
range that come from sources that may be late, the later the more, and at the bottom the number of spans.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Rollup, Segment, Span
from broker.policy.rollups.boundaries import Boundaries
from broker.policy.rollups.cheapest import NEVER

MAX_HOLES = 64
"""Changed spans of a rollup that are told apart; of more, the nearest ones are taken as one."""
_TIE_BITS, _SPAN_BITS = 54, 20
_SECOND = 1_000_000


def integer(seconds: float, *, spans: int = 0, late: int = 0) -> int:
    """A cost with its tie-breakers."""
    return (round(seconds * 1e9) << _TIE_BITS + _SPAN_BITS) + (late << _SPAN_BITS) + spans


def seconds(cost: int) -> float:
    """The seconds of a cost."""
    return (cost >> _TIE_BITS + _SPAN_BITS) / 1e9


@dataclass(frozen=True, slots=True)
class Run:
    """A part of a segment that may be used: whole buckets, none of which has changed."""

    span: Span
    segment: Segment


@dataclass(frozen=True, slots=True)
class Held:
    """What a rollup holds of a range: its runs, ascending and disjoint. ``touched``: segments overlap the range."""

    rollup: Rollup
    runs: tuple[Run, ...]
    touched: bool
    late: int = 0


def held(
    rollup: Rollup, coverage: Coverage, inner: Span, edges: Boundaries, sealed: Sequence[Span] = ()
) -> Held:
    """What a rollup holds of whole buckets within ``inner``. Changes concern a sealed segment no more.

    Where another rollup is ``sealed``, one that is not may have been built after the rows were deleted: not used.
    """
    segments = coverage.segments
    first = bisect_left(segments, inner.lo, key=lambda segment: segment.span.hi)
    holes = _holes(coverage.dirty, inner, edges)
    if sealed:
        holes = joined_spans([*holes, *map(edges.outer, sealed)])
    runs: list[Run] = []
    touched = False
    for segment in segments[first:]:
        if segment.span.lo >= inner.hi:
            break
        lo, hi = max(edges.ceil(segment.span.lo), inner.lo), min(edges.floor(segment.span.hi), inner.hi)
        if lo >= hi:
            continue
        touched = True
        if segment.sealed or not holes:
            runs.append(Run(Span(lo, hi), segment))
        else:
            runs += [Run(span, segment) for span in _without(lo, hi, holes)]
    return Held(rollup, tuple(runs), touched)


def _holes(dirty: Sequence[Span], inner: Span, edges: Boundaries) -> list[Span]:
    """The changed spans widened to whole buckets, joined where they meet."""
    if not dirty:
        return []
    first = bisect_left(dirty, inner.lo, key=lambda span: span.hi)
    last = bisect_left(dirty, inner.hi, key=lambda span: span.lo)
    found = joined_spans(map(edges.outer, dirty[first:last]))
    return found if len(found) <= MAX_HOLES else _joined(found)


def joined_spans(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that meet as one."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.lo <= found[-1].hi:
            found[-1] = Span(found[-1].lo, max(span.hi, found[-1].hi))
        else:
            found.append(span)
    return found


def _joined(holes: list[Span]) -> list[Span]:
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


def _without(lo: int, hi: int, holes: Sequence[Span]) -> Iterator[Span]:
    """What is left of ``[lo, hi)``."""
    for hole in holes[bisect_left(holes, lo, key=lambda span: span.hi) :]:
        if hole.lo >= hi:
            break
        if lo < hole.lo:
            yield Span(lo, hole.lo)
        lo = max(lo, hole.hi)
    if lo < hi:
        yield Span(lo, hi)


def stored_costs(
    own: Held,
    cuts: Sequence[int],
    place: dict[int, int],
    row: float,
    usable: Sequence[tuple[Grain, Boundaries]],
    tied: Callable[[Span], int],
) -> list[int]:
    """What the intervals between the cuts cost from a rollup; its runs begin and end at cuts.

    ``usable`` are the coarser grains whose buckets the answer's never cut, coarsest first.
    """
    found = [NEVER] * (len(cuts) - 1)
    for run in own.runs:
        first, last = place[run.span.lo], place[run.span.hi]
        for i in range(first, last):
            span = Span(cuts[i], cuts[i + 1])
            late = own.late * tied(span) if own.late else 0
            found[i] = integer(row * rows(run.segment, span, usable), late=late)
    return found


def rows(segment: Segment, span: Span, usable: Sequence[tuple[Grain, Boundaries]]) -> float:
    """The rows that are read for a part of a segment: of the coarsest grain as far as its buckets fit, and so on."""
    width = segment.span.hi - segment.span.lo
    for position, (grain, edges) in enumerate(usable):
        count = next((file.row_count for file in segment.files if file.grain is grain), None)
        if count is None:
            continue
        inner = edges.inner(span)
        if inner.lo >= inner.hi:
            continue
        finer = usable[position + 1 :]
        found = count * ((inner.hi - inner.lo) / width)
        if span.lo < inner.lo:
            found += rows(segment, Span(span.lo, inner.lo), finer)
        if inner.hi < span.hi:
            found += rows(segment, Span(inner.hi, span.hi), finer)
        return found
    return segment.row_count * ((span.hi - span.lo) / width)
