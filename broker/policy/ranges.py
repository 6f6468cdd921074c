"""Resolves the time selection of a query: bounds, grid, the lead-in of rolling windows, and the compared range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from broker.domain.errors import Violation
from broker.domain.model import Dimension
from broker.domain.query import AbsoluteRange, CompareTo, Grain, TimeSelection
from broker.domain.timegrid import (
    MAX_BUCKETS,
    TimeGrid,
    TooManyBucketsError,
    add_units,
    build,
    floor_date,
    local_midnight,
    resolve,
)
from broker.domain.values import DataType

GridBuilder = Callable[[AbsoluteRange, Grain, str], TimeGrid]

CLOCK_WIDTH = {
    Grain.MINUTE: timedelta(minutes=1),
    Grain.FIFTEEN_MINUTES: timedelta(minutes=15),
    Grain.HOUR: timedelta(hours=1),
}
# How many of the smaller unit make one of the larger, where that is the same everywhere.
_RATIOS = {
    (Grain.WEEK, Grain.DAY): 7,
    (Grain.QUARTER, Grain.MONTH): 3,
    (Grain.YEAR, Grain.MONTH): 12,
    (Grain.YEAR, Grain.QUARTER): 4,
}
_COARSER = {
    Grain.DAY: {Grain.WEEK, Grain.MONTH, Grain.QUARTER, Grain.YEAR},
    Grain.MONTH: {Grain.QUARTER, Grain.YEAR},
    Grain.QUARTER: {Grain.YEAR},
}


@dataclass(frozen=True, slots=True)
class ResolvedTime:
    """Bounds and grid of a selection; ``zone`` is the one in which its calendar is read."""

    bounds: AbsoluteRange | None
    grid: TimeGrid | None
    zone: str
    lead: int = 0


def resolve_time(
    selection: TimeSelection, dimension: Dimension, lead: int, now: datetime, grids: GridBuilder = build
) -> tuple[ResolvedTime, list[Violation]]:
    """The selection's bounds and grid; ``lead`` buckets before the range are added to both for rolling windows."""
    dated = dimension.type is DataType.DATE
    zone = "UTC" if dated else selection.zone
    nothing = ResolvedTime(None, None, zone)
    if dated and selection.grain is not None and not selection.grain.calendar:
        text = f"{dimension.name!r} holds dates; use a grain of a day or more"
        return nothing, [Violation("time.grain", text, "GRAIN_TYPE")]
    if selection.range is None:
        if selection.grain is None:
            return nothing, []
        return nothing, [
            Violation("time.range", "required with a grain: give absolute, relative or dates", "REQUIRED")
        ]
    try:
        bounds = resolve(selection.range, selection.zone, now)
        if dated:
            bounds = _as_dates(bounds, selection)
    except (OverflowError, ValueError) as error:
        return nothing, [Violation("time.range", f"cannot be resolved: {error}", "RANGE")]
    if bounds.start >= bounds.end:
        return nothing, [Violation("time.range", "the end must be after the start", "EMPTY_RANGE")]
    if selection.grain is None:
        return ResolvedTime(bounds, None, zone), []
    try:
        grid = grids(bounds, selection.grain, zone)
        if lead == 0:
            return ResolvedTime(bounds, grid, zone), []
        if grid.starts[0] != bounds.start:
            text = f"must begin where a {selection.grain} begins, for rolling windows read whole buckets"
            return nothing, [Violation("time.range", text, "UNALIGNED")]
        start = _earlier(bounds.start, selection.grain, lead, ZoneInfo(zone), grids, zone)
        wider = AbsoluteRange(start, bounds.end)
        grid = grids(wider, selection.grain, zone)
        # A date that the zone skipped has no bucket, so there may be fewer before the range than units.
        return ResolvedTime(wider, grid, zone, grid.index(bounds.start)), []
    except TooManyBucketsError:
        text = f"more than {MAX_BUCKETS} buckets of one {selection.grain}; use a coarser grain or a shorter range"
        return nothing, [Violation("time.grain", text, "TOO_MANY_BUCKETS")]
    except (OverflowError, ValueError) as error:
        return nothing, [Violation("time.range", f"cannot be resolved: {error}", "RANGE")]


def _as_dates(bounds: AbsoluteRange, selection: TimeSelection) -> AbsoluteRange:
    """Instants that begin a local date, as midnights in UTC; a date column has no zone of its own."""
    zone = ZoneInfo("UTC" if isinstance(selection.range, AbsoluteRange) else selection.zone)
    local = (bounds.start.astimezone(zone), bounds.end.astimezone(zone))
    if isinstance(selection.range, AbsoluteRange) and any(i.time() != datetime.min.time() for i in local):
        raise ValueError("the dimension holds dates; give a range of dates")
    return AbsoluteRange(*(local_midnight(i.date(), ZoneInfo("UTC")) for i in local))


def _earlier(
    start: datetime, grain: Grain, lead: int, zone: ZoneInfo, grids: GridBuilder, name: str
) -> datetime:
    """Beginning of the bucket ``lead`` buckets before the one that begins at ``start``."""
    if grain.calendar:
        return local_midnight(add_units(start.astimezone(zone).date(), grain, -lead), zone)
    # An offset change can split a bucket in two, never merge two: this many widths hold at least ``lead`` buckets.
    before = grids(AbsoluteRange(start - CLOCK_WIDTH[grain] * lead, start), grain, name)
    return before.starts[-lead]


def compatible(grain: Grain | None, compare: CompareTo) -> bool:
    """Whether shifting by the compared units leads from bucket starts to bucket starts."""
    if grain is None or grain is compare.unit:
        return True
    if not grain.calendar:
        return compare.unit.calendar or CLOCK_WIDTH[compare.unit] * compare.count % CLOCK_WIDTH[
            grain
        ] == timedelta(0)
    if compare.unit in _COARSER.get(grain, ()):
        return True
    ratio = _RATIOS.get((grain, compare.unit))
    return ratio is not None and compare.count % ratio == 0


def shift_back(instant: datetime, compare: CompareTo, zone: ZoneInfo) -> datetime:
    """The instant one shift earlier: on the local clock for calendar units, in elapsed time for clock units."""
    if not compare.unit.calendar:
        return instant - CLOCK_WIDTH[compare.unit] * compare.count
    local = instant.astimezone(zone)
    shifted = add_units(local.date(), compare.unit, -compare.count)
    return datetime.combine(shifted, local.timetz()).replace(fold=local.fold).astimezone(UTC)


def shift_bound(instant: datetime, compare: CompareTo, zone: ZoneInfo) -> datetime:
    """The bound of a range one shift earlier: the beginning of a date, however late, leads to that of a date."""
    if compare.unit.calendar:
        day = instant.astimezone(zone).date()
        if instant == local_midnight(day, zone):
            return local_midnight(add_units(day, compare.unit, -compare.count), zone)
    return shift_back(instant, compare, zone)


def comparison(
    main: ResolvedTime, compare: CompareTo, grain: Grain | None, grids: GridBuilder = build
) -> tuple[AbsoluteRange, TimeGrid | None, tuple[int, ...]]:
    """Bounds and grid of the compared range, and for every bucket of the main grid its position there (-1: none)."""
    assert main.bounds is not None
    zone = ZoneInfo(main.zone)
    bounds = AbsoluteRange(
        shift_bound(main.bounds.start, compare, zone), shift_bound(main.bounds.end, compare, zone)
    )
    if main.grid is None or grain is None:
        return bounds, None, ()
    grid = grids(bounds, grain, main.zone)
    if bounds.start >= bounds.end:  # all of the range's days are past the end of the shorter month
        return bounds, grid, (-1,) * len(main.grid.starts)
    return bounds, grid, tuple(_position(start, compare, grain, grid, zone) for start in main.grid.starts)


def _position(start: datetime, compare: CompareTo, grain: Grain, grid: TimeGrid, zone: ZoneInfo) -> int:
    if grain.calendar:
        day = add_units(floor_date(start.astimezone(zone).date(), grain), compare.unit, -compare.count)
        instant = local_midnight(day, zone)
    else:
        instant = shift_back(start, compare, zone)
        if compare.unit.calendar and instant.astimezone(zone).time() != start.astimezone(zone).time():
            return -1  # the local time does not exist on the earlier date
    position = grid.index(instant)
    # Where an offset change moved the buckets of one of the days, no bucket begins at the same time on the other.
    return position if position >= 0 and instant == grid.starts[position] and instant < grid.end else -1
