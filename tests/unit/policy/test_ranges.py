"""The compared range: where it begins, and which buckets have a counterpart in it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from broker.domain.model import Dimension
from broker.domain.query import AbsoluteRange, CompareTo, DateRange, Grain, TimeSelection
from broker.domain.timegrid import TimeGrid, build, local_midnight, resolve
from broker.domain.values import DataType
from broker.policy.ranges import ResolvedTime, comparison, resolve_time

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def compared(
    zone: str, dates: DateRange, grain: Grain, compare: CompareTo
) -> tuple[AbsoluteRange, TimeGrid, TimeGrid, tuple[int, ...]]:
    bounds = resolve(dates, zone, NOW)
    grid = build(bounds, grain, zone)
    shifted, other, positions = comparison(ResolvedTime(bounds, grid, zone), compare, grain)
    assert other is not None
    return shifted, grid, other, positions


def test_a_range_that_begins_where_midnight_is_skipped_is_compared_with_whole_days() -> None:
    zone = ZoneInfo("America/Sao_Paulo")
    dates = DateRange(date(2013, 10, 20), date(2013, 10, 27))
    shifted, _, _, positions = compared(zone.key, dates, Grain.DAY, CompareTo(1, Grain.WEEK))
    assert shifted.start == local_midnight(date(2013, 10, 13), zone)
    assert shifted.end == local_midnight(date(2013, 10, 20), zone)
    assert positions == (0, 1, 2, 3, 4, 5, 6)


def test_hours_have_no_counterpart_where_half_an_hour_was_turned_back() -> None:
    zone = "Australia/Lord_Howe"
    dates = DateRange(date(2013, 4, 7), date(2013, 4, 8))
    _, grid, _, positions = compared(zone, dates, Grain.HOUR, CompareTo(1, Grain.DAY))
    local = [start.astimezone(ZoneInfo(zone)) for start in grid.starts]
    without = [f"{start:%H:%M}" for start, position in zip(local, positions, strict=True) if position < 0]
    assert without == ["01:30"]
    assert [p for p in positions if p >= 0] == list(range(24))


def test_days_past_the_end_of_a_shorter_month_are_compared_with_nothing() -> None:
    dates = DateRange(date(2013, 3, 30), date(2013, 3, 31))
    shifted, _, _, positions = compared("UTC", dates, Grain.DAY, CompareTo(1, Grain.MONTH))
    assert shifted.start == shifted.end
    assert positions == (-1,)


def test_the_last_days_of_a_longer_month_share_the_last_day_of_the_shorter_one() -> None:
    dates = DateRange(date(2013, 3, 27), date(2013, 4, 1))
    _, grid, other, positions = compared("UTC", dates, Grain.DAY, CompareTo(1, Grain.MONTH))
    assert len(grid.starts) == 5
    assert [other.starts[p].day for p in positions] == [27, 28, 28, 28, 28]


def test_a_rolling_window_over_a_date_that_the_zone_skipped_keeps_the_first_bucket() -> None:
    dates = DateRange(date(2012, 1, 1), date(2012, 1, 3))
    selection = TimeSelection(grain=Grain.DAY, zone="Pacific/Apia", range=dates)
    dimension = Dimension("at", "t.at", DataType.TIMESTAMP, ("t",), time=True)
    resolved, found = resolve_time(selection, dimension, 3, NOW)
    assert found == []
    assert resolved.grid is not None
    assert resolved.grid.starts[resolved.lead] == local_midnight(date(2012, 1, 1), ZoneInfo("Pacific/Apia"))
