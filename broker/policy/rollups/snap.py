"""Moves unaligned edges of a range to where buckets of a rollup begin, for callers who allow it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

from broker.domain.plan import Scan
from broker.domain.query import AbsoluteRange
from broker.domain.rollup import EPOCH, Rollup, Span, instant, micros
from broker.domain.timegrid import TooManyBucketsError, build
from broker.policy.rollups.boundaries import Boundaries
from broker.policy.rollups.scan import zone_of


def snapped(scan: Scan, rollup: Rollup, *, widen: bool = True) -> Scan | None:
    """The scan with bounds that lie on boundaries of the rollup's base, moved outwards, or inwards.

    None where moving them inwards leaves nothing, or outwards makes too many buckets. The grid covers the new bounds. A
    scan without bounds stays as it is.
    """
    if scan.bounds is None:
        return scan
    edges = Boundaries(rollup.base, zone_of(scan.dataset, rollup, rollup.base))
    span = Span(micros(scan.bounds.start), micros(scan.bounds.end))
    moved = edges.outer(span) if widen else edges.inner(span)
    if moved.lo >= moved.hi:
        return None
    start, end = (instant(at) or EPOCH for at in moved)
    bounds = AbsoluteRange(start.astimezone(UTC), end.astimezone(UTC))
    grid = scan.grid
    if grid is not None and bounds != scan.bounds:
        try:
            grid = build(bounds, grid.grain, grid.zone)
        except TooManyBucketsError:
            return None
    return replace(scan, bounds=bounds, grid=grid)
