"""What one decision looks up again and again: boundaries by grain and zone, grains that fit the answer, holes."""

from __future__ import annotations

from collections.abc import Sequence

from broker.domain.plan import Scan
from broker.domain.query import Grain
from broker.domain.rollup import Coverage, Rollup, Span
from broker.policy.rollups.boundaries import Boundaries, aligned
from broker.policy.rollups.intervals import (
    Held,
    Parts,
    Runs,
    Usable,
    holes_of,
    joined_spans,
    parts_of,
    runs_of,
)
from broker.policy.rollups.scan import zone_of
from broker.policy.rollups.stored import Memory, Places, Stored


class Ways:
    """Kept for one scan; all rollups are over one time dimension. ``sealed``: what the tables may no longer hold."""

    def __init__(self, scan: Scan, sealed: Sequence[Span], memory: Memory) -> None:
        self._scan, self._sealed, self._memory = scan, sealed, memory
        self._edges: dict[tuple[Grain, str], Boundaries] = {}
        self._fits: dict[tuple[Grain, str], bool] = {}
        self._usable: dict[tuple[tuple[Grain, ...], str], Usable] = {}
        self._runs: dict[tuple[Places, Grain, str], list[tuple[tuple[Span, ...], Runs | None]]] = {}
        self._parts: dict[tuple[int, Places, tuple[Grain, ...], str], tuple[Runs, Parts]] = {}
        self._opens: dict[tuple[Grain, str], list[bool]] = {}

    def boundaries(self, rollup: Rollup, grain: Grain) -> Boundaries:
        """Where buckets of one of the rollup's grains begin."""
        key = grain, rollup.zone
        found = self._edges.get(key)
        if found is None:
            zone = zone_of(self._scan.dataset, rollup, grain)
            found = self._edges[key] = self._memory.boundaries(grain, zone)
        return found

    def usable(self, rollup: Rollup, span: Span) -> Usable:
        """The coarser grains whose buckets no bucket of the answer cuts, coarsest first."""
        key = rollup.grains, rollup.zone
        found = self._usable.get(key)
        if found is None:
            own = [self.boundaries(rollup, grain) for grain in reversed(rollup.grains[1:])]
            found = self._usable[key] = [(each.grain, each) for each in own if self._fit(each, span)]
        return found

    def runs(self, stored: Stored, coverage: Coverage, inner: Span, edges: Boundaries) -> Runs | None:
        """What may be used of a rollup; None where no segment overlaps ``inner``.

        Rollups of one source mostly share their partitions and changes, hence their runs, which then are one object.
        """
        dirty = coverage.dirty
        if stored.sealed:
            return runs_of(stored, inner, edges, self._blocked(dirty, inner, edges))
        known = self._runs.setdefault((stored.places, edges.grain, edges.zone), [])
        for changed, runs in known:
            if changed == dirty:
                return runs
        found = runs_of(stored, inner, edges, self._blocked(dirty, inner, edges))
        known.append((dirty, found))
        return found

    def parts(self, held: Held, span: Span, cuts: Sequence[int], place: dict[int, int]) -> Parts:
        """What is read of each segment for the intervals between the cuts, which are the same at every call."""
        key = id(held.runs), held.stored.places, held.rollup.grains, held.rollup.zone
        found = self._parts.get(key)
        if found is None:
            usable = self.usable(held.rollup, span)
            found = self._parts[key] = held.runs, parts_of(held, cuts, place, usable)
        return found[1]

    def opens(self, edges: Boundaries, cuts: Sequence[int]) -> list[bool]:
        """Where a bucket begins among the cuts, which are the same at every call."""
        key = edges.grain, edges.zone
        found = self._opens.get(key)
        if found is None:
            found = self._opens[key] = edges.begin(cuts)
        return found

    def _blocked(self, dirty: tuple[Span, ...], inner: Span, edges: Boundaries) -> list[Span]:
        holes = holes_of(dirty, inner, edges) if dirty else []
        return joined_spans([*holes, *map(edges.outer, self._sealed)]) if self._sealed else holes

    def _fit(self, edges: Boundaries, span: Span) -> bool:
        key = edges.grain, edges.zone
        found = self._fits.get(key)
        if found is None:
            grid = self._scan.grid
            found = self._fits[key] = grid is None or aligned(grid, span, edges)
        return found
