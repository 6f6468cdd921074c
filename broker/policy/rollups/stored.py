"""What is known of a rollup's segments once and for all: where they are, and sums of their rows."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from itertools import accumulate

from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Segment, Span
from broker.policy.rollups.boundaries import Boundaries

_MAX_PLACES = 1024


class Places:
    """Where segments are, ascending; rollups with the same partitions share one object."""

    __slots__ = ("_whole", "_widths", "ends", "spans", "starts")

    def __init__(self, spans: tuple[Span, ...]) -> None:
        self.spans = spans
        self._whole: dict[tuple[Grain, str], list[Span]] = {}
        self.starts = [span.lo for span in spans]
        self.ends = [span.hi for span in spans]
        self._widths = [0, *accumulate(span.hi - span.lo for span in spans)]

    def within(self, span: Span) -> tuple[int, int]:
        """The segments that overlap a span: the first, and the one after the last."""
        return bisect_right(self.ends, span.lo), bisect_left(self.starts, span.hi)

    def whole(self, edges: Boundaries) -> list[Span]:
        """The whole buckets within each segment."""
        key = edges.grain, edges.zone
        found = self._whole.get(key)
        if found is None:
            found = self._whole[key] = [edges.inner(span) for span in self.spans]
        return found

    def share(self, span: Span) -> tuple[int, int, float, int]:
        """The segments that overlap a span, how much of them does, and how much of the span they hold."""
        first, last = self.within(span)
        if first >= last:
            return 0, 0, 0.0, 0
        width = self._widths[last] - self._widths[first]
        cut = max(0, span.lo - self.starts[first]) + max(0, self.ends[last - 1] - span.hi)
        return first, last, (width - cut) / width, width - cut


class Stored:
    """The segments of one rollup, ascending."""

    __slots__ = ("_counts", "_sums", "places", "sealed", "segments")

    def __init__(self, segments: tuple[Segment, ...], places: Places) -> None:
        self.segments, self.places = segments, places
        self.sealed = any(segment.sealed for segment in segments)
        self._counts: dict[Grain | None, list[int]] = {}
        self._sums: dict[Grain | None, array[int]] = {}

    def counts(self, grain: Grain | None) -> list[int]:
        """The rows of every segment by grain: those of its base where there is no file of the grain, or for None."""
        found = self._counts.get(grain)
        if found is None:
            found = self._counts[grain] = [_rows(segment, grain) for segment in self.segments]
        return found

    def sums(self, grain: Grain | None) -> array[int]:
        """The rows of all segments before each one, and of all."""
        found = self._sums.get(grain)
        if found is None:
            found = self._sums[grain] = array("q", [0, *accumulate(self.counts(grain))])
        return found

    def between(self, grain: Grain | None, first: int, last: int) -> int:
        """The rows of a slice of the segments."""
        sums = self._sums.get(grain) or self.sums(grain)
        return sums[last] - sums[first]


def _rows(segment: Segment, grain: Grain | None) -> int:
    for file in segment.files:
        if file.grain is grain:
            return file.row_count
    return segment.row_count


class Memory:
    """What is known of segments while they are the same tuple, and of boundaries; owned by whoever asks for covers."""

    def __init__(self, size: int = 4096) -> None:
        self._size = size
        self._kept: OrderedDict[str, Stored] = OrderedDict()
        self._places: dict[tuple[Span, ...], Places] = {}
        self._edges: dict[tuple[Grain, str], Boundaries] = {}

    def of(self, coverage: Coverage) -> Stored:
        """What is known of the segments of a coverage."""
        found = self._kept.get(coverage.rollup)
        if found is None or found.segments is not coverage.segments:
            found = self._kept[coverage.rollup] = self._read(coverage.segments)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return found

    def of_all(self, coverage: Mapping[str, Coverage]) -> dict[str, Stored]:
        """What is known of the segments of each rollup that has any."""
        found: dict[str, Stored] = {}
        for name, each in coverage.items():
            known = self._kept.get(name)
            if known is None or known.segments is not each.segments:
                if not each.segments:
                    continue
                known = self.of(each)
            found[name] = known
        return found

    def boundaries(self, grain: Grain, zone: str) -> Boundaries:
        """Where buckets of a grain begin; zones are those of declared rollups."""
        found = self._edges.get((grain, zone))
        if found is None:
            found = self._edges[grain, zone] = Boundaries(grain, zone)
        return found

    def _read(self, segments: tuple[Segment, ...]) -> Stored:
        spans = tuple([segment.span for segment in segments])
        places = self._places.get(spans)
        if places is None:
            if len(self._places) >= _MAX_PLACES:
                self._places.clear()
            places = self._places[spans] = Places(spans)
        return Stored(segments, places)
