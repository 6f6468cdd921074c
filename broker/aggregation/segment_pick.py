"""Which rows of which files answer a block: the coarsest buckets that fit, everything once, nothing left out.

A bucket fits when it lies within one of the spans and within one bucket of the answer. From the coarsest grain to the
base, every bucket that fits and meets none that was taken before is taken. In the end the taken buckets must be as long
as the spans: whatever is wrong with files or spans, the answer is never short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from broker.aggregation.refusals import unreadable
from broker.aggregation.segment_file import Mask, Positions
from broker.aggregation.segment_shelf import OpenFile
from broker.domain.plan import LocalFile
from broker.domain.query import Grain
from broker.domain.rollup import Span

_WIDTH = {grain: width for width, grain in enumerate(Grain)}


@dataclass(frozen=True, slots=True)
class Picked:
    """Buckets in the order of time: rows ``first`` up to ``last`` of ``files[file]``, at ``position`` in the grid."""

    files: tuple[OpenFile, ...]
    file: Positions
    first: Positions
    last: Positions
    position: Positions


@dataclass(frozen=True, slots=True)
class _Taken:
    """Buckets, sorted by start, with the number of their file and their rows."""

    starts: Positions
    ends: Positions
    file: Positions
    first: Positions
    last: Positions

    def chosen(self, which: Mask | Positions) -> _Taken:
        return _Taken(
            self.starts[which], self.ends[which], self.file[which], self.first[which], self.last[which]
        )


def pick(
    files: Sequence[LocalFile],
    spans: Sequence[Span],
    grid: Positions,
    opened: Callable[[LocalFile], OpenFile],
) -> Picked:
    """The rows that answer the spans, by buckets of the grid (one for everything when it is empty).

    Raises:
        BrokerError: STORE_REJECTED when a file cannot be read or lacks buckets that it should have.
        ValueError: The spans reach beyond the files or the grid.
    """
    wanted = _Intervals.of(spans)
    _check_reach(wanted, files, grid)
    by_grain: dict[Grain, list[LocalFile]] = {}
    for file in files:
        by_grain.setdefault(file.grain, []).append(file)
    open_files: list[OpenFile] = []
    taken = _taken([], [])
    for grain in sorted(by_grain, key=_WIDTH.__getitem__, reverse=True):
        held = _Intervals(taken.starts, taken.ends)
        ends = _ends(by_grain[grain])
        missing = (wanted.within(ends) > held.within(ends)).tolist()
        fresh = [opened(file) for file, some in zip(by_grain[grain], missing, strict=True) if some]
        buckets = _taken(fresh, range(len(open_files), len(open_files) + len(fresh)))
        open_files += fresh
        fits = wanted.hold(buckets) & _undivided(buckets, grid) & ~held.meet(buckets)
        taken = _joined(taken, buckets.chosen(fits))
    if (taken.ends - taken.starts).sum() != (wanted.his - wanted.los).sum():
        raise _short(files, wanted, _Intervals(taken.starts, taken.ends))
    position = np.searchsorted(grid, taken.starts, side="right") - 1
    return Picked(tuple(open_files), taken.file, taken.first, taken.last, position)


@dataclass(frozen=True, slots=True)
class _Intervals:
    """Disjoint intervals in ascending order."""

    los: Positions
    his: Positions

    @classmethod
    def of(cls, spans: Sequence[Span]) -> _Intervals:
        ordered = sorted(span for span in spans if span.lo < span.hi)
        if any(left.hi > right.lo for left, right in pairwise(ordered)):
            raise ValueError(f"the spans overlap: {spans}")
        bounds = np.array(ordered, np.int64).reshape(-1, 2)
        return cls(bounds[:, 0], bounds[:, 1])

    def within(self, spans: Positions) -> Positions:
        """How much of each span (a row of two ends) they cover."""
        if not len(self.los):
            return np.zeros(len(spans), np.int64)
        before = np.append(0, np.cumsum(self.his - self.los))
        i = np.searchsorted(self.los, spans, side="right") - 1
        covered = before[i] + np.minimum(spans, self.his[i]) - self.los[i]
        covered[i < 0] = 0
        difference: Positions = covered[:, 1] - covered[:, 0]
        return difference

    def hold(self, buckets: _Taken) -> Mask:
        """Which buckets lie within one of them."""
        if not len(self.los):
            return np.zeros(len(buckets.starts), np.bool_)
        i = np.searchsorted(self.los, buckets.starts, side="right") - 1
        return (i >= 0) & (self.his[i] >= buckets.ends)

    def meet(self, buckets: _Taken) -> Mask:
        """Which buckets have an instant in common with one of them."""
        if not len(self.los):
            return np.zeros(len(buckets.starts), np.bool_)
        i = np.searchsorted(self.los, buckets.ends, side="left") - 1
        return (i >= 0) & (self.his[i] > buckets.starts)


def _undivided(buckets: _Taken, grid: Positions) -> Mask:
    """Which buckets have no boundary of the grid inside."""
    after = np.searchsorted(grid, buckets.starts, side="right")
    whole: Mask = after == np.searchsorted(grid, buckets.ends, side="left")
    return whole


def _taken(files: Sequence[OpenFile], numbers: Sequence[int]) -> _Taken:
    """All buckets of some files, which follow each other in any order."""
    none = np.empty(0, np.int64)
    parts = [file.buckets for file in files]
    starts = np.concatenate([none, *(part.starts for part in parts)])
    return _Taken(
        starts,
        np.concatenate([none, *(part.ends for part in parts)]),
        np.repeat(np.array(numbers, np.int64), [len(part.starts) for part in parts]),
        np.concatenate([none, *(part.rows[:-1] for part in parts)]),
        np.concatenate([none, *(part.rows[1:] for part in parts)]),
    )


def _joined(left: _Taken, right: _Taken) -> _Taken:
    pairs = [
        np.concatenate(pair)
        for pair in (
            (left.starts, right.starts),
            (left.ends, right.ends),
            (left.file, right.file),
            (left.first, right.first),
            (left.last, right.last),
        )
    ]
    return _Taken(*pairs).chosen(np.argsort(pairs[0], kind="stable"))


def _ends(files: Sequence[LocalFile]) -> Positions:
    return np.array([file.span for file in files], np.int64).reshape(-1, 2)


def _check_reach(wanted: _Intervals, files: Sequence[LocalFile], grid: Positions) -> None:
    if not len(wanted.los):
        return
    ends = _ends(files)
    if not len(files) or wanted.los[0] < ends[:, 0].min() or wanted.his[-1] > ends[:, 1].max():
        raise ValueError("the spans reach beyond the files")
    if len(grid) and wanted.los[0] < grid[0]:
        raise ValueError("a span begins before the grid")


def _short(files: Sequence[LocalFile], wanted: _Intervals, taken: _Intervals) -> Exception:
    """Why not everything was found: a file without the buckets that it should have, or spans that no file holds."""
    ordered = sorted(files, key=lambda file: _WIDTH[file.grain])
    ends = _ends(ordered)
    missing = np.flatnonzero(wanted.within(ends) != taken.within(ends))
    if len(missing):
        return unreadable(ordered[missing[0]].path, "buckets are missing, or do not fit the answer's")
    return ValueError("no file holds all of the spans")
