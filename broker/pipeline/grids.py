"""Time grids, kept for as long as dashboards keep asking for them: a year of hours takes 20 ms to enumerate.

Days and longer buckets of a zone are enumerated for whole decades, and every range takes its part of them: ranges are
many, zones are few.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime

from broker.domain.query import AbsoluteRange, Grain
from broker.domain.timegrid import TimeGrid, build

MAX_HELD = 500_000
"""Bucket starts held in all, about 50 MB."""
_CALENDARS = 64
"""Grains and zones whose decades are held, a megabyte for days of three of them."""
_FIRST_YEAR, _LAST_YEAR = 1950, 2100


class GridCache:
    """Builds grids, remembering the most recently used ones by range, grain and zone."""

    def __init__(self, max_held: int = MAX_HELD) -> None:
        self._max_held = max_held
        self._grids: OrderedDict[tuple[AbsoluteRange, Grain, str], TimeGrid] = OrderedDict()
        self._calendars: OrderedDict[tuple[Grain, str], tuple[range, TimeGrid]] = OrderedDict()
        self._held = 0

    def __call__(self, bounds: AbsoluteRange, grain: Grain, zone: str) -> TimeGrid:
        """The grid; raises as :func:`broker.domain.timegrid.build` does."""
        key = (bounds, grain, zone)
        grid = self._grids.get(key)
        if grid is not None:
            self._grids.move_to_end(key)
            return grid
        decades = self._decades(bounds, grain, zone) if grain.calendar else None
        return self._keep(key, build(bounds, grain, zone) if decades is None else decades.part(bounds))

    def _decades(self, bounds: AbsoluteRange, grain: Grain, zone: str) -> TimeGrid | None:
        """The buckets of some decades, that of the range among them; None for ranges far from now."""
        low, high = bounds.start.year // 10 * 10, bounds.end.year // 10 * 10 + 10
        if low < _FIRST_YEAR or high > _LAST_YEAR:
            return None
        known = self._calendars.get((grain, zone))
        if known is not None:
            self._calendars.move_to_end((grain, zone))
            years, grid = known
            if years.start <= low and high <= years.stop:
                return grid
            low, high = min(low, years.start), max(high, years.stop)
        # A year more at both ends: a bucket that holds the first instant may begin well before it.
        wide = AbsoluteRange(datetime(low - 1, 1, 1, tzinfo=UTC), datetime(high + 1, 1, 1, tzinfo=UTC))
        grid = build(wide, grain, zone)
        self._calendars[grain, zone] = range(low, high), grid
        if len(self._calendars) > _CALENDARS:
            self._calendars.popitem(last=False)
        return grid

    def _keep(self, key: tuple[AbsoluteRange, Grain, str], grid: TimeGrid) -> TimeGrid:
        self._grids[key] = grid
        self._held += len(grid.starts)
        while self._held > self._max_held and len(self._grids) > 1:
            _, dropped = self._grids.popitem(last=False)
            self._held -= len(dropped.starts)
        return grid
