"""What one decision looks up again and again: boundaries by grain and zone, grains that fit the answer, holes."""

from __future__ import annotations

from collections.abc import Sequence

from broker.domain.plan import Scan
from broker.domain.query import Grain
from broker.domain.rollup import Rollup, Span
from broker.policy.rollups.boundaries import Boundaries, aligned
from broker.policy.rollups.intervals import Shares, Usable, Whole, holes_of, shares_of
from broker.policy.rollups.scan import zone_of
from broker.policy.rollups.stored import Memory

_Known = dict[tuple[Span, tuple[int, int]], tuple[tuple[Grain | None, float], ...]]


class Ways:
    """Kept for one scan; all rollups are over one time dimension."""

    def __init__(self, scan: Scan, memory: Memory) -> None:
        self._scan, self._memory = scan, memory
        self._fits: dict[tuple[Grain, str], bool] = {}
        self._usable: dict[tuple[tuple[Grain, ...], str], Usable] = {}
        self._whole: dict[tuple[Grain, str], dict[Span, Span]] = {}
        self._shares: dict[tuple[tuple[Grain, ...], str], _Known] = {}
        self._holes: dict[tuple[int, Grain, str], tuple[Sequence[Span], list[Span]]] = {}

    def boundaries(self, rollup: Rollup, grain: Grain) -> Boundaries:
        """Where buckets of one of the rollup's grains begin."""
        return self._memory.boundaries(grain, zone_of(self._scan.dataset, rollup, grain))

    def usable(self, rollup: Rollup, span: Span) -> Usable:
        """The coarser grains whose buckets no bucket of the answer cuts, coarsest first."""
        key = rollup.grains, rollup.zone
        found = self._usable.get(key)
        if found is None:
            own = [self.boundaries(rollup, grain) for grain in reversed(rollup.grains[1:])]
            found = self._usable[key] = [(each.grain, each) for each in own if self._fit(each, span)]
        return found

    def whole(self, edges: Boundaries) -> Whole:
        """Gives the whole buckets within a segment; rollups mostly have the same partitions."""
        known = self._whole.setdefault((edges.grain, edges.zone), {})

        def whole(span: Span) -> Span:
            found = known.get(span)
            if found is None:
                found = known[span] = edges.inner(span)
            return found

        return whole

    def shares(self, rollup: Rollup, span: Span) -> Shares:
        """Gives the shares of a segment's rows that are read for a part of it."""
        usable = self.usable(rollup, span)
        known = self._shares.setdefault((rollup.grains, rollup.zone), {})

        def shares(segment: Span, part: tuple[int, int]) -> Sequence[tuple[Grain | None, float]]:
            key = segment, part
            found = known.get(key)
            if found is None:
                found = known[key] = shares_of(segment, Span(*part), usable)
            return found

        return shares

    def holes(self, dirty: Sequence[Span], inner: Span, edges: Boundaries) -> list[Span]:
        """What has changed, in whole buckets; rollups of one source mostly share the changes."""
        key = id(dirty), edges.grain, edges.zone
        found = self._holes.get(key)
        if found is None:
            found = self._holes[key] = dirty, holes_of(dirty, inner, edges)
        return found[1]

    def _fit(self, edges: Boundaries, span: Span) -> bool:
        key = edges.grain, edges.zone
        found = self._fits.get(key)
        if found is None:
            grid = self._scan.grid
            found = self._fits[key] = grid is None or aligned(grid, span, edges)
        return found
