"""Time grids, kept for as long as dashboards keep asking for them: a year of hours takes 20 ms to enumerate."""

from __future__ import annotations

from collections import OrderedDict

from broker.domain.query import AbsoluteRange, Grain
from broker.domain.timegrid import TimeGrid, build

MAX_HELD = 500_000
"""Bucket starts held in all, about 50 MB."""


class GridCache:
    """Builds grids, remembering the most recently used ones by range, grain and zone."""

    def __init__(self, max_held: int = MAX_HELD) -> None:
        self._max_held = max_held
        self._grids: OrderedDict[tuple[AbsoluteRange, Grain, str], TimeGrid] = OrderedDict()
        self._held = 0

    def __call__(self, bounds: AbsoluteRange, grain: Grain, zone: str) -> TimeGrid:
        """The grid; raises as :func:`broker.domain.timegrid.build` does."""
        key = (bounds, grain, zone)
        grid = self._grids.get(key)
        if grid is not None:
            self._grids.move_to_end(key)
            return grid
        grid = build(bounds, grain, zone)
        self._grids[key] = grid
        self._held += len(grid.starts)
        while self._held > self._max_held and len(self._grids) > 1:
            _, dropped = self._grids.popitem(last=False)
            self._held -= len(dropped.starts)
        return grid
