"""Which rows of which files answer a block: the coarsest buckets that fit, everything once, nothing left out.

A bucket fits when it lies within one of the spans and within one bucket of the answer. From the coarsest grain to the
base, every bucket that fits and meets none that was taken before is taken. Nothing is done per bucket: the spans, cut
at the boundaries of the answer's grid, are *cells*; a run of adjoining buckets of one file is looked up per cell, and
what it leaves of the cell is left to the finer grains. In the end nothing may be left: whatever is wrong with files or
spans, the answer is never short.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from broker.aggregation.refusals import unreadable
from broker.aggregation.segment_file import Positions
from broker.aggregation.segment_shelf import OpenFile
from broker.domain.plan import LocalFile
from broker.domain.query import Grain
from broker.domain.rollup import Span

_WIDTH = {grain: width for width, grain in enumerate(Grain)}
_NONE: Positions = np.empty(0, np.int64)
_NEVER = np.iinfo(np.int64).max
_START, _END, _FILE, _FIRST, _LAST = range(5)
"""Rows of a table of runs: start, end, number of the file, first and last row in it."""


@dataclass(frozen=True, slots=True)
class Picked:
    """Runs of adjoining buckets in the order of time, each within one bucket of the answer.

    A run is the rows ``first`` up to ``last`` of ``files[file]``, at ``position`` in the grid. All files have runs.
    """

    files: tuple[OpenFile, ...]
    file: Positions
    first: Positions
    last: Positions
    position: Positions


def pick(
    files: Sequence[LocalFile],
    spans: Sequence[Span],
    grid: Positions,
    opened: Callable[[LocalFile], OpenFile],
) -> Picked:
    """The rows that answer the spans, by buckets of the grid (one for everything when it is empty).

    Raises:
        BrokerError: STORE_REJECTED when a file cannot be read or lacks buckets that it should have.
        ValueError: The spans reach beyond the files or the grid, or files of one grain overlap.
    """
    wanted = _Intervals.of(spans)
    _check_reach(wanted, files, grid)
    by_grain: dict[Grain, list[LocalFile]] = {}
    for file in files:
        by_grain.setdefault(file.grain, []).append(file)
    used: list[OpenFile] = []
    found = [np.empty((5, 0), np.int64)]
    cells = wanted.cut(grid)
    for grain in sorted(by_grain, key=_WIDTH.__getitem__, reverse=True):
        if not len(cells.los):
            break
        some = (cells.within(_ends(by_grain[grain])) > 0).tolist()
        fresh = [opened(file) for file, needed in zip(by_grain[grain], some, strict=True) if needed]
        runs = _runs(cells, fresh, used)
        if runs.size:
            found.append(runs)
            cells = cells.without(runs[_START], runs[_END])
    if len(cells.los):
        raise _short(files, cells)
    runs = np.concatenate(found, axis=1)
    runs = runs[:, np.argsort(runs[_START], kind="stable")]
    position = np.searchsorted(grid, runs[_START], side="right") - 1
    return Picked(tuple(used), runs[_FILE], runs[_FIRST], runs[_LAST], position)


@dataclass(frozen=True, slots=True)
class _Intervals:
    """Disjoint intervals in ascending order, none of them empty."""

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

    def cut(self, at: Positions) -> _Intervals:
        """The same in parts, cut at instants in ascending order."""
        if not len(self.los):
            return self
        i = np.searchsorted(self.los, at, side="right") - 1
        inside = at[(i >= 0) & (at < self.his[i])]
        return _paired(np.concatenate([self.los, inside]), np.concatenate([self.his, inside]))

    def without(self, starts: Positions, ends: Positions) -> _Intervals:
        """What is left of them outside of others, each of which lies within one of them."""
        return _paired(np.concatenate([self.los, ends]), np.concatenate([self.his, starts]))


def _paired(los: Positions, his: Positions) -> _Intervals:
    """The intervals between beginnings and ends that take turns, in any order."""
    los, his = np.sort(los, kind="stable"), np.sort(his, kind="stable")
    some = los < his
    return _Intervals(los[some], his[some])


def _runs(cells: _Intervals, fresh: Sequence[OpenFile], used: list[OpenFile]) -> Positions:
    """All buckets that lie within cells, as runs within one each; files that have some are appended to ``used``.

    One row for each of the starts and ends of runs, the numbers of their files, and their first and last rows.
    """
    some = [file for file in fresh if len(file.buckets.starts)]
    files = sorted(some, key=lambda file: file.buckets.extent.lo)
    extents = [file.buckets.extent for file in files]
    if not files:
        return np.empty((5, 0), np.int64)
    if any(left.hi > right.lo for left, right in pairwise(extents)):
        raise ValueError("files of one grain overlap")
    cells = cells.cut(np.concatenate([extent.breaks for extent in extents]))
    numbers = [(e.lo, e.hi, e.count, e.rows, e.width) for e in extents]
    los, his, counts, rows, widths = np.array(numbers, np.int64).reshape(-1, 5).T
    edges = np.searchsorted(cells.los, np.append(los, _NEVER))
    # From here on, every cell begins in or after a file, and ends where the next begins at the latest.
    cells = _Intervals(cells.los[edges[0] :], cells.his[edges[0] :])
    edges -= edges[0]
    file = np.repeat(np.arange(len(files)), np.diff(edges))
    lo, width = los[file], np.maximum(widths, 1)[file]
    first = -((lo - cells.los) // width)
    last = np.minimum((cells.his - lo) // width, counts[file])
    for uneven in np.flatnonzero(widths == 0).tolist():
        cut, buckets = slice(edges[uneven], edges[uneven + 1]), files[uneven].buckets
        first[cut] = np.searchsorted(buckets.starts, cells.los[cut], side="left")
        last[cut] = np.searchsorted(buckets.ends, cells.his[cut], side="right")
    full = np.flatnonzero(first < last)
    if not len(full):
        return np.empty((5, 0), np.int64)
    file, first, last, lo, width = file[full], first[full], last[full], lo[full], width[full]
    starts, ends = lo + first * width, np.where(last < counts[file], lo + last * width, his[file])
    found = np.stack([starts, ends, file, np.zeros(len(file), np.int64), rows[file]])
    parted = np.flatnonzero((first > 0) | (last < counts[file]))  # all others are whole files
    edges = np.append(np.flatnonzero(np.diff(file[parted], prepend=-1)), len(parted))
    inner = [_NONE], [_NONE]
    for begin, end in pairwise(edges.tolist()):
        here = parted[begin:end]
        buckets, i, j = files[file[here[0]]].buckets, first[here], last[here]
        inner[0].append(buckets.rows[i])
        inner[1].append(buckets.rows[j])
        if not buckets.extent.width:
            found[_START, here], found[_END, here] = buckets.starts[i], buckets.ends[j - 1]
    found[_FIRST, parted], found[_LAST, parted] = map(np.concatenate, inner)
    met = np.bincount(file, minlength=len(files)) > 0
    found[_FILE] = (len(used) - 1 + np.cumsum(met))[file]
    used += [files[number] for number in np.flatnonzero(met).tolist()]
    return found


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


def _short(files: Sequence[LocalFile], left: _Intervals) -> Exception:
    """Why not everything was found: a file without the buckets that it should have, or spans that no file holds."""
    ordered = sorted(files, key=lambda file: _WIDTH[file.grain])
    missing = np.flatnonzero(left.within(_ends(ordered)))
    if len(missing):
        return unreadable(ordered[missing[0]].path, "buckets are missing, or do not fit the answer's")
    return ValueError("no file holds all of the spans")
