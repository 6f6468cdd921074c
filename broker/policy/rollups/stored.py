"""What is known of a rollup's segments once and for all: sums of their rows, and where they are."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from itertools import accumulate

from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Segment, Span


class Stored:
    """The segments of one rollup, ascending, with sums of their rows by grain and of their widths."""

    __slots__ = ("_rows", "_widths", "ends", "sealed", "segments", "starts")

    def __init__(self, segments: tuple[Segment, ...]) -> None:
        self.segments = segments
        self.starts = [segment.span.lo for segment in segments]
        self.ends = [segment.span.hi for segment in segments]
        self.sealed = tuple(segment.span for segment in segments if segment.sealed)
        self._widths = [0, *accumulate(segment.span.hi - segment.span.lo for segment in segments)]
        self._rows: dict[Grain | None, list[int]] = {}

    def within(self, span: Span) -> tuple[int, int]:
        """The segments that overlap a span: the first, and the one after the last."""
        return bisect_right(self.ends, span.lo), bisect_left(self.starts, span.hi)

    def estimate(self, span: Span, grain: Grain | None) -> tuple[float, int]:
        """About how many rows of a grain (None: the base) lie within a span, and how much of it segments hold."""
        first, last = self.within(span)
        if first >= last:
            return 0.0, 0
        width = self._widths[last] - self._widths[first]
        cut = max(0, span.lo - self.starts[first]) + max(0, self.ends[last - 1] - span.hi)
        sums = self._rows.get(grain)
        if sums is None:
            sums = self._rows[grain] = [0, *accumulate(rows_of(s, grain) for s in self.segments)]
        return (sums[last] - sums[first]) * ((width - cut) / width), width - cut


def rows_of(segment: Segment, grain: Grain | None) -> int:
    """The rows of a segment in the file of a grain; those of the base where there is none."""
    for file in segment.files:
        if file.grain is grain:
            return file.row_count
    return segment.row_count


class Memory:
    """What is known of segments, kept while they are the same tuple; owned by whoever asks for covers."""

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._kept: OrderedDict[str, Stored] = OrderedDict()

    def of(self, coverage: Coverage) -> Stored:
        """What is known of the segments of a coverage."""
        found = self._kept.get(coverage.rollup)
        if found is None or found.segments is not coverage.segments:
            found = self._kept[coverage.rollup] = Stored(coverage.segments)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return found
