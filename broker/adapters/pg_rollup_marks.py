"""Segments as they are remembered, and which of their spans the marks of a snapshot concern."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from broker.adapters.pg_rollup_visibility import TransactionView
from broker.domain.rollup import Segment, Span


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks that a snapshot sees. ``last`` has, by interval, the last transaction that marked it.

    ``running`` has every mark of the transactions that were in progress when some segment was built: in ``last`` a
    later transaction that the segment has seen may stand before them.
    """

    last: Mapping[Span, int]
    running: Sequence[tuple[Span, int]] = ()


@dataclass(frozen=True, slots=True)
class SegmentList:
    """The current segments of a rollup at one version of it, ascending, with the snapshots they were built from.

    A sweep may move a snapshot forward, which it does only where no mark concerns the segment: by the older snapshot
    the same marks concern it.
    """

    version: str
    segments: tuple[Segment, ...]
    views: tuple[TransactionView, ...]
    tokens: tuple[str, ...]
    starts: tuple[int, ...]

    @property
    def since(self) -> int:
        """Marks of transactions from here on may concern a segment; the largest number when there is none."""
        return min((view.xmax for view in self.views), default=2**63 - 1)

    @property
    def running(self) -> frozenset[int]:
        """Transactions in progress when a segment was built; their marks concern it as well."""
        return frozenset().union(*(view.running for view in self.views))

    def overlapping(self, span: Span) -> Iterator[int]:
        """Positions of the segments that overlap a span."""
        at = max(0, bisect_left(self.starts, span.lo) - 1)
        for position in range(at, len(self.segments)):
            own = self.segments[position].span
            if own.lo >= span.hi:
                return
            if own.hi > span.lo:
                yield position

    def dirty(self, marks: Marks, span: Span) -> tuple[Span, ...]:
        """What of the segments has changed since they were built, within the span."""
        found = []
        for mark, xid in (*marks.last.items(), *marks.running):
            if mark.lo >= span.hi or mark.hi <= span.lo:
                continue
            for position in self.overlapping(mark):
                segment = self.segments[position]
                # Nobody can build a sealed one again, so nothing concerns it.
                if not segment.sealed and not self.views[position].sees(xid):
                    found.append(within(within(mark, segment.span), span))
        return merged(found)


def within(span: Span, bounds: Span) -> Span:
    """What two spans have in common; empty, with its end not after its start, when they do not meet."""
    return Span(max(span.lo, bounds.lo), min(span.hi, bounds.hi))


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The union of spans, ascending, disjoint and without gaps of nothing between two of them."""
    found: list[Span] = []
    for span in sorted(span for span in spans if span.lo < span.hi):
        if found and span.lo <= found[-1].hi:
            found[-1] = Span(found[-1].lo, max(found[-1].hi, span.hi))
        else:
            found.append(span)
    return tuple(found)
