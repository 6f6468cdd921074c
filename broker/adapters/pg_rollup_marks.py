"""Segments as they are remembered, and which of their spans the marks of a snapshot concern."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.adapters.pg_rollup_visibility import TransactionView
from broker.domain.rollup import Segment, Span

NEVER = 2**63 - 1
"""After every transaction."""
MOST_MARKS = 4_000
"""Remembered intervals of a source, after which those that concern nothing any more are looked for."""


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
    rows: tuple[tuple[int, int, int, frozenset[int], bool], ...]
    """Of each segment its ends, the end of its snapshot and what was in progress then, and whether it is sealed."""
    since: int
    """Marks of transactions from here on may concern a segment; never, when there is none."""
    running: frozenset[int]
    """Transactions in progress when a segment was built; their marks may concern it as well."""
    seals: tuple[Span, ...] = ()
    """Where segments are sealed."""

    @classmethod
    def of(
        cls,
        version: str,
        segments: Sequence[Segment],
        views: Sequence[TransactionView],
        tokens: Sequence[str],
    ) -> SegmentList:
        """The list, with what is looked for in it."""
        starts = tuple(segment.span.lo for segment in segments)
        since = min((view.xmax for view in views), default=NEVER)
        running: frozenset[int] = frozenset().union(*(view.running for view in views))
        rows = tuple(
            (*segment.span, view.xmax, view.running, segment.sealed)
            for segment, view in zip(segments, views, strict=True)
        )
        seals = tuple(segment.span for segment in segments if segment.sealed)
        return cls(version, tuple(segments), tuple(views), tuple(tokens), starts, rows, since, running, seals)

    def overlapping(self, span: Span) -> range:
        """Positions of the segments that overlap a span; they do not overlap each other."""
        at = bisect_right(self.starts, span.lo)
        if at and self.rows[at - 1][1] > span.lo:
            at -= 1
        return range(at, max(at, bisect_left(self.starts, span.hi)))

    def sealed(self, span: Span) -> tuple[Span, ...]:
        """The sealed spans that overlap a span."""
        return tuple([own for own in self.seals if own.lo < span.hi and span.lo < own.hi])

    def dirty(self, marks: Marks, span: Span) -> tuple[Span, ...]:
        """What of the segments has changed since they were built, within the span.

        Runs for every answer over all marks, which are many beside the few spans that come of them.
        """
        if not marks.last and not marks.running:
            return ()
        starts, rows, count = self.starts, self.rows, len(self.rows)
        first, last = span
        found: list[tuple[int, int]] = []
        for (lo, hi), xid in (*marks.last.items(), *marks.running):
            if lo >= last or hi <= first:
                continue
            at = max(0, bisect_right(starts, lo) - 1)
            while at < count and starts[at] < hi:
                begin, end, xmax, running, sealed = rows[at]
                # Nobody can build a sealed one again, so nothing concerns it.
                if end > lo and not sealed and (xid >= xmax or xid in running):
                    found.append((max(lo, begin, first), min(hi, end, last)))
                at += 1
        return merged(found)


class MarkMemory:
    """The marks of a source that one connection has read, so that its next snapshot need not read them again.

    Snapshots of one connection follow each other: what was over in one is over in the next, and leaves no more marks.
    On another connection that need not be so, since it may lead to another server. Known are, of the transactions from
    the floor on and before the horizon, all marks.
    """

    __slots__ = ("_floor", "_horizon", "_last")

    def __init__(self) -> None:
        self._floor = self._horizon = 0
        self._last: dict[Span, int] = {}

    @property
    def last(self) -> Mapping[Span, int]:
        """The last transaction that marked each interval."""
        return self._last

    def ask(self, since: int) -> int:
        """From which transaction on the next snapshot has to be asked for marks, when they are needed since one."""
        if since == NEVER:
            return self._horizon or NEVER
        if since < self._floor or not self._horizon:
            self._last, self._floor, self._horizon = {}, since, since
        return self._horizon

    def covers(self, since: int) -> bool:
        """Whether what was learned last tells of all marks since a transaction."""
        return since == NEVER or (self._horizon > 0 and self._floor <= since)

    def learn(self, view: TransactionView, asked: int, last: Mapping[Span, int], since: int) -> bool:
        """Adds the answer of a snapshot. False when it is from before what is known: then all is forgotten."""
        if view.xmin < self._horizon and self._horizon > self._floor:
            self.__init__()  # type: ignore[misc] # as new
            return False
        if asked != self._horizon:
            return True
        self._last.update(last)
        self._horizon = max(self._horizon, view.xmin)
        if len(self._last) > MOST_MARKS and since != NEVER:
            self._last = {span: xid for span, xid in self._last.items() if xid >= since}
            self._floor = max(self._floor, since)
        return True


def within(span: Span, bounds: Span) -> Span:
    """What two spans have in common; empty, with its end not after its start, when they do not meet."""
    return Span(max(span.lo, bounds.lo), min(span.hi, bounds.hi))


def merged(spans: Iterable[tuple[int, int]]) -> tuple[Span, ...]:
    """The union of spans, ascending and disjoint; what touches becomes one, what is empty is left out."""
    found: list[Span] = []
    begin = end = 0
    for lo, hi in sorted(spans):
        if hi <= lo:
            continue
        if end > begin and lo <= end:
            end = max(end, hi)
            continue
        if end > begin:
            found.append(Span(begin, end))
        begin, end = lo, hi
    return (*found, Span(begin, end)) if end > begin else tuple(found)
